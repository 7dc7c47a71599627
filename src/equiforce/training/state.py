"""The state of a training run between two steps, to a checkpoint and back."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from equiforce.errors import InputError
from equiforce.potential import Potential
from equiforce.training.checkpoint import COUNTERS, read_checkpoint, write_checkpoint
from equiforce.training.optimizer import EMA, LearningRate

Weights = dict[str, torch.Tensor]
SAME_CONSTANT = 1e-6  # relative; a least-squares fit differs less between machines


@dataclass
class TrainingState:
    """The weights, their average, the optimizer, the learning rate, and counters of progress."""

    potential: Potential
    ema: EMA[Potential]
    optimizer: torch.optim.Optimizer
    rate: LearningRate
    step: int = 0
    epoch: int = 0
    batch: int = 0  # the index of the next batch in this epoch
    seconds: float = 0.0
    n_rows: int = 0  # the number of rows in the log
    best_loss: float = float("inf")  # the lowest validation loss so far
    best_step: int = -1
    loss_sum: float = 0.0  # over the steps since the latest validation
    loss_count: int = 0  # the number of these steps
    best_weights: Weights | None = field(default=None, repr=False)
    ended: str = ""  # why the run ended, empty while it goes on
    origin: dict[str, Any] = field(default_factory=dict, repr=False)  # the options and data of the weights

    def passes(self, n_batches: int) -> float:
        """The number of passes over the training set so far; the current epoch has ``n_batches`` batches."""
        return self.epoch + self.batch / max(1, n_batches)

    def keep_best(self) -> None:
        """Remember the averaged weights as the best ones so far."""
        self.best_weights = {name: value.detach().clone() for name, value in self.ema.potential.state_dict().items()}

    def forget_best(self) -> None:
        """Let the next validation be the best one, because the loss now means something else."""
        self.best_loss = float("inf")
        self.rate.forget_best()

    def load_best(self) -> None:
        """Load the best weights so far into the averaged potential."""
        if self.best_weights is None:
            raise RuntimeError("there are no best weights before the first validation")
        self.ema.potential.load_state_dict(self.best_weights)

    def save(self, path: Path) -> None:
        """Write a checkpoint whole or not at all; raise InputError if it cannot be written."""
        state: dict[str, Any] = {name: getattr(self, name) for name in COUNTERS}
        state |= {
            "potential": self.potential.state_dict(),
            "average": self.ema.state(),
            "optimizer": self.optimizer.state_dict(),
            "rate": self.rate.state(),
            "best_weights": self.best_weights,
            "ended": self.ended,
            "origin": self.origin,
        }
        write_checkpoint(path, state)

    def restore(self, path: Path) -> None:
        """Load a checkpoint.

        Raises:
            InputError: the checkpoint is damaged, or it belongs to another model, optimizer or reference energies.
        """
        state = read_checkpoint(path, self.potential.device)
        constants = [self.potential.atomic_energies, self.potential.scale]
        before = [constant.detach().clone() for constant in constants]
        try:
            self._require_same_kinds(state)
            self.potential.load_state_dict(state["potential"])
            self.ema.restore(state["average"])
            if _kind_of(state["optimizer"]) != _kind_of(self.optimizer.state_dict()):
                raise ValueError("another optimizer")
            self.optimizer.load_state_dict(state["optimizer"])
            self.rate.restore(state["rate"])
            self.best_weights = state["best_weights"]
            for name in COUNTERS:
                setattr(self, name, state[name])
        except (RuntimeError, ValueError, TypeError, LookupError) as error:
            raise InputError(
                f"{path} belongs to another model or optimizer than the configuration: undo the changes of the options"
            ) from error
        self.ended = state.get("ended", "")  # older checkpoints lack it
        for name, constant, expected in zip(("reference energies", "scales"), constants, before, strict=True):
            if not constant.requires_grad and not torch.allclose(constant, expected, rtol=SAME_CONSTANT, atol=0.0):
                raise InputError(
                    f"the data now give the {name} {_listed(expected)} eV, but {path} has {_listed(constant)} eV, "
                    "so the labels have changed: restore the data of the run, or start a new one with -o"
                )

    def _require_same_kinds(self, state: dict[str, Any]) -> None:
        """Raise ValueError if the dtypes of weights, or the shapes of the optimizer's memory, are others than here."""
        own = self.potential.state_dict()
        if any(name in own and own[name].dtype != value.dtype for name, value in state["potential"].items()):
            raise ValueError("another dtype")
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        numbers = [number for group in state["optimizer"]["param_groups"] for number in group["params"]]
        for parameter, number in zip(parameters, numbers, strict=True):
            for name, value in state["optimizer"]["state"].get(number, {}).items():
                if name != "step" and (value.shape, value.dtype) != (parameter.shape, parameter.dtype):
                    raise ValueError("another shape or dtype")


def _listed(constant: torch.Tensor) -> str:
    return ", ".join(f"{value:.6g}" for value in constant.tolist())


def _kind_of(optimizer: dict[str, Any]) -> list[dict[str, Any]]:
    """The options of an optimizer without its learning rate, which every step sets anew."""
    return [{k: v for k, v in group.items() if k not in ("lr", "params")} for group in optimizer["param_groups"]]
