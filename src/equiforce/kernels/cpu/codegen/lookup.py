"""The C source of splines that are read edge by edge: ``lookup.c`` with its constants."""

from dataclasses import dataclass
from pathlib import Path

from equiforce.kernels.cpu.targets import PARALLEL, Scalar, Target

TEXT = Path(__file__).parent / "lookup.c"


@dataclass(frozen=True)
class LookupKernel:
    """Values, strengths or the table, by derivatives of any order."""

    scalar: Scalar

    kind = "lookup"

    def source(self, target: Target) -> str:
        """The C source, whose one function ``run`` takes a pointer to its arguments."""
        return f"#define S {self.scalar}\n#define W {target.width(self.scalar)}\n{PARALLEL}{TEXT.read_text()}"
