"""The families of processors that C is compiled for."""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch

Scalar = Literal["float", "double"]
SCALARS: dict[torch.dtype, Scalar] = {torch.float32: "float", torch.float64: "double"}


@dataclass(frozen=True)
class Target:
    """A family of processors: its vectors and the compiler's options for them."""

    name: str
    vector_bytes: int
    n_registers: int
    flags: tuple[str, ...]

    def width(self, scalar: Scalar) -> int:
        """Numbers in a vector."""
        return self.vector_bytes // (4 if scalar == "float" else 8)


TARGETS = {
    "avx512": Target("avx512", 64, 32, ("-march=x86-64-v4", "-mprefer-vector-width=512")),
    "avx2": Target("avx2", 32, 16, ("-march=x86-64-v3",)),
    "portable": Target("portable", 16, 16, ()),
}


@runtime_checkable
class Source(Protocol):
    """Something to compile; its repr says all that its text depends on."""

    kind: str

    def source(self, target: Target) -> str:
        """The C source, whose one function ``run`` takes a pointer to its arguments."""
