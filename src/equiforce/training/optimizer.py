"""The optimizer, the schedule of its learning rate, and the exponential moving average of the weights."""

import copy
import math
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import nn

from equiforce.options import option
from equiforce.training.muon import Muon

LONGEST_WARMUP = 0.05  # fraction of a run
DEFAULT_RATE, HIGHEST_RATE = 0.02, 0.05  # the default learning rates of long runs and of the shortest runs
LONG_RUN = 150  # passes over the training set in a long run
Network = TypeVar("Network", bound=nn.Module)
COSINE = ("optimizer.schedule is cosine", lambda optimizer: optimizer.schedule == "cosine")
ADAM = ("optimizer.name is adam or adamw", lambda optimizer: optimizer.name != "muon")
ADAMW = ("optimizer.name is adamw", lambda optimizer: optimizer.name == "adamw")
PLATEAU = ("optimizer.schedule is plateau", lambda optimizer: optimizer.schedule == "plateau")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The options of the optimizer and of its learning rate."""

    name: Literal["muon", "adam", "adamw"] = option(
        "muon",
        "errors after the same number of steps are a quarter to a half below those with adam (docs/training.md), which "
        "the papers used",
    )
    learning_rate: float | None = option(
        None,
        f"highest learning rate; default {DEFAULT_RATE} in runs of at least {LONG_RUN} passes over the training set, "
        f"more in shorter runs, up to {HIGHEST_RATE} (docs/training.md), and less with start.model "
        "(docs/fine-tuning.md); the paper used 0.01",
        gt=0,
    )
    amsgrad: bool = option(
        False,
        "keeps the largest average of squared gradients forever, as in the paper; short runs did not need it",
        only_if=ADAM,
    )
    beta2: float = option(
        0.99,
        "decay rate of the average of squared gradients; 0.99 averages over about 100 steps and learned faster than "
        "0.999 (docs/training.md)",
        ge=0,
        lt=1,
    )
    weight_decay: float = option(
        0.0,
        "decay of all weights; 0 because equivariance already regularises small data sets",
        ge=0,
        le=1000,
        only_if=ADAMW,
    )
    schedule: Literal["cosine", "plateau", "constant"] = option(
        "cosine",
        "cosine ends at a low learning rate, for any length of the run; the paper lowers the rate on plateaus, which "
        "takes days",
    )
    warmup_steps: int = option(
        100,
        "steps over which the learning rate rises while Adam's moments settle; at most 5 % of the run",
        ge=0,
        le=10**12,
    )
    final_fraction: float = option(
        0.01, "final learning rate of the cosine, as a fraction of the highest one", ge=0, le=1, only_if=COSINE
    )
    plateau_patience: int = option(
        50,
        "validations without a lower loss before the learning rate falls; the paper's value",
        ge=1,
        le=10**12,
        only_if=PLATEAU,
    )
    plateau_factor: float = option(
        0.8, "factor by which the learning rate falls; the paper's value", gt=0, lt=1, only_if=PLATEAU
    )
    plateau_stop: float = option(
        1e-6, "the run ends when the learning rate falls below this; the paper's value", ge=0, only_if=PLATEAU
    )
    clip_gradient: float | None = option(
        10.0, "a gradient with a larger norm is scaled down to it; only a broken batch reaches 10", gt=0, le=1e12
    )
    ema_decay: float = option(
        0.99,
        "decay of the running average of the weights (EMA), which is validated and saved; 0 turns averaging off",
        ge=0,
        lt=1,
    )


def build_optimizer(network: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The configured optimizer for the trainable weights of a network: Muon, fused Adam or fused AdamW."""
    if config.name == "muon":
        return Muon(network, config.learning_rate or DEFAULT_RATE, config.beta2)
    options: dict[str, Any] = {
        "lr": config.learning_rate or DEFAULT_RATE,
        "betas": (0.9, config.beta2),
        "amsgrad": config.amsgrad,
        "fused": True,
    }
    trainable = [p for p in network.parameters() if p.requires_grad]
    if config.name == "adamw":
        return torch.optim.AdamW(trainable, weight_decay=config.weight_decay, **options)
    return torch.optim.Adam(trainable, **options)


