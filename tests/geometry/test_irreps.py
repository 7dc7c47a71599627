import copy
import pickle

import pytest
import torch
from e3nn import o3

from equiforce.geometry.irreps import Irrep, Irreps, blocks, hidden_irreps, reachable

TEXTS = ["4x0e + 3x1o + 2x2e", "1o", "0e+12x3e", " 2x1o+2x1o + 0x5e ", "3 x 1e", ""]
EVERY = [Irrep(l, p) for l in range(4) for p in (1, -1)]


@pytest.mark.parametrize("text", TEXTS)
def test_a_string_means_what_it_means_to_e3nn(text):
    ours, theirs = Irreps(text), o3.Irreps(text)
    assert str(ours) == repr(ours) == str(theirs)
    assert [(mul, ir.l, ir.p, str(ir), ir.dim) for mul, ir in ours] == [
        (mul, ir.l, ir.p, str(ir), ir.dim) for mul, ir in theirs
    ]
    assert (ours.dim, ours.num_irreps, ours.slices()) == (theirs.dim, theirs.num_irreps, theirs.slices())
    assert not ours or ours.lmax == theirs.lmax
    assert [ours.count(str(ir)) for ir in EVERY] == [theirs.count(str(ir)) for ir in EVERY]
    assert str(ours.remove_zero_multiplicities()) == str(theirs.remove_zero_multiplicities())
    assert Irreps(str(ours)) == ours
    assert str(o3.Irreps(ours)) == str(theirs)


@pytest.mark.parametrize("a", EVERY, ids=str)
@pytest.mark.parametrize("b", EVERY, ids=str)
def test_products_are_those_of_e3nn(a, b):
    assert [str(ir) for ir in a * b] == [str(ir) for ir in o3.Irrep(str(a)) * o3.Irrep(str(b))]


def test_the_same_irreps_are_equal_however_they_are_written():
    expected = Irreps("2x0e + 1x1o")
    for same in (Irreps([(2, "0e"), (1, Irrep(1, -1))]), Irreps([(2, (0, 1)), (1, (1, -1))]), Irreps(expected)):
        assert same == expected
        assert hash(same) == hash(expected)
    assert expected not in {Irreps("2x0e + 1x1e"), Irreps("3x0e + 1x1o"), Irreps("2x0e"), Irreps("1x1o + 2x0e")}
    assert Irrep.of("1o") in {Irrep(1, -1)}
    assert Irrep.of("1o") not in {Irrep(1, 1)}


def test_irreps_survive_what_processes_and_copies_do_to_them():
    irreps = Irreps("2x0e + 1x1o")
    for again in (pickle.loads(pickle.dumps(irreps)), copy.deepcopy(irreps), copy.copy(irreps)):
        assert type(again) is Irreps
        assert again == irreps
        assert again[1].ir.l == 1


def test_sums_and_harmonics():
    both = Irreps("2x0e") + Irreps("1x1o")
    assert type(both) is Irreps
    assert both == Irreps("2x0e + 1x1o")
    assert both[0].mul == 2
    assert str(Irreps.spherical_harmonics(3)) == "1x0e+1x1o+1x2e+1x3o"


@pytest.mark.parametrize("text", ["2x1", "1u", "-1x0e", "x1o", "2x-1o", "1o,2e", "1o 2e", "1o+", "2.0x1o", "٢x1o"])
def test_a_string_that_is_no_irreps_is_refused(text):
    with pytest.raises(ValueError, match=r"(is not an irrep|are not irreps): write .*1o"):
        Irreps(text)


def test_numbers_that_are_no_irreps_are_refused():
    with pytest.raises(ValueError, match=r"there is no irrep of degree -1 and parity 1"):
        Irreps([(1, (-1, 1))])
    with pytest.raises(ValueError, match=r"there is no irrep of degree 1 and parity 0"):
        Irreps([(1, (1, 0))])
    with pytest.raises(ValueError, match=r"-2x1o has a negative number of channels"):
        Irreps([(-2, "1o")])


def test_blocks_cover_the_features():
    features = torch.arange(2.0 * (4 + 9 + 10)).reshape(2, -1)
    found = blocks(Irreps("4x0e + 3x1o + 2x2e"))
    assert [(b.name, b.channels, b.l, b.parity) for b in found] == [("0e", 4, 0, 1), ("1o", 3, 1, -1), ("2e", 2, 2, 1)]
    assert found[1].of(features).shape == (2, 3, 3)
    assert torch.equal(torch.cat([b.of(features).flatten(1) for b in found], dim=1), features)


def test_hidden_irreps_of_natural_and_of_both_parities():
    assert hidden_irreps((8, 4, 2), odd=False) == Irreps("8x0e + 4x1o + 2x2e")
    assert hidden_irreps((8, 4), odd=True) == Irreps("8x0e + 8x0o + 4x1o + 4x1e")
    assert hidden_irreps((8, 0, 2), odd=False) == Irreps("8x0e + 2x2e")


def test_without_reflections_all_irreps_are_even():
    assert str(Irreps.spherical_harmonics(2, reflections=False)) == "1x0e+1x1e+1x2e"
    assert str(hidden_irreps((4, 0, 2), odd=False, reflections=False)) == "4x0e+2x2e"
    assert reachable(Irreps("1x1e"), 1, Irreps("1x1e"), reflections=False) == Irreps("1x1e")
    assert reachable(Irreps("1x1e"), 1, Irreps("1x1e")) == Irreps("1x1e")  # with Y_0
    assert reachable(Irreps("1x0e"), 1, Irreps("1x1e"), reflections=False) == Irreps("1x1e")
    assert reachable(Irreps("1x0e"), 1, Irreps("1x1e")) == Irreps()


def test_scalars_reach_only_natural_parity():
    assert reachable(Irreps("8x0e"), 2, hidden_irreps((8, 8, 8), odd=True)) == Irreps("8x0e + 8x1o + 8x2e")
