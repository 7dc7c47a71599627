"""The C source of linear maps and gates: ``nodes.c`` with its constants."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from equiforce.kernels.cpu.launch import Arguments, Array, Record
from equiforce.kernels.cpu.targets import PARALLEL, Scalar, Target

TEXT = Path(__file__).parent / "nodes.c"
NodeKind = Literal["linear", "gate"]
LINEAR_RESULTS = {"y": 0, "x": 1, "w": 2}  # the argument that is computed from the others; y_i = x_i W(species_i)
BLOCK = Record("Block", ("rows", "n_in", "n_out", "x", "y", "w"), ("scale",))
LINEAR = Arguments(
    name="linear",
    rows="n_atoms",
    rows_per_thread=64,
    sizes=("result", "n_atoms", "n_species", "n_blocks", "n_weights", "dim_x", "dim_y"),
    records=(("blocks", BLOCK.name),),
    checks="species",
    arrays=(
        Array("species", ("n_atoms",), "index"),  # a null pointer if there is one set of weights
        Array("x", ("n_atoms", "dim_x"), result=True),
        Array("w", ("n_species", "n_weights"), result=True, copies=True),
        Array("y", ("n_atoms", "dim_y"), result=True),
    ),
)
GATE_BLOCK = Record("GateBlock", ("activation", "rows", "channels", "x", "y", "gate"))
ACTIVATIONS = {"silu": 0, "tanh": 1, "gated": 2}
GATE = Arguments(
    name="gate",
    rows="n_atoms",
    rows_per_thread=64,
    # order 0 computes y; 1 computes gx from g; 2 computes the gradients of <dx, gx> with respect to g (dg) and x (gx)
    sizes=("order", "n_atoms", "n_blocks", "dim_x", "dim_y"),
    doubles=("silu_gain", "tanh_gain"),
    records=(("blocks", GATE_BLOCK.name),),
    arrays=(
        Array("x", ("n_atoms", "dim_x")),
        Array("g", ("n_atoms", "dim_y")),
        Array("dx", ("n_atoms", "dim_x")),
        Array("y", ("n_atoms", "dim_y"), result=True),
        Array("gx", ("n_atoms", "dim_x"), result=True),
        Array("dg", ("n_atoms", "dim_y"), result=True),
    ),
)
STRUCTS = BLOCK.c_struct() + LINEAR.c_struct("Linear") + GATE_BLOCK.c_struct() + GATE.c_struct("Gate")


@dataclass(frozen=True)
class NodeKernel:
    """``linear``: features times the matrices of the atom's species; ``gate``: the gate and its derivatives."""

    scalar: Scalar
    kind: NodeKind

    def source(self, target: Target) -> str:
        """Return the C source; its function ``run`` takes a pointer to the struct of arguments."""
        constants = {
            "S": self.scalar,
            "DOUBLE": int(self.scalar == "double"),
            "W": target.width(self.scalar),
            "R": 8 if target.n_registers == 32 else 4,
            self.kind: "run",
        }
        defines = "".join(f"#define {name} {value}\n" for name, value in constants.items())
        return defines + PARALLEL + STRUCTS + TEXT.read_text(encoding="utf-8")
