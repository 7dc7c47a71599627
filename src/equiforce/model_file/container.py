"""The bytes of a model file: a safetensors file whose header holds a checksum over all bytes.

Every number in a file is read by this module before anything believes it, so it takes nothing for granted: a file may
be damaged, or written by somebody who means harm.
"""

import hashlib
import json
import math
import re
from collections.abc import Sequence
from io import BufferedIOBase
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from safetensors.torch import load as tensors_of
from safetensors.torch import save as to_bytes
from torch import Tensor

from equiforce.errors import InputError

FORMAT = 3
FIRST_WITH_CHECKSUM = 3
KEY = "equiforce"  # of the header among the metadata of safetensors
CHECKSUM = "checksum"  # the first key of the header, so that its digits are found before JSON is read
ZEROS = "0" * 64  # instead of the digits while the checksum is computed
DIGITS = re.compile(rb'\\"checksum\\": \\"([0-9a-f]{64})\\"')  # in JSON within JSON
MOST_HEADER = 4 * 2**20  # bytes; a model of 89 elements has half a million
MOST_WEIGHTS = 4 * 2**30  # bytes
DEEPEST = 20  # lists and objects within one another
MOST_VALUES = 250_000  # in a header; what a program may have to print
MOST_AXES = 8
LARGEST_INTEGER = 2**63 - 1
PIECE = 2**20  # bytes that are read at once where the weights are not kept
TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


class Slot(NamedTuple):
    """What a file says about one of its tensors."""

    dtype: torch.dtype
    shape: tuple[int, ...]


class Content(NamedTuple):
    """The content of a model file whose checksum fits."""

    header: dict[str, Any]  # as it was written; ``format`` is a whole number
    slots: dict[str, Slot]
    data: bytes  # the whole file; empty if only the header was wanted

    @property
    def weights(self) -> dict[str, Tensor]:
        """The tensors by name."""
        weights: dict[str, Tensor] = tensors_of(self.data)
        return weights


def read(path: Path | str, *, weights: bool) -> Content:
    """Read a model file and compare its checksum with its content; the file is read once.

    Args:
        path: the file.
        weights: whether to keep the weights.

    Raises:
        InputError: there is no such file, it cannot be read, it is not a model file, or it is damaged.
    """
    try:
        if not Path(path).is_file():  # a pipe or a device would make the reader wait
            raise InputError(
                f"there is no model file {path}: give the .eqf file that equiforce train wrote into its run folder"
            )
        with Path(path).open("rb") as file:
            return content_of(file, path, weights=weights)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}): correct the path, or its permissions"
        ) from error


def content_of(file: BufferedIOBase, path: Path | str, *, weights: bool) -> Content:
    """Read an opened model file; see :func:`read`."""
    try:
        return _content(file, path, weights)
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{path} needs more memory than there is: use a larger machine") from None
    except (ValueError, LookupError, TypeError, RecursionError):
        raise InputError(f"{path} is not an equiforce model file, or is damaged: train or copy it again") from None


def _content(file: BufferedIOBase, path: Path | str, weights: bool) -> Content:
    size = file.seek(0, 2)
    file.seek(0)
    start = file.read(8)
    n_head = int.from_bytes(start, "little")
    if not 0 < n_head <= min(MOST_HEADER, size - 8):
        raise ValueError("the length of the header is wrong")
    head = start + file.read(n_head)
    entries = strict_json(head[8:].decode())
    text = entries.pop("__metadata__")[KEY]
    slots = _slots(entries, size - len(head))
    found, digest = DIGITS.search(head), hashlib.sha256()
    digest.update(head if found is None else _without(head, found))
    pieces = [] if found is None and not weights else iter(lambda: file.read(size if weights else PIECE), b"")
    data = [head]
    for piece in pieces:
        digest.update(piece)
        if weights:
            data.append(piece)
    if found is not None and digest.hexdigest() != found[1].decode():
        _refuse_checksum(path)
    header = strict_json(text)
    if type(header["format"]) is not int or header["format"] < 1:
        raise ValueError("the format is wrong")
    stated = None if found is None else found[1].decode()
    if header.get(CHECKSUM) != stated or (stated is None) != (header["format"] < FIRST_WITH_CHECKSUM):
        _refuse_checksum(path)
    return Content(header, slots, b"".join(data) if weights else b"")


