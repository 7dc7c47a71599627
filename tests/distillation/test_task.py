"""Labelled frames in several files, and which of them are for what."""

import json

from equiforce.distillation.options import DistillOptions
from equiforce.distillation.selection import Selection
from equiforce.distillation.task import LabelledFrames
from tests.distillation.small import frames


def test_indices_count_through_all_files_and_leave_out_violent_frames(tmp_path):
    first, second = frames(4), [*frames(2, seed=1), *frames(1, force=99.0, seed=2), *frames(2, seed=3)]
    found = LabelledFrames.none().with_file(tmp_path / "a", first, Selection(first[:2], first[2:3], first[3:]), OPTIONS)
    both = found.with_file(tmp_path / "b", second, Selection(second[:3], second[3:4], second[4:]), OPTIONS)
    assert both.files == (tmp_path / "a", tmp_path / "b")
    both.write_split(tmp_path / "split.json")
    indices = json.loads((tmp_path / "split.json").read_text())
    assert indices == {"train": [0, 1, 4, 5], "validation": [2, 7], "test": [3, 8]}
    everything = [*first, *second]
    for name, part in zip(indices, both.parts, strict=True):
        assert [id(frame) for frame in part] == [id(everything[i]) for i in indices[name]]
    assert both.n_of() == {"train": 4, "validation": 2, "test": 2}
    assert found.n_of() == {"train": 2, "validation": 1, "test": 1}  # it has not changed


def test_a_round_without_frames_adds_no_file(tmp_path):
    found = LabelledFrames.none().with_file(tmp_path / "a", [], Selection([], [], []), OPTIONS)
    assert (found.files, found.n_in_files) == ((), 0)


OPTIONS = DistillOptions()
