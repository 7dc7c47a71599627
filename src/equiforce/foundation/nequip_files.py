"""Reads checkpoints (``.ckpt``) and packages (``.nequip.zip``) of nequip. Nothing in a file is executed.

Both are zip files with a pickle and the numbers of the tensors. The options of a checkpoint are in its pickle, those
of a package in ``config.yaml``. The averaged weights of a checkpoint are taken if it has them, as nequip does.
"""

import errno
import hashlib
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from equiforce.errors import InputError
from equiforce.foundation import pickles
from equiforce.foundation.archives import Archive
from equiforce.foundation.pickles import TensorRecord, Thing
from equiforce.yaml_files import read_value

OLDEST = (0, 12)
VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})", re.ASCII)
MOST_TEXT = 2**20
MOST_MODULES = 10_000
DEEPEST = 20
MODEL, MODEL_OF_PACKAGE, AVERAGED = "model.sole_model.", "sole_model.", "ema.ema_weight_"
CORE = "model.func."  # of the names of the weights within a model
# what a model has beside its weights: constants of e3nn and of nequip, which follow from the options
CONSTANTS = re.compile(
    r"output_mask|_empty|alpha|norm_const|atomic_numbers|_rmax_recip|.*w3j.*|_qqr2exesquare|factor|_rtoi"
)
MODIFY = "nequip.model.modify"
# the changes of a trained model by which its weights alone change, or only how fast it is
KNOWN_MODIFIERS = {
    "modify_PerTypeScaleShift", "enable_OpenEquivariance", "enable_CuEquivariance", "enable_CuEquivarianceContracter",
    "enable_TritonContracter", "enable_ForceStressOutput",
}  # fmt: skip


@dataclass(frozen=True)
class NequipFile:
    """The options and the weights of a file."""

    options: dict[str, Any]  # of the model's builder in nequip or nequip-allegro
    version: tuple[int, int]  # of nequip: the first two numbers
    weights: dict[str, Tensor]  # by name
    constants: dict[str, Tensor]  # likewise; they follow from the options
    sha256: str  # of all bytes


