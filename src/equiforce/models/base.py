"""What a model is: its options, its energies, and what it takes to compute them (docs/models.md)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from equiforce.graph import Topology
from equiforce.kernels.cpu.targets import KernelSource
from equiforce.options import option

Config = TypeVar("Config", bound="ModelConfig")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The options of a model. Each model derives its own dataclass, whose fields are made by ``option``."""

    cutoff: float = option(5.0, "atoms farther apart are no neighbours", unit="Å", gt=0, le=50)

    def __post_init__(self) -> None:
        for pair, cutoff in (self.pair_cutoffs or {}).items():
            if not 0 < cutoff <= self.cutoff:
                raise ValueError(
                    f"model.pair_cutoffs has {cutoff} Å for {pair}: give a length above 0 and not beyond "
                    f"model.cutoff={self.cutoff}"
                )

    @property
    def pair_cutoffs(self) -> Mapping[str, float] | None:
        """Shorter cutoffs of ordered pairs such as ``H-O``, centre first, in Å.

        A model that has them declares an option of this name, and leaves out longer edges itself. Statistics of the
        training data then count neighbours within these cutoffs.
        """
        return None

    @property
    def mean_neighbors(self) -> float | None:
        """The mean number of neighbours of an atom of the training data, by which a model may normalise its sums.

        A model that wants it declares an option of this name with the default None, which is then filled in.
        """
        return None

    def with_mean_neighbors(self: Config, measured: float) -> Config:
        """The same options with a measured mean number of neighbours, if the model has the option and it is None."""
        declared = {entry.name for entry in fields(self)} & {"mean_neighbors"}
        return replace(self, **dict.fromkeys(declared, measured)) if self.mean_neighbors is None else self

    def __str__(self) -> str:
        """The shape of the network in a few words, as ``equiforce train`` prints it."""
        return ", ".join(f"{name} {value}" for name, value in vars(self).items() if name != "cutoff")


class Moment(NamedTuple):
    """Bytes that tensors of a model fill at one point of a step."""

    per_atom: float
    per_edge: float


class Footprint(NamedTuple):
    """What a model adds to the memory of a step.

    A step computes energies and forces, and with training the gradient of a loss of both. What the potential needs
    itself is not in here: the edge vectors in float64, energies and forces, and the gradients of the weights.

    The edges that are computed at the same time are all edges, but for a model of one hop that is not trained: then
    they are a limited number, whatever the size of the graph.
    """

    moments: tuple[Moment, ...]  # points of a step at which the memory may be at its peak
    fixed: float = 0.0  # bytes that do not depend on the graph
    passing: float = 0.0  # bytes of each edge that is computed at the same time


@runtime_checkable
class Model(Protocol):
    """A network that computes the energy of each atom from the vectors to its neighbours; a ``torch.nn.Module``.

    Energies are invariant under rotations and reflections, and have continuous derivatives where an atom crosses the
    cutoff. An atom without neighbours has the energy zero. The second derivatives of energies exist, for training on
    forces takes them.
    """

    config: ModelConfig

    def __init__(self, config: Any, species: Sequence[str]) -> None:
        """Makes the network with random weights.

        Args:
            config: the model's own options.
            species: chemical symbols, in the order of the species index of a topology.
        """

    @property
    def n_hops(self) -> int:
        """The number of edges over which the energy of an atom depends on other atoms.

        A model with one hop is strictly local: an energy depends on the vectors of the atom's own edges and on the
        species at their ends, and on nothing else of the neighbours. Large systems are then computed in small batches
        of centres. A model with several hops passes features through :func:`equiforce.kernels.halo_exchange` before
        neighbours read them, so that several processes can compute one system.
        """

    def forward(self, topology: Topology, vectors: Float[Tensor, "edges 3"]) -> Float[Tensor, " centers"]:
        """The energy of each centre, in units of the potential's scale.

        Args:
            topology: the atoms and their neighbours; the last atoms may be ghosts, which are no centres.
            vectors: r_ij of each edge in Å, from the centre to the neighbour, in the precision of the weights.
        """

    def footprint(self, *, training: bool) -> Footprint:
        """What the model adds to the memory of a step, in its present precision and on its present device.

        Args:
            training: whether the step is one of training, and not one of energies and forces alone.
        """

    def needed_kernels(self, dtype: torch.dtype, *, training: bool) -> list[KernelSource]:
        """The generated C kernels that the model calls on a CPU: those that a wheel compiles in advance.

        Args:
            dtype: the precision of weights and features.
            training: whether those of training are wanted too.
        """

    # what every torch.nn.Module has

    def __call__(self, topology: Topology, vectors: Float[Tensor, "edges 3"]) -> Float[Tensor, " centers"]: ...

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]: ...

    def to(self, *args: Any, **kwargs: Any) -> Any: ...
