"""A run continues from options that are complete and from a checkpoint that is intact, or says why it does not."""

import json
import os
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

import equiforce
from equiforce.config import load_config
from equiforce.errors import InputError
from equiforce.run_folder import FIRST_LINE, has_state, intact_checkpoint, options_text, read_own_options
from equiforce.storage.folders import LOCK, used
from equiforce.training.checkpoint import read_checkpoint, write_checkpoint
from equiforce.training.processes import make_fabric
from tests.data_sets import TINY, crystals, write

pytestmark = pytest.mark.usefixtures("without_plots")

OPTIONS = {
    **{f"model.{name}": value for name, value in TINY.items()},
    "training.max_steps": 4,
    "training.validate_every": 2,
    "training.deterministic": True,
    "split.test": 0,
}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    write(place / "copper.xyz", crystals(8))
    equiforce.train(place / "copper.xyz", place / "run", options=OPTIONS, plots=False)
    return place


@pytest.fixture
def run(original, tmp_path):
    shutil.copytree(original / "run", tmp_path / "run")
    return tmp_path / "run"


def resumed(folder, **options):
    said = StringIO()
    console = Console(file=said, width=400)
    equiforce.train(resume=folder, options={"training.max_steps": 6, **options}, plots=False, console=console)
    return said.getvalue()


def replace(path, kind):
    content = path.read_bytes()
    path.unlink()
    match kind:
        case "empty":
            path.touch()
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "flipped":
            path.write_bytes(content[:5000] + bytes([content[5000] ^ 4]) + content[5001:])
        case "folder":
            path.mkdir()
        case "symlink":
            path.with_name("thesis.tex").write_text("precious")
            path.symlink_to("thesis.tex")
        case "pipe":
            os.mkfifo(path)


