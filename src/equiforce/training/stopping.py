"""The options of a training run, and the criteria that end it."""

import re
from dataclasses import dataclass
from typing import Literal

from equiforce.options import option
from equiforce.training.state import TrainingState

TIME_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
DEFAULT_STEPS = 20_000
DEFAULT_BATCH = 5
TIME_IS_UP = "the time budget is used up"
MOST_STEPS_OF_A_RUN = 10**12  # decades, at a millisecond each
LARGEST_SEED = 2**63 - 1  # of torch's generators
LONGEST_TEXT = 40  # characters of a duration
LONGEST_TIME = 10 * 365 * 86400.0  # seconds
FEWEST_STEPS, MOST_STEPS = 20, 1000  # between validations, unless validate_every is set


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The length of the run, the batches, validation, precision, device and logs."""

    time: str | None = option(
        None, "time budget, such as 10m, 1h30m or 2d; the learning rate follows its schedule over this time"
    )
    max_epochs: int | None = option(
        None, "largest number of passes over the training set", ge=1, le=MOST_STEPS_OF_A_RUN
    )
    max_steps: int | None = option(
        None,
        f"largest number of gradient steps; {DEFAULT_STEPS} if neither time nor max_epochs is set",
        ge=1,
        le=MOST_STEPS_OF_A_RUN,
    )
    batch_size: int | None = option(
        None,
        f"structures in a batch, over all processes; {DEFAULT_BATCH} as in the paper, unless max_edges is set",
        ge=1,
        le=1_000_000,
    )
    max_edges: int | None = option(
        None,
        "largest number of edges (two for each pair) in a batch, over all processes; replaces batch_size",
        ge=1,
        le=1_000_000_000,
    )
    validate_every: int | None = option(
        None,
        f"steps between validations; default: after each epoch, after several if epochs have fewer than {FEWEST_STEPS} "
        f"steps, and also after every {MOST_STEPS} steps of an epoch",
        ge=1,
        le=MOST_STEPS_OF_A_RUN,
    )
    early_stopping: int | None = option(
        None, "stops after this many validations without a lower loss", ge=1, le=MOST_STEPS_OF_A_RUN
    )
    seed: int = option(0, "random seed of the initial weights and of the order of batches", ge=0, le=LARGEST_SEED)
    deterministic: bool = option(
        False, "uses only algorithms that give bit-identical results every time; slower on a GPU"
    )
    dtype: Literal["float32", "float64"] = option(
        "float32", "precision of weights and features; energies are always summed in float64"
    )
    tf32: bool = option(False, "on a GPU, computes matrix products in TF32, with mantissas of 10 bits")
    bf16: bool = option(False, "computes matrix products in bfloat16 (torch's autocast); less accurate")
    device: Literal["auto", "cpu", "cuda"] = option("auto", "where to train; auto takes a GPU if there is one")
    n_nodes: int = option(1, "number of machines on which torchrun started this run", ge=1, le=100_000)
    tensorboard: bool = option(False, "also writes a log for TensorBoard")
    wandb: str | None = option(None, "name of a Weights & Biases project that also receives the log")

    def __post_init__(self) -> None:
        if self.time is not None:
            try:
                seconds_of(self.time)
            except ValueError as error:
                raise ValueError(f"training.time={error}") from None
        if self.batch_size is not None and self.max_edges is not None:
            raise ValueError("training.batch_size and training.max_edges exclude each other: set only one of them")
        if self.bf16 and self.dtype == "float64":
            raise ValueError("training.bf16 changes nothing with training.dtype=float64: leave out one of them")
        if self.deterministic and self.time is not None:
            raise ValueError(
                "training.time makes results depend on the machine's speed, so training.deterministic forbids it: "
                "set training.max_steps instead"
            )

    @property
    def step_limit(self) -> int | None:
        """The largest number of gradient steps; ``DEFAULT_STEPS`` if no limit is set, None if only others are set."""
        unlimited = self.max_steps is None and self.max_epochs is None and self.time is None
        return DEFAULT_STEPS if unlimited else self.max_steps


def seconds_of(text: str) -> float:
    """The seconds of a duration such as ``90s``, ``10m``, ``1h30m`` or ``2d``."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text[:LONGEST_TEXT])
    seconds = sum(float(number) * TIME_UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or seconds == 0:
        raise ValueError(f"{text[:LONGEST_TEXT]!r} is not a duration: write it as 90s, 10m, 1h30m or 2d")
    if seconds > LONGEST_TIME:
        raise ValueError(f"{text!r} is longer than ten years: give less")
    return seconds


def planned(config: TrainingConfig, n_batches: int, n_structures: int) -> str:
    """The length of a run in words: steps beside passes over the training set.

    Args:
        config: the limits of the run.
        n_batches: the number of batches in a pass.
        n_structures: the number of training structures.
    """
    over = f"over {n_structures:,} structures"
    limits = []
    if (steps := config.step_limit) is not None:
        limits.append(f"{counted(steps, 'step')} = {in_passes(steps / n_batches)} {over}")
    if config.max_epochs is not None:
        n_steps = counted(config.max_epochs * n_batches, "step")
        limits.append(f"{counted(config.max_epochs, 'pass')} {over} = {n_steps}")
    if config.time is not None:
        limits.append(f"{config.time} in all; a pass {over} takes {counted(n_batches, 'step')}")
    return "; or ".join(limits)


def in_passes(number: float) -> str:
    """A number of passes over the training set, to three digits."""
    text = f"{number:.3g}" if number < 999.5 else f"{number:,.0f}"
    return f"{text} {'pass' if text == '1' else 'passes'}"


def doubled(config: TrainingConfig) -> list[str]:
    """The arguments of ``equiforce train --resume`` that make a run twice as long."""
    arguments = []
    if config.time is not None:
        arguments += ["--time", duration(2 * seconds_of(config.time))]
    if config.max_epochs is not None:
        arguments += ["--epochs", str(2 * config.max_epochs)]
    if config.step_limit is not None:
        arguments += ["--steps", str(2 * config.step_limit)]
    return arguments


def duration(seconds: float) -> str:
    """The text of a duration that :func:`seconds_of` reads."""
    parts, rest = [], seconds
    for unit, size in TIME_UNITS.items():
        number, rest = divmod(rest, size) if unit != "s" else (rest, 0.0)
        parts += [f"{number:g}{unit}"] if number else []
    return "".join(parts)


def counted(n: int, noun: str) -> str:
    """A number with its noun: 1 step, 2,000 steps, 3 passes."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{n:,} {noun}{'' if n == 1 else plural}"


class StoppingCriteria:
    """The limits that end a run, and the progress of the run towards them."""

    def __init__(self, config: TrainingConfig):
        self.steps, self.epochs, self.early_stopping = config.step_limit, config.max_epochs, config.early_stopping
        self.seconds = seconds_of(config.time) if config.time else None
        self.reserve = 0.0  # seconds to reserve for the last validation

    def progress(self, state: TrainingState, n_batches: int) -> float:
        """The fraction of the run that is done, between 0 and 1, with respect to the limit that is reached first."""
        done = [0.0]
        if self.steps is not None:
            done.append(state.step / self.steps)
        if self.epochs is not None:
            done.append(state.passes(n_batches) / self.epochs)
        if self.seconds is not None:
            done.append((state.seconds + self.reserve) / self.seconds)
        return min(1.0, max(done))

    def time_is_up(self, state: TrainingState) -> bool:
        """Whether the time budget is used up, including the reserve for the last validation."""
        return self.seconds is not None and state.seconds + self.reserve >= self.seconds

    def used_up(self, state: TrainingState) -> str:
        """Say which limit was reached before this call started; empty if there is something left to do."""
        if self.time_is_up(state):
            return TIME_IS_UP
        return self.reached(state)

    def reached(self, state: TrainingState) -> str:
        """Say which limit on steps or epochs is reached; empty if none is."""
        if self.steps is not None and state.step >= self.steps:
            return f"{self.steps:,} steps are done"
        if self.epochs is not None and state.epoch >= self.epochs:
            return f"{self.epochs} epochs are done"
        return ""

    def stalled(self, state: TrainingState) -> str:
        """Say why the run should end after this validation; empty if it should go on."""
        if self.early_stopping is not None and state.rate.waited_in_all >= self.early_stopping:
            number = "1 validation" if self.early_stopping == 1 else f"{self.early_stopping} validations"
            return f"the validation loss has not fallen for {number}"
        return "the learning rate has fallen below optimizer.plateau_stop" if state.rate.exhausted else ""
