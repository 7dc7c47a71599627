"""The only place that calls compiled C. All arguments are checked here.

A kernel takes one pointer to a struct of 8-byte fields. :class:`Arguments` describes this struct, with the shape and
dtype of the arrays behind its pointers. Both the C declaration and the bytes that are passed are made from this
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

from equiforce.checks import check_tensor
from equiforce.errors import InputError

Function = Callable[[Any], int]
Allocate = Callable[..., Tensor]  # Tensor.new_empty or Tensor.new_zeros


class Array(NamedTuple):
    """A pointer in the struct and the tensor behind it."""

    name: str
    shape: tuple[str, ...]  # names of sizes
    kind: Literal["scalar", "index", "double"] = "scalar"  # scalar: float or double, as the kernel's precision is
    result: bool = False  # whether C may write to it
    copies: bool = False  # whether each thread writes to its own copy, if the array is a result


C_TYPES = {"scalar": "S", "index": "long", "double": "double"}
CPU = torch.device("cpu")
DTYPES = {"index": torch.int64, "double": torch.float64}


class RecordArray(NamedTuple):
    """An array of structs that C reads, and its address; the memory lives as long as this object."""

    memory: np.ndarray
    address: int


@dataclass(frozen=True, eq=False)
class Arguments:
    """The struct of arguments of one kind of kernel.

    Args:
        name: name of the operation, for messages.
        rows: name of the size that is divided between threads.
        rows_per_thread: the smallest number of rows for which a thread is used.
        arrays: the tensors.
        sizes: names of the integer fields, in addition to ``n_parts``, the number of parts of the rows.
        doubles: names of the floating-point fields.
        records: pointers to arrays of :class:`Record`, as (name, C type).
        checks: name of the index whose range C checks; the kernel then returns 0, or 1 + the first wrong row.
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
        """Run a kernel.

        Args:
            function: the compiled kernel.
            like: a tensor of the kernel's precision, float32 or float64; results have the same.
            sizes: the value of each size that the fields and the shapes of the arrays name.
            given: the inputs by name, with any strides.
            made: the results by name, each with the method that allocates it: ``Tensor.new_empty`` or ``new_zeros``.
            doubles: the floating-point fields, in the order of the description.
            records: arrays of structs, in the order of the description.

        Returns:
            The results, contiguous and in the order of ``made``; if threads have copies, all copies [parts, ...].

        Raises:
            InputError: an input does not have the dtype, shape or device that the kernel expects, or C finds an index
                that is out of range.
        """
        n_rows, dtype = sizes[self.rows], like.dtype
        n_parts = max(1, min(torch.get_num_threads(), n_rows // self.rows_per_thread))
        fields = self._fields
        addresses = [0] * len(fields)
        kept: list[Tensor] = []  # copies that C reads: they must live until the call ends
        for name, tensor in given.items():
            if tensor is None:
                continue
            place, shape_of, own_dtype, _ = fields[name]
            shape = shape_of(sizes)
            if tensor.dtype is not (own_dtype or dtype) or tensor.shape != shape or not tensor.is_cpu:
                check_tensor(tensor, f"{self.name}: {name}", own_dtype or dtype, shape, CPU)
            if not tensor.is_contiguous():
                kept.append(tensor := tensor.contiguous())
            addresses[place] = tensor.data_ptr()
        results = []
        for name, allocate in made.items():
            place, shape_of, own_dtype, copies = fields[name]
            shape = shape_of(sizes)
            # separate integers, because torch takes twice as long to read them from a tuple
            result = allocate(like, n_parts, *shape) if copies else allocate(like, *shape)
            results.append(result)
            addresses[place] = result.data_ptr()
        if n_rows:
            starts = [record.address for record in records]
            packed = self._layout.pack(n_parts, *self._numbers(sizes), *doubles, *starts, *addresses)
            if (fault := function(packed)) and self.checks:
                wrong = f"{self.name}: {self.checks} of row {fault - 1} is out of range"
                raise InputError(f"{wrong}: use numbers from 0 to one less than the number of {self.checks}")
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


class _Field(NamedTuple):
    """The properties of an array that :meth:`Arguments.call` uses."""

    place: int  # index in the list of pointers
    shape_of: Callable[[Mapping[str, int]], tuple[int, ...]]
    dtype: torch.dtype | None  # None means the dtype of the kernel's scalars
    copies: bool  # whether each thread writes to its own copy


class Record(NamedTuple):
    """A C struct of integers and doubles; a kernel takes an array of such structs."""

    name: str
    integers: tuple[str, ...]
    doubles: tuple[str, ...] = ()

    def c_struct(self) -> str:
        """The C declaration of the struct."""
        factors = f" double {', '.join(self.doubles)};" if self.doubles else ""
        return f"typedef struct {{ long {', '.join(self.integers)};{factors} }} {self.name};\n"

    def array(self, rows: Sequence[tuple[int | float, ...]]) -> RecordArray:
        """Make an array of structs; each row has the values of one struct in the order of its fields."""
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
