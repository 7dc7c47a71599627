import numpy as np
import pytest

from equiforce.data.states import relevance, varying_states
from equiforce.structure import Structure


def frames(*values, key="charge", numbers=(6, 8, 1, 1)):
    """Frames of formaldehyde with one value each; None leaves the key out."""
    return [
        Structure(
            atomic_numbers=np.array(numbers),
            positions=np.random.default_rng(i).random((len(numbers), 3)),
            cell=np.zeros((3, 3)),
            pbc=np.zeros(3, dtype=bool),
            source=f"a.xyz, frame {i}",
            extra={} if value is None else {key: value},
        )
        for i, value in enumerate(values)
    ]


@pytest.mark.parametrize("key", ["charge", "total_charge", "Charge", "spin", "total_spin", "spin_multiplicity", "uhf"])
def test_a_state_that_varies_at_equal_composition_is_an_error(key):
    [found] = varying_states(frames(0, 1, 0, key=key))
    assert found.sure
    assert found.sentence == (
        f"{key!r} is 0 in 2 and 1 in 1 frames of CH2O, such as a.xyz, frame 0 and a.xyz, frame 1, but a potential "
        f"sees only positions and elements: keep the frames of one {key}"
    )


def test_a_charge_that_is_left_out_is_zero():
    [found] = varying_states(frames(None, 1, None))
    assert found.sure
    assert "'charge' is 0 in 2 and 1 in 1 frames" in found.sentence
    assert varying_states(frames(None, 2, None, key="multiplicity")) == []


def test_a_state_that_does_not_vary_is_at_most_noted():
    assert varying_states(frames(0, 0, 0)) == []
    assert varying_states(frames("1", 1, 1.0, key="spin")) == []
    [found] = varying_states(frames(-1, -1))
    assert not found.sure
    assert found.sentence.startswith("'charge' is -1 in all frames")
    [found] = varying_states([*frames(1, 1), *frames(0, numbers=(8, 1, 1))])
    assert not found.sure
    assert "follows from the composition" in found.sentence


def test_a_level_of_theory_that_varies_is_noted():
    for key in ("level", "method", "Level of theory", "functional", "code"):
        [found] = varying_states(frames("PBE", "B3LYP", key=key))
        assert not found.sure
        assert f"{key!r} is PBE in 1 and B3LYP in 1 frames of CH2O" in found.sentence
    assert varying_states(frames("PBE", "PBE", key="level")) == []


def test_values_of_atoms_and_results_do_not_count():
    assert varying_states(frames(np.zeros(4), np.ones(4))) == []
    assert varying_states(frames(0.0134, 1.9873, key="total_spin")) == []  # a magnetization
    assert varying_states(frames(1, 2, key="index")) == []


def test_charges_come_before_levels_and_other_keys():
    assert sorted(["id", "method", "total_spin"], key=relevance) == ["total_spin", "method", "id"]
