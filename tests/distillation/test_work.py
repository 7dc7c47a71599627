"""A whole distillation, how it goes on, and what is refused before anything is computed."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms

import equiforce
from equiforce import model_file
from equiforce.cli.info import summary
from equiforce.distillation import comparison, rounds, trajectories, work
from equiforce.distillation.training import train_student
from equiforce.distillation.trajectories import Interrupted
from equiforce.distillation.work import distill
from equiforce.errors import InputError
from equiforce.structure import Structure
from equiforce.terminal import own_console
from tests.data_sets import TINY, crystals, molecules, write
from tests.distillation.small import QUICK, STUDENT


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A teacher with random weights, and start structures."""
    folder = tmp_path_factory.mktemp("distill")
    write(folder / "start.xyz", crystals(2, seed=7))
    write(folder / "one.xyz", crystals(1, seed=7))
    write(folder / "water.xyz", molecules(1))
    named = crystals(2, seed=8)
    for atoms in named:
        atoms.info["dft"], atoms.calc = atoms.get_potential_energy(), None
    write(folder / "named.xyz", named)
    teacher = equiforce.untrained(["Cu"], l_max=0, channels=4, n_layers=1, cutoff=3.5, dtype="float64").potential
    teacher.atomic_energies.fill_(-3.25)
    model_file.save(folder / "teacher.eqf", teacher, [])
    return folder


@pytest.fixture
def trained(place, tmp_path, without_plots):
    """A teacher that was trained for seconds."""
    write(tmp_path / "data.xyz", crystals(30))
    options = {f"model.{name}": value for name, value in (TINY | {"cutoff": 4.0, "channels": 8}).items()}
    options["training.max_steps"] = 50
    return equiforce.train(tmp_path / "data.xyz", tmp_path / "teacher", options=options).folder


@pytest.fixture
def inside(place, tmp_path, monkeypatch):
    """An empty working folder, and the arguments of a small distillation."""
    monkeypatch.chdir(tmp_path)
    return place / "teacher.eqf", place / "start.xyz", "small.eqf"


@pytest.mark.slow
def test_a_trained_teacher_makes_a_student(inside, trained, tmp_path, capsys):
    inside = trained, *inside[1:]
    options = replace(QUICK, steps=160, every=8, frames=36, copies=10, temperatures="300,600")
    training = STUDENT | {"training.max_steps": 60, "model.n_bessel": 4}
    report = distill(*inside, options, training=training, console=own_console())
    assert report is not None
    assert sum(report.n_frames.values()) == 36
    assert report.held_out.total.forces.rmse < 600
    assert report.held_out.total.stress is not None
    assert set(report.references) == {"teacher", "student"}
    assert report.simulated[0].temperature == 600
    folder = tmp_path / "distill-small"
    frames, split = equiforce.read(folder / "frames.xyz"), json.loads((folder / "split.json").read_text())
    parts = [[frames[i] for i in split[part]] for part in ("train", "validation", "test")]
    assert {s.group for s in parts[0]} == {"start", "copies", "md 300 K", "md 600 K"}
    everything = [s.positions.tobytes() for part in parts for s in part]
    assert len(set(everything)) == 36
    teacher = model_file.load(inside[0])
    for structure in parts[2]:
        np.testing.assert_allclose(structure.forces, equiforce.predict(teacher, structure).forces, atol=1e-5)
    header = model_file.read_header("small.eqf")
    assert dict(summary(header))["distilled from"].startswith("teacher, by its model file with sha256 ")
    assert model_file.ranges_of(header, "") == report.ranges
    assert json.loads((folder / "report.json").read_text())["n_frames"] == report.n_frames
    assert (folder / "README.md").read_text(encoding="utf-8") == report.page()
    printed = capsys.readouterr().out
    assert "the student against its teacher, on 4 frames that were held out" in " ".join(printed.split())

    # a longer training goes on from this one, and nothing is computed again by the teacher
    before = (folder / "frames.xyz").read_bytes()
    longer = training | {"training.max_steps": 80}
    again = distill(*inside, options, training=longer, overwrite=True, console=own_console())
    assert "the run continues at step 60" in capsys.readouterr().out
    assert again.n_frames == report.n_frames
    assert (folder / "frames.xyz").read_bytes() == before
    assert model_file.read_header("small.eqf")["about"]["training"]["steps"] == 80


