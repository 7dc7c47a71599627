"""The training loop: its gradients, what it keeps, when it stops."""

import csv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from equiforce.data.dataset import Batches
from equiforce.errors import DivergedError
from equiforce.evaluate import MeanErrors, ValidationErrors, validation_sums
from equiforce.quantities import ENERGY, FORCES, GPA, STRESS
from equiforce.training.loop import backward, due, fit, validation_loss
from equiforce.training.loss import LossConfig
from equiforce.training.processes import make_fabric
from equiforce.training.stopping import TrainingConfig
from equiforce.training.trackers import CsvLog
from tests.training.setups import LOSS, SPECIES, mixed, setup_of, tiny_potential


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def one_batch(structures):
    return next(Batches(structures, SPECIES, 3.5, batch_size=len(structures)).epoch(0))


def loss_and_gradients(potential, structures, loss, progress=0.0):
    potential.zero_grad()
    value = backward(potential, *one_batch(structures), progress, loss, make_fabric(TrainingConfig(device="cpu")))
    return value, {name: p.grad.clone() for name, p in potential.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("kind", ["mse", "huber"])
def test_gradients_are_those_of_finite_differences(kind):
    """Energy, forces and stress, in a batch of a crystal and a molecule."""
    potential, structures = tiny_potential("float64"), mixed(1, 1)
    loss = LossConfig(energy=0.7, forces=1.3, stress=30.0, kind=kind, huber_delta=0.3)
    _, gradients = loss_and_gradients(potential, structures, loss)
    weights = dict(potential.named_parameters())
    for name in [n for n in gradients if n.startswith(("model.embed", "model.layers.0", "model.readout"))]:
        index, step = int(gradients[name].abs().argmax()), 1e-5
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weights[name].view(-1)[index] += sign * step
            values.append(loss_and_gradients(potential, structures, loss)[0])
            with torch.no_grad():
                weights[name].view(-1)[index] -= sign * step
        slope = (values[0] - values[1]) / (2 * step)
        assert gradients[name].view(-1)[index].item() == pytest.approx(slope, rel=1e-6)
        assert slope != 0


def test_the_loss_of_a_batch_is_made_of_means_over_its_labels():
    potential, structures = tiny_potential("float64"), mixed(2, 1)
    value, _ = loss_and_gradients(potential, structures, LossConfig(energy=2.0, forces=3.0, stress=5.0))
    graph, _ = one_batch(structures)
    prediction = potential.eval()(graph, stress=True)
    forces = np.concatenate([s.forces for s in structures])
    energies = [(e - s.energy) / len(s) for e, s in zip(prediction.energy.tolist(), structures, strict=True)]
    stress = [-prediction.virial[i].numpy() / np.linalg.det(s.cell) - s.stress for i, s in enumerate(structures[:2])]
    expected = 2 * np.mean(np.square(energies)) + 5 * np.mean(np.square(stress))
    assert value == pytest.approx(expected + 3 * np.mean((prediction.forces.numpy() - forces) ** 2))


def test_loss_weights_follow_their_schedule():
    potential, structures = tiny_potential("float64"), mixed(1, 1)
    energy, forces = (
        loss_and_gradients(potential, structures, LossConfig(energy=e, forces=f))[0]
        for e, f in ((1.0, 0.0), (0.0, 1.0))
    )
    schedule = LossConfig(energy=1.0, forces=[(0.0, 1.0), (1.0, 5.0)])
    for progress, weight in ((0.0, 1.0), (0.5, 3.0), (1.0, 5.0)):
        value, _ = loss_and_gradients(potential, structures, schedule, progress)
        assert value == pytest.approx(energy + weight * forces)


def test_a_batch_without_labels_has_no_gradient():
    potential, structures = tiny_potential(), mixed(1, 1, energy=None, forces=None, stress=None)
    value, gradients = loss_and_gradients(potential, structures, LOSS)
    assert value == 0
    assert all((g == 0).all() for g in gradients.values())


def test_training_learns_and_keeps_the_best(tmp_path):
    kept = []
    state, setup = setup_of(
        tmp_path,
        max_steps=60,
        validate_every=6,
        trackers=[CsvLog(tmp_path / "log.csv")],
        on_best=lambda potential: kept.append([p.clone() for p in potential.parameters()]),
    )
    outcome = fit(state, setup)
    assert outcome[:2] == ("60 steps are done", False)
    log = rows(tmp_path / "log.csv")
    assert list(log[0])[:13] == [
        "epoch",
        "passes",
        "step",
        "seconds",
        "learning_rate",
        "loss",
        "validation_loss",
        "energy_mae_meV_per_atom",
        "energy_rmse_meV_per_atom",
        "forces_mae_meV_per_A",
        "forces_rmse_meV_per_A",
        "stress_mae_GPa",
        "stress_rmse_GPa",
    ]
    assert [int(row["step"]) for row in log] == list(range(6, 61, 6))
    losses = [float(row["loss"]) for row in log]
    assert np.mean(losses[-3:]) < 0.5 * losses[0]
    validation = [float(row["validation_loss"]) for row in log]
    assert validation[-1] < 0.7 * validation[0]
    best = min(range(len(log)), key=validation.__getitem__)
    assert (state.best_step, state.best_loss) == (int(log[best]["step"]), pytest.approx(validation[best]))
    assert len(kept) == sum(v == min(validation[: i + 1]) for i, v in enumerate(validation))
    names = [name for name, _ in state.potential.named_parameters()]
    assert all(torch.equal(state.best_weights[name], value) for name, value in zip(names, kept[-1], strict=True))


@pytest.mark.parametrize("keeps_start", [False, True])
def test_training_from_a_model_cannot_make_it_worse(tmp_path, keeps_start):
    kept = []
    state, setup = setup_of(tmp_path, optimizer={"learning_rate": 3.0}, on_best=lambda _: kept.append(state.step))
    before = {name: value.clone() for name, value in state.potential.state_dict().items()}
    fit(state, replace(setup, keeps_start=keeps_start))
    same = all(torch.equal(state.best_weights[name], value) for name, value in before.items())
    assert (same, state.best_step == 0, kept[0] == 0) == (keeps_start, keeps_start, keeps_start)
    assert (tmp_path / "best.pt").exists()


def test_the_log_says_what_evaluation_says(tmp_path):
    """The errors in the log are those of the averaged weights on the validation structures."""
    from equiforce.evaluate import errors, predict

    validation = mixed(seed=7)
    state, setup = setup_of(tmp_path, None, validation, max_steps=4, trackers=[CsvLog(tmp_path / "log.csv")])
    fit(state, setup)
    total = errors(validation, predict(state.ema.potential, validation)).total
    row = rows(tmp_path / "log.csv")[-1]
    assert float(row["energy_mae_meV_per_atom"]) == pytest.approx(total.energy_per_atom.mae)
    assert float(row["forces_rmse_meV_per_A"]) == pytest.approx(total.forces.rmse)
    assert float(row["stress_mae_GPa"]) == pytest.approx(total.stress.mae)


@pytest.mark.parametrize("terms", [[0], [1], [0, 1, 2]])
def test_validation_loss_counts_the_terms_that_have_labels(terms):
    found = [
        (ENERGY, MeanErrors(100.0, 200.0)),
        (FORCES, MeanErrors(300.0, 400.0)),
        (STRESS, MeanErrors(5e-3 * GPA, 6e-3 * GPA)),
    ]
    errors = ValidationErrors(found[i] for i in terms)
    loss = LossConfig(energy=1.0, forces=[(0.0, 1.0), (1.0, 3.0)], stress=100.0)
    squared, absolute = (0.2**2, 3 * 0.4**2, 100 * 0.006**2), (0.1, 3 * 0.3, 100 * 0.005)
    assert validation_loss(errors, loss) == pytest.approx(sum(squared[i] for i in terms))
    assert validation_loss(errors, replace(loss, kind="mae")) == pytest.approx(sum(absolute[i] for i in terms))


def test_there_is_no_validation_loss_without_labels_that_count():
    assert validation_loss(ValidationErrors(), LOSS) is None
    assert validation_loss(ValidationErrors({ENERGY: MeanErrors(1.0, 1.0)}), LossConfig(forces=1.0)) is None


def test_without_validation_structures_the_last_weights_are_kept(tmp_path):
    state, setup = setup_of(tmp_path, None, [], max_steps=6, validate_every=2)
    fit(state, setup)
    assert state.best_step == 6
    last = dict(state.ema.potential.named_parameters())
    assert all(torch.equal(state.best_weights[name], value) for name, value in last.items())


@pytest.mark.parametrize(
    "absent", [{"forces": None, "stress": None}, {"energy": None, "stress": None}], ids=["energies", "forces"]
)
def test_data_with_one_kind_of_label_train(tmp_path, absent):
    state, setup = setup_of(
        tmp_path,
        mixed(**absent),
        mixed(seed=7, **absent),
        loss=LossConfig(energy=float("energy" not in absent), forces=float("forces" not in absent), stress=0.0),
        max_steps=20,
        validate_every=5,
        trackers=[CsvLog(tmp_path / "log.csv")],
    )
    fit(state, setup)
    log = rows(tmp_path / "log.csv")
    assert float(log[-1]["loss"]) < 0.7 * float(log[0]["loss"])
    assert float(log[-1]["validation_loss"]) > 0
    absent_columns = {n for n in log[0] for label in absent if n.startswith(label)}
    assert absent_columns
    assert all(log[0][name] == "" for name in absent_columns)


def test_data_with_partial_labels_train(tmp_path):
    training = [*mixed(1, 1), *mixed(1, 1, seed=1, forces=None, stress=None), *mixed(1, 1, seed=2, energy=None)]
    state, setup = setup_of(
        tmp_path, training, batch_size=1, max_steps=24, trackers=[CsvLog(tmp_path / "log.csv")], validate_every=6
    )
    fit(state, setup)
    log = rows(tmp_path / "log.csv")
    assert float(log[-1]["loss"]) < 0.7 * float(log[0]["loss"])


@pytest.mark.parametrize(
    "options",
    [{"dtype": "float64"}, {"bf16": True}, {"max_edges": 60}],
    ids=["float64", "bf16", "max_edges"],
)
def test_option_trains(tmp_path, options):
    losses, sizes = [], []

    def note(report):
        losses.append(report.loss)

    state, setup = setup_of(tmp_path, mixed(3, 3), max_steps=16, on_step=note, **options)
    sizes = [graph.n_edges for graph, _ in setup.training.epoch(0)]
    fit(state, setup)
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])
    assert state.potential.dtype == getattr(torch, options.get("dtype", "float32"))
    if "max_edges" in options:
        assert max(sizes) <= 60
        assert setup.training.count(0) < 6


