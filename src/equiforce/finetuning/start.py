"""The model from which a training starts: its file, and what the run makes of it."""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from equiforce import model_file
from equiforce.data.dataset import Split
from equiforce.elements import symbols_by_number
from equiforce.errors import InputError
from equiforce.finetuning.references import Refit, refit
from equiforce.finetuning.replay import Replay, make_replay
from equiforce.finetuning.weights import Adapted, adapted
from equiforce.foundation import FORMATS
from equiforce.potential import Potential
from equiforce.structure import Structure

FILE = "start.eqf"  # the copy of the model in the run folder


class StartModel(NamedTuple):
    """A model file, as it is."""

    name: str  # of the imported source, or of the file
    content: bytes
    sha256: str
    about: Mapping[str, Any]  # of the header
    potential: Potential

    def origin(self) -> dict[str, Any]:
        """What the model file of the run tells about this model, and the source of it if it was imported."""
        kept = {name: value for name, value in self.about.items() if name == "source"}
        return {"start": {"name": self.name, "sha256": self.sha256}} | kept


def read_start(model: Path | str) -> StartModel:
    """Open a model file.

    Args:
        model: the file, or a run folder.

    Raises:
        InputError: there is no such file, or it is damaged.
    """
    path = model_file.path_of(model)
    if path.is_file() and any(path.name.endswith(end) for end in FORMATS):
        raise InputError(f"{path} is a file of another program: make a model file of it first with equiforce import")
    potential, header = model_file.load(path), model_file.read_header(path)
    content, about = path.read_bytes(), header["about"]
    source = about.get("source")
    name = source["name"] if isinstance(source, dict) and "name" in source else _name_of(path)
    return StartModel(name, content, hashlib.sha256(content).hexdigest(), about, potential)


def _name_of(path: Path) -> str:
    """The name of the file; that of its folder too if all files of this kind have the same name."""
    return f"{path.resolve().parent.name}/{path.name}" if path.name == model_file.NAME else path.name


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """The model from which a run starts, for the elements and the level of theory of the run."""

    model: StartModel
    adapted: Adapted
    refit: Refit
    replay: Replay
    replayed: tuple[Structure, ...]  # as they were read
    moved: Potential  # the start model, with reference energies that are moved to the new level of theory

    @property
    def species(self) -> tuple[str, ...]:
        return self.refit.species

    def set_weights(self, potential: Potential) -> None:
        """Give a potential of the same network and species the weights and scales of the start model."""
        weights = self.adapted.potential.state_dict()
        weights["atomic_energies"] = torch.tensor(self.refit.new, dtype=torch.float64)
        potential.load_state_dict(weights)

    def lines(self, share: float) -> list[str]:
        """What the user should know; ``share`` is that of replayed structures in a batch."""
        found = [f"training starts from {self.model.name}, model file with sha256 {self.model.sha256[:16]}"]
        if self.adapted.left_out:
            n = len(self.adapted.left_out)
            listed = f"{n} elements" if n > 10 else ", ".join(self.adapted.left_out)
            found.append(f"elements of the start model that do not occur here are left out: {listed}")
        return [*found, *self.refit.lines(), *self.replay.lines(share)]

    def notes(self) -> list[str]:
        """What may be wrong."""
        new = [
            f"the start model does not know {symbol}: its weights, scale and reference energy start as those of {other}"
            for symbol, other in self.adapted.donors.items()
        ]
        return [*new, *self.refit.notes()]


def prepare_start(
    model: StartModel,
    parts: Split,
    replayed: Sequence[Structure],
    *,
    given: Mapping[str, float] | None,
    dtype: str,
    seed: int,
    device: torch.device,
) -> Start:
    """Fit a model to the elements and the level of theory of new data.

    Args:
        model: the model.
        parts: the new data.
        replayed: structures of the old domain; none without replay.
        given: reference energies in eV by element that the user gave.
        dtype: of the weights.
        seed: of the division of the replayed structures.
        device: where the model computes.

    Raises:
        InputError: the model cannot have these elements, or there are too few replayed structures.
    """
    species = symbols_by_number(np.concatenate([s.atomic_numbers for s in (*parts.train, *replayed)]))
    chosen = adapted(model.potential, species, dtype)
    chosen.potential.to(device)
    found = refit(chosen.potential, parts.train, parts.isolated, given)
    moved = copy.deepcopy(chosen.potential)
    moved.atomic_energies.data.add_(torch.as_tensor(found.shift, device=device))
    held_out = [*parts.validation, *parts.test]
    replay = make_replay(replayed, moved, found.shift.tolist(), held_out, seed) if replayed else Replay()
    return Start(model=model, adapted=chosen, refit=found, replay=replay, replayed=tuple(replayed), moved=moved)
