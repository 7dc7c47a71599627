import math

import pytest
import torch
from torch import nn

from equiforce.geometry.irreps import Irreps
from equiforce.models import REGISTRY
from equiforce.nn.equivariant import Linear, SpeciesLinear
from equiforce.nn.matrices import matrices
from equiforce.nn.mlp import ScalarMLP
from equiforce.training.muon import LENGTH, Muon, orthogonalized

RATE = 0.1
NO_MATRICES = {
    "nequip": {"embed.weight", "radial_basis.roots", "readout.weights.0"},
    "allegro": {"two_body.basis.roots", "layers.0.weights", "layers.1.weights", "readout.weights.1"},
}


def stepped(module, gradients):
    """Changes of the weights after a step along each of the gradients, which are lists in the order of the weights."""
    optimizer = Muon(module, RATE, 0.99)
    before = [p.detach().clone() for p in module.parameters()]
    for gradient in gradients:
        for parameter, value in zip(module.parameters(), gradient, strict=True):
            parameter.grad = value.clone()
        optimizer.step()
    return [p.detach() - old for p, old in zip(module.parameters(), before, strict=True)]


@pytest.mark.parametrize("shape", [(32, 32), (32, 40), (16, 96), (96, 16), (8, 64), (2, 3), (96, 96)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_singular_vectors_stay_and_singular_values_become_one(shape, dtype):
    torch.manual_seed(0)
    left, values, right = torch.linalg.svd(torch.randn(3, *shape, dtype=dtype), full_matrices=False)
    values = values / values[:, :1].clamp(min=1) + 0.05  # what is far smaller than the rest takes more iterations
    found = left.mT @ orthogonalized(left @ torch.diag_embed(values) @ right) @ right.mT
    diagonal = found.diagonal(dim1=1, dim2=2)
    assert found.dtype is dtype
    assert diagonal.min() > 0.8
    assert diagonal.max() < 1.2
    assert (found - torch.diag_embed(diagonal)).abs().max() < 1e-4


@pytest.mark.parametrize("columns", [32, 96])
def test_singular_values_far_below_the_highest_become_one_too(columns):
    torch.manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(1, n, n)).Q for n in (32, columns))
    values = torch.linspace(0.003, 0.25, 32)
    assert values.norm() < 1  # so that none is below 0.003 of what the matrix is divided by
    found = torch.linalg.svdvals(orthogonalized((left * values) @ right[:, :32]))
    assert found.min() > 0.79
    assert found.max() < 1.21


def test_long_and_short_ways_agree():
    torch.manual_seed(0)
    x = torch.randn(2, 8, 15, dtype=torch.float64)
    longer = torch.cat([x, torch.zeros(2, 8, 5, dtype=torch.float64)], dim=2)  # the same singular values
    torch.testing.assert_close(orthogonalized(longer)[:, :, :15], orthogonalized(x))


def test_no_gradient_gives_no_step():
    assert not orthogonalized(torch.zeros(1, 4, 4)).any()
    module = ScalarMLP(4, [6], 5)
    assert not any(change.any() for change in stepped(module, [[torch.zeros_like(p) for p in module.parameters()]]))
    optimizer = Muon(module, RATE, 0.99)
    module.weights[0].grad = torch.randn(4, 6)
    before = module.weights[1].detach().clone()
    optimizer.step()  # the second matrix was not used
    torch.testing.assert_close(module.weights[1].detach(), before, rtol=0, atol=0)


def test_each_block_of_each_species_is_a_matrix_of_its_own():
    torch.manual_seed(0)
    module = SpeciesLinear(Irreps("8x0e+4x1o"), Irreps("6x0e+5x1o"), 2)
    gradient = torch.randn_like(module.weights)
    (change,) = stepped(module, [[gradient]])
    assert [m.shape for m in matrices(module)] == [(8, 6), (4, 5)] * 2
    for m in matrices(module):
        other = gradient.clone()
        m.of(other).mul_(100.0)  # a longer gradient of one of them
        (rescaled,) = stepped(module, [[other]])
        torch.testing.assert_close(rescaled, change, rtol=1e-4, atol=1e-5)
        wanted = -RATE * LENGTH * math.sqrt(max(m.shape)) * orthogonalized(m.of(gradient)[None])[0]
        torch.testing.assert_close(m.of(change), wanted, rtol=1e-4, atol=1e-5)


