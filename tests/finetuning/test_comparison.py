"""The table of a fine-tuning has the errors of each model on each set."""

import json
from dataclasses import replace
from io import StringIO

import pytest
from ase.build import molecule
from rich.console import Console

from equiforce.evaluate import errors, predict
from equiforce.finetuning.comparison import compare
from equiforce.terminal import show
from tests.finetuning.starts import potential_of
from tests.systems import rattled

pytestmark = pytest.mark.usefixtures("plain_torch")


@pytest.fixture(scope="module")
def models():
    return [potential_of("nequip", seed=seed) for seed in range(3)]


def structures(potential, n):
    frames = [rattled(molecule("H2O"), seed) for seed in range(n)]
    found = [predict(potential, frame) for frame in frames]
    return [
        replace(frame, energy=one.energy.item(), forces=one.forces.numpy())
        for frame, one in zip(frames, found, strict=True)
    ]


def test_every_model_on_every_set(models):
    start, tuned, scratch = models
    new, old = structures(tuned, 3), structures(start, 2)
    found = compare(start, tuned, scratch, new=new, name="test", old=old, seconds=1.25)
    assert [(row.data, row.model) for row in found.rows] == [
        ("test", "start model"), ("test", "fine-tuned"), ("test", "from scratch"),
        ("old domain", "start model"), ("old domain", "fine-tuned"),
    ]  # fmt: skip
    assert found.of("test", "fine-tuned").total.forces.rmse == pytest.approx(0, abs=1e-9)
    assert found.of("old domain", "start model").total.forces.rmse == pytest.approx(0, abs=1e-9)
    assert found.of("old domain", "fine-tuned").total.forces.rmse > 1
    expected = errors(new, predict(scratch, new)).total.forces
    assert found.of("test", "from scratch").total.forces == expected
    plain = json.loads(json.dumps(found.as_dict()))
    assert plain["seconds"] == 1.2
    assert plain["test"]["from scratch"]["total"]["forces"]["rmse"] == expected.rmse
    output = StringIO()
    show(Console(file=output, width=120), found.table())
    assert f"{expected.mae:.4g} / {expected.rmse:.4g}" in output.getvalue()
    assert "old domain (2)" in output.getvalue()
    assert "stress" not in output.getvalue()
    assert found.notes("test") == []
    assert (
        "higher than those of the start model"
        in compare(tuned, start, None, new=new, name="test", old=[], seconds=1.0).notes("test")[0]
    )


def test_sets_and_models_that_are_not_there_have_no_rows(models):
    start, tuned, _ = models
    new = structures(start, 1)
    found = compare(start, tuned, None, new=new, name="validation", old=[], seconds=1.0)
    assert [(row.data, row.model) for row in found.rows] == [
        ("validation", "start model"),
        ("validation", "fine-tuned"),
    ]
    with pytest.raises(KeyError):
        found.of("old domain", "start model")
