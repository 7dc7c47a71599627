"""The description of a potential in a model file, and the potential that is built from it."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from equiforce.elements import SYMBOLS, atomic_number
from equiforce.errors import InputError
from equiforce.model_file.container import Slot
from equiforce.models import REGISTRY, ModelConfig, ModelKind
from equiforce.models.pair_cutoffs import PairCutoffs
from equiforce.nn.pair import ZBL
from equiforce.options import check_values
from equiforce.potential import Potential

# the names of format 1 -> the names of format 2
RENAMED = {"shift": "atomic_energies", "shift_trainable": "atomic_energies_trainable"}
DTYPES = {"float32": torch.float32, "float64": torch.float64}
DESCRIPTION = {
    "kind": str,
    "config": dict,
    "species": list,
    "dtype": str,
    "zbl": bool,
    "atomic_energies_trainable": bool,
    "scale_trainable": bool,
    "atomic_energies": list,
    "scale": list,
}
LONGEST_NAME = 100  # of a kind of model
DEFAULT_P = 6  # of the envelope of the repulsion


def build_potential(description: Mapping[str, Any]) -> Potential:
    """Build the potential of a description (see :func:`describe`) with random weights.

    Raises:
        InputError: the kind of the model, an element or the dtype is unknown.
        TypeError: the model has no such option.
        ValueError: an option has a wrong value.
    """
    kind, config = _kind_and_config(description)
    species = description["species"]
    return Potential(
        kind.build(config, species).to(DTYPES[description["dtype"]]),
        species=species,
        cutoff=config.cutoff,
        atomic_energies=description.get("atomic_energies", [0.0] * len(species)),
        scale=description.get("scale", [1.0] * len(species)),
        atomic_energies_trainable=description["atomic_energies_trainable"],
        scale_trainable=description["scale_trainable"],
        zbl=_zbl_of(description["zbl"], config, species),
    )


def _zbl_of(entry: bool | Mapping[str, Any], config: ModelConfig, species: Sequence[str]) -> ZBL | None:
    """The repulsion of an entry of a description, see :func:`zbl_entry`."""
    if not entry:
        return None
    p, ends_early = (DEFAULT_P, False) if entry is True else (entry["envelope_p"], entry["pair_cutoffs"])
    pairs = PairCutoffs.of(config, species) if ends_early else None
    if ends_early and pairs is None:
        raise InputError("potential.zbl_pair_cutoffs is true, but there are no model.pair_cutoffs: set one of them")
    numbers = [atomic_number(symbol) for symbol in species]
    return ZBL(numbers, config.cutoff, p, None if pairs is None else pairs.stretch)


def zbl_entry(on: bool, envelope_p: int = DEFAULT_P, pair_cutoffs: bool = False) -> bool | dict[str, Any]:
    """The entry of a description for the repulsion of nuclei; one with defaults is True, which old versions read.

    Args:
        on: whether there is repulsion.
        envelope_p: order of its envelope.
        pair_cutoffs: whether the repulsion of a pair ends at its pair cutoff.
    """
    changed = envelope_p != DEFAULT_P or pair_cutoffs
    return {"envelope_p": envelope_p, "pair_cutoffs": pair_cutoffs} if on and changed else on


def _kind_and_config(description: Mapping[str, Any]) -> tuple[ModelKind, ModelConfig]:
    kind = REGISTRY.find(description["kind"])
    if description["dtype"] not in DTYPES:
        raise InputError(f"weights cannot be of dtype {description['dtype']!r}: choose {' or '.join(DTYPES)}")
    check_values(kind.config_class, description["config"])
    return kind, kind.config_class(**description["config"])


def cautions_of(description: Mapping[str, Any]) -> tuple[str, ...]:
    """What every user of a described model must know; see :class:`equiforce.models.ModelConfig`."""
    return _kind_and_config(description)[1].cautions


def describe(potential: Potential) -> dict[str, Any]:
    """The description from which :func:`build_potential` builds the potential again, without its weights."""
    return {
        "kind": REGISTRY.kind_of(potential.model),
        "config": asdict(potential.model.config),
        "species": potential.species,
        "dtype": str(potential.dtype).removeprefix("torch."),
        "zbl": False if (zbl := potential.zbl) is None else zbl_entry(True, zbl.p, zbl.stretch is not None),
        "atomic_energies_trainable": potential.atomic_energies.requires_grad,
        "scale_trainable": potential.scale.requires_grad,
        "atomic_energies": potential.atomic_energies.tolist(),
        "scale": potential.scale.tolist(),
    }


def wrong_entry(description: Mapping[str, Any]) -> str | None:
    """The name of an entry of a description that cannot be right; None if there is none.

    The options of the model are checked where they are known, by :func:`build_potential`.
    """
    for name, kind in DESCRIPTION.items():
        if type(description.get(name)) is not kind and not (name == "zbl" and _is_zbl(description.get(name))):
            return name
    species = description["species"]
    if not species or not all(isinstance(s, str) and s in SYMBOLS[1:] for s in species):
        return "species"
    if len(set(species)) < len(species):
        return "species"
    for name in ("atomic_energies", "scale"):
        if len(description[name]) != len(species) or not _are_numbers(description[name]):
            return name
    return "kind" if len(description["kind"]) > LONGEST_NAME else None


def _is_zbl(entry: Any) -> bool:
    """Whether an entry is that of a repulsion that differs from the default."""
    if not isinstance(entry, dict) or entry.keys() != {"envelope_p", "pair_cutoffs"}:
        return False
    p, pairs = entry["envelope_p"], entry["pair_cutoffs"]
    return type(p) is int and 2 <= p <= 100 and type(pairs) is bool  # as the option allows


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(type(value) in (int, float) and math.isfinite(value) for value in values)


def fits(description: Mapping[str, Any], slots: Mapping[str, Slot], *, dtypes: bool) -> bool:
    """Whether a file has the tensors of the potential that it describes; the comparison takes no memory for them.

    Args:
        description: of the potential.
        slots: what the file says about its tensors, by the names of today.
        dtypes: whether to compare dtypes too.

    Raises:
        Exception: the potential cannot be built, see :func:`build_potential`.
    """
    try:
        with _WithoutMemory():
            kind, config = _kind_and_config(description)
            model = kind.build(config, description["species"])
    except RuntimeError:
        return True  # a model of another package that computes with its weights while it is made
    species, own = (len(description["species"]),), DTYPES[description["dtype"]]
    wanted = {
        f"model.{name}": Slot(own if value.is_floating_point() else value.dtype, tuple(value.shape))
        for name, value in cast("nn.Module", model).state_dict().items()
    }
    names = ("atomic_energies", "scale", *(["zbl.charges"] if description["zbl"] else []))
    wanted |= dict.fromkeys(names, Slot(torch.float64, species))
    return wanted.keys() == slots.keys() and all(
        slot.shape == slots[name].shape and (not dtypes or slot.dtype == slots[name].dtype)
        for name, slot in wanted.items()
    )


class _WithoutMemory(TorchFunctionMode):
    """Makes random and empty tensors all of whose numbers are one number, so that a tensor of any shape is small."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = {name: value for name, value in (kwargs or {}).items() if name != "generator"}
        if func in (torch.randn, torch.rand, torch.empty):
            like = torch.empty(*args, **{**given, "device": "meta"})
            return torch.zeros((), dtype=like.dtype).expand(like.shape)
        if getattr(func, "__module__", "") == torch.nn.init.__name__:
            return args[0] if args else given["tensor"]
        return func(*args, **(kwargs or {}))
