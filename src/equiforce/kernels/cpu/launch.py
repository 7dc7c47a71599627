"""The one place where compiled C is called. Whatever crosses into C is checked here.

A kernel takes one pointer to a struct of 8-byte fields. :class:`Arguments` describes such a struct once, with the shape
and dtype of what its pointers point to. The C text of the struct and the bytes that are passed both come from that
description, so they cannot differ.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from equiforce.errors import InputError

Function = Callable[[Any], int]
Allocate = Callable[..., Tensor]  # Tensor.new_empty or Tensor.new_zeros


class Array(NamedTuple):
    """A pointer in the struct, and the tensor that it points to."""

    name: str
    shape: tuple[str, ...]  # names of sizes
    kind: Literal["scalar", "index", "double"] = "scalar"  # scalar: of the kernel's own precision
    result: bool = False  # whether C may write to it
    copies: bool = False  # where it is the result, each thread has a copy of its own


C_TYPES = {"scalar": "S", "index": "long", "double": "double"}
DTYPES = {"index": torch.int64, "double": torch.float64}


class RecordArray(NamedTuple):
    """Structs that C reads, and where they are; they live as long as this object."""

    memory: np.ndarray
    address: int


@dataclass(frozen=True, eq=False)
class Arguments:
    """The struct that a kind of kernel is given.

    Args:
        name: of the operation, for messages.
        rows: the size that is shared out between threads.
        rows_per_thread: fewer rows are not worth waking a thread for.
        arrays: the tensors.
        sizes: the integers that C is told, besides the number of parts ``n_parts`` that the rows are divided into.
        doubles: the factors that C is told.
        records: pointers to arrays of :class:`Record`, as (name, C type).
        checks: the index whose range C itself checks, if any; the kernel then returns 0, or 1 + the first wrong row.
    """

    name: str
    rows: str
    rows_per_thread: int
    arrays: tuple[Array, ...]
    sizes: tuple[str, ...]
    doubles: tuple[str, ...] = ()
    records: tuple[tuple[str, str], ...] = ()
    checks: str = ""

    def c_struct(self, type_name: str = "Arguments") -> str:
        """The C declaration of the struct; ``S`` is the kernel's scalar type."""
        lines = [f"long {', '.join(('n_parts', *self.sizes))};"]
        lines += [f"double {', '.join(self.doubles)};"] if self.doubles else []
        lines += [f"const {kind} *{name};" for name, kind in self.records]
        lines += [f"{'' if a.result else 'const '}{C_TYPES[a.kind]} *{a.name};" for a in self.arrays]
        return "typedef struct {\n" + "".join(f"  {line}\n" for line in lines) + f"}} {type_name};\n"

    def call(
        self,
        function: Function,
        like: Tensor,
        sizes: Mapping[str, int],
        given: Mapping[str, Tensor | None],
        made: Mapping[str, Allocate],
        doubles: Sequence[float] = (),
        records: Sequence[RecordArray] = (),
    ) -> list[Tensor]:
        """Runs a kernel.

        Args:
            function: the compiled kernel.
            like: a tensor of the kernel's own precision, float32 or float64, as all results will be.
            sizes: a number for each name in the shapes of the arrays, and for each of ``sizes``.
            given: the inputs by name, of any strides.
            made: the results by name, each with the method that allocates it: ``Tensor.new_empty`` or ``new_zeros``.
            doubles: the factors, in the order of the description.
            records: arrays of structs, in the order of the description.

        Returns:
            The results, contiguous, in the order of ``made``; of one with copies, all of them.

        Raises:
            InputError: an input has another dtype, shape or device than the kernel expects, or C found an index that is
                out of range.
        """
        n_rows, dtype = sizes[self.rows], like.dtype
        n_parts = max(1, min(torch.get_num_threads(), n_rows // self.rows_per_thread))
        fields = self._fields
        addresses, kept = [0] * len(fields), []  # copies that C reads must live until the call ends, as ``given`` does
        for name, tensor in given.items():
            if tensor is None:
                continue
            place, shape_of, own_dtype, _ = fields[name]
            shape = shape_of(sizes)
            if tensor.dtype is not (own_dtype or dtype) or tensor.shape != shape or not tensor.is_cpu:
                self._refuse(name, tensor, own_dtype or dtype, shape)
            if not tensor.is_contiguous():
                kept.append(tensor := tensor.contiguous())
            addresses[place] = tensor.data_ptr()
        results = []
        for name, allocate in made.items():
            place, shape_of, _, copies = fields[name]
            shape = shape_of(sizes)
            # not in one tuple, for which torch takes twice as long
            result = allocate(like, n_parts, *shape) if copies else allocate(like, *shape)
            results.append(result)
            addresses[place] = result.data_ptr()
        if n_rows:
            starts = [record.address for record in records]
            packed = self._layout.pack(n_parts, *self._numbers(sizes), *doubles, *starts, *addresses)
            if (fault := function(packed)) and self.checks:
                raise InputError(f"{self.name}: {self.checks} of row {fault - 1} is out of range")
        return results

    @cached_property
    def _layout(self) -> struct.Struct:
        n_pointers = len(self.records) + len(self.arrays)
        return struct.Struct("q" * (1 + len(self.sizes)) + "d" * len(self.doubles) + "P" * n_pointers)

    @cached_property
    def _fields(self) -> dict[str, "_Field"]:
        return {
            array.name: _Field(place, _getter(array.shape), DTYPES.get(array.kind), array.copies)
            for place, array in enumerate(self.arrays)
        }

    @cached_property
    def _numbers(self) -> Callable[[Mapping[str, int]], tuple[int, ...]]:
        return _getter(self.sizes)

    def _refuse(self, name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        if tensor.dtype is not dtype:
            have, want = (str(kind).removeprefix("torch.") for kind in (tensor.dtype, dtype))
            raise InputError(f"{self.name}: {name} is {have}, and has to be {want} like the rest: convert it")
        if tensor.shape != shape:
            raise InputError(f"{self.name}: {name} has the shape {list(tensor.shape)}, and has to have {list(shape)}")
        raise InputError(f"{self.name}: {name} is on {tensor.device}, and other tensors are on the CPU: move it")


class _Field(NamedTuple):
    """What :meth:`Arguments.call` needs to know of an array."""

    place: int  # among the pointers
    shape_of: Callable[[Mapping[str, int]], tuple[int, ...]]
    dtype: torch.dtype | None  # None: that of the kernel
    copies: bool


class Record(NamedTuple):
    """A C struct of integers and factors, of which a kernel is given an array."""

    name: str
    integers: tuple[str, ...]
    doubles: tuple[str, ...] = ()

    def c_struct(self) -> str:
        """The C declaration of the struct."""
        factors = f" double {', '.join(self.doubles)};" if self.doubles else ""
        return f"typedef struct {{ long {', '.join(self.integers)};{factors} }} {self.name};\n"

    def array(self, rows: Sequence[tuple[int | float, ...]]) -> RecordArray:
        """An array of such structs, each from its numbers in the order of the fields."""
        dtype = np.dtype(
            [*((name, np.int64) for name in self.integers), *((name, np.float64) for name in self.doubles)]
        )
        memory = np.array(rows, dtype=dtype)
        return RecordArray(memory, memory.ctypes.data)


def _getter(names: tuple[str, ...]) -> Callable[[Mapping[str, int]], tuple[int, ...]]:
    if len(names) == 1:
        name = names[0]
        return lambda sizes: (sizes[name],)
    return itemgetter(*names)
