"""The C source that evaluates splines on edges: ``lookup.c`` with its constants.

It computes rows_e = s_e B(t_e) table: a strength s times a derivative of cubic B-splines B at the knot coordinate t.
"""

from dataclasses import dataclass
from pathlib import Path

from equiforce.kernels.cpu.launch import Arguments, Array
from equiforce.kernels.cpu.targets import PARALLEL, Scalar, Target

TEXT = Path(__file__).parent / "lookup.c"
RESULTS = {"rows": 0, "strengths": 1, "table": 2}
ARGUMENTS = Arguments(
    name="lookup",
    rows="n_edges",
    rows_per_thread=128,
    checks="kinds",
    # result: the argument that is computed; order: of the derivative of B; n_numbers: size of the tables of all kinds
    sizes=("result", "order", "n_edges", "n_kinds", "n_rows", "n_columns", "n_numbers"),
    arrays=(
        Array("kinds", ("n_edges",), "index"),
        Array("knot_coordinates", ("n_edges",)),
        Array("given_strengths", ("n_edges",)),  # strengths if they are an input; a null pointer means that all are 1
        Array("rows", ("n_edges", "n_columns"), result=True),
        Array("table", ("n_kinds", "n_rows", "n_columns"), result=True, copies=True),
        Array("strengths", ("n_edges",), result=True),
    ),
)


@dataclass(frozen=True)
class LookupKernel:
    """Computes rows, strengths or the table, for derivatives of B of any order."""

    scalar: Scalar

    kind = "lookup"

    def source(self, target: Target) -> str:
        """Return the C source; its function ``run`` takes a pointer to the struct of arguments."""
        constants = f"#define S {self.scalar}\n#define W {target.width(self.scalar)}\n"
        return f"{constants}{PARALLEL}{ARGUMENTS.c_struct('Lookup')}{TEXT.read_text(encoding='utf-8')}"
