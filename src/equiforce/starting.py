"""A run that starts from a model: which options follow from that model, and how it enters the run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from equiforce.config import RunConfig
from equiforce.data.dataset import PARTS, Split
from equiforce.data.statistics import Statistics
from equiforce.elements import symbols_by_number
from equiforce.errors import InputError
from equiforce.finetuning.comparison import Comparison, compare
from equiforce.finetuning.options import DEFAULTS
from equiforce.finetuning.start import FILE, Start, prepare_start, read_start
from equiforce.finetuning.weights import freeze
from equiforce.models import REGISTRY
from equiforce.option_values import quoted
from equiforce.options import default_of
from equiforce.potential import Potential
from equiforce.resume import given_options
from equiforce.structure import Structure
from equiforce.training.optimizer import OptimizerConfig


def with_start(
    config: str | Path | Mapping[str, Mapping[str, Any]] | RunConfig | None, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Add the options that follow from the model from which training starts to those that the user gave.

    Args:
        config: a YAML file, nested values or a configuration; options of a configuration that equal their defaults
            count as not given.
        given: single options that override it, such as ``{"start.model": "model.eqf"}``.

    Returns:
        The single options. Without ``start.model`` they are those that were given.

    Raises:
        InputError: there is no such model, or an option contradicts it.
    """
    known = given_options(config, given)
    if isinstance(config, RunConfig):
        unset = given_options(RunConfig(kind=config.kind, model=type(config.model)()), {})
        known = {name: value for name, value in known.items() if name in given or value != unset.get(name)}
    model = known.get("start.model")
    if not isinstance(model, str | Path):
        return dict(given)
    potential = read_start(model).potential
    kind, network = REGISTRY.kind_of(potential.model), potential.model.config
    follows = {f"model.{entry.name}": getattr(network, entry.name) for entry in fields(network)}
    follows |= {"model.kind": kind, "potential.zbl": (zbl := potential.zbl) is not None}
    if zbl is not None:
        follows |= {"potential.zbl_envelope_p": zbl.p, "potential.zbl_pair_cutoffs": zbl.stretch is not None}
    _refuse_others(_with_preset(known, kind), follows, str(model))
    if known.get("potential.scale") is not None:
        raise InputError("potential.scale is that of the start model and cannot be given: leave it out")
    defaults = {name: value for name, value in DEFAULTS.items() if name not in known}
    return {**defaults, **given, **follows}


def _with_preset(known: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The options with those of a preset in its place."""
    preset = REGISTRY[kind].presets.get(str(known.get("model.preset")), {})
    return {f"model.{name}": value for name, value in preset.items()} | dict(known)


def _refuse_others(known: Mapping[str, Any], follows: Mapping[str, Any], model: str) -> None:
    """Raise InputError if the user gave options of another network."""
    names = [name for name in known if name.startswith("model.") or name in follows]
    for name in names:
        if name != "model.preset" and known[name] != follows.get(name):
            own = f"has {name}={quoted(follows[name])}" if name in follows else "has no such option"
            raise InputError(
                f"{name}={quoted(known[name])} is given, but the start model {model} {own}, and its weights belong to "
                "its own network: leave the option out, or train without --from"
            )


def start_of_run(
    settings: RunConfig,
    folder: Path,
    parts: Split,
    read: Callable[[Sequence[str]], list[Structure]],
    device: torch.device,
) -> Start | None:
    """Open the model from which a run starts, and fit it to the data; None if weights are random.

    Args:
        settings: the options of the run.
        folder: the run folder, whose copy of the model is taken if the run continues.
        parts: the new data.
        read: reads files of replayed structures.
        device: where the model computes.
    """
    if settings.start.model is None:
        return None
    own = folder / FILE
    return prepare_start(
        read_start(own if own.exists() else settings.start.model),
        parts,
        read(settings.start.replay) if settings.start.replay else [],
        given=settings.potential.reference_energies,
        dtype=settings.training.dtype,
        seed=settings.split.seed,
        device=device,
    )


def statistics_with(start: Start | None, found: Statistics) -> Statistics:
    """The statistics with the elements and the reference energies of a run that starts from a model."""
    if start is None:
        return found
    return replace(
        found,
        species=start.species,
        reference_energies=tuple(start.refit.new.tolist()),
        reference_energies_from=start.refit.origin,
    )


def begin(start: Start | None, potential: Potential, settings: RunConfig) -> None:
    """Give an untrained potential the weights from which it starts, and exclude those that do not change."""
    if start is not None:
        start.set_weights(potential)
        freeze(potential.model, settings.start.freeze)


def of_scratch(settings: RunConfig, train: Sequence[Structure], split_file: Path, seconds: float) -> dict[str, Any]:
    """The options of the training from random weights with which a fine-tuning is compared.

    Network, data, loss, batches and time are the same. The learning rate is the default of a training from random
    weights.

    Args:
        settings: of the fine-tuning.
        train: the new training structures.
        split_file: its division of the data.
        seconds: how long it trained.
    """
    species = symbols_by_number(np.concatenate([structure.atomic_numbers for structure in train]))
    network = settings.model.with_elements({symbol: symbol for symbol in species})
    options = {f"model.{entry.name}": getattr(network, entry.name) for entry in fields(network)}
    options |= {"model.kind": settings.kind}
    if "model.mean_neighbors" in options:
        options["model.mean_neighbors"] = None
    usual = {entry.name: default_of(entry) for entry in fields(OptimizerConfig)}
    for section in ("data", "potential", "loss", "optimizer", "training"):
        values = getattr(settings, section)
        options |= {f"{section}.{entry.name}": getattr(values, entry.name) for entry in fields(values)}
    options |= {name: usual[name.partition(".")[2]] for name in DEFAULTS}
    if given := settings.potential.reference_energies:
        options["potential.reference_energies"] = {symbol: given[symbol] for symbol in given if symbol in species}
    options |= {f"split.{part}_file": getattr(settings.split, f"{part}_file") for part in PARTS}
    options |= {"split.split_file": str(split_file), "split.drop_duplicates": settings.split.drop_duplicates}
    length = {"time": f"{max(1.0, seconds):.1f}s", "max_steps": None, "max_epochs": None, "early_stopping": None}
    options |= {f"training.{name}": value for name, value in length.items()} | {"training.deterministic": False}
    return options


def compared(
    start: Start, tuned: Potential, parts: Split, seconds: float, scratch: Potential | None
) -> Comparison | None:
    """Compare a fine-tuned potential with its start; None if no structure was held out."""
    name = "test" if parts.test else "validation"
    new = parts.test or parts.validation
    if not new and not start.replay.held_out:
        return None
    return compare(start.moved, tuned, scratch, new=new, name=name, old=start.replay.held_out, seconds=seconds)
