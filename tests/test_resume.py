"""What a resumed run may change: options, data and their places."""

import dataclasses
import json
import re
import shutil
from io import StringIO

import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console

import equiforce
from equiforce.config import SECTIONS, RunConfig, load_config
from equiforce.data.dataset import SplitOptions, split
from equiforce.errors import InputError
from equiforce.resume import LENGTH, LOSS, OTHERWISE_FREE, RATE, contents, given_options, resumption
from tests.data_sets import TINY, crystals, write

pytestmark = pytest.mark.usefixtures("without_plots")

OPTIONS = {
    **{f"model.{name}": value for name, value in TINY.items()},
    "training.max_steps": 4,
    "training.validate_every": 2,
    "split.test": 1,
}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A finished run and its data in one folder."""
    place = tmp_path_factory.mktemp("place")
    write(place / "copper.xyz", crystals(8))
    equiforce.train(place / "copper.xyz", place / "run", options=OPTIONS, plots=False)
    return place


@pytest.fixture
def place(original, tmp_path):
    """A copy of the run, whose data are at their old place."""
    shutil.copytree(original / "run", tmp_path / "run")
    return tmp_path


def resumed(folder, options=None, **more):
    said = StringIO()
    trained = equiforce.train(
        resume=folder, options=options, plots=False, console=Console(file=said, width=300), **more
    )
    return trained, said.getvalue()


def checkpoint(folder):
    return torch.load(folder / "last.pt", weights_only=True)


def contents_of(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def relabelled(original, path, change):
    """Write the data of the run with changed labels."""
    frames = ase.io.read(original / "copper.xyz", ":")
    for atoms in frames:
        results = {**atoms.calc.results}
        change(atoms, results)
        atoms.calc = SinglePointCalculator(atoms, **results)
    ase.io.write(path, frames)
    return path


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("model.cutoff", 3.0, r"model\.cutoff was 3\.5 and is now 3\.0"),
        ("model.l_max", 0, r"model\.l_max was 1 and is now 0"),
        ("model.kind", "allegro", r"model\.kind was nequip and is now allegro"),
        ("model.preset", "small", r"model\.channels was 4 and is now 32"),
        ("potential.zbl", True, r"potential\.zbl was False and is now True"),
        ("potential.scale", 2.0, r"potential\.scale was unset and is now 2\.0"),
        ("training.dtype", "float64", r"training\.dtype was float32 and is now float64"),
        ("training.seed", 5, r"training\.seed was 0 and is now 5"),
        ("optimizer.name", "adam", r"optimizer\.name was muon and is now adam"),
        ("optimizer.ema_decay", 0.0, r"optimizer\.ema_decay was 0\.99 and is now 0\.0"),
        ("data.energy_unit", "kcal/mol", r"data\.energy_unit was unset and is now kcal/mol"),
        ("split.validation", 2, r"split\.validation was 0\.1 and is now 2"),
    ],
)
def test_what_the_weights_mean_cannot_change_and_the_run_stays_as_it_was(place, option, value, said):
    before = contents_of(place / "run")
    with pytest.raises(InputError, match=rf"cannot continue with another value: .*{said}"):
        resumed(place / "run", {option: value, "training.max_steps": 6})
    assert contents_of(place / "run") == before


def test_a_change_by_hand_in_the_file_of_options_is_seen_too(place):
    file = place / "run" / "config.yaml"
    file.write_text(file.read_text().replace("cutoff: 3.5", "cutoff: 3.0"))
    with pytest.raises(InputError, match=r"model\.cutoff was 3\.5 and is now 3\.0"):
        resumed(place / "run", {"training.max_steps": 6})


def test_options_that_are_set_to_null_are_settled_again(place):
    file = place / "run" / "config.yaml"
    file.write_text(re.sub(r"(forces|mean_neighbors): [\d.]+", r"\1: null", file.read_text()))
    assert resumed(place / "run", {"training.max_steps": 5})[0].outcome.why == "5 steps are done"
    assert load_config(file).loss.forces == 1.0


def test_a_longer_run_by_hand_in_the_file_of_options_is_told(place):
    file = place / "run" / "config.yaml"
    file.write_text(file.read_text().replace("max_steps: 4", "max_steps: 6"))
    trained, said = resumed(place / "run")
    assert trained.outcome.why == "6 steps are done"
    assert f"note: training.max_steps was 4 and is now 6, as {file} says" in said


def test_every_option_of_the_tables_exists():
    for table in (LENGTH, RATE, LOSS, OTHERWISE_FREE):
        for section, options in table.items():
            assert options <= {field.name for field in dataclasses.fields(SECTIONS[section])}
    assert LOSS["loss"] == {field.name for field in dataclasses.fields(SECTIONS["loss"])}


def test_another_loss_forgets_the_best_one_and_says_so(place):
    before = checkpoint(place / "run")
    options = {"loss.forces": 1e-6, "loss.energy": 1e-6, "training.max_steps": 8}
    _, said = resumed(place / "run", options)
    assert "note: loss.forces was 1.0 and is now 1e-06: the best validation loss so far is forgotten" in said
    after = checkpoint(place / "run")
    assert (before["best_step"], after["best_step"] > 4) == (4, True)
    options = {"loss.forces": 1e6, "training.max_steps": 10}  # its losses are far above the best one so far
    resumed(place / "run", options)
    assert checkpoint(place / "run")["best_step"] > 8
    assert checkpoint(place / "run")["best_loss"] > after["best_loss"]


def test_another_loss_without_further_steps_is_refused(place):
    before = contents_of(place / "run")
    with pytest.raises(InputError, match=r"loss\.forces was 1\.0 and is now 2\.0, but 4 steps are done in"):
        resumed(place / "run", {"loss.forces": 2.0})
    assert contents_of(place / "run") == before


def test_a_change_of_the_loss_is_not_lost_if_the_run_stops_before_a_checkpoint(place):
    """The checkpoint decides what has changed, not the file of options, which is written earlier."""
    file = place / "run" / "config.yaml"
    file.write_text(file.read_text().replace("forces: 1.0", "forces: 2.0"))
    assert "loss.forces was 1.0 and is now 2.0" in resumed(place / "run", {"training.max_steps": 6})[1]


def test_the_rate_and_the_batches_may_change_without_a_word(place):
    options = {"optimizer.learning_rate": 0.001, "training.batch_size": 2, "training.max_steps": 6}
    trained, said = resumed(place / "run", options)
    assert trained.outcome.why == "6 steps are done"
    assert "forgotten" not in said
    assert checkpoint(place / "run")["origin"]["options"]["optimizer"]["learning_rate"] == 0.001


def double_energy(atoms, results):
    results["energy"] *= 2


def turn_forces(atoms, results):
    results["forces"] = -results["forces"]


def change_pbc(atoms, results):
    atoms.pbc = [True, True, False]


@pytest.mark.parametrize("change", [double_energy, turn_forces, change_pbc])
def test_other_labels_or_cells_at_the_same_positions_are_refused(original, place, change):
    before = contents_of(place / "run")
    data = relabelled(original, place / "other.xyz", change)
    with pytest.raises(InputError, match=r"the training structures or their labels differ from those with which .*run"):
        resumed(place / "run", {"training.max_steps": 6}, data=data)
    assert contents_of(place / "run") == before


def test_other_labels_of_a_file_for_testing_are_refused(original, tmp_path):
    test = shutil.copy(original / "copper.xyz", tmp_path / "test.xyz")
    options = {name: value for name, value in OPTIONS.items() if name != "split.test"}
    options |= {"split.test_file": [f"{test}@:1"], "training.max_steps": 1}
    equiforce.train(f"{original / 'copper.xyz'}@1:", tmp_path / "run", options=options, plots=False)
    relabelled(original, test, turn_forces)
    with pytest.raises(InputError, match="the test structures or their labels differ"):
        resumed(tmp_path / "run", {"training.max_steps": 2})


def test_the_hash_of_the_data_sees_labels_cells_and_directions(original):
    first = equiforce.read(original / "copper.xyz")
    parts = split(first, SplitOptions(test=1))
    known = contents(parts)
    for name, changed in (("energy", 1.0), ("cell", 9 * np.eye(3)), ("pbc", np.zeros(3, bool)), ("forces", None)):
        train = (*parts.train[:-1], dataclasses.replace(parts.train[-1], **{name: changed}))
        other = contents(dataclasses.replace(parts, train=train))
        assert {part for part in known if known[part] != other[part]} == {"train"}


def test_data_that_have_moved_are_named_and_found_again(original, tmp_path):
    """As if run folder and data had been copied to another machine."""
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir(), here.mkdir()
    shutil.copy(original / "copper.xyz", there / "copper.xyz")
    equiforce.train(there / "copper.xyz", there / "run", options=OPTIONS, plots=False)
    shutil.move(there / "run", here / "run")
    shutil.move(there / "copper.xyz", here / "renamed.xyz")
    sentence = (
        rf"{there / 'copper.xyz'}, which has training structures of the run {here / 'run'}, is not there: give its new "
        rf"place with equiforce train --resume {here / 'run'} NEW/copper.xyz$"
    )
    with pytest.raises(InputError, match=sentence):
        resumed(here / "run", {"training.max_steps": 6})
    assert (
        resumed(here / "run", {"training.max_steps": 6}, data=here / "renamed.xyz")[0].outcome.why == "6 steps are done"
    )
    assert load_config(here / "run" / "config.yaml").split.train_file == [str(here / "renamed.xyz")]
    assert resumed(here / "run", {"training.max_steps": 7})[0].outcome.why == "7 steps are done"


def test_a_run_of_an_older_version_goes_on_with_a_word(original, place):
    last = checkpoint(place / "run")
    del last["origin"], last["ended"]
    torch.save(last, place / "run" / "last.pt")
    with pytest.raises(InputError, match=r"model\.cutoff was 3\.5 and is now 3\.0"):
        resumed(place / "run", {"model.cutoff": 3.0})
    with pytest.raises(InputError, match=r"the data now give the reference energies .* the labels have changed"):
        resumed(place / "run", data=relabelled(original, place / "other.xyz", double_energy))
    _, said = resumed(place / "run", {"training.max_steps": 6})
    assert "last.pt was written by an older version, which kept no fingerprint of the labels" in said
    assert "older version" not in resumed(place / "run", {"training.max_steps": 8})[1]


def test_a_run_whose_time_is_up_is_finished(original, tmp_path):
    options = {name: value for name, value in OPTIONS.items() if name != "training.max_steps"}
    equiforce.train(original / "copper.xyz", tmp_path / "run", options=options | {"training.time": "0.1s"}, plots=False)
    steps = checkpoint(tmp_path / "run")["step"]
    assert resumed(tmp_path / "run")[0].outcome[:2] == ("the time budget is used up", False)
    assert checkpoint(tmp_path / "run")["step"] == steps
    resumed(tmp_path / "run", {"training.max_steps": steps + 2, "training.time": None})
    assert checkpoint(tmp_path / "run")["step"] == steps + 2


def test_a_run_that_no_longer_improved_is_finished(original, tmp_path):
    options = {**OPTIONS, "training.max_steps": 100, "training.early_stopping": 1, "training.validate_every": 1}
    options |= {"optimizer.schedule": "constant", "optimizer.learning_rate": 0.3, "optimizer.warmup_steps": 0}
    equiforce.train(original / "copper.xyz", tmp_path / "run", options=options, plots=False)
    steps = checkpoint(tmp_path / "run")["step"]
    assert steps < 100
    assert resumed(tmp_path / "run")[0].outcome.why == "the validation loss has not fallen for 1 validation"
    assert checkpoint(tmp_path / "run")["step"] == steps


def test_given_options_come_from_files_values_and_flags(place):
    (place / "options.yaml").write_text("model:\n  l_max: 1\ntraining:\n")
    assert given_options(place / "options.yaml", {"model.l_max": 2}) == {"model.l_max": 2}
    assert given_options({"loss": {"forces": 3.0}}, None) == {"loss.forces": 3.0}
    assert given_options(RunConfig(), None)["training.dtype"] == "float32"


def test_without_a_checkpoint_nothing_is_compared(place):
    for name in ("last.pt", "best.pt", "model.eqf"):
        (place / "run" / name).unlink()
    found = resumption(place / "run", {"model.cutoff": 3.0})
    assert (found.checkpoint, found.changes, found.settings.model.cutoff) == (None, (), 3.0)


def test_one_command_starts_continues_and_finishes(original, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def again(**more):
        said = StringIO()
        options = {**OPTIONS, **more}
        trained = equiforce.train(
            original / "copper.xyz",
            "run",
            options=options,
            resume_if_there=True,
            plots=False,
            console=Console(file=said, width=300),
        )
        return trained.outcome.why, said.getvalue()

    assert again()[0] == "4 steps are done"
    why, said = again()
    assert why == "4 steps are done"
    assert "the run in run is finished already: 4 steps are done" in said
    assert checkpoint(tmp_path / "run")["step"] == 4
    why, said = again(**{"training.max_steps": 6})
    assert why == "6 steps are done"
    assert "the run continues at step 4 (2 passes)" in said
    for other in ({"model.cutoff": 3.0}, {"optimizer.name": "adam"}):
        with pytest.raises(InputError, match="cannot continue with another value"):
            again(**other)
    for name in ("last.pt", "best.pt", "model.eqf"):  # as if it had been killed before its first checkpoint
        (tmp_path / "run" / name).unlink()
    assert again()[0] == "4 steps are done"
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["training"]["max_steps"] == 4


def test_a_run_without_its_last_checkpoint_continues_from_the_best_one(place):
    (place / "run" / "last.pt").unlink()
    trained, said = resumed(place / "run", {"training.max_steps": 6})
    assert "has no last.pt: it continues from its best weights, best.pt" in said
    assert trained.outcome.why == "6 steps are done"
    assert checkpoint(place / "run")["step"] == 6


@pytest.mark.parametrize("if_there", [False, True])
def test_a_model_without_a_checkpoint_is_not_overwritten(original, place, if_there):
    for name in ("last.pt", "best.pt"):
        (place / "run" / name).unlink()
    model = (place / "run" / "model.eqf").read_bytes()
    with pytest.raises(InputError, match=r"run has a model, but no checkpoint \(last.pt or best.pt\) from which"):
        if if_there:
            equiforce.train(original / "copper.xyz", place / "run", options=OPTIONS, resume_if_there=True, plots=False)
        else:
            resumed(place / "run", {"training.max_steps": 6})
    assert (place / "run" / "model.eqf").read_bytes() == model


def test_fewer_steps_than_are_done_are_refused(place):
    """The run would be called finished after steps that it did not end with."""
    with pytest.raises(
        InputError, match=r"max_steps was 4 and is now 2, but 4 steps are already done in .*: give more"
    ):
        resumed(place / "run", {"training.max_steps": 2})
    assert resumed(place / "run")[0].outcome.why == "4 steps are done"


def test_one_command_does_not_overwrite_what_is_no_run(original, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"already exists: choose another folder with -o$"):
        equiforce.train(original / "copper.xyz", tmp_path / "run", resume_if_there=True)


def test_the_split_of_the_run_stays(place):
    before = json.loads((place / "run" / "split.json").read_text())
    resumed(place / "run", {"training.max_steps": 6})
    assert json.loads((place / "run" / "split.json").read_text()) == before
