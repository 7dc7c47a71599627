"""The summary of a simulation."""

import json
from io import StringIO
from pathlib import Path

from rich.console import Console

from equiforce.calculators.md.summary import MDSummary

FACTS = {
    "n_steps": 2000,
    "n_atoms": 9,
    "time_ps": 1.0,
    "ensemble": "nve",
    "mean_temperature": 299.96,
    "drift": 0.1234,
    "steps_per_second": 50.0,
    "ns_per_day": 2.16,
    "n_neighbor_builds": 7,
    "interrupted": False,
    "folder": Path("run"),
    "seed": 42,
    "device": "cpu",
}


def shown(summary: MDSummary) -> str:
    console = Console(record=True, width=160, file=StringIO())
    console.print(summary.table())
    return console.export_text()


def test_a_sound_run_is_finished():
    text = shown(MDSummary(**FACTS, departures={}, outside=0.0))
    for piece in ("finished", "2000 steps, 1 ps, 9 atoms", "300.0 K", "0.123 meV/atom/ps", "42", "run/state.npz"):
        assert piece in text
    assert "training data" not in text


def test_a_run_that_left_the_data_is_not_just_finished():
    departures = {"force": (90, "the force is 9 eV/Å"), "distance H-O": (0, "0.62 Å apart")}
    summary = MDSummary(**FACTS, departures=departures, outside=0.25)
    assert summary.title() == "finished, but the run left the training data"
    text = shown(summary)
    assert text.index("left the training data from the start") < text.index("left the training data at step 90")
    assert "25 % of the steps" in text
    plain = json.loads(json.dumps(summary.as_dict()))
    assert plain["departures"][0] == {"step": 90, "what": "force", "sentence": "the force is 9 eV/Å"}
    assert plain["folder"] == "run"
