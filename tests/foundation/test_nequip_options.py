import pytest
import torch

from equiforce.errors import InputError
from equiforce.foundation.nequip_options import (
    NequipWeights,
    Options,
    by_species,
    elements_of,
    energies,
    pair_cutoffs,
    require_constants,
    zbl_of,
)

KNOWN = ["O", "H"]
ZBL = {"_target_": "nequip.nn.pair_potential.ZBL", "units": "metal", "chemical_species": KNOWN}


def test_options_are_taken_once():
    options = Options({"a": 1, "b": 2, "c": 3.0, "seed": 4})
    assert options.take("a", int) == 1
    assert options.take("b", float) == 2.0
    assert options.take_whole("c", 6) == 3
    assert options.take_whole("d", 6) == 6
    options.require_end()
    options.require("e", "silu", None)
    with pytest.raises(InputError, match="the option a is missing"):
        options.take("a", int)
    with pytest.raises(InputError, match="the option new is not known"):
        Options({"new": 1}).require_end()
    with pytest.raises(InputError, match=r"the option inner\.seed is not known"):
        Options({"seed": 1}, "inner").require_end()


@pytest.mark.parametrize(
    ("value", "kind"),
    [(True, int), (1.5, int), ("1", int), (float("inf"), float), (2**2000, float), (None, dict), (1, bool)],
)
def test_options_of_another_kind_are_refused(value, kind):
    with pytest.raises(InputError, match="the option a is no"):
        Options({"a": value}).take("a", kind)


def test_a_value_without_counterpart_is_shown_if_it_is_short():
    with pytest.raises(InputError, match="the option a is 'mish', and"):
        Options({"a": "mish"}).require("a", "silu")
    with pytest.raises(InputError, match="the option a is of another kind, and"):
        Options({"a": [1] * 10**6}).require("a", "silu")


def test_a_perceptron_has_the_factors_of_nequip():
    weights = NequipWeights({"p.mlp.0.weight": torch.ones(4, 9), "p.mlp.2.weight": torch.ones(9, 1)})
    first, second = weights.perceptron("p")
    assert first[0, 0] == 1 / 2
    assert second[0, 0] == pytest.approx(2**0.5 / 3)
    with pytest.raises(InputError, match=r"the weight p\.mlp\.0\.weight is missing"):
        weights.perceptron("p")
    with pytest.raises(InputError, match="p has several matrices instead of one"):
        NequipWeights({"p.mlp.0.weight": torch.ones(4, 9), "p.mlp.2.weight": torch.ones(9, 1)}).one_matrix("p")


def test_elements():
    assert elements_of({"type_names": ["Cu", "O"]}) == ["Cu", "O"]
    for names in (None, [], ["X"], [1], ["O", "O"], "OH", [["O"]]):
        with pytest.raises(InputError, match="the option type_names"):
            elements_of({"type_names": names})


def test_pair_cutoffs_are_those_of_ordered_pairs():
    given = {"per_edge_type_cutoff": {"O": {"H": 2.0}, "H": 3}}
    assert pair_cutoffs(Options(given), KNOWN, 4.0) == {"O-O": 4.0, "O-H": 2.0, "H-O": 3.0, "H-H": 3.0}
    assert pair_cutoffs(Options({}), KNOWN, 4.0) is None
    for value in (5.0, 0, "2", None, True):
        with pytest.raises(InputError, match="per_edge_type_cutoff has no length up to r_max for O-O"):
            pair_cutoffs(Options({"per_edge_type_cutoff": {"O": value}}), KNOWN, 4.0)


def test_numbers_of_neighbours():
    assert by_species(Options({"n": 5}), "n", KNOWN) == [5.0]
    assert by_species(Options({"n": {"H": 2.0, "O": 3}}), "n", KNOWN) == [3.0, 2.0]
    assert by_species(Options({"n": None}), "n", KNOWN) == [1.0]
    for value in (0, -1.0, float("inf"), "5", {"H": 2.0}, [1.0, 2.0], True):
        with pytest.raises(InputError, match="the option n has no positive number for each element"):
            by_species(Options({"n": value}), "n", KNOWN)


def test_scales_and_shifts():
    scales, shifts = torch.tensor([[2.0], [3.0]]), torch.tensor([[-1.0]])
    name = "per_type_energy_scale_shift."
    scale, shift = energies(NequipWeights({name + "scales": scales, name + "shifts": shifts}), {}, [1], 2)
    assert (scale.tolist(), shift.tolist()) == ([3.0], [-1.0])
    scale, shift = energies(NequipWeights({}), {"per_type_energy_scales": None}, [0, 1], 2)
    assert (scale.tolist(), shift.tolist()) == ([1.0, 1.0], [0.0, 0.0])
    with pytest.raises(InputError, match="the weight scales has 2 numbers for 3 elements"):
        energies(NequipWeights({name + "scales": scales}), {}, [0], 3)
    with pytest.raises(InputError, match=r"the weight per_type_energy_scale_shift\.shifts is missing"):
        energies(NequipWeights({name + "scales": scales}), {"per_type_energy_shifts": 1.0}, [0], 2)


def test_zbl():
    stored = {"pair_potential.atomic_numbers": torch.tensor([8.0, 1.0])}
    zbl = zbl_of(Options({"pair_potential": ZBL | {"polynomial_cutoff_p": 4.0}}), stored, KNOWN, ["H"], 4.0, None)
    assert (zbl.p, zbl.charges.tolist(), zbl.cutoff, zbl.stretch) == (4, [1.0], 4.0, None)
    assert zbl_of(Options({"pair_potential": None}), {}, KNOWN, KNOWN, 4.0, None) is None
    for changed, words in (
        ({"_target_": "nequip.nn.pair_potential.LennardJones"}, "LennardJones"),
        ({"_target_": "other.ZBL"}, "'other.ZBL'"),
        ({"units": "real"}, r"pair_potential\.units is 'real'"),
        ({"chemical_species": ["H", "O"]}, r"pair_potential\.chemical_species differs"),
        ({"new": 1}, r"pair_potential\.new is not known"),
    ):
        with pytest.raises(InputError, match=words):
            zbl_of(Options({"pair_potential": ZBL | changed}), stored, KNOWN, KNOWN, 4.0, None)
    for options, constants in (({}, stored), ({"pair_potential": ZBL}, {})):
        with pytest.raises(InputError, match="has a pair potential, or its options have one, but not both"):
            zbl_of(Options(options), constants, KNOWN, KNOWN, 4.0, None)


def test_cutoffs_that_a_model_stores_are_compared():
    stored = {"edge_norm._rmax_recip": torch.tensor(0.25)}
    require_constants(stored, 4.0, None)
    for constants, cutoff, pairs in (({}, 4.0, None), (stored, 5.0, None), (stored, 4.0, {"a": 4.0, "b": 2.0})):
        with pytest.raises(InputError, match=r"stores no edge_norm|are not those of its options"):
            require_constants(constants, cutoff, pairs)