def default_learning_rate(passes: float) -> float:
    """The default highest learning rate of a run of ``passes`` passes over the training set (docs/training.md)."""
    return min(HIGHEST_RATE, max(DEFAULT_RATE, DEFAULT_RATE * math.sqrt(LONG_RUN / passes))) if passes else HIGHEST_RATE


class LearningRate:
    """The learning rate as a function of the step, the progress of the run, and plateaus of the validation loss."""

    MEMORY = ("reduction", "best", "waited", "waited_in_all")

    def __init__(self, config: OptimizerConfig):
        self.config = config
        self.reduction = 1.0
        self.best = math.inf
        self.waited = 0  # validations since the loss or the learning rate last fell
        self.waited_in_all = 0  # validations since the loss last fell

    def at(self, step: int, progress: float, passes: float) -> float:
        """The learning rate of a step.

        Args:
            step: the number of the step, counted from 0 over the whole run.
            progress: the fraction of the run that is done, between 0 and 1.
            passes: the number of passes over the training set so far.
        """
        config = self.config
        highest = config.learning_rate or default_learning_rate(passes / progress if progress else math.inf)
        factor = min(1.0, max((step + 1) / (config.warmup_steps + 1), progress / LONGEST_WARMUP))
        if config.schedule == "cosine":
            low = config.final_fraction
            factor *= low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return highest * factor * self.reduction

    def validated(self, loss: float) -> None:
        """Take a validation loss into account, and lower the learning rate on a plateau."""
        if loss < self.best:
            self.best, self.waited, self.waited_in_all = loss, 0, 0
            return
        self.waited, self.waited_in_all = self.waited + 1, self.waited_in_all + 1
        if self.config.schedule == "plateau" and self.waited > self.config.plateau_patience:
            self.reduction *= self.config.plateau_factor
            self.waited = 0

    def forget_best(self) -> None:
        """Start to count anew how long the loss has not fallen, because it now means something else."""
        self.best, self.waited, self.waited_in_all = math.inf, 0, 0

    @property
    def exhausted(self) -> bool:
        """Whether the learning rate has fallen below ``plateau_stop``."""
        config = self.config
        return (
            config.schedule == "plateau"
            and (config.learning_rate or DEFAULT_RATE) * self.reduction < config.plateau_stop
        )

    def state(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in self.MEMORY}

    def restore(self, state: dict[str, float]) -> None:
        for name in self.MEMORY:
            setattr(self, name, state[name])


class EMA(Generic[Network]):
    """The exponential moving average of the weights, whose decay after n updates is min(decay, (1+n)/(10+n)).

    Args:
        potential: the network whose weights are averaged.
        decay: the final decay; 0 turns averaging off, and ``self.potential`` is then ``potential`` itself.
    """

    def __init__(self, potential: Network, decay: float):
        self.decay = decay
        self.n_updates = 0
        self.potential = copy.deepcopy(potential).eval() if decay else potential
        self._pairs = [
            pair
            for pair in zip(self.potential.parameters(), potential.parameters(), strict=True)
            if pair[1].requires_grad
        ]
        if decay:
            self.potential.requires_grad_(False)

    @torch.no_grad()
    def update(self) -> None:
        """Add the current weights to the average."""
        self.n_updates += 1
        if not self.decay:
            return
        decay = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates))
        for dtype in {average.dtype for average, _ in self._pairs}:
            averages, currents = zip(*[p for p in self._pairs if p[0].dtype == dtype], strict=True)
            torch._foreach_lerp_(averages, currents, 1 - decay)
            # torch does not count this change on a GPU, but caches of tables made from weights rely on the count
            for average in averages:
                torch.autograd.graph.increment_version(average)

    def state(self) -> dict[str, Any]:
        return {"n_updates": self.n_updates, "weights": self.potential.state_dict() if self.decay else None}

    def restore(self, state: dict[str, Any]) -> None:
        if (state["weights"] is None) is not (self.decay == 0):
            raise ValueError("ema_decay was switched on or off")
        self.n_updates = state["n_updates"]
        if self.decay:
            self.potential.load_state_dict(state["weights"])
