"""What a backend computes. A backend is a module with the functions of one or several of these Protocols.

The functions know nothing of autograd: ``autograd.py`` makes differentiable functions of them. Tensors may have any
strides; each is checked before it crosses into C or Triton, and an :class:`equiforce.errors.InputError` says what is
wrong.

==================  =====================================  =======================================
Protocol            CPU                                    GPU
==================  =====================================  =======================================
ConvolutionBackend  ``cpu/convolution.py``                 ``gpu/convolution.py``
LocalBackend        ``cpu/local.py``                       ``gpu/local.py``
EdgeBackend         ``cpu/convolution.py``                 plain torch: ``reference/convolution.py``
NodeBackend         ``cpu/nodes.py``                       plain torch: ``reference/convolution.py``
PairBackend         ``cpu/pairs.py``                       plain torch: ``reference/convolution.py``
==================  =====================================  =======================================
"""

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from equiforce.graph import AtomicGraph, Topology
from equiforce.kernels.spec.couplings import CouplingTable
from equiforce.kernels.spec.paths import PathTable
from equiforce.kernels.spec.plans import GatePlan, LinearPlan


class Tangents(NamedTuple):
    """A direction in which features, harmonics and knot coordinates change together."""

    x: Float[Tensor, "atoms features"]
    harmonics: Float[Tensor, "edges harmonics"]
    knot_coordinates: Float[Tensor, " edges"]


class NeedsGrad(NamedTuple):
    """Which gradients of a convolution are needed."""

    x: bool
    geometry: bool  # harmonics and knot coordinates
    values: bool


