"""The two-body network: learned functions of the distance for each ordered pair of species."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from equiforce.geometry.irreps import Irreps
from equiforce.kernels import GatePlan, LinearPlan, gate, linear, lookup
from equiforce.nn.knots import Knots
from equiforce.nn.mlp import SILU_GAIN, TANH_GAIN, ScalarMLP
from equiforce.nn.radial import ParameterCache, envelope, in_double


class TwoBody(nn.Module):
    """Perceptrons of the radial basis and the kind of an edge; they share all layers but the last (arXiv 2204.05249).

    The kind of an edge is its ordered pair of species. The first matrix is a different one for each kind, which equals
    one matrix applied to the product of the basis and a one-hot vector of the kind. With knots, the perceptrons are
    evaluated on the knots alone and each edge reads the splines.

    Args:
        basis: radial basis of x = r / r_c.
        n_basis: number of basis functions.
        envelope_p: order of the envelope that multiplies all results (arXiv 2003.03123, equation 8).
        knots: knots of the splines, from 0 to 1; None evaluates the perceptrons on every edge.
        n_kinds: number of kinds of edges.
        depth: number of hidden layers, at least one.
        width: width of the hidden layers.
        outputs: number of outputs of each perceptron.
        envelope_on_basis: whether the envelope multiplies the basis instead of the results.
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
        *,
        envelope_on_basis: bool = False,
    ):
        super().__init__()
        self.envelope_on_basis = envelope_on_basis
        self.basis, self.knots, self.n_kinds, self.envelope_p = basis, knots, n_kinds, envelope_p
        self.outputs = tuple(outputs)
        hidden = Irreps([(width, "0e")])
        self.first_plan, self.activation = LinearPlan(Irreps([(n_basis, "0e")]), hidden, n_kinds), GatePlan(hidden)
        self.first = nn.Parameter(torch.randn(n_kinds, self.first_plan.n_weights))
        self.shared = nn.ModuleList(ScalarMLP(width, [], width) for _ in range(depth - 1))
        self.heads = nn.ModuleList(ScalarMLP(width, [], n) for n in outputs)
        self.cache = ParameterCache()

    def linear_maps(self) -> list[tuple[nn.Parameter, LinearPlan]]:
        return [(self.first, self.first_plan)]

    def forward(self, knot_coordinates: Float[Tensor, " edges"], kinds: Int[Tensor, " edges"]) -> list[Tensor]:
        """Compute the outputs of each perceptron.

        Args:
            knot_coordinates: knot coordinate of each edge; without knots, r / r_c [edges].
            kinds: kind of each edge [edges].

        Returns:
            The outputs of each perceptron [edges, outputs].

        Raises:
            InputError: a kind is out of range.
        """
        if self.knots is None:
            hidden = self._hidden(knot_coordinates, kinds)
            return [head(hidden) for head in self.heads]
        knots = self.knots
        tables = self.cache(lambda: self.tables(knots), [*self.parameters(), *self.basis.buffers()])
        return [lookup(values, knot_coordinates, kinds) for values in tables]

    def tables(self, knots: Knots) -> list[Float[Tensor, "kinds rows outputs"]]:
        """Compute the spline coefficients of each perceptron; see :meth:`equiforce.models.nequip.NequIP.tables`."""
        if not any(weight.requires_grad for weight in self.parameters()) and self.first.dtype != torch.float64:
            return [table.to(self.first.dtype) for table in in_double(self).tables(knots)]
        with torch.autocast(self.first.device.type, enabled=False):  # rounded coefficients make the energy bumpy
            lengths = knots.lengths(like=self.first)
            kinds = torch.arange(self.n_kinds, device=lengths.device).repeat_interleave(len(lengths))
            hidden = self._by_kind(self._hidden(lengths, kinds))
            hidden = knots.interpolation(hidden) @ hidden
            return [self._by_kind(head(hidden.flatten(0, 1))) for head in self.heads]

    def _by_kind(self, rows: Float[Tensor, "rows numbers"]) -> Float[Tensor, "kinds samples numbers"]:
        return rows.reshape(self.n_kinds, -1, rows.shape[1])

    def _envelope(self, x: Float[Tensor, " edges"]) -> Float[Tensor, "edges 1"]:
        return envelope(x, 1.0, self.envelope_p).unsqueeze(1)

    def _hidden(self, lengths: Float[Tensor, " samples"], kinds: Int[Tensor, " rows"]) -> Float[Tensor, "rows width"]:
        """The last hidden layer, which vanishes at the cutoff; samples are repeated for each kind if rows are more."""
        fading, basis = self._envelope(lengths), self.basis(lengths)
        repeats = len(kinds) // max(len(lengths), 1)
        if self.envelope_on_basis:
            basis = fading * basis
        x = self._activated(linear(basis.repeat(repeats, 1), self.first, kinds, self.first_plan))
        for layer in self.shared:
            x = self._activated(layer(x))
        return x if self.envelope_on_basis else fading.repeat(repeats, 1) * x

    def _activated(self, x: Tensor) -> Tensor:
        return gate(x, self.activation, SILU_GAIN, TANH_GAIN)
