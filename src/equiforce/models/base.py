"""The interface of a model: its options, its energies, its memory and its kernels (docs/models.md)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from equiforce.errors import InputError
from equiforce.graph import Topology
from equiforce.kernels.cpu.targets import KernelSource
from equiforce.options import option

Config = TypeVar("Config", bound="ModelConfig")
DOUBLE = 8  # bytes of a float64
# The limits of a model's sizes: far above all that is useful, and low enough for a machine to survive.
MOST_CHANNELS = 1024  # and the largest width of a network
HIGHEST_DEGREE = 8
MOST_KNOTS = 1024
GROUPS = EMBEDDING, RADIAL, LAYERS, READOUT = "embedding", "radial", "layers", "readout"  # of weights, in every model
MOST_IN_TABLES = 2**28  # numbers; those of 89 elements in Allegro's default need half of them


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The options of a model. Each model derives its own dataclass, and makes the fields with ``option``."""

    cutoff: float = option(5.0, "atoms farther apart are not neighbours", unit="Å", gt=0, le=50)

    def __post_init__(self) -> None:
        for pair, cutoff in (self.pair_cutoffs or {}).items():
            if not 0 < cutoff <= self.cutoff:
                raise ValueError(
                    f"model.pair_cutoffs has {cutoff} Å for {pair}: give a length above 0 and at most "
                    f"model.cutoff={self.cutoff}"
                )

    @property
    def pair_cutoffs(self) -> Mapping[str, float] | None:
        """Shorter cutoffs in Å of ordered pairs of elements such as ``H-O``, centre first.

        A model with pair cutoffs declares an option of this name and removes longer edges itself. The mean number of
        neighbours of the training data then counts neighbours within these cutoffs.
        """
        return None

    @property
    def mean_neighbors(self) -> float | None:
        """The mean number of neighbours of an atom in the training data, by which a model may normalise its sums.

        A model that needs it declares an option of this name with the default None. Training then sets the option.
        """
        return None

    @property
    def cautions(self) -> tuple[str, ...]:
        """What every user of such a model must know, as sentences without a full stop; every command prints them."""
        return ()

    def with_mean_neighbors(self: Config, measured: float) -> Config:
        """The same options with a measured ``mean_neighbors``, if the model has this option and its value is None."""
        declared = {entry.name for entry in fields(self)} & {"mean_neighbors"}
        return replace(self, **dict.fromkeys(declared, measured)) if self.mean_neighbors is None else self

    def with_elements(self: Config, sources: Mapping[str, str]) -> Config:
        """The same options for other elements: a pair has the cutoff of the pair from which its weights come.

        Args:
            sources: for each element, that from which its weights come; itself if it is only kept.
        """
        if not (cutoffs := self.pair_cutoffs):
            return self
        found = {f"{a}-{b}": cutoffs.get(f"{sources[a]}-{sources[b]}") for a in sources for b in sources}
        changed: dict[str, Any] = {
            "pair_cutoffs": {p: value for p, value in found.items() if value is not None} or None
        }
        return replace(self, **changed)

    def __str__(self) -> str:
        """A short description of the network, which ``equiforce train`` prints."""
        return ", ".join(f"{name} {value}" for name, value in vars(self).items() if name != "cutoff")


def refuse_large_tables(n_knots: int, n_functions: int, functions: str) -> None:
    """Raise InputError if the spline coefficients of radial functions would need more than ``MOST_IN_TABLES`` numbers.

    Args:
        n_knots: the number of knots; 0 means that there are no splines.
        n_functions: the number of radial functions.
        functions: what they are, for the message.
    """
    if n_knots * n_functions > MOST_IN_TABLES:
        raise InputError(
            f"splines of {n_functions:,} {functions} with {n_knots} knots need {4 * n_knots * n_functions / 1e9:.1f} "
            "GB: set model.radial_knots to null, or make the model smaller"
        )