@runtime_checkable
class ConvolutionBackend(Protocol):
    """Derivatives of Φ(g, x, Y, w) = sum_ij sum_p sum_u w_p(r_ij)_u C_p g_i x_j Y_ij, which is linear in each argument.

    Edges are sorted by centre.
    """

    def convolve_forward(
        self,
        x: Float[Tensor, "atoms features"],
        harmonics: Float[Tensor, "edges harmonics"],
        values: Float[Tensor, "rows weights"],
        knot_coordinates: Float[Tensor, " edges"],
        topology: Topology,
        table: PathTable,
        tangents: Tangents | None = None,
    ) -> Float[Tensor, "centers messages"]:
        """∂Φ/∂g, the convolution, or with tangents its derivative along them."""

    def convolve_backward(
        self,
        g: Float[Tensor, "centers messages"],
        x: Float[Tensor, "atoms features"],
        harmonics: Float[Tensor, "edges harmonics"],
        values: Float[Tensor, "rows weights"],
        knot_coordinates: Float[Tensor, " edges"],
        topology: Topology,
        table: PathTable,
        needs_grad: NeedsGrad,
        tangents: Tangents | None = None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        """The gradients of Φ with respect to x, harmonics, values and knot coordinates, those that are needed.

        With tangents, the gradients of the derivative of Φ along them.
        """


@runtime_checkable
class EdgeBackend(Protocol):
    """The harmonics Y of each vector's direction, its knot coordinate (``scale`` times its length), and derivatives."""

    def edge_geometry(
        self, vectors: Float[Tensor, "edges 3"], l_max: int, scale: float
    ) -> tuple[Float[Tensor, "edges harmonics"], Float[Tensor, " edges"]]:
        """Harmonics and knot coordinates."""

    def edge_geometry_backward(
        self, vectors: Tensor, g_harmonics: Tensor, g_coordinates: Tensor, l_max: int, scale: float
    ) -> Float[Tensor, "edges 3"]:
        """The gradient of the vectors, from those of harmonics and knot coordinates."""

    def edge_geometry_jvp(
        self, vectors: Tensor, tangent: Float[Tensor, "edges 3"], l_max: int, scale: float
    ) -> tuple[Float[Tensor, "edges harmonics"], Float[Tensor, " edges"]]:
        """The changes of harmonics and knot coordinates when the vectors change along ``tangent``."""

    def edge_geometry_backward_jvp(
        self,
        vectors: Tensor,
        tangent: Float[Tensor, "edges 3"],
        g_harmonics: Tensor,
        g_coordinates: Tensor,
        l_max: int,
        scale: float,
    ) -> Float[Tensor, "edges 3"]:
        """The change of ``edge_geometry_backward`` when the vectors change along ``tangent``; Hessians need it."""


@runtime_checkable
class NodeBackend(Protocol):
    """Linear maps of the features of each atom, and the gate."""

    def linear(
        self, result: str, first: Tensor, second: Tensor, species: Int[Tensor, " atoms"] | None, plan: LinearPlan
    ) -> Tensor:
        """One of x, w and y from the two others, of the form sum_i y_i · x_i W(species_i).

        Args:
            result: ``y`` from x and w, ``x`` from w and y, or ``w`` from x and y.
            first, second: the two others, in the order x [atoms, inputs], w [species, weights], y [atoms, outputs].
            species: of each atom; None where there is one set of weights.
            plan: which blocks are multiplied.
        """

    def gate(self, x: Float[Tensor, "atoms inputs"], plan: GatePlan, silu: float, tanh: float) -> Tensor:
        """The gate [atoms, outputs], with activations scaled by ``silu`` and ``tanh``."""

    def gate_backward(self, x: Tensor, g: Tensor, plan: GatePlan, silu: float, tanh: float) -> Tensor:
        """The gradient of x, from that of the gate's result."""

    def gate_double_backward(
        self, x: Tensor, g: Tensor, dx: Tensor, plan: GatePlan, silu: float, tanh: float
    ) -> tuple[Tensor, Tensor]:
        """The gradients of <dx, gate_backward> with respect to x and g."""


@runtime_checkable
class PairBackend(Protocol):
    """Vectors between atoms, and gradients with respect to positions; all in float64."""

    def vectors(self, graph: AtomicGraph) -> Float[Tensor, "edges 3"]:
        """r_ij of each edge, in Å."""

    def gradient(self, edge_gradients: Float[Tensor, "edges 3"], topology: Topology) -> Float[Tensor, "atoms 3"]:
        """dE/dr_i from dE/dr_ij. Edges are sorted by centre."""

    def differences(self, of_atoms: Float[Tensor, "atoms 3"], topology: Topology) -> Float[Tensor, "edges 3"]:
        """What neighbour and centre of each edge differ by: the transpose of ``gradient``."""


@runtime_checkable
class LocalBackend(Protocol):
    """The operations of strictly local models: forms that are linear in each argument, and splines edge by edge.

    Each function computes one argument of its form from the others; ``result`` is the name of the one. Edges are sorted
    by centre.
    """

    def environment(
        self,
        result: str,
        first: Tensor,
        second: Tensor,
        centers: Int[Tensor, " edges"] | None,
        n_atoms: int,
        l_max: int,
        channels: int,
    ) -> Tensor:
        """One of Γ, w and Y from the two others, of the form sum_i Γ_i · sum_j w_ij Y_ij.

        Args:
            result: ``environment``, ``weights`` or ``harmonics``.
            first, second: the two others, in the order environment [atoms, harmonics·channels], weights
                [edges, degrees·channels], harmonics [edges, harmonics].
            centers: of each edge; None where each edge is an atom of its own.
            n_atoms: number of environments.
            l_max: the highest degree.
            channels: of each degree.
        """

    def couple(self, result: str, first: Tensor, second: Tensor, table: CouplingTable) -> Tensor:
        """One of the operators of atoms, their environments and the weights of the paths from the two others.

        Args:
            result: ``operator``, ``environment`` or ``weights``.
            first, second: the two others, in the order operator [atoms, elements·channels], environment
                [atoms, harmonics·channels], weights [paths, channels].
            table: the paths.
        """

    def act(
        self,
        result: str,
        first: Tensor,
        second: Tensor,
        centers: Int[Tensor, " edges"],
        n_atoms: int,
        table: CouplingTable,
    ) -> Tensor:
        """One of the results, the operators of centres and the features of edges from the two others.

        Args:
            result: ``result``, ``operator`` or ``features``.
            first, second: the two others, in the order result [edges, rows·channels], operator
                [atoms, elements·channels], features [edges, columns·channels].
            centers: of each edge.
            n_atoms: number of operators.
            table: says which elements an operator has.
        """

    def lookup(
        self,
        result: str,
        first: Tensor,
        second: Tensor | None,
        knot_coordinates: Float[Tensor, " edges"],
        kinds: Int[Tensor, " edges"],
        shape: tuple[int, int, int],
        order: int,
    ) -> Tensor:
        """One of rows, table and strengths from the two others, of the form sum_e s_e <rows_e, B(t_e) table>.

        Args:
            result: ``rows``, ``table`` or ``strengths``.
            first, second: the two others, in the order rows [edges, columns], table [kinds, knots, columns], strengths
                [edges]; None stands for strengths of one.
            knot_coordinates: t of each edge.
            kinds: which table an edge reads.
            shape: that of the table.
            order: which derivative of the splines' basis B is meant.
        """


@runtime_checkable
class HarmonicsBackend(LocalBackend, Protocol):
    """A local backend that need not write out features that are weighted harmonics."""

    def act_on_harmonics(
        self,
        result: str,
        first: Tensor,
        second: Tensor,
        third: Tensor,
        centers: Int[Tensor, " edges"],
        n_atoms: int,
        table: CouplingTable,
    ) -> Tensor:
        """As ``act`` for features w Y: one of result, operator, weights and harmonics from the three others.

        Args:
            result: the name of the one.
            first, second, third: the others, in this order: result and operator as in ``act``, weights
                [edges, degrees·channels], harmonics [edges, harmonics].
            centers, n_atoms, table: as in ``act``; the table's ``irreps_in`` are those of the harmonics.
        """
