"""Reads the zip files that torch writes: a pickle, which is not executed, and the numbers of its tensors."""

import math
import re
import zipfile
from typing import Any

import torch
from torch import Tensor

from equiforce.foundation.pickles import TensorRecord

MOST_MEMBERS = 100_000
MOST_DIMENSIONS = 8
KEY = re.compile(r"[0-9]{1,9}", re.ASCII)
DTYPES = {
    "torch.FloatStorage": torch.float32, "torch.DoubleStorage": torch.float64, "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16, "torch.LongStorage": torch.int64, "torch.IntStorage": torch.int32,
    "torch.ByteStorage": torch.uint8, "torch.BoolStorage": torch.bool,
}  # fmt: skip


class Archive:
    """The zip file of a checkpoint or of a package of torch, whose members are read in limited memory.

    Args:
        archive: the zip file.
        size: of the file in bytes, which all its numbers together cannot exceed.

    Raises:
        ValueError: it has no members, or too many.
    """

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self.archive, self.left = archive, size
        self.names = archive.namelist()
        if not 0 < len(self.names) <= MOST_MEMBERS:
            raise ValueError("the zip file has no members, or too many")
        self.root = self.names[0].split("/")[0]
        self._storages: dict[str, Tensor] = {}

    @property
    def is_package(self) -> bool:
        return f"{self.root}/model/eager_model.pkl" in self.names

    def read(self, name: str, most: int) -> bytes:
        """The bytes of a member; raises ValueError if they are more than ``most``, or cut off."""
        member = self.archive.getinfo(f"{self.root}/{name}")
        if member.file_size > most:
            raise ValueError(f"{name} is too large")
        with self.archive.open(member) as stream:
            content = stream.read(most + 1)
        if len(content) != member.file_size:
            raise ValueError(f"{name} is cut off")
        return content

    def tensor(self, record: TensorRecord) -> Tensor:
        """Make a tensor after all its numbers have been found in the file; raises ValueError if they are not there."""
        storage = self._storage(record.storage)
        offset, shape, strides = record.offset, tuple(record.shape), tuple(record.strides)
        if not all(type(n) is int and 0 <= n <= 2**40 for n in (offset, *shape, *strides)):
            raise ValueError("a tensor has impossible sizes")
        if len(shape) != len(strides) or len(shape) > MOST_DIMENSIONS or math.prod(shape) > storage.numel():
            raise ValueError("a tensor has more numbers than the file")
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        if math.prod(shape) and last >= storage.numel():
            raise ValueError("a tensor lies outside its numbers")
        if not math.prod(shape):
            return storage.new_empty(shape)
        return storage.as_strided(shape, strides, offset).clone()

    def _storage(self, identifier: Any) -> Tensor:
        """The numbers of an identifier ("storage", kind, key, device, count)."""
        what, kind, key, _, count = identifier
        if what != "storage" or type(key) not in (int, str) or not KEY.fullmatch(str(key)):
            raise ValueError("a tensor has no numbers")
        if key not in self._storages:
            name = f".data/{key}.storage" if self.is_package else f"data/{key}"
            content = self.read(name, self.left)
            self.left -= len(content)  # together they are no larger than the file, which stores them as they are
            dtype = DTYPES[kind.name]
            numbers = torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)
            self._storages[key] = numbers
        found = self._storages[key]
        if found.dtype != DTYPES[kind.name] or found.numel() != count:
            raise ValueError("a tensor has another number of bytes")
        return found
