"""The C source of edge vectors and of gradients with respect to positions: ``pairs.c``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from equiforce.kernels.cpu.launch import Arguments, Array
from equiforce.kernels.cpu.targets import PARALLEL, Target

TEXT = Path(__file__).parent / "pairs.c"
PairKind = Literal["vectors", "gradient", "differences"]
ARGUMENTS = Arguments(
    name="pairs",
    rows="n_edges",
    rows_per_thread=2048,
    sizes=("n_edges", "n_atoms", "n_structures"),
    checks="centers, neighbors, by_neighbor or structures",
    arrays=(
        Array("centers", ("n_edges",), "index"),
        Array("neighbors", ("n_edges",), "index"),
        Array("by_neighbor", ("n_edges",), "index"),
        Array("structures", ("n_atoms",), "index"),  # of each atom; a null pointer if there is one structure
        Array("positions", ("n_atoms", "three"), "double"),
        Array("shifts", ("n_edges", "three"), "double"),
        Array("cells", ("n_structures", "three", "three"), "double"),
        Array("vectors", ("n_edges", "three"), "double", result=True),  # r_ij, or dE/dr_ij
        Array("gradient", ("n_atoms", "three"), "double", result=True),  # dE/dr_i; the caller fills it with zeros
    ),
)


@dataclass(frozen=True)
class PairKernel:
    """``vectors``: r_ij; ``gradient``: dE/dr_i from dE/dr_ij; ``differences``: the transpose of ``gradient``."""

    kind: PairKind

    def source(self, target: Target) -> str:  # noqa: ARG002 - the source is the same for all processors
        """Return the C source; its function ``run`` takes a pointer to the struct of arguments."""
        run = f"void run(const Pairs *a) {{ {self.kind}(a); }}\n"
        return f"{PARALLEL}{ARGUMENTS.c_struct('Pairs')}{TEXT.read_text(encoding='utf-8')}\n{run}"
