"""Labels of the teacher: right, and kept when they are interrupted."""

import numpy as np
import pytest
import torch

import equiforce
from equiforce.distillation import labelling
from equiforce.distillation.labelling import labelled, with_labels
from equiforce.errors import InputError
from equiforce.terminal import own_console
from tests.distillation.small import copper
from tests.systems import ethanol, potential_of, slab

CONSOLE = own_console(quiet=True)


@pytest.fixture(scope="module")
def teacher():
    return equiforce.untrained(["Cu"], l_max=0, channels=4, n_layers=1, cutoff=3.5, dtype="float64").potential


def test_all_labels_are_those_of_the_teacher(tmp_path):
    teacher = potential_of(l_max=1, channels=4, n_layers=2)
    structures = [ethanol(), slab(), ethanol(1)]
    answers = labelled(teacher, structures, tmp_path / "a.xyz", "", CONSOLE)
    assert [answer.stress is None for answer in answers] == [True, False, True]
    for answer in answers:
        wanted = equiforce.predict(teacher, answer)
        assert answer.energy == pytest.approx(wanted.energy.item(), abs=1e-5)
        np.testing.assert_allclose(answer.forces, wanted.forces, atol=1e-5)
        if answer.stress is not None:
            np.testing.assert_allclose(answer.stress, wanted.stress[0], atol=1e-7)


def test_what_is_labelled_is_not_asked_again(teacher, tmp_path, monkeypatch):
    structures, file = copper(5), tmp_path / "a.xyz"
    monkeypatch.setattr(labelling, "AT_ONCE", 2)
    asked, real = [], labelling.predict

    def interrupted(potential, chosen):
        asked.append(len(chosen))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(potential, chosen)

    monkeypatch.setattr(labelling, "predict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        labelled(teacher, structures, file, "", CONSOLE)
    answers = labelled(teacher, structures, file, "", CONSOLE)
    assert asked == [2, 2, 2, 1]
    whole = labelled(teacher, structures, tmp_path / "b.xyz", "", CONSOLE)
    assert (tmp_path / "b.xyz").read_bytes() == file.read_bytes()
    assert [a.energy for a in answers] == [b.energy for b in whole]
    assert [a.source for a in answers] == [s.source for s in structures]
    labelled(teacher, structures, file, "", CONSOLE)
    assert asked == [2, 2, 2, 1, 2, 2, 1]


@pytest.mark.parametrize("content", ["no structures", "4\n\nCu 0 0", ""])
def test_other_files_are_written_anew(content, teacher, tmp_path):
    structures, file = copper(2), tmp_path / "a.xyz"
    file.write_text(content)
    assert len(labelled(teacher, structures, file, "", CONSOLE)) == 2
    assert len(labelled(teacher, copper(2, seed=7), file, "", CONSOLE)) == 2
    assert len(equiforce.read(file)) == 2


def test_forces_that_are_no_numbers_are_refused(teacher):
    (structure,) = copper(1)
    prediction = equiforce.predict(teacher, structure)
    prediction.forces[0, 0] = torch.nan
    with pytest.raises(InputError, match="the teacher gives forces for Cu4 that are not finite"):
        with_labels(structure, prediction)
