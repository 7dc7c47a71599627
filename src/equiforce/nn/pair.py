"""The repulsion of nuclei at short range."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from equiforce.graph import Topology
from equiforce.nn.radial import envelope

# Ziegler, Biersack, Littmark (1985), with the constants of LAMMPS' pair_style zbl.
SCREENING_EXPONENT, SCREENING_LENGTH = 0.23, 0.46850  # -, Å
COEFFICIENTS = (0.02817, 0.28022, 0.50986, 0.18175)
EXPONENTS = (-0.20162, -0.40290, -0.94229, -3.19980)
Stretch = Callable[[Topology, Tensor], Tensor]
COULOMB = 14.399645  # e²/(4πε0) in eV·Å


class ZBL(nn.Module):
    """Ziegler-Biersack-Littmark repulsion times the polynomial envelope, which is zero at the cutoff.

    It keeps atoms apart at distances that the training data do not contain.

    Args:
        atomic_numbers: of the model's species, in their order.
        cutoff: in Å.
        p: order of the envelope, see :func:`equiforce.nn.radial.envelope`.
        stretch: computes from topology and lengths the factor of each length before the envelope, so that a pair can
            end before the cutoff; None means 1.
    """

    charges: Tensor

    def __init__(self, atomic_numbers: list[int], cutoff: float, p: int = 6, stretch: Stretch | None = None):
        super().__init__()
        self.cutoff, self.p, self.stretch = cutoff, p, stretch
        self.register_buffer("charges", torch.tensor(atomic_numbers, dtype=torch.float64))

    def forward(self, topology: Topology, vectors: Float[Tensor, "edges 3"]) -> Float[Tensor, " centers"]:
        """Compute the repulsion energy of each centre; each atom of a pair has half of the pair's energy.

        Args:
            topology: the atoms and their neighbours.
            vectors: r_ij of each edge in Å [edges, 3].

        Returns:
            Energies in eV [centers].
        """
        lengths = vectors.norm(dim=1)
        z_i, z_j = (self.charges[topology.species[atoms]] for atoms in (topology.centers, topology.neighbors))
        x = lengths * (z_i**SCREENING_EXPONENT + z_j**SCREENING_EXPONENT) / SCREENING_LENGTH
        screening = sum(c * torch.exp(d * x) for c, d in zip(COEFFICIENTS, EXPONENTS, strict=True))
        stretched = lengths if self.stretch is None else lengths * self.stretch(topology, lengths)
        pairs: Tensor = 0.5 * COULOMB * z_i * z_j / lengths * screening * envelope(stretched, self.cutoff, self.p)
        return pairs.new_zeros(topology.n_centers).index_add(0, topology.centers, pairs)