def test_a_species_that_is_not_in_the_batch_rests():
    torch.manual_seed(0)
    module = SpeciesLinear(Irreps("8x0e"), Irreps("6x0e"), 2)
    both = torch.randn_like(module.weights)
    first = both.clone()
    first[1] = 0.0
    (change,) = stepped(module, [[both], [first], [first]])
    (once,) = stepped(module, [[both]])
    torch.testing.assert_close(change[1], once[1])
    assert (change[0] - once[0]).abs().max() > 0.5 * once[0].abs().max()


def test_steps_do_not_depend_on_the_basis_of_the_channels():
    torch.manual_seed(0)
    turn, other = (torch.linalg.qr(torch.randn(n, n, dtype=torch.float64))[0] for n in (8, 6))
    module = Linear(Irreps("8x1o"), Irreps("6x1o")).double()
    gradients = [torch.randn(8, 6, dtype=torch.float64) for _ in range(3)]
    (change,) = stepped(module, [[g.view(1, -1)] for g in gradients])
    (turned,) = stepped(module, [[(turn @ g @ other).reshape(1, -1)] for g in gradients])
    torch.testing.assert_close(turned.view(8, 6), turn @ change.view(8, 6) @ other)


def test_momentum_is_nesterovs():
    torch.manual_seed(0)
    module = ScalarMLP(4, [], 4)
    first, second = torch.randn(4, 4), torch.randn(4, 4)
    (change,) = stepped(module, [[first], [second]])
    length = RATE * LENGTH * 2
    along = [first * 1.95, second + 0.95 * (second + 0.95 * first)]
    wanted = -length * sum(orthogonalized(a[None])[0] for a in along)
    torch.testing.assert_close(change, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_no_matrix_is_adams(dtype):
    torch.manual_seed(0)
    network = nn.ModuleDict({"embed": nn.Embedding(3, 8), "readout": ScalarMLP(8, [], 1)}).to(dtype)
    twin = [p.detach().clone().requires_grad_() for p in network.parameters()]
    ours, theirs = Muon(network, RATE, 0.9), torch.optim.Adam(twin, RATE, (0.9, 0.9))
    for _ in range(5):
        for parameter, other in zip(network.parameters(), twin, strict=True):
            parameter.grad = torch.randn_like(parameter)
            other.grad = parameter.grad.clone()
        ours.step()
        theirs.step()
    for parameter, other in zip(network.parameters(), twin, strict=True):
        torch.testing.assert_close(parameter, other)


def test_weights_that_do_not_train_stay():
    module = ScalarMLP(4, [], 4)
    module.requires_grad_(False)
    network = nn.ModuleList([module, ScalarMLP(4, [], 3)])
    optimizer = Muon(network, RATE, 0.99)
    assert [p for group in optimizer.param_groups for p in group["params"]] == [network[1].weights[0]]


@pytest.mark.parametrize("kind", ["nequip", "allegro"])
def test_all_of_a_network_but_vectors_is_matrices(kind):
    options = {"nequip": {"channels": 4, "n_layers": 3}, "allegro": {"tensor_channels": 4, "scalar_channels": 8}}
    model = REGISTRY[kind]
    network = model.build(model.config_class(**options[kind]), ["H", "O"])
    optimizer = Muon(network, RATE, 0.99)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found, others = ({names[id(p)] for p in group["params"]} for group in optimizer.param_groups)
    trainable = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert found | others == trainable
    assert others == NO_MATRICES[kind] & trainable


def test_a_restored_optimizer_goes_on():
    def network():
        torch.manual_seed(0)
        return nn.ModuleDict({"embed": nn.Embedding(3, 8), "mlp": ScalarMLP(8, [8], 1)})

    def run(module, optimizer, steps):
        for n in steps:
            torch.manual_seed(n)
            for parameter in module.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()

    whole, first, second = network(), network(), network()
    run(whole, Muon(whole, RATE, 0.99), range(6))
    saved = Muon(first, RATE, 0.99)
    run(first, saved, range(3))
    second.load_state_dict(first.state_dict())
    restored = Muon(second, 1.0, 0.5)
    restored.load_state_dict(saved.state_dict())
    run(second, restored, range(3, 6))
    for parameter, wanted in zip(second.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(parameter, wanted, rtol=0, atol=0)
