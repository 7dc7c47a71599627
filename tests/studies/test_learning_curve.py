"""Which runs a learning curve is made of, on which structures, and at which learning rate."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from equiforce.errors import InputError
from equiforce.models.nequip import NequIP, NequIPConfig
from equiforce.studies.learning_curve import load_learning_curve
from equiforce.studies.runs import DIVERGED, DONE
from tests.data_sets import molecules, write
from tests.small_study import N_RUNS, study, write_study


def row(run, loss, state=DONE):
    return {"hash": run.hash, "validation_loss": loss, "state": state, **run.id_values}


def scanned(curve, losses):
    """Rows of the scan: the loss of each (model, rate)."""
    return [row(curve.run(model, 2, 0, rate), loss) for (model, rate), loss in losses.items()]


LOSSES = {("l=0", 0.01): 3.0, ("l=0", 0.05): 2.0, ("l=1", 0.01): 1.0, ("l=1", 0.05): 4.0}


def test_subsets_are_nested_and_apart_from_validation(tmp_path):
    curve = study(tmp_path, sizes=[2, 4, 8], steps=4, scan_sizes=[2])
    for seed in (0, 1):
        small, middle, large = (set(curve.subsets.training(size, seed)) for size in (2, 4, 8))
        assert small < middle < large
        assert [len(small), len(middle), len(large)] == [2, 4, 8]
        assert not large & set(curve.subsets.validation)
    assert curve.subsets.training(4, 0) != curve.subsets.training(4, 1)
    assert len(curve.subsets.validation) == 3


def test_copies_are_not_trained_on(tmp_path):
    frames = molecules(12)
    write_study(tmp_path)
    write(tmp_path / "pool.xyz", [*frames, frames[0], frames[3], molecules(4, seed=1)[2]])
    subsets = load_learning_curve(tmp_path / "water.yaml", tmp_path).subsets
    assert subsets.n_copies == 3
    assert sorted([*subsets.candidates, *subsets.validation]) == list(range(12))


def test_rates_are_tried_first_and_chosen_by_the_validation_loss(tmp_path):
    curve = study(tmp_path)
    first = curve.runs([])
    assert [r.id_values["learning_rate"] for r in first] == [0.01, 0.05, 0.01, 0.05]
    assert {(r.id_values["size"], r.id_values["seed"]) for r in first} == {(2, 0)}
    some = curve.runs(scanned(curve, LOSSES)[:2])
    assert {r.id_values["model"] for r in some[4:]} == {"l=0"}
    everything = curve.runs(scanned(curve, LOSSES))
    assert len(everything) == curve.count() == N_RUNS
    rates = {r.id_values["model"]: r.id_values["learning_rate"] for r in everything if r.id_values["size"] == 4}
    assert rates == {"l=0": 0.05, "l=1": 0.01}


def test_a_rate_that_diverged_is_not_chosen(tmp_path):
    curve = study(tmp_path)
    rows = scanned(curve, LOSSES)
    rows[1]["state"] = DIVERGED
    assert curve.rate("l=0", 4, {r["hash"]: r for r in rows}) == 0.01
    rows[0]["state"] = DIVERGED
    with pytest.raises(InputError, match=r"l=0 diverged with all study.learning_rates"):
        curve.runs(rows)


def test_the_nearest_size_gives_the_rate(tmp_path):
    curve = study(tmp_path, sizes=[2, 4, 8], steps=4, scan_sizes=[2, 8])
    rows = scanned(curve, LOSSES) + [row(curve.run("l=0", 8, 0, r), loss) for r, loss in ((0.01, 1.0), (0.05, 2.0))]
    known = {r["hash"]: r for r in rows}
    assert [curve.rate("l=0", size, known) for size in (2, 4, 8)] == [0.05, 0.05, 0.01]
    assert curve.rate("l=1", 8, known) is None


def test_budgets(tmp_path):
    curve = study(tmp_path, scan_sizes=None, learning_rates=[0.02])
    steps = {(r.id_values["size"], r.id_values["budget"]): r.options["training.max_steps"] for r in curve.runs([])}
    assert steps == {(2, 1): 4, (4, 1): 6, (4, 2): 12}
    epochs = study(tmp_path / "b", steps=None, epochs=3, doubled=False)
    assert {r.options["training.max_epochs"] for r in epochs.runs(scanned(epochs, LOSSES))} == {3}
    assert epochs.count() == N_RUNS - 2


def test_what_a_hash_depends_on(tmp_path):
    curve = study(tmp_path)
    run = curve.run("l=0", 2, 0, 0.01)
    others = [curve.run("l=1", 2, 0, 0.01), curve.run("l=0", 4, 0, 0.01), curve.run("l=0", 2, 1, 0.01)]
    others += [curve.run("l=0", 2, 0, 0.05), curve.run("l=0", 2, 0, 0.01, 2)]
    assert len({run.hash, *(other.hash for other in others)}) == 6
    beside = replace(run, options=dict(run.options) | {"training.device": "cpu", "training.tensorboard": True})
    assert beside.hash == run.hash
    assert "amsgrad" not in run.settings["optimizer"]  # Muon has none, so a new default of it changes no hash
    with_adam = replace(run, options=dict(run.options) | {"optimizer.name": "adam"})
    assert with_adam.settings["optimizer"]["amsgrad"] is False
    assert with_adam.hash != run.hash
    assert replace(run, id_values={}).hash == run.hash
    moved = write_study(tmp_path / "moved")
    assert load_learning_curve(moved, tmp_path / "moved").run("l=0", 2, 0, 0.01).hash == run.hash
    relabelled = molecules(12)
    relabelled[5].calc.results["energy"] += 1.0
    write(tmp_path / "moved" / "pool.xyz", relabelled)
    assert load_learning_curve(moved, tmp_path / "moved").run("l=0", 2, 0, 0.01).hash != run.hash


def test_a_curve_leaves_out_scans_and_doubled_budgets(tmp_path):
    curve = study(tmp_path)
    rows = scanned(curve, LOSSES)
    rows += [row(run, 1.0) for run in curve.runs(rows) if run.hash not in {r["hash"] for r in rows}]
    of_curve = curve.curve(rows)
    assert [(r["model"], r["size"], r["seed"]) for r in of_curve] == [
        (model, size, seed) for model in ("l=0", "l=1") for size in (2, 4) for seed in (0, 1)
    ]
    assert {r["budget"] for r in of_curve} == {1}
    assert {r["learning_rate"] for r in of_curve if r["model"] == "l=0"} == {0.05}


def test_some_models_only(tmp_path):
    curve = study(tmp_path)
    only = curve.only(["l=1"])
    assert only.count() == N_RUNS / 2
    assert {r.hash for r in only.runs([])} < {r.hash for r in curve.runs([])}
    with pytest.raises(InputError, match=r"no model 'l=7': choose from l=0, l=1"):
        curve.only(["l=7"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": [4, 2]}, "list them from the smallest to the largest"),
        (
            {"sizes": [2, 400], "scan_sizes": [2]},
            r"12 different structures, too few for 3 to validate and .* up to 400",
        ),
        ({"steps": None}, "needs either study.steps or study.epochs: give one of them"),
        ({"epochs": 3}, "needs either study.steps or study.epochs: give one of them"),
        ({"steps": [4]}, r"study.steps=\[4\] does not fit 2 sizes"),
        ({"steps": 0}, "study.steps=0 does not fit 2 sizes"),
        ({"seeds": [0, 0]}, "lists a value twice"),
        ({"learning_rates": [0.01]}, "study.scan_sizes has no effect with one learning rate"),
        ({"scan_sizes": [3]}, "study.scan_sizes has 3, which is not in study.sizes"),
        ({"compare": [["l=0", "l=2"]]}, "'l=2', which is not in study.models: choose from l=0, l=1"),
        ({"models": {}}, "study.models is empty"),
        ({"models": {"a": {"model.l_max": 1}, "b": {"model.l_max": 1}}}, "the same model under two names, a and b"),
        ({"models": {"a": {"model.lmax": 1}}}, r"study.models, a: .*no option model.lmax: did you mean model.l_max"),
        ({"models": {"a": {"training.seed": 1}}}, "study.models, a: the study itself sets training.seed"),
        ({"common": {"split.train": 3}}, "the study itself sets split.train"),
        ({"pool": ["none.xyz"]}, "none.xyz"),
        ({"size": [3]}, "no option study.size: did you mean study.sizes"),
    ],
)
def test_mistakes_are_told_in_a_sentence(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        study(tmp_path, **changes)


def test_words_say_what_will_be_run(tmp_path):
    words = study(tmp_path).summary()
    assert "water: a pool of 9 structures, 3 to validate, 4 to test" in words
    assert f"2 models x sizes 2, 4 x seeds 0, 1, learning rates 0.01, 0.05: {N_RUNS} runs" in words


@pytest.mark.parametrize(("name", "species"), [("aspirin", "CHO"), ("ethanol", "CHO"), ("water", "HO")])
def test_the_studies_of_the_repository(name, species, shared_data):
    curve = load_learning_curve(Path(__file__).parents[2] / "studies" / f"{name}.yaml", shared_data)
    o = curve.options
    further_rates = (len(o.learning_rates) - 1) * len(o.scan_sizes)
    assert curve.count() == len(o.models) * (further_rates + 6 * 3 + 1)  # sizes x seeds, and twice the budget once
    np.testing.assert_allclose(np.diff(np.log2(o.sizes)), 1)

    def n_weights(model):
        options = curve.run(model, o.sizes[0], 0, 0.02).settings["model"]
        built = NequIP(NequIPConfig(**{k: v for k, v in options.items() if k != "kind"}), list(species))
        return sum(p.numel() for p in built.parameters() if p.requires_grad)

    for control in ("l=0, as many weights", "angles, l=0 features"):
        assert 0.99 < n_weights(control) / n_weights("l=2") < 1.2  # no excuse for the control
    if "l=0, as many features" in o.models:
        assert o.models["l=0, as many features"]["model.channels"] == o.models["l=2"]["model.channels"] * (1 + 3 + 5)
