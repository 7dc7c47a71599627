"""Checkpoint files: sealed with a checksum, and checked before anything in them counts."""

import hashlib
import io
import math
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equiforce.errors import InputError
from equiforce.storage.faults import AGAIN
from equiforce.storage.whole import write_bytes

COUNTERS = ("step", "epoch", "batch", "seconds", "n_rows", "best_loss", "best_step", "loss_sum", "loss_count")
PARTS = ("potential", "average", "optimizer", "rate", "best_weights")
MOST_STEPS = 2**53
ADAM_ENTRIES = {"step", "exp_avg", "exp_avg_sq"}
# torch writes a zip file. The checksum is the comment at its end, so that torch reads the file as any other.
ZIP_BEGINS, ZIP_ENDS = b"PK\x03\x04", b"PK\x05\x06"
LENGTH_OF_END = 22  # bytes of the last record without its comment, whose length is in the last two
SEAL = b"equiforce sha256 "
LENGTH_OF_SEAL = len(SEAL) + 64


class Damaged(Exception):  # noqa: N818 (it is told as an InputError)
    """What is wrong with a checkpoint."""


class DamagedError(InputError):
    """A file is damaged or is not a checkpoint; its cause says what is wrong."""


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write the values of a checkpoint whole or not at all; raise InputError if it cannot be written.

    A link is replaced, and never the file to which it leads, because that may be no checkpoint.
    """
    content = io.BytesIO()
    torch.save({**state}, content)
    write_bytes(path, sealed(content.getvalue()), replaces_link=True)


def sealed(content: bytes) -> bytes:
    """The bytes of a file of torch with a checksum over all of them."""
    body = content[:-2] + LENGTH_OF_SEAL.to_bytes(2, "little")
    return body + _seal(body)


def _seal(body: bytes) -> bytes:
    return SEAL + hashlib.sha256(body).hexdigest().encode()


def read_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read the values of a checkpoint.

    Args:
        path: the file.
        device: where its tensors are put.

    Returns:
        The values; ``sealed`` says whether the file has a checksum, which older versions did not write.

    Raises:
        DamagedError: the file is damaged, or its values cannot be those of a run.
        InputError: it cannot be read now, or the memory is too small; it may be intact.
    """
    try:
        content = _content(path)
        body, comment = content[:-LENGTH_OF_SEAL], content[-LENGTH_OF_SEAL:]
        has_seal = not (content[-LENGTH_OF_END:].startswith(ZIP_ENDS) and content.endswith(b"\0\0"))
        if has_seal and comment != _seal(body):
            raise Damaged("its checksum is wrong")
        sizes = _sizes_of_records(content)
        try:
            state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
            _check(state, sizes)
        except Damaged:
            raise
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise _unreadable(path, "the memory is too small") from error
        except Exception as error:  # torch raises errors of many kinds
            raise Damaged("it has values of another kind") from error
    except Damaged as error:
        raise DamagedError(
            f"{path} is damaged or is not a checkpoint of equiforce ({error}): put back a copy, or start a new run"
        ) from error
    return {**state, "sealed": has_seal}


def _content(path: Path) -> bytes:
    """The bytes of a file that begins as a checkpoint does."""
    try:
        if not path.is_file():  # a pipe or a device could be read forever
            raise Damaged("it is not a file")
        with path.open("rb") as file:
            if file.read(len(ZIP_BEGINS)) != ZIP_BEGINS:
                raise Damaged("it does not begin as one")
            return ZIP_BEGINS + file.read()
    except MemoryError as error:
        raise _unreadable(path, "the memory is too small") from error
    except OSError as error:
        raise _unreadable(path, (error.strerror or str(error)).lower()) from error


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(f"{path} cannot be read now because of this error: {why}; mend that, then {AGAIN}")


