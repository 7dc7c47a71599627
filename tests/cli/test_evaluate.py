"""``equiforce evaluate``."""

import json

import ase.io
import numpy as np

from equiforce.storage.folders import LOCK
from tests.data_sets import crystals, write


def results(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != LOCK)


def test_evaluate_measures(equiforce, model, place):
    status, out, _ = equiforce("evaluate", model, "copper.xyz", "-o", "measured")
    assert status == 0
    assert "forces on Cu" in out
    assert "device: cpu, " in out
    assert "written into measured: copper_predictions.xyz, copper_parity.png, copper_errors.json" in out
    assert results(place / "measured") == [
        "copper_errors.json", "copper_parity.png", "copper_predictions.xyz",
    ]  # fmt: skip
    assert "memory: energy and forces of " in out
    status, _, err = equiforce("evaluate", model, "copper.xyz", "--max-memory", "1e-9")
    assert status == 1
    assert "even in chunks" in err
    status, out, _ = equiforce("evaluate", model, "copper.xyz@:2", "--json")
    printed = json.loads(out)
    assert (printed["n_structures"], printed["units"]["stress"]) == (2, "GPa")
    assert printed["folder"] == "evaluate-copper"
    assert printed["files"] == [
        f"evaluate-copper/copper_{name}" for name in ("predictions.xyz", "parity.png", "errors.json")
    ]
    assert all((place / name).is_file() for name in printed["files"])


def test_a_second_evaluation_keeps_the_first(equiforce, model, place):
    assert "written into evaluate-water-" not in equiforce("evaluate", "run", "copper.xyz@:1", "-o", "twice")[1]
    status, _, err = equiforce("evaluate", "run", "copper.xyz@1:2", "-o", "twice")
    assert status == 1
    assert "twice/copper_errors.json exists from an earlier evaluation" in err
    assert equiforce("evaluate", "run", "copper.xyz@1:2", "-o", "twice", "--overwrite")[0] == 0
    assert "copper.xyz@1:2, frame 0" in (place / "twice" / "copper_predictions.xyz").read_text()
    for folder in ("evaluate-bare", "evaluate-bare-2"):
        write(place / "bare.xyz", [atoms.copy() for atoms in crystals(2)])
        status, out, _ = equiforce("evaluate", "run", "bare.xyz")
        assert status == 0
        assert "no labels: predictions only" in out
        assert f"written into {folder}: bare_predictions.xyz" in out
        assert results(place / folder) == ["bare_predictions.xyz"]


def test_several_files_are_evaluated_together(equiforce, model, place):
    write(place / "ids.xyz", [with_id(atoms) for atoms in crystals(2)])
    status, out, _ = equiforce("evaluate", "run", "ids.xyz", "copper.xyz@:1")
    assert status == 0
    assert "written into evaluate-ids-and-1-more: " in out
    frames = ase.io.read(place / "evaluate-ids-and-1-more" / "ids-and-1-more_predictions.xyz", ":")
    assert [frame.info.get("material_id") for frame in frames] == ["mp-1", "mp-1", None]
    assert [frame.info["source"] for frame in frames] == [
        "ids.xyz, frame 0",
        "ids.xyz, frame 1",
        "copper.xyz@:1, frame 0",
    ]
    for frame in frames[:2]:
        assert frame.info["dipole_D"].tolist() == [0, 0, 1.5, 2]  # as many numbers as atoms
        assert frame.get_tags().tolist() == [0, 1, 1, 2]


def with_id(atoms):
    atoms.info |= {"material_id": "mp-1", "dipole_D": np.array([0, 0, 1.5, 2])}
    atoms.set_tags([0, 1, 1, 2])
    return atoms


def test_names_in_the_data_are_no_markup(equiforce, model, place):
    frames = crystals(4)
    for frame, name in zip(frames, ("fcc[bold]", "[slab]", "[/]", ":smile: $x$"), strict=True):
        frame.info["config_type"] = name
    write(place / "[red]x.xyz", frames)
    status, out, err = equiforce("evaluate", model, "[red]x.xyz", "-o", "a[/b]")
    assert (status, err) == (0, "")
    for name in ("fcc[bold]: forces", "[slab]: forces", "[/]: forces", ":smile: $x$: forces", "a[/b]:"):
        assert name in out


def test_a_memory_that_is_none_is_refused(equiforce, model):
    for memory in ("nan", "-1", "0", "inf"):
        status, _, err = equiforce("evaluate", model, "copper.xyz", f"--max-memory={memory}")
        assert (status, "is not a memory: give GB above 0" in err) == (1, True)