def test_every_stage_leaves_its_files(inside, place, tmp_path, without_plots, plain_torch):
    training = STUDENT | {"training.max_steps": 2, "model.l_max": 0, "model.n_layers": 1, "data.energy_key": "dft"}
    report = distill(inside[0], place / "named.xyz", inside[2], replace(QUICK, temperatures="200"), training=training)
    assert report is not None
    folder = tmp_path / "distill-small"
    files = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    folders = {"teacher-md", "student", "student-md"}
    assert files == {"distill.json", "report.json", "README.md", "copies.xyz", "frames.xyz", "split.json", *folders}
    student, teacher = (model_file.load(path) for path in ("small.eqf", inside[0]))
    assert student.cutoff == 3.5
    assert set(report.references["student"].total) == {"energy", "energy_per_atom"}  # the labels that the file has
    assert report.held_out.total.forces is not None
    alone = Structure.from_ase(Atoms("Cu"))
    assert equiforce.predict(student, alone).energy == equiforce.predict(teacher, alone).energy
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))["n_frames"] == report.n_frames


def _stopped_dynamics(run=trajectories.run_md):
    def stopped(*given, on_step, **others):
        def stop_at(step):
            on_step(step)
            if step == 7 and "round-1" in str(given[3]):
                raise KeyboardInterrupt

        return run(*given, on_step=stop_at, **others)

    return trajectories, "run_md", stopped


@pytest.mark.slow
def test_rounds_go_on_after_a_stop_and_are_not_trained_again(
    inside, place, tmp_path, monkeypatch, without_plots, plain_torch
):
    options = replace(QUICK, steps=20, every=1, timestep=4.0, temperatures="100", copies=6)
    options = replace(options, rounds=1, round_frames=10, round_steps=60)
    training = STUDENT | {"training.max_steps": 4, "model.l_max": 0, "model.n_layers": 1}
    speed = comparison.Speed(structure="", n_atoms=4, teacher_ms=2.0, student_ms=1.0)
    monkeypatch.setattr(comparison, "speeds", lambda *_: [speed])  # both are tested where they are
    monkeypatch.setattr(comparison, "simulate", lambda *_: [])
    arguments = inside[0], place / "one.xyz"
    report = distill(*arguments, "whole.eqf", options, training=training)
    assert [one.number for one in report.rounds] == [1]
    assert report.rounds[0].reached[0][1] == pytest.approx(0.24)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(*_stopped_dynamics())
        distill(*arguments, "cut.eqf", options, training=training)
    monkeypatch.setattr(trajectories, "run_md", lambda *_, **__: pytest.fail("it began anew"))
    monkeypatch.setattr(rounds, "train_student", lambda *given: train_student(*_refusing_the_first(tmp_path, given)))
    again = distill(*arguments, "cut.eqf", options, training=training)
    assert again.rounds[0].before.total.forces.rmse == pytest.approx(report.rounds[0].before.total.forces.rmse)
    one, other = (model_file.load(tmp_path / f"{name}.eqf").state_dict() for name in ("whole", "cut"))
    for name, values in one.items():
        torch.testing.assert_close(other[name], values)
    whole, cut = (equiforce.read(tmp_path / f"distill-{name}" / "round-1" / "frames.xyz") for name in ("whole", "cut"))
    assert len(whole) == len(cut) == sum(report.rounds[0].n_frames.values()) == 10
    for a, b in zip(whole, cut, strict=True):
        np.testing.assert_allclose(b.positions, a.positions, atol=1e-6)
    before = tmp_path / "distill-cut" / "round-1" / "before.eqf"
    assert before.read_bytes() == (before.parent / "student" / "start.eqf").read_bytes()
    assert "start" not in model_file.read_header("cut.eqf")["about"]


def _refusing_the_first(folder, given):
    assert given[3] != folder / "distill-cut", "the first training was over"
    return given


