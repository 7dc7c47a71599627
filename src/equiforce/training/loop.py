"""The training loop: batches in, weights out, never losing work."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from lightning_fabric import Fabric

from equiforce.data.dataset import Batches
from equiforce.errors import DivergedError
from equiforce.evaluate import ErrorSums, ValidationErrors, validation_sums
from equiforce.graph import AtomicGraph
from equiforce.labels import Labels
from equiforce.potential import Potential
from equiforce.quantities import QUANTITIES, requested
from equiforce.training.loss import LossConfig, highest, terms, weight_at
from equiforce.training.optimizer import EMA, LearningRate, OptimizerConfig, build_optimizer
from equiforce.training.processes import add_gradients, total_over_processes
from equiforce.training.state import TrainingState
from equiforce.training.stopping import StoppingCriteria, TrainingConfig, stop_signals
from equiforce.training.trackers import Tracker

FEWEST_STEPS, MOST_STEPS = 20, 1000  # between validations, where the user says nothing


class Report(NamedTuple):
    """What the loop tells of a step."""

    state: TrainingState
    progress: float  # of the run, between 0 and 1
    loss: float
    errors: ValidationErrors | None  # right after a validation
    improved: bool


class Outcome(NamedTuple):
    """Why a run ended, in words, and whether it has more to do."""

    why: str
    interrupted: bool


@dataclass(frozen=True, kw_only=True)
class RunSetup:
    """What a run is made of, beside its state."""

    training: Batches
    validation: Batches
    config: TrainingConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    fabric: Fabric
    folder: Path  # where the first process writes last.pt and best.pt
    trackers: list[Tracker]  # none but on the first process
    on_best: Callable[[Potential], None]  # given the averaged potential whenever it is the best so far
    on_step: Callable[[Report], None]


def new_state(potential: Potential, config: OptimizerConfig) -> TrainingState:
    """A state before the first step."""
    ema = EMA(potential, config.ema_decay)
    return TrainingState(potential, ema, build_optimizer(potential, config), LearningRate(config))


def fit(state: TrainingState, setup: RunSetup) -> Outcome:
    """Trains until a limit is reached, nothing improves any more, or a signal arrives.

    Every process calls this with its own share of each batch, and all take the same steps. A state that was restored
    from ``last.pt`` continues as if it had never stopped.
    """
    stopping = StoppingCriteria(setup.config)
    started = time.monotonic() - state.seconds
    if (why := stopping.reached(state)) and state.best_weights is not None:
        return Outcome(why, interrupted=False)
    with stop_signals() as caught:
        while True:
            n_batches = setup.training.count(state.epoch)
            if state.batch >= n_batches:  # the run was resumed with larger batches
                state.epoch, state.batch = state.epoch + 1, 0
                continue
            for graph, labels in setup.training.epoch(state.epoch, start=state.batch):
                progress = stopping.progress(state, n_batches)
                rate = state.rate.at(state.step, progress, state.passes(n_batches))
                value = take_step(state, graph, labels, progress, rate, setup)
                state.seconds = time.monotonic() - started
                state.step, state.batch = state.step + 1, state.batch + 1
                if state.batch == n_batches:
                    state.epoch, state.batch = state.epoch + 1, 0
                interrupted, late = agreed([bool(caught), stopping.time_is_up(state)], setup.fabric)
                why = stopping.reached(state) or ("the time is up" if late else "")
                errors, improved = None, False
                if why or due(state, n_batches, setup.config):
                    errors, improved = validate(state, rate, setup)
                    stopping.reserve = time.monotonic() - started - state.seconds
                    why = why or stopping.stalled(state)
                if setup.fabric.is_global_zero and (errors is not None or interrupted):
                    save(state, improved, setup)
                setup.on_step(Report(state, stopping.progress(state, n_batches), value, errors, improved))
                if why or interrupted:
                    return Outcome(why or "interrupted", interrupted=not why)


def take_step(
    state: TrainingState,
    graph: AtomicGraph | None,
    labels: Labels | None,
    progress: float,
    rate: float,
    setup: RunSetup,
) -> float:
    """One gradient step; returns the loss of the whole batch."""
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.optimizer.zero_grad(set_to_none=False)
    value = backward(state.potential, graph, labels, progress, setup.loss, setup.fabric, bf16=setup.config.bf16)
    require_finite(value, "the loss", state)
    if setup.optimizer.clip_gradient is not None:
        torch.nn.utils.clip_grad_norm_(state.potential.parameters(), setup.optimizer.clip_gradient)
    state.optimizer.step()
    state.ema.update()
    state.loss_sum, state.loss_count = state.loss_sum + value, state.loss_count + 1
    return value


def backward(
    potential: Potential,
    graph: AtomicGraph | None,
    labels: Labels | None,
    progress: float,
    loss: LossConfig,
    fabric: Fabric,
    *,
    bf16: bool = False,
) -> float:
    """Adds the gradient of the loss of the whole batch, over all processes, to every process's weights.

    Sums and counts are added up over processes before they are divided, so that the result does not depend on how
    the batch was dealt out. A process without a share takes part with zeros.
    """
    weights = {quantity: weight_at(loss.weight(quantity) or 0.0, progress) for quantity in QUANTITIES}
    sums = torch.zeros(len(weights), dtype=torch.float64, device=fabric.device)
    counts = torch.zeros_like(sums)
    if graph is not None and labels is not None:
        graph, labels = graph.to(fabric.device), labels.to(fabric.device)
        potential.train()
        with torch.autocast(fabric.device.type, torch.bfloat16, enabled=bf16):
            prediction = potential(graph, **requested(quantity for quantity in labels if weights[quantity] > 0))
        parts = terms(prediction, labels, graph, loss)
        sums, counts = (torch.stack(column) for column in zip(*parts.values(), strict=True))
    counts = total_over_processes(counts, fabric).clamp(min=1.0)
    local = (sums.new_tensor(list(weights.values())) * sums / counts).sum()
    trained = [parameter for parameter in potential.parameters() if parameter.requires_grad]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if local.requires_grad:
        local.backward(inputs=trained)  # by name, or torch would differentiate by the positions too
    add_gradients(potential, fabric)
    return total_over_processes(local.detach(), fabric).item()


def require_finite(value: float, name: str, state: TrainingState) -> None:
    """Ends the run where its weights have become useless."""
    if not math.isfinite(value):
        raise DivergedError(
            f"{name} is not finite at step {state.step}, epoch {state.epoch}: lower optimizer.learning_rate or "
            "optimizer.clip_gradient; the best model so far is kept"
        )


def agreed(flags: list[bool], fabric: Fabric) -> list[bool]:
    """Each flag, raised on every process where it is on one."""
    raised = torch.tensor([float(flag) for flag in flags], device=fabric.device)
    return (total_over_processes(raised, fabric) > 0).tolist()


def due(state: TrainingState, n_batches: int, config: TrainingConfig) -> bool:
    """Whether it is time to validate: after so many steps, else after each epoch that is neither short nor long."""
    if config.validate_every is not None:
        return state.step % config.validate_every == 0
    if state.batch == 0:
        return state.epoch % math.ceil(FEWEST_STEPS / n_batches) == 0
    return state.batch % MOST_STEPS == 0


def validate(state: TrainingState, rate: float, setup: RunSetup) -> tuple[ValidationErrors, bool]:
    """Judges the averaged weights, and keeps them where they are the best so far, or cannot be judged."""
    shares = ((graph, labels) for graph, labels in setup.validation.epoch(0) if graph is not None)
    local = validation_sums(state.ema.potential, shares).as_tensor().to(setup.fabric.device)
    errors = ErrorSums.from_tensor(total_over_processes(local, setup.fabric).cpu()).errors()
    value = validation_loss(errors, setup.loss)
    improved = value is None or value < state.best_loss
    if improved:
        state.best_step = state.step
        state.keep_best()
    row = {
        "epoch": state.epoch,
        "step": state.step,
        "seconds": round(state.seconds, 2),
        "learning_rate": rate,
        "loss": state.loss_sum / max(1, state.loss_count),
        "validation_loss": value,
    }
    if value is not None:
        require_finite(value, "the validation loss", state)
        state.best_loss = min(value, state.best_loss)
        state.rate.validated(value)
    for tracker in setup.trackers:
        tracker.write(row | errors.columns())
    state.n_rows += 1
    state.loss_sum, state.loss_count = 0.0, 0
    return errors, improved


def validation_loss(errors: ValidationErrors, loss: LossConfig) -> float | None:
    """The loss of the validation errors at the highest weights of the run, so that all validations compare.

    None where no term of the loss has a label in the validation structures.
    """
    absolute, judged = loss.kind == "mae", []
    for quantity, found in errors.items():
        if (weight := highest(loss.weight(quantity))) > 0:
            size = (found.mae if absolute else found.rmse) / quantity.logged.factor
            judged.append(weight * (size if absolute else size**2))
    return sum(judged) if judged else None


def save(state: TrainingState, improved: bool, setup: RunSetup) -> None:
    """Writes the checkpoints, and the model where it is the best so far."""
    if improved:
        setup.on_best(state.ema.potential)
        state.save(setup.folder / "best.pt")
    state.save(setup.folder / "last.pt")
