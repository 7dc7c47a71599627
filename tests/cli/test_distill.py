"""The command distill: its flags, its object and its exit status."""

import json

import pytest

from equiforce.distillation import work


@pytest.fixture
def calls(monkeypatch):
    """What the command asks for, instead of a distillation; the list holds its result first."""
    found = []

    def record(*arguments, **options):
        found.append((arguments, options))
        return found[0]

    monkeypatch.setattr(work, "distill", record)
    return found


class Report:
    def as_dict(self):
        return {"gain": 3.0}


def test_flags_become_options_of_the_sampling_and_of_the_training(equiforce, calls):
    calls.append(Report())
    flags = "--temperatures 300,900 --pressures 0,5 --rounds 2 "
    flags += "--frames 50 --seed 3 --kind allegro --time 5m --set model.l_max=1 --device cpu"
    files = "distill t.eqf --structures a.xyz --structures b.xyz -o s.eqf"
    status, out, errors = equiforce(*files.split(), *flags.split(), "--json")
    assert status == 0, errors
    (teacher, structures, output, options), given = calls[1]
    assert [str(teacher), structures, str(output)] == ["t.eqf", ["a.xyz", "b.xyz"], "s.eqf"]
    assert (options.kelvin, options.frames, options.seed) == ([300, 900], 50, 3)
    assert (options.gigapascals, options.rounds) == ([0, 5], 2)
    assert given["training"] == {"model.kind": "allegro", "training.time": "5m", "model.l_max": 1}
    assert given["device"] == "cpu"
    assert json.loads(out) == {"gain": 3.0}


def test_an_interruption_has_its_own_status(equiforce, calls):
    calls.append(None)
    status, out, _ = equiforce(*["distill", "t.eqf", "--structures", "a.xyz", "-o", "s.eqf"])
    assert status == 130
    assert "interrupted and saved; the same command goes on" in out


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--temperatures cold", "distill.temperatures='cold' is not allowed: give numbers separated by commas"),
        ("--frames 2", "distill.frames=2 is not allowed"),
        ("--time 5m --set training.time=6m", "training.time is given twice"),
        ("--set nonsense", "--set nonsense has no equals sign"),
        ("--set model.channel=3", "model.channel"),
        ("", "there is no model file none"),
    ],
)
def test_a_mistake_is_one_sentence(flags, sentence, equiforce):
    status, _, errors = equiforce(*f"distill none --structures copper.xyz -o s.eqf {flags}".split())
    assert status == 1
    assert sentence in " ".join(errors.split())
    assert "Traceback" not in errors
