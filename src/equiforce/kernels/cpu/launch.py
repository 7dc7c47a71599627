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

Function = Callable[[Any], None]
Allocate = Callable[..., Tensor]  # torch.empty or torch.zeros


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
        """Runs a kernel.

        Args:
            function: the compiled kernel.
            dtype: of its scalars, float32 or float64.
            sizes: a number for each name in the shapes of the arrays, and for each of ``sizes``.
            given: the inputs by name, of any strides.
            made: the results by name, each with the function that allocates it.
            doubles: the factors, in the order of the description.
            records: arrays of structs, in the order of the description.

        Returns:
            The results, contiguous, in the order of ``made``; of one with copies, all of them.

        Raises:
            InputError: an input has another dtype, shape or device than the kernel expects.
        """
        n_rows = sizes[self.rows]
        n_parts = max(1, min(torch.get_num_threads(), n_rows // self.rows_per_thread))
        addresses: list[int] = []
        kept: dict[str, Tensor] = {}  # what C reads must not be freed during the call
        for array, shape_of in self._shapes:
            name = array.name
            if (allocate := made.get(name)) is not None:
                shape = (n_parts, *shape_of(sizes)) if array.copies else shape_of(sizes)
                tensor = allocate(shape, dtype=DTYPES.get(array.kind, dtype))
            elif (tensor := given.get(name)) is None:
                addresses.append(0)
                continue
            else:
                tensor = self._checked(tensor, array, DTYPES.get(array.kind, dtype), shape_of(sizes))
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
        """The tensor, contiguous, once its dtype, shape and device are right."""
        if tensor.dtype is not dtype:
            have, want = (str(kind).removeprefix("torch.") for kind in (tensor.dtype, dtype))
            raise InputError(f"{self.name}: {array.name} is {have}, and has to be {want} like the rest: convert it")
        if tensor.shape != shape:
            raise InputError(
                f"{self.name}: {array.name} has the shape {list(tensor.shape)}, and has to have {list(shape)}"
            )
        if not tensor.is_cpu:
            raise InputError(
                f"{self.name}: {array.name} is on {tensor.device}, and other tensors are on the CPU: move it"
            )
        return tensor.contiguous()


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
