"""How weights move: the optimiser, its learning rate over the run, and the average of the weights that is kept."""

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from equiforce.options import option
from equiforce.training.muon import Muon

LONGEST_WARMUP = 0.05  # of a run
RATE, HIGHEST_RATE = 0.02, 0.05  # where the user gives none: of long and of the shortest runs
LONG = 150  # passes over the training set
COSINE = ("optimizer.schedule is cosine", lambda optimizer: optimizer.schedule == "cosine")
ADAM = ("optimizer.name is adam or adamw", lambda optimizer: optimizer.name != "muon")
ADAMW = ("optimizer.name is adamw", lambda optimizer: optimizer.name == "adamw")
PLATEAU = ("optimizer.schedule is plateau", lambda optimizer: optimizer.schedule == "plateau")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimiser and its schedule."""

    name: Literal["muon", "adam", "adamw"] = option(
        "muon", "errors a quarter to a half below adam's after as many steps (docs/training.md); the papers took adam"
    )
    learning_rate: float | None = option(
        None,
        f"{RATE} in runs of at least {LONG} passes over the training set, in shorter ones higher, up to {HIGHEST_RATE} "
        "(docs/training.md); the paper took 0.01",
        gt=0,
    )
    amsgrad: bool = option(
        False,
        "the paper's; it keeps the largest gradient for ever, and was not needed in short runs",
        only_if=ADAM,
    )
    beta2: float = option(
        0.99, "memory of squared gradients: 100 steps; learned faster than 0.999 (docs/training.md)", ge=0, lt=1
    )
    weight_decay: float = option(0.0, "small data sets are regularised by equivariance already", ge=0, only_if=ADAMW)
    schedule: Literal["cosine", "plateau", "constant"] = option(
        "cosine", "ends the run at a low rate whatever stops it; the paper waited for plateaus, which takes days"
    )
    warmup_steps: int = option(100, "Adam's moments settle first; 5 % of the run where that is less", ge=0)
    final_fraction: float = option(0.01, "of the learning rate, at the end of the cosine", ge=0, le=1, only_if=COSINE)
    plateau_patience: int = option(
        50, "validations without gain before the rate falls; the paper's", ge=1, only_if=PLATEAU
    )
    plateau_factor: float = option(0.8, "by which the rate falls; the paper's", gt=0, lt=1, only_if=PLATEAU)
    plateau_stop: float = option(1e-6, "the run ends when the rate falls below; the paper's", ge=0, only_if=PLATEAU)
    clip_gradient: float | None = option(10.0, "norm of the gradient; only a broken batch reaches it", gt=0)
    ema_decay: float = option(
        0.99, "what is validated and kept is a running average of weights; 0 turns it off", ge=0, lt=1
    )


def build_optimizer(network: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Muon, or Adam and AdamW in their fused form, for the trainable weights of a network."""
    if config.name == "muon":
        return Muon(network, config.learning_rate or RATE, config.beta2)
    options: dict[str, Any] = {
        "lr": config.learning_rate or RATE,
        "betas": (0.9, config.beta2),
        "amsgrad": config.amsgrad,
        "fused": True,
    }
    trainable = [p for p in network.parameters() if p.requires_grad]
    if config.name == "adamw":
        return torch.optim.AdamW(trainable, weight_decay=config.weight_decay, **options)
    return torch.optim.Adam(trainable, **options)


def fitting_rate(passes: float) -> float:
    """The highest learning rate of a run of so many passes over the training set, as far as it was measured."""
    return min(HIGHEST_RATE, max(RATE, RATE * math.sqrt(LONG / passes))) if passes else HIGHEST_RATE


class LearningRate:
    """The learning rate as a function of the step, of the fraction of the run that is done, and of plateaus."""

    MEMORY = ("reduction", "best", "waited", "waited_in_all")

    def __init__(self, config: OptimizerConfig):
        self.config = config
        self.reduction = 1.0
        self.best = math.inf
        self.waited = 0  # validations since the latest gain or fall of the rate
        self.waited_in_all = 0  # validations since the latest gain

    def at(self, step: int, progress: float, passes: float) -> float:
        """The rate of a step.

        Args:
            step: counted from 0 over the whole run.
            progress: between 0 and 1, along epochs, steps or time, whichever is nearest to its end.
            passes: over the training set, by now.
        """
        config = self.config
        highest = config.learning_rate or fitting_rate(passes / progress if progress else math.inf)
        factor = min(1.0, max((step + 1) / (config.warmup_steps + 1), progress / LONGEST_WARMUP))
        if config.schedule == "cosine":
            low = config.final_fraction
            factor *= low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return highest * factor * self.reduction

    def validated(self, loss: float) -> None:
        """Tell it a validation loss: on a plateau the rate falls."""
        if loss < self.best:
            self.best, self.waited, self.waited_in_all = loss, 0, 0
            return
        self.waited, self.waited_in_all = self.waited + 1, self.waited_in_all + 1
        if self.config.schedule == "plateau" and self.waited > self.config.plateau_patience:
            self.reduction *= self.config.plateau_factor
            self.waited = 0

    @property
    def exhausted(self) -> bool:
        config = self.config
        return config.schedule == "plateau" and (config.learning_rate or RATE) * self.reduction < config.plateau_stop

    def state(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in self.MEMORY}

    def restore(self, state: dict[str, float]) -> None:
        for name in self.MEMORY:
            setattr(self, name, state[name])


class EMA:
    """An exponential moving average of the weights, with the warm-up min(decay, (1+n)/(10+n))."""

    def __init__(self, potential: nn.Module, decay: float):
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
        """Count in the weights as they are now."""
        self.n_updates += 1
        if not self.decay:
            return
        decay = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates))
        for dtype in {average.dtype for average, _ in self._pairs}:
            averages, currents = zip(*[p for p in self._pairs if p[0].dtype == dtype], strict=True)
            torch._foreach_lerp_(averages, currents, 1 - decay)
            for average in averages:  # on a GPU torch does not count this as a change, and tables of them would stay
                torch.autograd.graph.increment_version(average)

    def state(self) -> dict[str, Any]:
        return {"n_updates": self.n_updates, "weights": self.potential.state_dict() if self.decay else None}

    def restore(self, state: dict[str, Any]) -> None:
        if (state["weights"] is None) is not (self.decay == 0):
            raise ValueError("an average begins or ends with a run")
        self.n_updates = state["n_updates"]
        if self.decay:
            self.potential.load_state_dict(state["weights"])