def test_bf16_changes_the_numbers_a_little():
    structures, fabric = mixed(1, 1), make_fabric(TrainingConfig(device="cpu"))
    exact, rough = (
        backward(tiny_potential(), *one_batch(structures), 0.0, LOSS, fabric, bf16=bf16) for bf16 in (False, True)
    )
    assert rough != exact
    assert rough == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize(
    "optimizer",
    [
        {"ema_decay": 0.0},
        {"name": "adam"},
        {"amsgrad": True, "name": "adam"},
        {"weight_decay": 0.5, "name": "adamw"},
        {"clip_gradient": 1e-3},
        {"beta2": 0.5},
        {"schedule": "constant"},
        {"warmup_steps": 5},
        {"final_fraction": 0.5},
    ],
    ids=lambda options: next(iter(options)),
)
def test_optimizer_option_changes_the_weights(tmp_path, optimizer):
    def weights(options):
        state, setup = setup_of(tmp_path, max_steps=4, optimizer=options)
        fit(state, setup)
        return torch.cat([p.flatten().detach() for p in state.ema.potential.parameters() if p.is_floating_point()])

    changed = weights(optimizer)
    same = {"name": optimizer["name"]} if len(optimizer) > 1 else {}
    assert not torch.equal(changed, weights(same))
    assert changed.isfinite().all()


