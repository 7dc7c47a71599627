import pytest
import torch
from e3nn import o3

from equiforce.geometry.irreps import Irreps, blocks
from equiforce.nn.equivariant import Gate, Linear, PowerSpectrum, SpeciesLinear


def rotate(features, irreps, matrix):
    """Features of a rotated or reflected system; e3nn is the oracle."""
    turned = [
        torch.einsum("ij,njc->nic", o3.Irrep(b.name).D_from_matrix(matrix).to(features.dtype), b.of(features)).flatten(
            1
        )
        for b in blocks(irreps)
    ]
    return torch.cat(turned, dim=1)


@pytest.fixture(params=[1, -1], ids=["rotation", "reflection"])
def matrix(request):
    torch.manual_seed(3)
    return request.param * o3.rand_matrix()


IRREPS = Irreps("6x0e + 5x0o + 4x1o + 3x1e + 2x2e")


def test_linear_is_equivariant_and_keeps_variance(matrix):
    torch.manual_seed(0)
    out = Irreps("8x0e + 2x1o + 3x1e + 4x2e")
    linear, x = Linear(IRREPS, out), torch.randn(500, IRREPS.dim)
    torch.testing.assert_close(linear(rotate(x, IRREPS, matrix)), rotate(linear(x), out, matrix), rtol=0, atol=1e-4)
    assert linear(x).square().mean().item() == pytest.approx(1.0, rel=0.4)


def test_linear_gives_zeros_where_the_input_has_no_such_irrep():
    out = Linear(Irreps("4x0e"), Irreps("2x0e + 3x1o"))(torch.randn(5, 4))
    assert out.shape == (5, 11)
    assert not out[:, 2:].any()


def test_species_linear_is_one_linear_for_each_species():
    torch.manual_seed(0)
    linear = SpeciesLinear(IRREPS, IRREPS, 3)
    x, species = torch.randn(6, IRREPS.dim), torch.tensor([0, 1, 2, 2, 1, 0])
    together = linear(x, species)
    for s in range(3):
        one = torch.full((6,), s)
        torch.testing.assert_close(together[species == s], linear(x, one)[species == s])
    same = x[:1].expand(3, -1)
    assert not torch.allclose(*linear(same, torch.tensor([0, 1, 2]))[:2])


@pytest.mark.parametrize("irreps", ["6x0e + 5x0o + 4x1o + 3x1e + 2x2e", "4x0e", "3x0e + 2x1o"])
def test_gate_is_equivariant(irreps, matrix):
    torch.manual_seed(0)
    gate = Gate(Irreps(irreps))
    x = torch.randn(10, gate.irreps_in.dim)
    expected = rotate(gate(x), gate.irreps_out, matrix)
    torch.testing.assert_close(gate(rotate(x, gate.irreps_in, matrix)), expected, rtol=0, atol=1e-4)


def test_gate_keeps_variance_and_maps_zero_to_zero():
    gate = Gate(Irreps("20x0e + 20x0o + 10x1o"))
    out = gate(torch.randn(2000, gate.irreps_in.dim))
    for block in blocks(gate.irreps_out):
        assert block.of(out).square().mean().item() == pytest.approx(1.0, rel=0.1)
    assert not gate(torch.zeros(1, gate.irreps_in.dim)).any()


def test_each_gated_channel_has_a_gate_of_its_own():
    assert Gate(Irreps("6x0e + 4x1o + 2x2e")).irreps_in == Irreps("12x0e + 4x1o + 2x2e")


def test_lengths_are_invariant_and_keep_variance(matrix):
    lengths = PowerSpectrum(Irreps("20x0e + 10x1o + 5x2e"))
    x = torch.randn(4000, lengths.irreps_in.dim)
    out = lengths(x)
    assert lengths.irreps_out == Irreps("35x0e")
    assert out.shape == (4000, 35)
    for part in (out[:, :20], out[:, 20:30], out[:, 30:]):
        assert part.square().mean().item() == pytest.approx(1.0, rel=0.1)
    torch.testing.assert_close(lengths(rotate(x, lengths.irreps_in, matrix)), out, rtol=0, atol=1e-4)
    assert not lengths(torch.zeros(1, lengths.irreps_in.dim)).any()


def test_each_tensor_has_a_length_of_its_own():
    lengths = PowerSpectrum(Irreps("1x0e + 2x1o"))
    x = torch.zeros(3, 7)
    x[1, 1 + 0], x[2, 1 + 3] = 1.0, 1.0  # a component of the first vector, and one of the second: channels come last
    changed = (lengths(x) != 0).tolist()
    assert changed == [[False] * 3, [False, True, False], [False, False, True]]
