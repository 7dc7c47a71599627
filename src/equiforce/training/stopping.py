"""How long, in what portions and with what numbers to train; and when to stop."""

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import current_thread, main_thread
from typing import Literal

from equiforce.options import option
from equiforce.training.state import TrainingState

TIME_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
DEFAULT_STEPS = 20_000
DEFAULT_BATCH = 5


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long, in what portions and with what numbers to train."""

    time: str | None = option(None, "a time budget such as 10m, 1h30m or 2d; the schedule is fitted to it")
    max_epochs: int | None = option(None, "passes over the training set", ge=1)
    max_steps: int | None = option(None, f"gradient steps; {DEFAULT_STEPS} where neither time nor epochs are set", ge=1)
    batch_size: int | None = option(
        None, f"structures in a batch; {DEFAULT_BATCH}, the paper's, unless max_edges is set", ge=1
    )
    max_edges: int | None = option(None, "instead of batch_size: as many structures as have so many edges", ge=1)
    validate_every: int | None = option(
        None, "steps between validations; else an epoch, or several short ones, or 1000 steps of a long one", ge=1
    )
    early_stopping: int | None = option(None, "validations without gain after which to stop", ge=1)
    seed: int = option(0, "of weights, split and order of batches", ge=0)
    deterministic: bool = option(False, "only algorithms that give the same bits every time; slower on a GPU")
    dtype: Literal["float32", "float64"] = option("float32", "of weights and features; energies are summed in float64")
    tf32: bool = option(False, "on a GPU, matrix products with 10-bit mantissas")
    bf16: bool = option(False, "matrix products in bfloat16, through torch's autocast; costs accuracy")
    device: Literal["auto", "cpu", "cuda"] = option("auto", "a GPU where there is one")
    n_nodes: int = option(1, "machines that torchrun started this on", ge=1)
    tensorboard: bool = option(False, "a log for TensorBoard beside the CSV file")
    wandb: str | None = option(None, "the project of Weights & Biases to log to")

    def __post_init__(self) -> None:
        if self.time is not None:
            try:
                seconds_of(self.time)
            except ValueError as error:
                raise ValueError(f"training.time={error}") from None
        if self.batch_size is not None and self.max_edges is not None:
            raise ValueError("training.batch_size and training.max_edges exclude one another: set one of them")
        if self.bf16 and self.dtype == "float64":
            raise ValueError("training.bf16 changes nothing with training.dtype=float64: leave one of them out")
        if self.deterministic and self.time is not None:
            raise ValueError(
                "training.time makes results depend on the machine's speed: with training.deterministic, set max_steps"
            )

    @property
    def step_limit(self) -> int | None:
        """The limit on gradient steps, the default one if no other limit is set."""
        unlimited = self.max_steps is None and self.max_epochs is None and self.time is None
        return DEFAULT_STEPS if unlimited else self.max_steps


def seconds_of(text: str) -> float:
    """The seconds of a duration such as ``90s``, ``10m``, ``1h30m`` or ``2d``."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text)
    seconds = sum(float(number) * TIME_UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or seconds == 0:
        raise ValueError(f"{text!r} is not a duration: write it as 90s, 10m, 1h30m or 2d")
    return seconds


class StoppingCriteria:
    """What ends a run, and how near it is."""

    def __init__(self, config: TrainingConfig):
        self.steps, self.epochs, self.early_stopping = config.step_limit, config.max_epochs, config.early_stopping
        self.seconds = seconds_of(config.time) if config.time else None
        self.reserve = 0.0  # seconds that the last validation will take

    def progress(self, state: TrainingState, n_batches: int) -> float:
        """The fraction of the run that is done, along the limit that is nearest."""
        done = [0.0]
        if self.steps is not None:
            done.append(state.step / self.steps)
        if self.epochs is not None:
            done.append(state.passes(n_batches) / self.epochs)
        if self.seconds is not None:
            done.append((state.seconds + self.reserve) / self.seconds)
        return min(1.0, max(done))

    def time_is_up(self, state: TrainingState) -> bool:
        return self.seconds is not None and state.seconds + self.reserve >= self.seconds

    def reached(self, state: TrainingState) -> str:
        """Which limit on steps or epochs is reached, in words, or nothing."""
        if self.steps is not None and state.step >= self.steps:
            return f"{self.steps} steps are done"
        if self.epochs is not None and state.epoch >= self.epochs:
            return f"{self.epochs} epochs are done"
        return ""

    def stalled(self, state: TrainingState) -> str:
        """Why it makes no sense to go on after a validation, or nothing."""
        if self.early_stopping is not None and state.rate.waited_in_all >= self.early_stopping:
            return f"{self.early_stopping} validations brought no gain"
        return "the learning rate has fallen to its end" if state.rate.exhausted else ""


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM ask for a stop after the step at hand; a second Ctrl-C stops at once.

    Python gives signals to its main thread alone, so that elsewhere nothing is caught.
    """
    caught: list[int] = []

    def note(number: int, _: object) -> None:
        if number == signal.SIGINT and number in caught:
            raise KeyboardInterrupt
        caught.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM) if current_thread() is main_thread() else ()
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
