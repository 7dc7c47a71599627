import pytest
import torch

from equiforce.geometry.irreps import Irreps, blocks
from equiforce.models import REGISTRY
from equiforce.nn.equivariant import Linear, SpeciesLinear
from equiforce.nn.matrices import matrices
from equiforce.nn.mlp import ScalarMLP

SMALL = {"nequip": {"channels": 4, "n_layers": 3}, "allegro": {"tensor_channels": 4, "scalar_channels": 8}}


def test_an_irrep_and_a_species_have_a_matrix_each():
    module = SpeciesLinear(Irreps("8x0e+4x1o+3x2e"), Irreps("6x0e+5x1o"), 2)
    found = matrices(module)
    assert [m.shape for m in found] == [(8, 6), (4, 5)] * 2
    assert [m.start for m in found] == [0, 48, 68, 116]


def test_the_matrix_is_what_multiplies_the_channels():
    torch.manual_seed(0)
    module = Linear(Irreps("3x0e+2x1o"), Irreps("4x0e+5x1o"))
    x = torch.randn(2, 9)
    pairs = zip(matrices(module), blocks(module.plan.irreps_in), blocks(module.plan.irreps_out), strict=True)
    for m, source, target in pairs:
        wanted = source.of(x) @ m.of(module.weights) / m.rows**0.5
        torch.testing.assert_close(target.of(module(x)), wanted)


def test_a_view_writes_into_the_parameter():
    module = ScalarMLP(3, [4], 2)
    with torch.no_grad():
        for number, m in enumerate(matrices(module)):
            m.of(m.weights).fill_(number)
    assert [weights.unique().item() for weights in module.weights] == [0.0, 1.0]


@pytest.mark.parametrize("kind", SMALL)
def test_every_number_of_a_parameter_belongs_to_one_matrix(kind):
    model = REGISTRY[kind]
    found = matrices(model.build(model.config_class(**SMALL[kind]), ["H", "O"]))
    counts = {id(m.weights): torch.zeros_like(m.weights) for m in found}
    for m in found:
        m.of(counts[id(m.weights)]).add_(1)
    assert counts
    assert all((count == 1).all() for count in counts.values())