def _sizes_of_records(content: bytes) -> Counter[int]:
    """The sizes of the tensors in a file, whose own checksums are compared, which files without a seal have too."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            records = archive.infolist()
            if any(record.compress_type != zipfile.ZIP_STORED for record in records):
                raise Damaged("a part of it is compressed")
            if sum(record.file_size for record in records) > len(content):
                raise Damaged("its parts are larger than the file")
            if (bad := archive.testzip()) is not None:
                raise Damaged(f"the checksum of its part {bad} is wrong")
            return Counter(record.file_size for record in records if Path(record.filename).parent.name == "data")
    except Damaged:
        raise
    except Exception as error:  # zipfile raises errors of many kinds
        raise Damaged("it is cut or changed") from error


def _check(state: Any, sizes: Counter[int]) -> None:
    """Raise Damaged if values cannot be those of a run."""
    if not isinstance(state, dict):
        raise Damaged("it has no named values")
    if missing := [name for name in (*COUNTERS, *PARTS) if name not in state]:
        raise Damaged(f"it lacks {', '.join(missing)}")
    _check_tensors(state, sizes)
    _check_counters(state)
    _check_weights(state)
    _check_optimizer(state["optimizer"], state["step"])
    _check_origin(state)


def _check_tensors(state: dict[str, Any], sizes: Counter[int]) -> None:
    """Raise Damaged if a number is not finite, or a tensor is not what it says."""
    found = {id(tensor): tensor for tensor in _tensors(state, 0)}.values()
    storages = {tensor.untyped_storage()._cdata: tensor for tensor in found if _is_plain(tensor)}
    if (
        any(not _is_plain(tensor) for tensor in found)
        or Counter(tensor.untyped_storage().nbytes() for tensor in storages.values()) - sizes
    ):
        raise Damaged("its tensors do not fit into it")
    if any(tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes() for tensor in found):
        raise Damaged("its tensors do not fit into it")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in found):
        raise Damaged("it has numbers that are not finite")


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_quantized


def _tensors(value: Any, depth: int) -> Iterator[Tensor]:
    if depth > 8:
        raise Damaged("its values are nested too deeply")
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _tensors(inner, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tensors(inner, depth + 1)


def _check_counters(state: dict[str, Any]) -> None:
    """Raise Damaged if a counter is of another kind, or out of its range."""
    step, rate = state["step"], state["rate"]
    if not _is_count(step, MOST_STEPS):
        raise Damaged("its step is out of range")
    for name in ("epoch", "batch", "n_rows", "loss_count"):
        if not _is_count(state[name], step):
            raise Damaged(f"its {name} is out of range")
    of_start = _check_best(state)
    if not (_is_number(state["seconds"]) and 0 <= state["seconds"] < math.inf):
        raise Damaged("its seconds are out of range")
    if not (_is_number(state["loss_sum"]) and 0 <= state["loss_sum"] < math.inf):
        raise Damaged("its loss_sum is out of range")
    if not isinstance(rate, dict) or {"reduction", "best", "waited", "waited_in_all"} - rate.keys():
        raise Damaged("its rate is incomplete")
    counted = _is_count(rate["waited_in_all"], state["n_rows"]) and _is_count(rate["waited"], rate["waited_in_all"])
    if not (counted and _is_number(rate["reduction"]) and 0 < rate["reduction"] <= 1):
        raise Damaged("its rate is out of range")
    best = state["best_loss"]
    if not (_is_number(best) and _is_number(rate["best"]) and 0 <= best <= rate["best"]):
        raise Damaged("its best_loss is out of range")
    if best < rate["best"] and not of_start:
        raise Damaged("its best_loss is out of range")


def _check_best(state: dict[str, Any]) -> bool:
    """Return whether the best weights are those of the start; raise Damaged if their step is out of range."""
    has_best = state["best_weights"] is not None
    of_start = has_best and state["best_step"] == 0  # a training from a model validates it before the first row
    in_range = _is_count(state["best_step"], state["step"]) if has_best else state["best_step"] == -1
    if not in_range or has_best is not (state["n_rows"] > 0 or of_start):
        raise Damaged("its best_step is out of range")
    return of_start


def _is_count(value: Any, highest: int) -> bool:
    return type(value) is int and 0 <= value <= highest


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _check_weights(state: dict[str, Any]) -> None:
    """Raise Damaged if the three sets of weights do not have the same tensors."""
    average = state["average"]
    if not isinstance(average, dict) or {"n_updates", "weights"} - average.keys():
        raise Damaged("its average is incomplete")
    if type(average["n_updates"]) is not int or average["n_updates"] != state["step"]:
        raise Damaged("its average does not belong to its step")
    kinds = _kinds(state["potential"])
    if any(weights is not None and _kinds(weights) != kinds for weights in (average["weights"], state["best_weights"])):
        raise Damaged("its weights do not belong to one another")


def _kinds(weights: Any) -> dict[str, tuple[torch.dtype, torch.Size]]:
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise Damaged("its weights are not tensors")
    return {name: (value.dtype, value.shape) for name, value in weights.items()}


def _check_optimizer(optimizer: Any, step: int) -> None:
    """Raise Damaged if the memory of the optimizer is incomplete."""
    incomplete = Damaged("its optimizer is incomplete")
    if not isinstance(optimizer, dict) or {"state", "param_groups"} - optimizer.keys():
        raise incomplete
    groups, memory = optimizer["param_groups"], optimizer["state"]
    if not (isinstance(memory, dict) and isinstance(groups, list)):
        raise incomplete
    if not all(isinstance(group, dict) and isinstance(group.get("params"), list) for group in groups):
        raise incomplete
    entries = {
        parameter: {"momentum_buffer"}
        if "momentum" in group
        else ADAM_ENTRIES | ({"max_exp_avg_sq"} if group.get("amsgrad") else set())
        for group in groups
        for parameter in group["params"]
        if type(parameter) is int
    }
    found = {parameter: set(own) for parameter, own in memory.items() if isinstance(own, dict)}
    if len(found) != len(memory) or found != (entries if step else {}):
        raise incomplete
    if not all(isinstance(value, Tensor) for own in memory.values() for value in own.values()):
        raise incomplete
    counts = [own["step"] for own in memory.values() if "step" in own]
    if not all(count.numel() == 1 and 1 <= count.item() <= step for count in counts):
        raise Damaged("the steps of its optimizer are out of range")


def _check_origin(state: dict[str, Any]) -> None:
    """Raise Damaged if options and data of the weights are of another kind; older versions wrote none."""
    origin = state.get("origin") or {}
    if not isinstance(state.get("ended", ""), str) or not isinstance(origin, dict):
        raise Damaged("it has texts of another kind")
    if not origin:
        return
    options, data = origin.get("options"), origin.get("data")
    if not (isinstance(options, dict) and all(isinstance(section, dict) for section in options.values())):
        raise Damaged("it lacks the options of its run")
    if not (isinstance(data, dict) and all(isinstance(digest, str) for digest in data.values())):
        raise Damaged("it lacks the fingerprints of its data")