class WeightMap(NamedTuple):
    """What the weights of a model belong to, by their names in its ``state_dict``."""

    rows: Mapping[str, int]  # 1: the tensor has a row for each species; 2: for each ordered pair of them, centre first
    groups: Mapping[str, Sequence[str]]  # the weights of each group that fine-tuning can freeze

    @classmethod
    def of(cls, names: Iterable[str], group_of: Callable[[str], str], rows: Mapping[str, int]) -> "WeightMap":
        """The map of weights whose groups a function gives."""
        groups: dict[str, list[str]] = {group: [] for group in GROUPS}
        for name in names:
            groups.setdefault(group_of(name), []).append(name)
        return cls(rows, groups)


@runtime_checkable
class Mapped(Protocol):
    """A model that says what its weights belong to: fine-tuning can then change its species and freeze its groups."""

    def weight_map(self) -> WeightMap:
        """List the tensors with rows of species, and the weights of each group."""


class Peak(NamedTuple):
    """The memory of a model's tensors at one point of a step, in bytes."""

    per_atom: float
    per_edge: float


class Footprint(NamedTuple):
    """The memory that a model needs for one step, in bytes.

    A step computes energies and forces; a training step also computes the gradient of a loss of both. The memory of the
    potential itself is not included: edge vectors in float64, energies, forces and the gradients of the weights.

    A model with one hop that is not being trained computes a limited number of edges at the same time, for any size of
    the graph. All other models compute all edges at the same time.
    """

    peaks: tuple[Peak, ...]  # at least one: the points of a step at which the memory can be at its peak
    fixed: float = 0.0  # bytes that do not depend on the graph
    per_edge_at_once: float = 0.0  # bytes for each edge that is computed at the same time


@runtime_checkable
class Model(Protocol):
    """A ``torch.nn.Module`` that computes the energy of each atom from the vectors to its neighbours.

    Rotations and reflections leave the energies unchanged. The derivatives of the energies are continuous when an atom
    crosses the cutoff. An atom without neighbours has the energy zero. The energies have second derivatives, because
    training on forces needs them.
    """

    config: ModelConfig

    def __init__(self, config: Any, species: Sequence[str]) -> None:
        """Make the network with random weights.

        Args:
            config: the options of the model.
            species: chemical symbols; ``topology.species`` is the index into this list.
        """

    @property
    def n_hops(self) -> int:
        """The number of edges over which the energy of an atom depends on other atoms.

        A model with one hop is strictly local: the energy of an atom depends only on the vectors of its own edges and
        on the species of the two atoms of each edge. Large systems are then computed in batches of centres. A model
        with several hops calls :func:`equiforce.kernels.halo_exchange` before neighbours read features, so that several
        processes can compute one system.
        """

    def forward(self, topology: Topology, vectors: Float[Tensor, "edges 3"]) -> Float[Tensor, " centers"]:
        """Compute the energy of each centre.

        Args:
            topology: the atoms and their neighbours; the last atoms may be ghosts, which are not centres.
            vectors: r_ij of each edge in Å, from centre to neighbour, in the dtype of the weights [edges, 3].

        Returns:
            Energies divided by the potential's scale, without unit [centers].
        """

    def footprint(self, *, training: bool) -> Footprint:
        """Compute the memory of one step for the dtype and device of the weights.

        Args:
            training: whether the step is a training step.
        """

    def needed_kernels(self, dtype: torch.dtype, *, training: bool) -> list[KernelSource]:
        """List the generated C kernels that the model calls on a CPU; a wheel compiles them in advance.

        Args:
            dtype: the dtype of weights and features.
            training: whether to include the kernels that only training calls.
        """

    # methods of torch.nn.Module

    def __call__(self, topology: Topology, vectors: Float[Tensor, "edges 3"]) -> Float[Tensor, " centers"]: ...

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]: ...

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]: ...

    def to(self, *args: Any, **kwargs: Any) -> Any: ...