def _refuse_checksum(path: Path | str) -> NoReturn:
    raise InputError(f"{path} is damaged: its checksum does not fit its content: copy or train it again")


def _without(head: bytes, found: re.Match[bytes]) -> bytes:
    """The head of a file with zeros instead of the checksum."""
    return head[: found.start(1)] + ZEROS.encode() + head[found.end(1) :]


def packed(header: dict[str, Any], weights: dict[str, Tensor]) -> bytes:
    """The bytes of a model file.

    Args:
        header: plain values for JSON, without a checksum.
        weights: tensors on the CPU by name.
    """
    text = json.dumps({CHECKSUM: ZEROS, **header}, allow_nan=False)
    data: bytes = to_bytes(weights, metadata={KEY: text})
    n_head = int.from_bytes(data[:8], "little")
    if n_head > MOST_HEADER or data.count(b",", 8, 8 + n_head) > MOST_VALUES:
        raise InputError(
            f"the header of the model file would have more than {MOST_HEADER:,} bytes or {MOST_VALUES:,} values: save "
            "the model with less in 'about', or for fewer elements"
        )
    return with_checksum(data)


def with_checksum(data: bytes) -> bytes:
    """The bytes of a model file with the checksum that fits them; bytes without a place for one are returned as is."""
    length = 8 + int.from_bytes(data[:8], "little")
    if (found := DIGITS.search(data[:length])) is None:
        return data
    digest = hashlib.sha256(_without(data[:length], found))
    digest.update(data[length:])
    return data[: found.start(1)] + digest.hexdigest().encode() + data[found.end(1) :]


def strict_json(text: str) -> dict[str, Any]:
    """Read a JSON object without keys that occur twice, numbers that are not finite, huge numbers, or too much.

    Raises:
        ValueError: the text is something else.
        RecursionError: lists are nested too deeply for Python.
    """
    if text.count(",") > MOST_VALUES:  # before Python makes the values, which takes a second for a million
        raise ValueError("there are too many values")
    value = json.loads(
        text, object_pairs_hook=_unique, parse_float=_finite, parse_int=_bounded, parse_constant=_refuse_constant
    )
    _check_size(value)
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    return value


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key occurs twice")
    return values


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError("a number is not finite")
    return value


def _bounded(text: str) -> int:
    if len(text) > len(str(LARGEST_INTEGER)) + 1 or abs(value := int(text)) > LARGEST_INTEGER:
        raise ValueError("a number is too large")
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _check_size(value: Any) -> None:
    level, n_values = [value], 0
    for _ in range(DEEPEST):
        inside = [inner for inner in level if isinstance(inner, list | dict) and inner]
        level = [inner for part in inside for inner in (part.values() if isinstance(part, dict) else part)]
        n_values += len(level)
        if n_values > MOST_VALUES:
            raise ValueError("there are too many values")
        if not level:
            return
    raise ValueError("lists or objects are nested too deeply")


def _slots(entries: dict[str, Any], n_bytes: int) -> dict[str, Slot]:
    """The tensors of a file, which have to fill its ``n_bytes`` of weights without a gap."""
    slots, end = {}, 0
    if n_bytes > MOST_WEIGHTS:
        raise ValueError("there are too many weights")
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape, (start, stop) = TYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
        if len(shape) > MOST_AXES or not all(type(n) is int and n >= 0 for n in (*shape, start, stop)):
            raise ValueError("a shape or a place is wrong")
        if start != end or stop - start != math.prod(shape) * dtype.itemsize:
            raise ValueError("a place does not fit its shape")
        slots[name], end = Slot(dtype, tuple(shape)), stop
    if end != n_bytes:
        raise ValueError("the file has another length")
    return slots