def test_without_an_average_the_weights_themselves_are_judged(tmp_path):
    state, setup = setup_of(tmp_path, max_steps=3, optimizer={"ema_decay": 0.0})
    fit(state, setup)
    assert state.ema.potential is state.potential
    assert state.best_weights["model.embed.weight"].data_ptr() != state.potential.model.embed.weight.data_ptr()


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
@pytest.mark.parametrize("name", ["adam", "muon"])
def test_every_validation_judges_the_weights_of_its_step(tmp_path, monkeypatch, name, ema_decay):
    def lerp_as_on_a_gpu(averages, currents, weight):  # where torch does not count it as a change of the tensors
        for average, current in zip(averages, currents, strict=True):
            average.data.lerp_(current, weight)

    monkeypatch.setattr(torch, "_foreach_lerp_", lerp_as_on_a_gpu)
    reports = []
    state, setup = setup_of(tmp_path, max_steps=6, validate_every=1, optimizer={"name": name, "ema_decay": ema_decay})

    def judge_again(report):
        fresh = tiny_potential()
        fresh.load_state_dict(state.ema.potential.state_dict())
        reports.append((report.errors, validation_sums(fresh, setup.validation.epoch(0)).errors()))

    fit(state, replace(setup, on_step=judge_again))
    assert len(reports) == 6
    for told, again in reports:
        assert told[FORCES].rmse == pytest.approx(again[FORCES].rmse, rel=1e-4)
    assert reports[-1][0] != reports[0][0]


