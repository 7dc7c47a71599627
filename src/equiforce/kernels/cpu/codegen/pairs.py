"""The C source of what happens between two atoms: ``pairs.c``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from equiforce.kernels.cpu.targets import PARALLEL, Target

TEXT = Path(__file__).parent / "pairs.c"


@dataclass(frozen=True)
class PairKernel:
    """Vectors between atoms, the gradient of positions from theirs, or the transpose of that; in double precision."""

    kind: Literal["vectors", "gradient", "differences"]

    def source(self, target: Target) -> str:  # noqa: ARG002 - there is nothing to unroll
        """The C source, whose one function ``run`` takes a pointer to its arguments."""
        return f"{PARALLEL}{TEXT.read_text()}\nvoid run(const Pairs *a) {{ {self.kind}(a); }}\n"
