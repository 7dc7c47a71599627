"""The training loop: takes gradient steps, validates, and writes checkpoints."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from equiforce.data.dataset import Batches
from equiforce.errors import DivergedError
from equiforce.evaluate import ErrorSums, ValidationErrors, validation_sums
from equiforce.graph import AtomicGraph
from equiforce.labels import Labels
from equiforce.potential import Potential
from equiforce.quantities import QUANTITIES, requested
from equiforce.signals import stop_requests
from equiforce.training.loss import LossConfig, highest, terms, weight_at
from equiforce.training.optimizer import EMA, LearningRate, OptimizerConfig, build_optimizer
from equiforce.training.processes import Processes, add_gradients, on_first_process, total_over_processes
from equiforce.training.state import TrainingState
from equiforce.training.stopping import (
    FEWEST_STEPS,
    MOST_STEPS,
    TIME_IS_UP,
    StoppingCriteria,
    TrainingConfig,
)
from equiforce.training.trackers import Row, Tracker


class StepReport(NamedTuple):
    """The state after a training step, for the display."""

    state: TrainingState
    progress: float  # the fraction of the run that is done, between 0 and 1
    loss: float
    errors: ValidationErrors | None  # None unless the step ended with a validation
    improved: bool  # whether the validation loss is the lowest so far
    passes: float  # the number of passes over the training set so far


class Outcome(NamedTuple):
    """Why a run ended, in words, and whether a signal interrupted it."""

    why: str
    interrupted: bool
    asked: bool = False  # whether a signal asked to stop, possibly too late to interrupt the run


@dataclass(frozen=True, kw_only=True)
class RunSetup:
    """Everything that a run needs besides its state."""

    training: Batches
    validation: Batches
    config: TrainingConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    fabric: Processes
    folder: Path  # the first process writes last.pt and best.pt here
    trackers: list[Tracker]  # empty except on the first process
    on_best: Callable[[Potential], None]  # the first process calls it with the averaged potential when it is the best
    on_step: Callable[[StepReport], None]  # called after each step
    keeps_start: bool = False  # whether the weights before the first step can be the best ones


def new_state(potential: Potential, config: OptimizerConfig) -> TrainingState:
    """The training state before the first step."""
    ema = EMA(potential, config.ema_decay)
    return TrainingState(potential, ema, build_optimizer(potential, config), LearningRate(config))


def fit(state: TrainingState, setup: RunSetup) -> Outcome:
    """Train until a limit is reached, the validation loss no longer improves, or a signal arrives.

    Every process calls this with its own share of each batch, and all processes take the same steps. A state that was
    restored from ``last.pt`` continues as if the run had never stopped.

    Args:
        state: the state to start from, which training changes in place.
        setup: batches, options, folder and callbacks of the run.

    Returns:
        Why the run ended.

    Raises:
        DivergedError: the loss is no longer finite.
    """
    stopping = StoppingCriteria(setup.config)
    started = time.monotonic() - state.seconds
    if (why := state.ended or stopping.used_up(state)) and state.best_weights is not None:
        return Outcome(why, interrupted=False)
    if setup.keeps_start and state.best_weights is None:
        keep_start(state, setup)
    with stop_requests() as stop:
        while True:
            n_batches = setup.training.count(state.epoch)
            if state.batch >= n_batches:  # possible if the run was resumed with larger batches
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
                interrupted, late = on_any_process([stop.is_set(), stopping.time_is_up(state)], setup.fabric)
                why = stopping.reached(state) or (TIME_IS_UP if late else "")
                errors, improved, passes = None, False, state.passes(n_batches)
                if why or due(state, n_batches, setup.config):
                    errors, improved = validate(state, rate, passes, setup)
                    stopping.reserve = time.monotonic() - started - state.seconds
                    state.ended = why = why or stopping.stalled(state)
                if errors is not None or interrupted:
                    on_first_process(partial(save, state, improved, setup), setup.fabric)
                done = stopping.progress(state, n_batches)
                setup.on_step(StepReport(state, done, value, errors, improved, passes))
                if why or interrupted:
                    return Outcome(why or "interrupted", interrupted=not why, asked=stop.is_set())


def take_step(
    state: TrainingState,
    graph: AtomicGraph | None,
    labels: Labels | None,
    progress: float,
    rate: float,
    setup: RunSetup,
) -> float:
    """Take one gradient step and return the loss of the whole batch."""
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
    fabric: Processes,
    *,
    bf16: bool = False,
) -> float:
    """Add the gradient of the loss of the whole batch to the weights' gradients on every process.

    Sums and counts are added over processes before they are divided, so the result does not depend on how the batch
    is distributed. A process without a share of the batch takes part with zeros.

    Args:
        potential: the potential to train.
        graph: this process's share of the batch; None if it has no share.
        labels: the labels of ``graph``.
        progress: the fraction of the run that is done, for weights that change during the run.
        loss: the options of the loss.
        fabric: the processes.
        bf16: whether matrix products are computed in bfloat16.

    Returns:
        The loss of the whole batch.
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
        local.backward(inputs=trained)  # without inputs, torch would also compute gradients of the positions
    add_gradients(potential, fabric)
    return total_over_processes(local.detach(), fabric).item()


