"""The convolution of NequIP together with its learned parameters."""

import math

from jaxtyping import Float
from torch import Tensor, nn

from equiforce.geometry.irreps import Irreps
from equiforce.graph import Topology
from equiforce.kernels import PathTable, Radial, convolve, halo_exchange
from equiforce.nn.equivariant import Linear, SpeciesLinear
from equiforce.nn.radial import RadialNetwork


class Convolution(nn.Module):
    """W_self(species_i) h_i + W_out sum_j R(r_ij) (Y(r_ij) x W_in h_j) / sqrt<N> (arXiv 2101.03164, figure 1c).

    Args:
        irreps_in: irreps of the features h.
        irreps_out: irreps of the result.
        l_max: highest degree of the spherical harmonics Y.
        n_basis: number of radial basis functions.
        radial_depth: number of hidden layers of the radial network.
        radial_width: width of these hidden layers.
        mean_neighbors: <N>, the mean number of neighbours of an atom.
        n_species: number of species, each of which has its own W_self unless ``shared``.
        self_connection: whether the first term exists.
        shared: whether all species have the same W_self.
        linear_in_by_species: whether each species has its own W_in.
        from_species: whether h depends on the species alone; each process then knows h of its ghosts already.
        reflections: whether the result commutes with reflections; see :class:`equiforce.kernels.PathTable`.
        constants: whether W_in h and the sum over j W_out get trained constants, which only their scalars can have.
    """

    def __init__(
        self,
        irreps_in: Irreps,
        irreps_out: Irreps,
        *,
        l_max: int,
        n_basis: int,
        radial_depth: int,
        radial_width: int,
        mean_neighbors: float,
        n_species: int,
        self_connection: bool,
        from_species: bool,
        shared: bool = False,
        linear_in_by_species: bool = False,
        reflections: bool = True,
        constants: bool = False,
    ):
        super().__init__()
        self.from_species = from_species
        self.table = PathTable(irreps_in, l_max, irreps_out, reflections)
        self.linear_in: Linear | SpeciesLinear = (
            SpeciesLinear(irreps_in, irreps_in, n_species)
            if linear_in_by_species
            else Linear(irreps_in, irreps_in, constants=constants)
        )
        self.radial = RadialNetwork(n_basis, radial_depth, radial_width, self.table.n_weights)
        scale = 1 / math.sqrt(mean_neighbors)
        self.linear_out = Linear(self.table.irreps_out, irreps_out, scale=scale, constants=constants)
        self.self_connection: Linear | SpeciesLinear | None = None
        if self_connection:
            self.self_connection = (
                Linear(irreps_in, irreps_out) if shared else SpeciesLinear(irreps_in, irreps_out, n_species)
            )

    def forward(
        self,
        h: Float[Tensor, "known inputs"],
        harmonics: Float[Tensor, "edges harmonics"],
        radial_weights: Radial,
        topology: Topology,
    ) -> Float[Tensor, "centers outputs"]:
        """Compute the sum of the self-connection and the messages (arXiv 2101.03164, figure 1c).

        Args:
            h: features of the centres, or of all atoms if ``from_species`` [centers or atoms, inputs].
            harmonics: Y_lm of each edge [edges, (l_max+1)²].
            radial_weights: R of each edge.
            topology: the atoms and their neighbours.

        Returns:
            The new features of each centre [centers, outputs].
        """
        of_senders = () if isinstance(self.linear_in, Linear) else (topology.species[: len(h)],)
        sent: Tensor = self.linear_in(h, *of_senders)
        if not self.from_species:
            sent = halo_exchange(sent, topology)
        messages: Tensor = self.linear_out(convolve(sent, harmonics, radial_weights, topology, self.table))
        if self.self_connection is None:
            return messages
        if topology.halo is not None:
            h = h[: topology.n_centers]
        species = () if isinstance(self.self_connection, Linear) else (topology.species_of_centers,)
        own: Tensor = self.self_connection(h, *species)
        return messages + own
