"""Errors of a potential, with their files."""

import json
from io import StringIO

import ase.io
import numpy as np
import pytest
from rich.console import Console

import equiforce
from equiforce.assessment import assess, finish
from equiforce.data.read import read
from tests.data_sets import TINY, crystals, write


@pytest.fixture
def structures(tmp_path):
    write(tmp_path / "copper.xyz", crystals(3))
    return read(tmp_path / "copper.xyz")


def test_errors_are_printed_and_written_with_predictions_and_a_plot(structures, tmp_path):
    text = StringIO()
    potential = equiforce.untrained(["Cu"], **TINY).potential
    result = assess(potential, structures, tmp_path / "out", "copper", Console(file=text, width=120))
    names = ["copper_errors.json", "copper_parity.png", "copper_predictions.xyz"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names
    assert json.loads((tmp_path / "out" / "copper_errors.json").read_text()) == result.as_dict()
    frames = ase.io.read(tmp_path / "out" / "copper_predictions.xyz", ":")
    difference = np.concatenate(
        [f.arrays["predicted_forces"] - s.forces for f, s in zip(frames, structures, strict=True)]
    )
    assert 1000 * np.abs(difference).mean() == pytest.approx(result.total["forces"].mae, rel=1e-4)
    assert "forces" in text.getvalue()


def test_without_test_structures_there_are_no_errors(tmp_path):
    assert finish(equiforce.untrained(["Cu"], **TINY).potential, [], tmp_path, Console(quiet=True), plots=False) is None
