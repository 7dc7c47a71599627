"""Maps of features that commute with rotations and reflections."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from equiforce.geometry.irreps import Irreps, blocks
from equiforce.nn.mlp import silu, tanh


class Linear(nn.Module):
    """Mixes the channels of each irrep; by Schur's lemma nothing else is linear and equivariant."""

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps):
        super().__init__()
        self.irreps_in, self.irreps_out = Irreps(irreps_in), Irreps(irreps_out)
        source = {block.name: block for block in blocks(self.irreps_in)}
        self.pairs = [(source.get(target.name), target) for target in blocks(self.irreps_out)]
        self.weights = nn.ParameterDict({b.name: torch.randn(a.channels, b.channels) for a, b in self.pairs if a})

    def forward(self, x: Float[Tensor, "atoms inputs"]) -> Float[Tensor, "atoms outputs"]:
        mixed = []
        for source, target in self.pairs:
            if source is None:
                mixed.append(x.new_zeros(x.shape[0], target.stop - target.start))
            else:
                weight = self.weights[target.name] / math.sqrt(source.channels)
                mixed.append((source.of(x) @ weight).flatten(1))
        return torch.cat(mixed, dim=1)


class SpeciesLinear(nn.Module):
    """A :class:`Linear` of its own for each species: NequIP's self-connection."""

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, n_species: int):
        super().__init__()
        self.n_species = n_species
        wide = Irreps([(mul * n_species, ir) for mul, ir in Irreps(irreps_out)])
        self.linear = Linear(irreps_in, wide)
        self.narrow = list(zip(blocks(wide), [mul for mul, _ in Irreps(irreps_out)], strict=True))

    def forward(
        self, x: Float[Tensor, "atoms inputs"], species: Int[Tensor, " atoms"]
    ) -> Float[Tensor, "atoms outputs"]:
        if self.n_species == 1:
            return self.linear(x)
        every = self.linear(x)
        own = []
        for block, channels in self.narrow:
            candidates = block.of(every).unflatten(2, (self.n_species, channels))
            index = species.view(-1, 1, 1, 1).expand(-1, candidates.shape[1], 1, channels)
            own.append(candidates.gather(2, index).flatten(1))
        return torch.cat(own, dim=1)


class Gate(nn.Module):
    """SiLU on even scalars, tanh on odd ones, and each other irrep times the SiLU of a scalar of its own.

    arXiv 2101.03164, equation 11 (after arXiv 1807.02547). The gates are the last of the even scalars of ``irreps_in``.
    """

    def __init__(self, irreps_out: Irreps):
        super().__init__()
        self.irreps_out = Irreps(irreps_out)
        n_gates = sum(mul for mul, ir in self.irreps_out if ir.l > 0)
        n_scalars = self.irreps_out.count("0e") + n_gates
        others = [(mul, ir) for mul, ir in self.irreps_out if str(ir) != "0e"]
        self.irreps_in = Irreps([(n_scalars, "0e"), *others]).remove_zero_multiplicities()
        self.sources = {block.name: block for block in blocks(self.irreps_in)}

    def forward(self, x: Float[Tensor, "atoms inputs"]) -> Float[Tensor, "atoms outputs"]:
        used, parts = 0, {}
        scalars = silu(self.sources["0e"].of(x)) if "0e" in self.sources else None
        for target in blocks(self.irreps_out):
            if target.name == "0e":
                parts[target.name] = scalars[..., : target.channels]
                used += target.channels
        for target in blocks(self.irreps_out):
            if target.name == "0o":
                parts[target.name] = tanh(self.sources[target.name].of(x))
            elif target.l > 0:
                gates = scalars[..., used : used + target.channels]
                parts[target.name] = gates * self.sources[target.name].of(x)
                used += target.channels
        return torch.cat([parts[block.name].flatten(1) for block in blocks(self.irreps_out)], dim=1)
