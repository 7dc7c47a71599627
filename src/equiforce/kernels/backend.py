"""The interface of a backend: a module with the functions of one or several of these Protocols.

The functions do not use autograd; ``autograd.py`` makes differentiable functions from them. Tensors may have any
strides. Each tensor is checked before C or Triton reads it; :class:`equiforce.errors.InputError` says what is wrong.

==================  =====================================  =======================================
Protocol            CPU                                    GPU
==================  =====================================  =======================================
ConvolutionBackend  ``cpu/convolution.py``                 ``gpu/convolution.py``
LocalBackend        ``cpu/local.py``                       ``gpu/local.py``
HarmonicsBackend    ``cpu/local.py``                       none; the ``LocalBackend`` instead
EdgeBackend         ``cpu/convolution.py``                 plain torch: ``reference/convolution.py``
NodeBackend         ``cpu/nodes.py``                       plain torch: ``reference/convolution.py``
PairBackend         ``cpu/pairs.py``                       plain torch: ``graph.py``, ``reference/convolution.py``
==================  =====================================  =======================================
"""

from typing import Literal, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from equiforce.graph import AtomicGraph, Topology
from equiforce.kernels.spec.couplings import CouplingTable
from equiforce.kernels.spec.paths import PathTable
from equiforce.kernels.spec.plans import GatePlan, LinearPlan

# the names of the arguments of each multilinear form; ``result`` is the one that a function computes from the others
LinearArgument = Literal["x", "w", "y"]
EnvironmentArgument = Literal["environment", "weights", "harmonics"]
CoupleArgument = Literal["operator", "environment", "weights"]
ActArgument = Literal["result", "operator", "features"]
ActOnHarmonicsArgument = Literal["result", "operator", "weights", "harmonics"]
LookupArgument = Literal["rows", "table", "strengths"]


class Tangents(NamedTuple):
    """The tangents of features, harmonics and knot coordinates in a directional derivative (jvp)."""

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
    """Derivatives of the form Φ(g, x, Y, w) = sum_ij sum_p sum_u w_p(r_ij)_u C_p g_i x_j Y_ij.

    Φ is linear in each argument. The sums run over edges ij, paths p and channels u. Edges are sorted by centre.
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
        """Compute ∂Φ/∂g, which is the convolution; with tangents, its derivative along them."""

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
        """Compute the needed gradients of Φ with respect to x, harmonics, values and knot coordinates.

        With tangents, compute the gradients of the derivative of Φ along them. A gradient that is not needed may be
        None; the CPU backend computes that of x in any case.
        """


@runtime_checkable
class EdgeBackend(Protocol):
    """Harmonics of the direction of each edge vector, its length times ``scale`` (knot coordinate), and derivatives."""

    def edge_geometry(
        self, vectors: Float[Tensor, "edges 3"], l_max: int, scale: float
    ) -> tuple[Float[Tensor, "edges harmonics"], Float[Tensor, " edges"]]:
        """Compute harmonics and knot coordinates."""

    def edge_geometry_backward(
        self, vectors: Tensor, g_harmonics: Tensor, g_coordinates: Tensor, l_max: int, scale: float
    ) -> Float[Tensor, "edges 3"]:
        """Compute the gradient of the vectors from the gradients of harmonics and knot coordinates."""

    def edge_geometry_jvp(
        self, vectors: Tensor, tangent: Float[Tensor, "edges 3"], l_max: int, scale: float
    ) -> tuple[Float[Tensor, "edges harmonics"], Float[Tensor, " edges"]]:
        """Compute the tangents of harmonics and knot coordinates from the tangent of the vectors."""

    def edge_geometry_backward_jvp(
        self,
        vectors: Tensor,
        tangent: Float[Tensor, "edges 3"],
        g_harmonics: Tensor,
        g_coordinates: Tensor,
        l_max: int,
        scale: float,
    ) -> Float[Tensor, "edges 3"]:
        """Compute the tangent of ``edge_geometry_backward`` from that of the vectors; Hessians need it."""


@runtime_checkable
class NodeBackend(Protocol):
    """Linear maps of the features of each atom, and the gate."""

    def linear(
        self,
        result: LinearArgument,
        first: Tensor,
        second: Tensor,
        species: Int[Tensor, " atoms"] | None,
        plan: LinearPlan,
    ) -> Tensor:
        """Compute the derivative of sum_i y_i · x_i W(species_i) with respect to x, w or y.

        Args:
            result: ``y`` from x and w, ``x`` from w and y, or ``w`` from x and y.
            first, second: the two others, in the order x [atoms, inputs], w [species, weights], y [atoms, outputs].
            species: species index of each atom; None if there is one set of weights.
            plan: the matrices and their blocks.
        """

    def gate(self, x: Float[Tensor, "atoms inputs"], plan: GatePlan, silu: float, tanh: float) -> Tensor:
        """Compute the gate [atoms, outputs]; ``silu`` and ``tanh`` are factors of the activations."""

    def gate_backward(self, x: Tensor, g: Tensor, plan: GatePlan, silu: float, tanh: float) -> Tensor:
        """Compute the gradient of x from the gradient g of the gate's result."""

    def gate_double_backward(
        self, x: Tensor, g: Tensor, dx: Tensor, plan: GatePlan, silu: float, tanh: float
    ) -> tuple[Tensor, Tensor]:
        """Compute the gradients of <dx, gate_backward> with respect to x and g."""