KINDS = ["empty", "cut", "flipped", "symlink"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_checkpoint_is_told_and_the_best_one_taken(run, kind):
    replace(run / "last.pt", kind)
    assert intact_checkpoint(run).path == run / "best.pt"
    (note,) = intact_checkpoint(run).notes
    assert note.startswith(f"{run / 'last.pt'} is damaged (")
    assert note.endswith("): it continues from its best weights, best.pt, of which last.pt becomes a copy")


def test_a_run_with_a_damaged_checkpoint_goes_on_to_the_same_weights(original, run):
    shutil.copytree(original / "run", run.with_name("intact"))
    resumed(run.with_name("intact"))
    state = read_checkpoint(run / "best.pt")
    assert state["step"] == 4  # as that of the last one
    replace(run / "last.pt", "flipped")
    assert "last.pt is damaged (its checksum is wrong): it continues from its best weights, best.pt" in resumed(run)
    one, two = (read_checkpoint(folder / "last.pt")["potential"] for folder in (run, run.with_name("intact")))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_link_to_another_file_is_replaced_and_the_file_stays(run):
    replace(run / "last.pt", "symlink")
    assert "last.pt is damaged (it does not begin as one): it continues" in resumed(run)
    assert (run / "thesis.tex").read_text() == "precious"
    assert not (run / "last.pt").is_symlink()
    assert read_checkpoint(run / "last.pt")["step"] == 6


@pytest.mark.parametrize("kind", [*KINDS, "missing"])
def test_a_finished_run_has_an_intact_last_checkpoint_again(run, kind):
    if kind == "missing":
        (run / "last.pt").unlink()
    else:
        replace(run / "last.pt", kind)
    said = resumed(run, **{"training.max_steps": 4})
    assert "it continues from its best weights, best.pt, of which last.pt becomes a copy" in said
    assert "is finished already: 4 steps are done" in said
    assert "last.pt               the checkpoint, with which --resume continues" in said
    assert (run / "last.pt").read_bytes() == (run / "best.pt").read_bytes()
    assert not (run / "last.pt").is_symlink()
    assert intact_checkpoint(run) == (run / "last.pt", intact_checkpoint(run).origin, ())


def test_a_run_that_was_killed_before_it_began_is_told_how_to_start(original, tmp_path):
    for name in (LOCK, ".unfinished-12345678-config.yaml"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"nothing of a run is in .* yet, .*: give the command that started it again"):
        resumed(tmp_path)
    options = {**OPTIONS, "training.max_steps": 1}
    equiforce.train(original / "copper.xyz", tmp_path, options=options, plots=False)
    assert has_state(tmp_path)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_cannot_be_replaced_by_a_checkpoint_is_said_before_the_training(run, kind):
    replace(run / "last.pt", kind)
    with pytest.raises(InputError, match=r"last\.pt is a folder or a pipe, and no checkpoint: move it away, then give"):
        resumed(run)


@pytest.mark.parametrize("kind", KINDS)
def test_two_damaged_checkpoints_are_refused(run, kind):
    replace(run / "last.pt", "cut")
    replace(run / "best.pt", kind)
    with pytest.raises(
        InputError, match=r"last.pt and best.pt of .* cannot be used .*: start a new run with -o, or put"
    ):
        resumed(run)


def test_a_damaged_first_checkpoint_can_be_deleted(run):
    for name in ("best.pt", "model.eqf"):
        (run / name).unlink()
    replace(run / "last.pt", "cut")
    with pytest.raises(InputError, match=r"no best weights yet: delete last\.pt, and --resume starts it anew"):
        resumed(run)
    (run / "last.pt").unlink()
    assert not has_state(run)
    assert "6 steps are done" in resumed(run)


def test_a_checkpoint_of_an_older_version_goes_on_with_a_word(run):
    state = torch.load(run / "last.pt", weights_only=True)
    torch.save(state, run / "last.pt")
    assert "last.pt was written by an older version, without a checksum" in resumed(run)


def test_the_options_of_a_run_are_read_as_they_were_written(run):
    values, notes = read_own_options(run, intact_checkpoint(run))
    text = (run / "config.yaml").read_text()
    assert (notes, text.splitlines()[0]) == ([], FIRST_LINE)
    assert options_text(load_config(run / "config.yaml")) == text
    assert values["training"]["max_steps"] == 4


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("keep", [0, 100, 1000, 4096, -60, -30, -2])
def test_options_that_are_cut_are_refused(run, keep, trained):
    if not trained:
        for name in ("last.pt", "best.pt", "model.eqf"):
            (run / name).unlink()
    (run / "config.yaml").write_bytes((run / "config.yaml").read_bytes()[:keep])
    with pytest.raises(InputError, match=r"config\.yaml.*(write it again|delete the file, and --resume takes)"):
        resumed(run)


@pytest.mark.parametrize("trained", [True, False])
def test_an_option_that_was_deleted_is_named_and_no_default_is_taken(run, trained):
    if not trained:
        for name in ("last.pt", "best.pt", "model.eqf"):
            (run / name).unlink()
    file = run / "config.yaml"
    kept = [line for line in file.read_text().splitlines() if not line.strip().startswith(("batch_size", "kind: neq"))]
    file.write_text("\n".join(kept) + "\n")
    sentence = r"config\.yaml lacks model\.kind, training\.batch_size, and no default is taken for the options of a run"
    with pytest.raises(InputError, match=sentence):
        resumed(run)


def test_without_the_file_the_options_of_the_checkpoint_are_taken(run):
    (run / "config.yaml").unlink()
    assert "config.yaml was not there: all options are those of last.pt" in resumed(run)
    assert load_config(run / "config.yaml").training.max_steps == 6


def older(file):
    """The file as older versions wrote it, without the first and the last line, and without an option that is new."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("  keep_zeros")]
    file.write_text("\n".join(["# equiforce: all options of a run. You may delete lines", *lines[1:-2]]) + "\n")


def test_an_option_that_is_newer_than_the_run_has_its_default(run):
    older(run / "config.yaml")
    state = read_checkpoint(run / "last.pt")
    del state["origin"]["options"]["data"]["keep_zeros"], state["sealed"]
    write_checkpoint(run / "last.pt", state)
    assert "6 steps are done" in resumed(run)


def test_an_option_that_the_checkpoint_of_an_older_run_knows_is_not(run):
    older(run / "config.yaml")
    with pytest.raises(InputError, match=r"lacks data\.keep_zeros, and no default is taken"):
        resumed(run)


def test_an_older_run_without_a_checkpoint_is_told_which_defaults_it_gets(run):
    for name in ("last.pt", "best.pt", "model.eqf"):
        (run / name).unlink()
    older(run / "config.yaml")
    values, notes = read_own_options(run, None)
    assert notes == [f"{run / 'config.yaml'} lacks data.keep_zeros: the defaults are taken"]
    assert "keep_zeros" not in values["data"]


@pytest.mark.parametrize("trained", [True, False])
def test_options_that_an_older_version_left_cut_are_refused(run, trained):
    if not trained:
        for name in ("last.pt", "best.pt", "model.eqf"):
            (run / name).unlink()
    older(run / "config.yaml")
    (run / "config.yaml").write_bytes((run / "config.yaml").read_bytes()[:4096])
    with pytest.raises(InputError, match=r"config\.yaml is cut off: its last line is missing, and \d+ options"):
        resumed(run)


def test_a_split_that_is_cut_is_refused_and_can_be_made_again(run):
    split = (run / "split.json").read_bytes()
    (run / "split.json").write_bytes(split[:-10])
    with pytest.raises(InputError, match=r"split\.json is damaged .*: delete it, and --resume makes the split again"):
        resumed(run)
    (run / "split.json").unlink()
    resumed(run)
    assert (run / "split.json").read_bytes() == split


def test_a_split_that_was_edited_is_refused(run):
    text = (run / "split.json").read_text()
    parts = json.loads(text)
    parts["train"].append(parts["validation"].pop())
    parts["validation"].append(parts["train"].pop(0))
    (run / "split.json").write_text(json.dumps(parts))
    with pytest.raises(InputError, match="training structures or their labels differ from those with which"):
        resumed(run)


def test_resuming_touches_nothing_that_stays(run):
    before = {path.name: path.stat().st_ino for path in run.iterdir()}
    equiforce.train(resume=run, plots=False)
    after = {path.name: path.stat().st_ino for path in run.iterdir()}
    assert [name for name in before if after[name] != before[name]] == ["model.eqf"]


def test_a_run_that_another_process_uses_is_refused(original, run):
    with used(run), pytest.raises(InputError, match=f"run is in use by process {os.getpid()} "):
        resumed(run)
    with used(run.with_name("new")), pytest.raises(InputError, match="new is in use by process"):
        equiforce.train(original / "copper.xyz", run.with_name("new"), options=OPTIONS, plots=False)


def test_no_lock_is_left_in_a_folder_of_other_files(original, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="already exists: choose another folder"):
        equiforce.train(original / "copper.xyz", tmp_path, options=OPTIONS, plots=False)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_folder_with_nothing_but_a_lock_is_new(original, tmp_path):
    (tmp_path / LOCK).touch()
    equiforce.train(original / "copper.xyz", tmp_path, options={**OPTIONS, "training.max_steps": 1}, plots=False)
    assert (tmp_path / "model.eqf").exists()


@pytest.mark.slow
def test_trainings_that_start_together_draw_a_folder_each(original, tmp_path):
    sets = [text for name, value in OPTIONS.items() for text in ("--set", f"{name}={value}")]
    program = [sys.executable, "-c", "from equiforce.cli import main; main()"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    started = [
        subprocess.Popen(
            [*program, "train", original / "copper.xyz", *sets, "--seed", str(seed)],
            cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for seed in range(2)
    ]  # fmt: skip
    assert [(process.communicate()[1], process.returncode) for process in started] == 2 * [("", 0)]
    folders = sorted((tmp_path / "runs").iterdir())
    assert [folder.name for folder in folders] == ["copper", "copper-2"]
    assert {load_config(folder / "config.yaml").training.seed for folder in folders} == {0, 1}
    for folder in folders:
        assert [line.split(",")[2] for line in (folder / "log.csv").read_text().splitlines()] == ["step", "2", "4"]
        assert read_checkpoint(Path(folder) / "last.pt")["n_rows"] == 2


def test_a_run_that_another_process_began_meanwhile_continues(original, tmp_path, monkeypatch):
    def slowly(config):
        shutil.copytree(original / "run", tmp_path / "run")
        return make_fabric(config)

    monkeypatch.setattr("equiforce.workflow.make_fabric", slowly)
    before = (original / "run" / "log.csv").read_bytes()
    equiforce.train(original / "copper.xyz", tmp_path / "run", options=OPTIONS, resume_if_there=True, plots=False)
    assert (tmp_path / "run" / "log.csv").read_bytes() == before