def require_finite(value: float, name: str, state: TrainingState) -> None:
    """Raise DivergedError if a loss is not finite, because the weights are then useless."""
    if not math.isfinite(value):
        raise DivergedError(
            f"{name} is not finite at step {state.step}, epoch {state.epoch}: lower optimizer.learning_rate or "
            "optimizer.clip_gradient (the best model so far stays in the run folder)"
        )


def on_any_process(flags: list[bool], fabric: Processes) -> list[bool]:
    """For each flag, whether it is set on at least one process; all processes get the same answer."""
    raised = torch.tensor([float(flag) for flag in flags], device=fabric.device)
    return (total_over_processes(raised, fabric) > 0).tolist()


def due(state: TrainingState, n_batches: int, config: TrainingConfig) -> bool:
    """Whether to validate now.

    This is every ``validate_every`` steps. If that is None, it is at the end of each epoch, but several epochs of fewer
    than 20 steps count as one, and every 1000 steps of a long epoch.
    """
    if config.validate_every is not None:
        return state.step % config.validate_every == 0
    if state.batch == 0:
        return state.epoch % math.ceil(FEWEST_STEPS / n_batches) == 0
    return state.batch % MOST_STEPS == 0


def validate(state: TrainingState, rate: float, passes: float, setup: RunSetup) -> tuple[ValidationErrors, bool]:
    """Validate the averaged weights and remember them if they are the best so far.

    Without labels to validate with, the latest weights count as the best ones.

    Returns:
        The errors over the validation set of all processes, and whether the weights are the best so far.
    """
    errors, value = validation_errors(state, setup)
    improved = value is None or value < state.best_loss
    if improved:
        state.best_step = state.step
        state.keep_best()
    row = {
        "epoch": state.epoch,
        "passes": round(passes, 3),
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
    on_first_process(partial(_log, setup.trackers, row | errors.columns()), setup.fabric)
    state.n_rows += 1
    state.loss_sum, state.loss_count = 0.0, 0
    return errors, improved


def validation_errors(state: TrainingState, setup: RunSetup) -> tuple[ValidationErrors, float | None]:
    """Compute the errors of the averaged weights over the validation set of all processes, and the loss of them."""
    shares = (
        (graph, labels) for graph, labels in setup.validation.epoch(0) if graph is not None and labels is not None
    )
    local = validation_sums(state.ema.potential, shares).as_tensor().to(setup.fabric.device)
    errors = ErrorSums.from_tensor(total_over_processes(local, setup.fabric).cpu()).errors()
    return errors, validation_loss(errors, setup.loss)


def keep_start(state: TrainingState, setup: RunSetup) -> None:
    """Remember the weights before the first step, so that training cannot make a model worse than it was."""
    _, value = validation_errors(state, setup)
    if value is not None and math.isfinite(value):
        state.best_step, state.best_loss = 0, value
        state.keep_best()
        on_first_process(partial(save, state, True, setup), setup.fabric)


def _log(trackers: Sequence[Tracker], row: Row) -> None:
    for tracker in trackers:
        tracker.write(row)


def validation_loss(errors: ValidationErrors, loss: LossConfig) -> float | None:
    """The loss of the validation errors with the highest loss weights of the run, so that all validations compare.

    Returns:
        The loss, or None if no validation structure has a label of a quantity with a loss weight above 0.
    """
    absolute, terms_of_loss = loss.kind == "mae", []
    for quantity, found in errors.items():
        if (weight := highest(loss.weight(quantity))) > 0:
            size = (found.mae if absolute else found.rmse) / quantity.logged.factor
            terms_of_loss.append(weight * (size if absolute else size**2))
    return sum(terms_of_loss) if terms_of_loss else None


def save(state: TrainingState, improved: bool, setup: RunSetup) -> None:
    """Write the checkpoint ``last.pt``, and ``best.pt`` and the model file if the weights are the best so far."""
    if improved:
        state.save(setup.folder / "best.pt")
        setup.on_best(state.ema.potential)  # so that no model is without a checkpoint from which its run can continue
    state.save(setup.folder / "last.pt")