@runtime_checkable
class PairBackend(Protocol):
    """Vectors between atoms, and gradients with respect to positions; all in float64."""

    def vectors(self, graph: AtomicGraph) -> Float[Tensor, "edges 3"]:
        """Compute r_ij of each edge, in Å."""

    def gradient(self, edge_gradients: Float[Tensor, "edges 3"], topology: Topology) -> Float[Tensor, "atoms 3"]:
        """Compute dE/dr_i from dE/dr_ij; edges are sorted by centre."""

    def differences(self, of_atoms: Float[Tensor, "atoms 3"], topology: Topology) -> Float[Tensor, "edges 3"]:
        """Compute the value of the neighbour minus that of the centre: the transpose of ``gradient``."""


@runtime_checkable
class LocalBackend(Protocol):
    """The operations of strictly local models: forms that are linear in each argument.

    Each function computes the derivative of its form with respect to one argument, ``result``, from the other
    arguments. Edges are sorted by centre.
    """

    def environment(
        self,
        result: EnvironmentArgument,
        first: Tensor,
        second: Tensor,
        centers: Int[Tensor, " edges"] | None,
        n_centers: int,
        l_max: int,
        channels: int,
    ) -> Tensor:
        """Compute one of Γ, w and Y from the two others; the form is sum_i Γ_i · sum_j w_ij Y_ij.

        Args:
            result: ``environment``, ``weights`` or ``harmonics``.
            first, second: the two others, in the order environment [atoms, harmonics·channels], weights
                [edges, degrees·channels], harmonics [edges, harmonics].
            centers: centre of each edge; None if each edge has an environment of its own.
            n_centers: number of environments.
            l_max: the highest degree.
            channels: number of channels of each degree.
        """

    def couple(self, result: CoupleArgument, first: Tensor, second: Tensor, table: CouplingTable) -> Tensor:
        """Compute one of the operators of atoms, their environments and the path weights from the two others.

        Args:
            result: ``operator``, ``environment`` or ``weights``.
            first, second: the two others, in the order operator [atoms, elements·channels], environment
                [atoms, harmonics·channels], weights [paths, channels].
            table: the paths.
        """

    def act(
        self,
        result: ActArgument,
        first: Tensor,
        second: Tensor,
        centers: Int[Tensor, " edges"],
        n_centers: int,
        table: CouplingTable,
    ) -> Tensor:
        """Compute results of edges, operators of centres or features of edges from the two others.

        Args:
            result: ``result``, ``operator`` or ``features``.
            first, second: the two others, in the order result [edges, rows·channels], operator
                [atoms, elements·channels], features [edges, columns·channels].
            centers: centre of each edge.
            n_centers: number of operators.
            table: the elements of an operator.
        """

    def lookup(
        self,
        result: LookupArgument,
        first: Tensor,
        second: Tensor | None,
        knot_coordinates: Float[Tensor, " edges"],
        kinds: Int[Tensor, " edges"],
        shape: tuple[int, int, int],
        order: int,
    ) -> Tensor:
        """Compute one of rows, table and strengths from the others; the form is sum_e s_e <rows_e, B(t_e) table>.

        Args:
            result: ``rows``, ``table`` or ``strengths``.
            first, second: the two others, in the order rows [edges, columns], table [kinds, rows, columns], strengths
                [edges]; None means that all strengths s are 1.
            knot_coordinates: t of each edge.
            kinds: index of the table that an edge reads.
            shape: shape of the table.
            order: order of the derivative of the spline basis B.
        """


@runtime_checkable
class HarmonicsBackend(LocalBackend, Protocol):
    """A local backend whose tensor product reads w and Y, so that the features V = w Y are not stored."""

    def act_on_harmonics(
        self,
        result: ActOnHarmonicsArgument,
        first: Tensor,
        second: Tensor,
        third: Tensor,
        centers: Int[Tensor, " edges"],
        n_centers: int,
        table: CouplingTable,
    ) -> Tensor:
        """Compute the same as ``act`` for the features w Y: one of four arguments from the three others.

        Args:
            result: ``result``, ``operator``, ``weights`` or ``harmonics``.
            first, second, third: the others, in this order: result and operator as in ``act``, weights
                [edges, degrees·channels], harmonics [edges, harmonics].
            centers, n_centers, table: as in ``act``; the table's ``irreps_in`` are those of the harmonics.
        """
