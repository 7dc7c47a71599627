"""The only place that calls compiled C. All arguments are checked here.

A kernel takes one pointer to a struct of 8-byte fields. :class:`Arguments` describes this struct, with the shape and
dtype of the arrays behind its pointers. Both the C declaration and the bytes that are passed are made from this
description, so they cannot differ.
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, NoReturn, Protocol

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

    @cached_property
    def call(self) -> "Call":
        """The function that checks the inputs, allocates the results, and calls a kernel.

        Its Python code is generated, because a loop over the arrays takes 2 µs more, and a step of a small molecule
        calls some fifty kernels within 2.5 ms.
        """
        names: dict[str, Any] = {
            "CPU": CPU,
            "check": check_tensor,
            "n_threads": torch.get_num_threads,
            "pack": self._layout.pack,
            "refuse_row": self._refuse_row,
            **DTYPES,
        }
        defined: dict[str, Call] = {}
        exec("\n".join(self._lines()), names, defined)
        (call,) = defined.values()
        return call

    def _lines(self) -> Iterator[str]:
        """Write ``call``. Copies of inputs live until the kernel ends, because local variables hold them."""
        yield "def call(function, like, sizes, given, made, doubles=(), records=()):"
        yield f"    scalar, n, results = like.dtype, sizes[{self.rows!r}], []"
        yield f"    n_parts = max(1, min(n_threads(), n // {self.rows_per_thread}))"
        for array in self.arrays:
            yield from (f"    {line}" for line in self._lines_of(array))
        fields = [
            "n_parts",
            *(f"sizes[{name!r}]" for name in self.sizes),
            "*doubles",
            *(f"records[{number}].address" for number in range(len(self.records))),
            *(f"address_{array.name}" for array in self.arrays),
        ]
        yield f"    if n and (fault := function(pack({', '.join(fields)}))) and {bool(self.checks)}:"
        yield "        refuse_row(fault - 1)"
        yield "    return results"

    def _lines_of(self, array: Array) -> Iterator[str]:
        """Write the part of ``call`` that computes the address of an array."""
        tensor, shape = f"array_{array.name}", "".join(f"sizes[{name!r}], " for name in array.shape)
        yield f"address_{array.name} = 0"
        yield f"if ({tensor} := given.get({array.name!r})) is not None:"
        yield f"    if {tensor}.dtype is not {array.kind} or {tensor}.shape != ({shape}) or not {tensor}.is_cpu:"
        yield f"        check({tensor}, '{self.name}: {array.name}', {array.kind}, ({shape}), CPU)"
        yield f"    if not {tensor}.is_contiguous() or {tensor}.is_neg():"  # torch may keep a sign beside the memory
        yield f"        {tensor} = {tensor}.resolve_neg().contiguous()"
        yield f"    address_{array.name} = {tensor}.data_ptr()"
        if array.result:
            # separate integers, because torch takes twice as long to read them from a tuple
            yield f"elif (allocate := made.get({array.name!r})) is not None:"
            yield f"    results.append(allocate(like, {'n_parts, ' if array.copies else ''}{shape}))"
            yield f"    address_{array.name} = results[-1].data_ptr()"

    @cached_property
    def _layout(self) -> struct.Struct:
        n_pointers = len(self.records) + len(self.arrays)
        return struct.Struct("q" * (1 + len(self.sizes)) + "d" * len(self.doubles) + "P" * n_pointers)

    def _refuse_row(self, row: int) -> NoReturn:
        """Raise the InputError of a row in which C has found an index that is out of range."""
        wrong = f"{self.name}: {self.checks} of row {row} is out of range"
        raise InputError(f"{wrong}: use numbers from 0 to one less than the number of {self.checks}")


class Call(Protocol):
    """Runs a kernel."""

    def __call__(
        self,
        function: Function,
        like: Tensor,
        sizes: Mapping[str, int],
        given: Mapping[str, Tensor | None],
        made: Mapping[str, Allocate],
        doubles: Sequence[float] = (),
        records: Sequence[RecordArray] = (),
    ) -> list[Tensor]:
        """Check the inputs, allocate the results, and call the kernel.

        Args:
            function: the compiled kernel.
            like: a tensor of the kernel's precision, float32 or float64; results have the same.
            sizes: the value of each size that the fields and the shapes of the arrays name.
            given: the inputs by name, with any strides.
            made: the results by name, each with the method that allocates it: ``Tensor.new_empty`` or ``new_zeros``.
            doubles: the floating-point fields, in the order of the description.
            records: arrays of structs, in the order of the description.

        Returns:
            The results, contiguous and in the order of the arrays; if threads have copies, all copies [parts, ...].

        Raises:
            InputError: an input does not have the dtype, shape or device that the kernel expects, or C finds an index
                that is out of range.
        """


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
