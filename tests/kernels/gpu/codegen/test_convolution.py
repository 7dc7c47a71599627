"""The generated Triton: readable, and compiled for a GPU without one. Run as a module, it reports registers and times.

python -m tests.kernels.gpu.codegen.test_convolution 32 32 32
"""

import ast
import re
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from equiforce.geometry.irreps import hidden_irreps
from equiforce.kernels.gpu import launch
from equiforce.kernels.gpu.codegen.convolution import FLAGS, source
from equiforce.kernels.gpu.programs import KERNEL_KINDS
from equiforce.kernels.spec.paths import PathTable

H100 = 90  # its compute capability
INDICES = {"neighbors", "order", "centers", "starts"}
LENGTHS = {"n_rows", "n_edges"}
FORCES = [("forward", {}), ("backward", {"X": True, "GEOMETRY": True})]
TRAINING = [
    ("backward", {"X": True}),
    ("knots", {}),
    ("forward", {"JVP": True}),
    ("backward", {"X": True, "JVP": True}),
    ("knots", {"JVP": True}),
]
HESSIAN = [("backward", {"X": True, "GEOMETRY": True, "JVP": True})]


def table_of(*channels, odd=False):
    irreps = hidden_irreps(channels, odd=odd)
    return PathTable(irreps, len(channels) - 1, irreps)


def compiled(table, kind, flags, *, n_warps=1, scalar="fp32"):
    """The kernel that a launch on an H100 would run."""
    triton = pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
    function = getattr(launch.load(source(table), False), kind)
    types, constants = {}, {}
    for name in function.arg_names:
        absent = (name in {"dx", "dy", "dt"} and not flags.get("JVP")) or (name == "gx" and not flags.get("X"))
        if name in FLAGS[kind]:
            constants[name] = 32 * n_warps if name == "LANES" else flags.get(name, False)
        elif absent or (name == "geometry" and not flags.get("GEOMETRY")):
            constants[name] = None
        types[name] = "constexpr" if name in constants else f"*{'i32' if name in INDICES else scalar}"
        types[name] = "i32" if name in LENGTHS else types[name]
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(types) if types[name].startswith("*")}
    code = triton.compiler.ASTSource(function, types, constants, aligned)
    target = triton.backends.compiler.GPUTarget("cuda", H100, 32)
    return triton.compile(code, target=target, options={"num_warps": n_warps})


def resources(kernel, folder):
    """Registers of a thread, and bytes of its stack, where what does not fit is spilled."""
    import triton

    file = folder / "kernel.cubin"
    file.write_bytes(kernel.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    text = subprocess.run([tool, "-res-usage", file], capture_output=True, text=True, check=True).stdout
    used = [tuple(map(int, found)) for found in re.findall(r"REG:(\d+) STACK:(\d+)", text)]
    return max(registers for registers, _ in used), max(stack for _, stack in used)


def keeps_its_layout(kernel):
    """Whether nothing is handed from thread to thread between two layouts; compilers before Triton 3.7 do so."""
    import triton

    compiler = tuple(map(int, triton.__version__.split(".")[:2]))
    return compiler < (3, 7) or "convert_layout" not in kernel.asm["ttgir"]


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def test_source_is_python_with_a_kernel_for_each_kind():
    tree = ast.parse(source(table_of(4, 3, 2, odd=True)))
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert set(KERNEL_KINDS) <= names
    assert "4x0e" in ast.get_docstring(tree)


def test_the_same_table_gives_the_same_source():
    assert source(table_of(4, 3)) == source(table_of(4, 3))
    assert source(table_of(4, 3)) != source(table_of(3, 4))


def test_nothing_is_added_atomically():
    assert "atomic" not in source(table_of(4, 4, 4))


@pytest.mark.parametrize(("kind", "flags"), FORCES + TRAINING + HESSIAN)
@pytest.mark.parametrize("n_warps", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_every_kernel_compiles(kind, flags, n_warps, compiler, tmp_path):
    kernel = compiled(table_of(6, 2, odd=True), kind, flags, n_warps=n_warps)
    assert resources(kernel, tmp_path)[1] == 0


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "flags"), FORCES)
def test_a_usual_table_fits_into_registers_and_keeps_its_layout(kind, flags, compiler, tmp_path):
    kernel = compiled(table_of(32, 32, 32), kind, flags)
    registers, stack = resources(kernel, tmp_path)
    assert registers <= 168
    assert stack == 0
    assert keeps_its_layout(kernel)
    assert "bar.sync" not in kernel.asm["ptx"]


def test_double_precision_has_exact_constants(compiler, tmp_path):
    ptx = compiled(table_of(2, 2), "forward", {}, scalar="fp64").asm["ptx"]
    assert f"0d{struct.pack('>d', 0.577350269189626).hex().upper()}" in ptx  # sqrt(1/3), as paths.combination rounds it
    assert ".f32" not in ptx


def report(channels, folder):
    table = table_of(*channels)
    for kind, flags in FORCES + TRAINING + HESSIAN:
        for n_warps in (1, 4):
            start = time.time()
            kernel = compiled(table, kind, flags, n_warps=n_warps)
            registers, stack = resources(kernel, folder)
            what = f"{kind} {' '.join(flags)}, {n_warps} warps"
            print(f"{what:40} {time.time() - start:5.1f} s, {registers} registers, {stack} bytes of stack")


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        report([int(argument) for argument in sys.argv[1:]] or [32, 32, 32], Path(scratch))
