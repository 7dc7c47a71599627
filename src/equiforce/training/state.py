"""All that a training run is made of between two steps, and its way to disk and back."""

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from equiforce.errors import InputError
from equiforce.potential import Potential
from equiforce.training.optimizer import EMA, LearningRate

Weights = dict[str, torch.Tensor]
COUNTERS = ("step", "epoch", "batch", "seconds", "n_rows", "best_loss", "best_step", "loss_sum", "loss_count")


@dataclass
class TrainingState:
    """The weights, what moves them, and how far the run has come."""

    potential: Potential
    ema: EMA
    optimizer: torch.optim.Optimizer
    rate: LearningRate
    step: int = 0
    epoch: int = 0
    batch: int = 0  # the next one of this epoch
    seconds: float = 0.0
    n_rows: int = 0  # of the log
    best_loss: float = float("inf")
    best_step: int = -1
    loss_sum: float = 0.0  # since the latest validation
    loss_count: int = 0
    best_weights: Weights | None = field(default=None, repr=False)

    def passes(self, n_batches: int) -> float:
        """Over the training set, whose epoch at hand has so many batches."""
        return self.epoch + self.batch / max(1, n_batches)

    def keep_best(self) -> None:
        """Remembers the averaged weights as the best ones so far."""
        self.best_weights = {name: value.detach().clone() for name, value in self.ema.potential.state_dict().items()}

    def save(self, path: Path) -> None:
        """Writes everything in one piece: an interruption leaves the old file or the new one."""
        state: dict[str, Any] = {name: getattr(self, name) for name in COUNTERS}
        state |= {
            "potential": self.potential.state_dict(),
            "average": self.ema.state(),
            "optimizer": self.optimizer.state_dict(),
            "rate": self.rate.state(),
            "best_weights": self.best_weights,
        }
        unfinished = path.with_name(path.name + ".part")
        torch.save(state, unfinished)
        unfinished.replace(path)

    def restore(self, path: Path) -> None:
        """Continues from a saved state; raises InputError where it belongs to another model or optimiser."""
        try:
            state = torch.load(path, map_location=self.potential.device, weights_only=True)
        except (OSError, RuntimeError, EOFError, LookupError, pickle.UnpicklingError) as error:
            raise InputError(
                f"{path} is not a checkpoint of equiforce, or is damaged: start the training again"
            ) from error
        try:
            self.potential.load_state_dict(state["potential"])
            self.ema.restore(state["average"])
            if _kind_of(state["optimizer"]) != _kind_of(self.optimizer.state_dict()):
                raise ValueError("another optimiser")
            self.optimizer.load_state_dict(state["optimizer"])
            self.rate.restore(state["rate"])
            self.best_weights = state["best_weights"]
            for name in COUNTERS:
                setattr(self, name, state[name])
        except (RuntimeError, ValueError, TypeError, LookupError) as error:
            raise InputError(
                f"{path} belongs to another model or optimiser than the configuration: undo the change of its options"
            ) from error


def _kind_of(optimizer: dict[str, Any]) -> list[dict[str, Any]]:
    """The options of an optimiser, but for its learning rate, which is set at each step."""
    return [{k: v for k, v in group.items() if k not in ("lr", "params")} for group in optimizer["param_groups"]]
