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

from equiforce.errors import InputError

Function = Callable[[Any], None]
Allocate = Callable[..., Tensor]  # torch.empty or torch.zeros


class Array(NamedTuple):
    """A pointer in the struct and the tensor behind it."""

    name: str
    shape: tuple[str, ...]  # names of sizes
    kind: Literal["scalar", "index", "double"] = "scalar"  # scalar: float or double, as the kernel's precision is
    result: bool = False  # whether C may write to it
    copies: bool = False  # whether each thread writes to its own copy, if the array is a result


C_TYPES = {"scalar": "S", "index": "long", "double": "double"}
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
    """

    name: str
    rows: str
    rows_per_thread: int
    arrays: tuple[Array, ...]
    sizes: tuple[str, ...]
    doubles: tuple[str, ...] = ()
    records: tuple[tuple[str, str], ...] = ()

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
        dtype: torch.dtype,
        sizes: Mapping[str, int],
        given: Mapping[str, Tensor | None],
        made: Mapping[str, Allocate],
        doubles: Sequence[float] = (),
        records: Sequence[RecordArray] = (),
    ) -> list[Tensor]:
        """Run a kernel.

        Args:
            function: the compiled kernel.
            dtype: dtype of the kernel's scalars, float32 or float64.
            sizes: the value of each size that the fields and the shapes of the arrays name.
            given: the inputs by name, with any strides.
            made: the results by name, each with the function that allocates it.
            doubles: the floating-point fields, in the order of the description.
            records: arrays of structs, in the order of the description.

        Returns:
            The results, contiguous and in the order of ``made``; if threads have copies, all copies [parts, ...].

        Raises:
            InputError: an input does not have the dtype, shape or device that the kernel expects.
        """
        n_rows = sizes[self.rows]
        n_parts = max(1, min(torch.get_num_threads(), n_rows // self.rows_per_thread))
        addresses: list[int] = []
        kept: dict[str, Tensor] = {}  # holds the tensors, because their memory must not be freed during the call
        for array, shape_of in self._shapes:
            name = array.name
            if (allocate := made.get(name)) is not None:
                shape = (n_parts, *shape_of(sizes)) if array.copies else shape_of(sizes)
                tensor = allocate(shape, dtype=DTYPES.get(array.kind, dtype))
            elif (value := given.get(name)) is not None:
                tensor = self._checked(value, array, DTYPES.get(array.kind, dtype), shape_of(sizes))
            else:
                addresses.append(0)
                continue
            kept[name] = tensor
            addresses.append(tensor.data_ptr())
        if n_rows:
            numbers = [sizes[name] for name in self.sizes]
            starts = [record.address for record in records]
            function(self._layout.pack(n_parts, *numbers, *doubles, *starts, *addresses))
        return [kept[name] for name in made]

    @cached_property
    def _layout(self) -> struct.Struct:
        n_pointers = len(self.records) + len(self.arrays)
        return struct.Struct("q" * (1 + len(self.sizes)) + "d" * len(self.doubles) + "P" * n_pointers)

    @cached_property
    def _shapes(self) -> list[tuple[Array, Callable[[Mapping[str, int]], tuple[int, ...]]]]:
        return [(array, _getter(array.shape)) for array in self.arrays]

    def _checked(self, tensor: Tensor, array: Array, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
        """Check dtype, shape and device of a tensor and return it contiguous."""
        if tensor.dtype is not dtype:
            have, want = (str(kind).removeprefix("torch.") for kind in (tensor.dtype, dtype))
            raise InputError(f"{self.name}: {array.name} is {have}, but has to be {want} like the rest: convert it")
        if tensor.shape != shape:
            raise InputError(
                f"{self.name}: {array.name} has the shape {list(tensor.shape)}, but has to have {list(shape)}"
            )
        if not tensor.is_cpu:
            raise InputError(
                f"{self.name}: {array.name} is on {tensor.device}, but other tensors are on the CPU: move it"
            )
        return tensor.contiguous()


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