def read(path: Path) -> NequipFile:
    """Read a checkpoint or a package of nequip.

    Raises:
        InputError: it is no such file, or is damaged.
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    try:
        with zipfile.ZipFile(path) as archive:
            content = Archive(archive, path.stat().st_size)
            options, versions, tensors, trained = (_of_package if content.is_package else _of_checkpoint)(content)
        version = _version(versions)
        tensors = {name.removeprefix(CORE): tensor for name, tensor in tensors.items() if tensor.numel()}
        _set_averaged(tensors, trained, options)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # damaged zip files raise errors of many kinds
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: a place before the file
            raise
        raise InputError(
            f"{path} is not a checkpoint or a package of nequip 0.12 or later, or is damaged: copy it again"
        ) from error
    constants = {name: tensor for name, tensor in tensors.items() if _is_constant(name)}
    weights = {name: tensor for name, tensor in tensors.items() if name not in constants}
    return NequipFile(options, version, weights, constants, sha256)


class Content(NamedTuple):
    """What a file has."""

    options: dict[str, Any]
    versions: Any  # of the programs
    tensors: dict[str, Tensor]
    averaged: list[Tensor]  # of the weights; none if training did not average


def _version(versions: Any) -> tuple[int, int]:
    """The version of nequip.

    Raises:
        InputError: it is older than 0.12.
    """
    found = VERSION.match(versions["nequip"])
    if found is None:
        raise ValueError("the version of nequip is missing")
    version = int(found[1]), int(found[2])
    if version < OLDEST:
        raise InputError(
            f"the model is of nequip {found[0]}, and those before 0.12 cannot be imported: train it with a newer nequip"
        )
    return version


def _of_package(content: Archive) -> Content:
    config = read_value(content.read("model/config.yaml", MOST_TEXT).decode())
    modules = pickles.load(content.read("model/eager_model.pkl", pickles.MOST_BYTES))
    tensors = {name.removeprefix(MODEL_OF_PACKAGE): content.tensor(record) for name, record in _tensors_of(modules)}
    versions = read_value(content.read("model/package_metadata.txt", MOST_TEXT).decode())["versions"]
    return Content(_unmodified(config["training_module"]["model"]), versions, tensors, [])


def _tensors_of(root: Any) -> Iterator[tuple[str, TensorRecord]]:
    """The parameters and buffers of a pickled module and of the modules in it, by name."""
    waiting, seen = [("", root, 0)], 0
    while waiting:
        prefix, module, depth = waiting.pop()
        seen += 1
        if seen > MOST_MODULES or depth > DEEPEST:
            raise ValueError("the model has too many modules")
        if not isinstance(module, Thing):
            continue
        state = module.state if isinstance(module.state, dict) else module.args[0] if module.args else {}
        if not isinstance(state, dict):
            continue
        for kind in ("_parameters", "_buffers"):
            named = state.get(kind) or {}
            yield from ((f"{prefix}{name}", one) for name, one in named.items() if isinstance(one, TensorRecord))
        children = state.get("_modules") or {}
        waiting += [(f"{prefix}{name}.", child, depth + 1) for name, child in children.items()]


def _of_checkpoint(content: Archive) -> Content:
    checkpoint = pickles.load(content.read("data.pkl", pickles.MOST_BYTES))
    state, parameters = checkpoint["state_dict"], checkpoint["hyper_parameters"]
    tensors = {
        name.removeprefix(MODEL): content.tensor(record)
        for name, record in state.items()
        if name.startswith(MODEL) and isinstance(record, TensorRecord)
    }
    averages = sum(name.startswith(AVERAGED) for name in state)
    averaged = [content.tensor(state[f"{AVERAGED}{number}"]) for number in range(averages)]
    return Content(_unmodified(parameters["model"]), parameters["info_dict"]["versions"], tensors, averaged)


def _unmodified(options: Any) -> dict[str, Any]:
    """The options of the model within those of its changes; raises InputError if they are not understood."""
    trainable: dict[str, Any] = {}
    for _ in range(DEEPEST):
        if not isinstance(options, dict) or not all(isinstance(name, str) for name in options):
            raise ValueError("the options are no names with values")
        if options.get("_target_") != MODIFY:
            return options | trainable
        for modifier in options["modifiers"]:
            if (name := modifier["modifier"]) not in KNOWN_MODIFIERS:
                raise InputError(f"the model was changed by {name!s:.100}, which equiforce does not know")
            if name == "modify_PerTypeScaleShift":
                both = ("scales_trainable", "shifts_trainable")
                trainable = {f"per_type_energy_{which}": modifier.get(which, False) for which in both} | trainable
        options = options["model"]
    raise ValueError("the options are nested too deep")


def _is_constant(name: str) -> bool:
    return CONSTANTS.fullmatch(name.rpartition(".")[2]) is not None


def _set_averaged(tensors: dict[str, Tensor], averaged: list[Tensor], options: Mapping[str, Any]) -> None:
    """Replace the trained weights by their averages, which follow the order of the weights."""
    if not averaged:
        return
    fixed = {
        last
        for last, option in (
            ("bessel_weights", "bessel_trainable"),
            ("scales", "per_type_energy_scales_trainable"),
            ("shifts", "per_type_energy_shifts_trainable"),
        )
        if not options.get(option)
    }
    embedding = options.get("radial_chemical_embed")
    if isinstance(embedding, dict) and embedding.get("bessel_trainable"):
        fixed.discard("bessel_weights")
    names = [name for name in tensors if not _is_constant(name) and name.rpartition(".")[2] not in fixed]
    averaged = [tensor for tensor in averaged if tensor.numel()]
    if [tensors[name].shape for name in names] != [tensor.shape for tensor in averaged]:
        raise InputError("the averaged weights are not those of the model: equiforce does not know this checkpoint")
    tensors.update(zip(names, averaged, strict=True))