def test_a_signal_leaves_a_folder_that_goes_on(inside, tmp_path, monkeypatch):
    def interrupted(*_):
        raise Interrupted

    monkeypatch.setattr(work, "play_all", interrupted)
    assert distill(*inside, QUICK, training=STUDENT) is None
    assert [path.name for path in tmp_path.iterdir()] == ["distill-small"]
    with pytest.raises(InputError, match=r"differs in frames \(20\), seed \(0\): give the same again"):
        distill(*inside, replace(QUICK, frames=30, seed=3), training=STUDENT)
    assert distill(*inside, replace(QUICK, check_steps=20), training=STUDENT) is None
    monkeypatch.setattr(work, "play_all", lambda *_: pytest.fail("it began"))
    identity = tmp_path / "distill-small" / "distill.json"
    before = json.loads(identity.read_text())
    del before["options"]["rounds"]  # as in a folder of an earlier version
    identity.write_text(json.dumps(before))
    with pytest.raises(InputError, match=r"differs in rounds \(not there\): give"):
        distill(*inside, QUICK, training=STUDENT)
    identity.write_text("[")
    with pytest.raises(InputError, match=r"distill\.json is damaged: name another folder"):
        distill(*inside, QUICK, training=STUDENT)


def test_the_file_of_ctrl_c_is_told(inside, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "play_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        distill(*inside, QUICK, training=STUDENT, console=own_console())
    assert "interrupted; the same command goes on in distill-small" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teacher": "none.eqf"}, "there is no model file none.eqf"),
        ({"structures": "none.xyz"}, "There is no file none.xyz"),
        ({"structures": "water"}, "element [HO] that the model does not know: it was trained on Cu"),
        ({"structures": "empty.xyz"}, "empty.xyz"),
        ({"output": "there.eqf"}, "there.eqf exists already: choose another name, or replace it with --overwrite"),
        ({"output": "folder"}, "folder is a folder: name the model file to write, such as folder/small.eqf"),
        ({"output": "empty.xyz/small.eqf"}, "empty.xyz is a file, not a folder"),
        ({"folder": "folder"}, "folder has other files, such as mine: name another folder with --folder"),
        ({"training": {"model.channel": 3}}, "model.channel"),
        ({"structures": "pair.xyz", "options": replace(QUICK, pressures=0.0)}, "so they have no pressure: leave"),
        (
            {"training": {"split.train_file": "a.xyz"}},
            "split.train_file changes nothing, because",
        ),
        ({"config": "split.yaml"}, "split.yaml: the section split changes nothing"),
        ({"training": {"training.time": "soon"}}, "training.time='soon' is not a duration"),
        ({"training": {"model.preset": "tiny"}}, "model.preset='tiny' does not exist for nequip"),
        ({"device": "abacus"}, "torch cannot compute on 'abacus' here"),
    ],
)
def test_a_mistake_is_one_sentence(changes, words, inside, place, tmp_path, monkeypatch):
    (tmp_path / "empty.xyz").write_text("")
    (tmp_path / "pair.xyz").write_text("2\n\nCu 0 0 0\nCu 0 0 2.3\n")
    (tmp_path / "there.eqf").write_text("mine")
    (tmp_path / "split.yaml").write_text("split:\n  test: 0.3\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("mine")
    monkeypatch.setattr(work, "play_all", lambda *_: pytest.fail("it began"))
    if changes.get("structures") == "water":
        changes = {"structures": place / "water.xyz"}
    given = {"teacher": inside[0], "structures": inside[1], "output": inside[2], "training": STUDENT} | changes
    with pytest.raises(InputError, match=words):
        distill(**{"options": QUICK} | given)
    assert {path.name for path in tmp_path.iterdir()} == {"empty.xyz", "pair.xyz", "there.eqf", "split.yaml", "folder"}
    assert (tmp_path / "there.eqf").read_text() == "mine"


def test_the_teacher_is_never_replaced(inside, place):
    with pytest.raises(InputError, match="is the teacher: name another file for the student"):
        distill(place / "teacher.eqf", inside[1], place / "teacher.eqf", QUICK, overwrite=True)
