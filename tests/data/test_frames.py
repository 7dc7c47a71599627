import numpy as np

from equiforce.data.frames import Contents, Frame, label_names, usual_keys


def test_frames_are_named_by_their_number_in_the_file():
    frame = Frame(np.array([1]), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, dtype=bool), {}, "")
    assert Contents("a.xyz", [frame] * 2, {}).frame_name(1) == "a.xyz, frame 1"
    assert Contents("OUTCAR", [frame] * 2, {}, numbers=(0, 7)).frame_name(1) == "OUTCAR, frame 7"


def test_the_usual_keys_of_all_labels():
    keys = usual_keys()
    assert list(keys) == label_names() == ["energy", "forces", "stress", "virial"]
    assert {"energy", "REF_energy"} <= set(keys["energy"])
    assert {"virial", "dft_virials"} <= set(keys["virial"])