def test_early_stopping_ends_the_run(tmp_path):
    state, setup = setup_of(
        tmp_path, max_steps=50, validate_every=2, early_stopping=3, optimizer={"learning_rate": 1e-30}
    )
    assert fit(state, setup).why == "the validation loss has not fallen for 3 validations"
    assert state.step == 8  # the first validation is a gain
    assert state.best_step == 2


def test_plateaus_lower_the_rate_and_end_the_run(tmp_path):
    rates = []
    state, setup = setup_of(
        tmp_path,
        max_steps=50,
        validate_every=1,
        optimizer={
            "schedule": "plateau", "learning_rate": 1e-30, "plateau_patience": 1, "plateau_factor": 0.5,
            "plateau_stop": 3e-31,
        },
        on_step=lambda report: rates.append(report.state.optimizer.param_groups[0]["lr"] / 1e-30),
    )  # fmt: skip
    assert fit(state, setup).why == "the learning rate has fallen below optimizer.plateau_stop"
    assert rates == pytest.approx([1, 1, 1, 0.5, 0.5])


def test_a_low_rate_ends_nothing_but_a_plateau(tmp_path):
    state, setup = setup_of(tmp_path, max_steps=3, validate_every=1, optimizer={"learning_rate": 1e-9})
    assert fit(state, setup).why == "3 steps are done"


def test_epochs_end_the_run(tmp_path):
    state, setup = setup_of(tmp_path, max_epochs=3, batch_size=3)
    assert fit(state, setup)[:2] == ("3 epochs are done", False)
    assert (state.epoch, state.batch, state.step) == (3, 0, 6)  # 4 structures are 2 batches
    assert state.best_step == 6  # a validation ends the run


