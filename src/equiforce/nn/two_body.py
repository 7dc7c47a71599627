"""What two atoms alone say of one another: learned functions of their distance, for each ordered pair of species."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from equiforce.geometry.irreps import Irreps
from equiforce.kernels import GatePlan, LinearPlan, gate, linear, lookup
from equiforce.nn.mlp import SILU_GAIN, TANH_GAIN, ScalarMLP
from equiforce.nn.radial import Knots, ParameterCache, envelope


class TwoBody(nn.Module):
    """Several perceptrons of the radial basis and the kind of an edge, which share their hidden layers.

    The first matrix is another for each kind, an ordered pair of species: a one-hot vector of the pair, times the basis
    (arXiv 2204.05249). With knots the perceptrons are evaluated on them, and edges read the splines.

    Args:
        basis: functions of the distance over the cutoff.
        n_basis: how many there are.
        envelope_p: of the envelope that multiplies all results (arXiv 2003.03123, equation 8).
        knots: of the splines, between 0 and 1; None evaluates the perceptrons on every edge.
        n_kinds: of edges.
        depth: hidden layers, at least one.
        width: of the hidden layers.
        outputs: how many numbers each perceptron gives.
    """

    def __init__(
        self,
        basis: nn.Module,
        n_basis: int,
        envelope_p: int,
        knots: Knots | None,
        n_kinds: int,
        depth: int,
        width: int,
        outputs: Sequence[int],
    ):
        super().__init__()
        self.basis, self.knots, self.n_kinds, self.envelope_p = basis, knots, n_kinds, envelope_p
        hidden = Irreps([(width, "0e")])
        self.first_product, self.activation = LinearPlan(Irreps([(n_basis, "0e")]), hidden, n_kinds), GatePlan(hidden)
        self.first = nn.Parameter(torch.randn(n_kinds, self.first_product.n_weights))
        self.shared = nn.ModuleList(ScalarMLP(width, [], width) for _ in range(depth - 1))
        self.heads = nn.ModuleList(ScalarMLP(width, [], n) for n in outputs)
        self.cache = ParameterCache()

    def linear_maps(self) -> list[tuple[nn.Parameter, LinearPlan]]:
        return [(self.first, self.first_product)]

    def forward(self, knot_coordinates: Float[Tensor, " edges"], kinds: Int[Tensor, " edges"]) -> list[Tensor]:
        """The numbers of each perceptron [edges, outputs], from knot coordinates, or from r / r_c without knots."""
        if self.knots is None:
            hidden = self._fading(knot_coordinates) * self._hidden(self.basis(knot_coordinates), kinds)
            return [head(hidden) for head in self.heads]
        tables = self.cache(self.tables, self.parameters())
        return [lookup(values, knot_coordinates, kinds) for values in tables]

    def tables(self) -> list[Float[Tensor, "kinds rows outputs"]]:
        """The coefficients of the splines of each perceptron."""
        with torch.autocast(self.first.device.type, enabled=False):  # a knot's rounding is a bump in the energy
            lengths = self.knots.lengths(like=self.first)
            kinds = torch.arange(self.n_kinds, device=lengths.device).repeat_interleave(len(lengths))
            basis = self.basis(lengths).repeat(self.n_kinds, 1)
            hidden = self._fading(lengths) * self._hidden(basis, kinds).unflatten(0, (self.n_kinds, -1))
            hidden = self.knots.interpolation(hidden) @ hidden
            return [head(hidden.flatten(0, 1)).unflatten(0, (self.n_kinds, -1)) for head in self.heads]

    def _fading(self, x: Float[Tensor, " edges"]) -> Float[Tensor, "edges 1"]:
        return envelope(x, 1.0, self.envelope_p).unsqueeze(1)

    def _hidden(self, basis: Tensor, kinds: Tensor) -> Tensor:
        x = self._activated(linear(basis, self.first, kinds, self.first_product))
        for layer in self.shared:
            x = self._activated(layer(x))
        return x

    def _activated(self, x: Tensor) -> Tensor:
        return gate(x, self.activation, SILU_GAIN, TANH_GAIN)
