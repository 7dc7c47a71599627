"""The C source of what happens on each atom: ``nodes.c`` with its constants."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from equiforce.kernels.cpu.targets import PARALLEL, Scalar, Target

TEXT = Path(__file__).parent / "nodes.c"


@dataclass(frozen=True)
class NodeKernel:
    """Features times the matrices of their species, or the gate."""

    scalar: Scalar
    kind: Literal["mix", "gate"]

    def source(self, target: Target) -> str:
        """The C source, whose one function ``run`` takes a pointer to its arguments."""
        constants = {
            "S": self.scalar,
            "DOUBLE": int(self.scalar == "double"),
            "W": target.width(self.scalar),
            "R": 8 if target.n_registers == 32 else 4,
            self.kind: "run",
        }
        return "".join(f"#define {name} {value}\n" for name, value in constants.items()) + PARALLEL + TEXT.read_text()
