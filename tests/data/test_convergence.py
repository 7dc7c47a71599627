import numpy as np
import pytest

from equiforce.data.convergence import without_unconverged
from equiforce.data.frames import Contents, Frame, usual_keys
from equiforce.errors import InputError


def contents(*values):
    frames = [
        Frame(np.array([1]), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, dtype=bool), of_frame, "")
        for of_frame in values
    ]
    return Contents("a.xyz", frames, usual_keys())


@pytest.mark.parametrize(
    ("key", "yes", "no"),
    [
        ("converged", True, False),
        ("scf_converged", "T", "F"),
        ("SCF_Converged", 1, 0),
        ("electronic_converged", np.bool_(True), np.bool_(False)),
        ("converged_electronic", "true", "false"),
        ("not_converged", False, True),
        ("unconverged", 0, 1),
    ],
)
def test_marked_frames_are_left_out_by_number(key, yes, no):
    left = without_unconverged(contents({key: yes}, {key: no}, {}), keep=False)
    assert [left.frame_name(i) for i in range(len(left.frames))] == ["a.xyz, frame 0", "a.xyz, frame 2"]
    [note] = left.notes
    assert note.startswith(f"left out frame 1, whose {key!r} says that the electrons did not converge")
    kept = without_unconverged(contents({key: yes}, {key: no}, {}), keep=True)
    assert len(kept.frames) == 3
    assert kept.notes == (f"kept frame 1, whose {key!r} says that the electrons did not converge",)


def test_other_values_are_no_marks():
    same = contents({"converged": True, "convergence": 0.0, "ionic_converged": False, "convergence_threshold": 0})
    assert without_unconverged(same, keep=False) is same


def test_nothing_left_is_an_error():
    with pytest.raises(InputError, match="'converged' says of every frame that its electrons did not converge"):
        without_unconverged(contents({"converged": False}), keep=False)