def test_time_ends_the_run_at_a_low_rate(tmp_path):
    reports = []
    state, setup = setup_of(
        tmp_path,
        time="1.5s",
        on_step=lambda r: reports.append((r.state.seconds, r.state.optimizer.param_groups[0]["lr"])),
    )
    outcome = fit(state, setup)
    assert outcome[:2] == ("the time budget is used up", False)
    seconds, rates = np.array(reports).T
    assert seconds[-2] < 1.5  # no step is begun after the time
    assert seconds[-1] > 1.5 - np.diff(seconds).max() - 1.0
    longest = np.diff(seconds).max() / 1.5
    first = setup.optimizer.learning_rate
    assert rates[-1] < first * (0.02 + (np.pi * (2 * longest)) ** 2 / 4)  # the cosine, at most two steps from its end
    assert state.best_weights is not None


@pytest.mark.parametrize("limit", [{"max_steps": 30}, {"max_epochs": 30}])
def test_the_rate_fits_the_length_of_the_run(tmp_path, limit):
    rates = []
    state, setup = setup_of(
        tmp_path,
        **limit,
        batch_size=4,  # all structures
        optimizer={"learning_rate": None, "schedule": "constant"},
        on_step=lambda r: rates.append(r.state.optimizer.param_groups[0]["lr"]),
    )
    n_batches = setup.training.count(0)
    fit(state, setup)
    passes = limit.get("max_epochs") or limit["max_steps"] / n_batches
    assert 24 < passes < 150
    assert rates[1:] == pytest.approx([0.02 * (150 / passes) ** 0.5] * (len(rates) - 1))


@pytest.mark.parametrize(
    ("where", "n_batches", "every", "expected"),
    [
        ({"step": 40, "epoch": 1, "batch": 0}, 40, None, True),
        ({"step": 10, "epoch": 1, "batch": 0}, 10, None, False),  # two short epochs
        ({"step": 20, "epoch": 2, "batch": 0}, 10, None, True),
        ({"step": 1000, "epoch": 0, "batch": 1000}, 5000, None, True),
        ({"step": 999, "epoch": 0, "batch": 999}, 5000, None, False),
        ({"step": 6, "epoch": 0, "batch": 6}, 40, 3, True),
        ({"step": 7, "epoch": 1, "batch": 0}, 7, 3, False),
    ],
)
def test_when_a_validation_is_due(tmp_path, where, n_batches, every, expected):
    state, setup = setup_of(tmp_path, **({"validate_every": every} if every else {}))
    for name, value in where.items():
        setattr(state, name, value)
    assert due(state, n_batches, setup.config) is expected


@pytest.mark.parametrize("clip", [None, 10.0])
def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, clip):
    state, setup = setup_of(tmp_path, optimizer={"learning_rate": 1e30, "clip_gradient": clip}, max_steps=30)
    with pytest.raises(DivergedError, match=r"is not finite at step \d+, epoch \d+: lower optimizer.learning_rate"):
        fit(state, setup)


def test_weights_that_went_astray_in_the_last_step_are_no_model(tmp_path):
    state, setup = setup_of(tmp_path, optimizer={"learning_rate": 1e30, "ema_decay": 0.0}, max_steps=1)
    with pytest.raises(DivergedError, match="the validation loss is not finite at step 1"):
        fit(state, setup)


def test_larger_batches_after_a_resume_begin_the_next_epoch(tmp_path):
    state, setup = setup_of(tmp_path, batch_size=4, max_steps=3)
    state.batch = 3  # of four batches, before there was one an epoch
    assert fit(state, setup).why == "3 steps are done"
    assert (state.epoch, state.batch) == (4, 0)


def test_a_run_that_was_stopped_before_any_validation_still_gets_one(tmp_path):
    state, setup = setup_of(tmp_path, max_steps=2)
    state.step, state.batch = 2, 1
    fit(state, setup)
    assert state.best_weights is not None
    assert fit(state, setup)[:2] == ("2 steps are done", False)
    assert state.step == 3


def test_a_thread_of_a_larger_program_can_train(tmp_path):
    state, setup = setup_of(tmp_path, max_steps=1)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(fit, state, setup).result().why == "1 steps are done"
