"""Errors of a potential, with their files."""

import json
import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

import ase.io
import numpy as np
import pytest
from rich.console import Console

import equiforce
from equiforce.assessment import assess, finish, name_of, results_folder
from equiforce.data.read import read
from equiforce.errors import InputError
from tests.data_sets import TINY, crystals, write
from tests.storage.test_faults import small_disk


@pytest.fixture
def structures(tmp_path):
    write(tmp_path / "copper.xyz", crystals(3))
    return read(tmp_path / "copper.xyz")


def test_errors_are_printed_and_written_with_predictions_and_a_plot(structures, tmp_path):
    text = StringIO()
    potential = equiforce.untrained(["Cu"], **TINY).potential
    result, files = assess(potential, structures, tmp_path / "out", "copper", Console(file=text, width=120))
    names = ["copper_errors.json", "copper_parity.png", "copper_predictions.xyz"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names
    assert sorted(files) == [tmp_path / "out" / name for name in names]
    assert json.loads((tmp_path / "out" / "copper_errors.json").read_text()) == result.as_dict()
    frames = ase.io.read(tmp_path / "out" / "copper_predictions.xyz", ":")
    difference = np.concatenate(
        [f.arrays["predicted_forces"] - s.forces for f, s in zip(frames, structures, strict=True)]
    )
    assert 1000 * np.abs(difference).mean() == pytest.approx(result.total["forces"].mae, rel=1e-4)
    assert "forces" in text.getvalue()
    assert "no labels" not in text.getvalue()
    for frame, structure in zip(frames, structures, strict=True):
        per_atom = 1000 * (frame.info["predicted_energy"] - structure.energy) / len(structure)
        assert frame.info["error_energy_meV_per_atom"] == pytest.approx(per_atom)
        assert frame.info["source"] == structure.source


def test_structures_without_labels_are_predicted_and_count_in_no_error(structures, tmp_path):
    potential = equiforce.untrained(["Cu"], **TINY).potential
    bare = [replace(one, energy=None, forces=None, stress=None) for one in structures]
    text, folder = StringIO(), tmp_path / "out"
    console = Console(file=text, width=120)
    assess(potential, structures, folder, "a", console)
    result, files = assess(potential, bare, folder, "a", console)
    assert not result.total
    assert files == list(folder.iterdir()) == [folder / "a_predictions.xyz"]  # no errors of other data beside it
    assert text.getvalue().endswith("no labels: predictions only\n")
    (frame, *_) = ase.io.read(files[0], ":")
    assert frame.info["predicted_energy"] == pytest.approx(equiforce.predict(potential, bare[0]).energy.item())
    assert not any(key.startswith("error_") for key in frame.info)
    result, _ = assess(potential, [structures[0], *bare[1:]], folder, "a", console)
    assert (result.n_structures, result.total.energy.n) == (3, 1)
    assert "2 of 3 structures have no labels and count in no error" in text.getvalue()


def test_the_values_of_the_file_are_in_the_predictions_and_what_is_not_is_said(structures, tmp_path):
    text = StringIO()
    known = [replace(one, extra={"id": f"mp-{n}", "REF_energy": 1.0}) for n, one in enumerate(structures)]
    potential = equiforce.untrained(["Cu"], **TINY).potential
    _, files = assess(potential, known, tmp_path / "out", "copper", Console(file=text, width=80))
    assert [frame.info["id"] for frame in ase.io.read(files[0], ":")] == ["mp-0", "mp-1", "mp-2"]
    assert (
        "note: keys of the data that are not in copper_predictions.xyz: 'REF_energy' (it is a label that was not used)"
        in text.getvalue()
    )


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (["a/test.xyz"], "test"),
        (["me@home/test.v2.xyz@:10"], "test.v2"),
        (["a.xyz", "b.xyz"], "a-and-1-more"),
        (["a.xyz@0:3", "b.xyz", "c.xyz"], "a-and-2-more"),
        (["folder/"], "folder"),
    ],
)
def test_results_are_named_after_the_data(data, name):
    assert name_of(data) == name


def test_the_working_folder_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert name_of(["."]) == tmp_path.name


def drawn(output, name, *, overwrite):
    with results_folder(output, name, overwrite=overwrite) as folder:
        return folder


def test_no_results_are_lost(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert drawn(None, "a", overwrite=False) == Path("evaluate-a")
    assert not Path("evaluate-a").exists()  # nothing was written
    for number in ("", "-2"):
        Path(f"evaluate-a{number}").mkdir()
        Path(f"evaluate-a{number}/a_predictions.xyz").touch()
    assert drawn(None, "a", overwrite=False) == Path("evaluate-a-3")
    assert drawn(None, "a", overwrite=True) == Path("evaluate-a")
    mine = Path("evaluate-a")
    assert drawn(mine, "b", overwrite=False) == mine
    assert drawn(mine, "a", overwrite=True) == mine
    with pytest.raises(InputError, match=r"evaluate-a/a_predictions\.xyz exists .* or add --overwrite"):
        drawn(mine, "a", overwrite=False)
    Path("file").touch()
    with pytest.raises(InputError, match="file is a file, not a folder"):
        drawn(Path("file/in/it"), "a", overwrite=False)
    with pytest.raises(InputError, match="file is a file, not a folder"):
        drawn(Path("file"), "a", overwrite=True)


def test_evaluations_that_run_at_once_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with (
        results_folder(None, "a", overwrite=False) as first,
        results_folder(None, "a", overwrite=False) as second,
    ):
        assert (first, second) == (Path("evaluate-a"), Path("evaluate-a-2"))
        with pytest.raises(InputError, match="evaluate-a is in use by process "):
            drawn(None, "a", overwrite=True)


@pytest.mark.usefixtures("without_plots")
def test_a_full_disk_leaves_the_earlier_results(structures, tmp_path):
    potential, quiet = equiforce.untrained(["Cu"], **TINY).potential, Console(quiet=True)
    with small_disk(tmp_path / "disk") as disk:
        assess(potential, structures[:1], disk, "a", quiet)
        before = {path: path.read_bytes() for path in disk.iterdir()}
        with pytest.raises(InputError) as caught:
            assess(potential, structures * 40, disk, "a", quiet)
        said = str(caught.value)
        assert said.startswith(f"{disk / 'a_predictions.xyz'} cannot be written because the disk is full; it needs ")
        assert re.search(r"needs \d+\.\d kB, and .* kB are free: make room, .* again \(.* is as it was\)$", said)
        assert {path: path.read_bytes() for path in disk.iterdir()} == before


def test_without_test_structures_there_are_no_errors(tmp_path):
    assert finish(equiforce.untrained(["Cu"], **TINY).potential, [], tmp_path, Console(quiet=True), plots=False) is None
