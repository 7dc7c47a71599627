"""The generated Triton of strictly local models: readable, and compiled for a GPU without one.

Run as a module, it reports registers: python -m tests.kernels.gpu.codegen.test_local 32 32 32
"""

import ast
import sys
from pathlib import Path

import pytest

from equiforce.geometry.irreps import Irreps, hidden_irreps
from equiforce.kernels import CouplingTable
from equiforce.kernels.gpu import launch
from equiforce.kernels.gpu.codegen.local import environments, products
from tests.kernels.gpu.codegen.test_convolution import H100, keeps_its_layout, resources

INDICES = {"starts": "*i32", "by_row": "*i64", "kinds": "*i64"}
ENVIRONMENTS = ("environment", "weights", "harmonics")
COUPLE = ("couple_operator", "couple_environment", "couple_weights")
ACT = ("act_result", "act_operator", "act_features")


def table_of(*channels, odd=False, summed=True):
    irreps = hidden_irreps(channels, odd=odd)
    return CouplingTable(irreps, len(channels) - 1, irreps, summed)


def compiled(text, name, constants, *, n_warps=1, scalar="fp32"):
    """The kernel that a launch on an H100 would run."""
    triton = pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
    function = vars(launch.load(text, False))[name]
    types = {argument: "i32" if argument.startswith("n_") else f"*{scalar}" for argument in function.arg_names}
    types = {argument: INDICES.get(argument, kind) for argument, kind in types.items()}
    types |= dict.fromkeys(constants, "constexpr")
    aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(types.values()) if kind.startswith("*")}
    code = triton.compiler.ASTSource(function, types, constants, aligned)
    target = triton.backends.compiler.GPUTarget("cuda", H100, 32)
    return triton.compile(code, target=target, options={"num_warps": n_warps})


def of_module(module, name, *, n_warps=1, scalar="fp32", each=False):
    constants = {"ROWS": module.n_rows(n_warps), **({"starts": None} if each else {})}
    return compiled(module.text, name, constants, n_warps=n_warps, scalar=scalar)


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def names(text):
    return {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}


def test_sources_are_python_with_a_kernel_for_each_argument():
    table = products(table_of(4, 4, odd=True))
    assert {*COUPLE, *ACT} <= names(table.text)
    assert "4x0e" in ast.get_docstring(ast.parse(table.text))
    assert set(ENVIRONMENTS) <= names(environments(2, 5).text)
    assert "atomic" not in table.text


def test_the_same_table_gives_the_same_source():
    assert products.__wrapped__(table_of(4, 4)) == products(table_of(4, 4))
    assert products(table_of(4, 4)) != products(table_of(3, 3))


def test_programs_share_channels_and_a_large_operator():
    assert set(products(table_of(64, 64)).programs.values()) == {2}
    assert set(products(table_of(32, 32, 32)).programs.values()) == {1}
    large = products(table_of(32, 32, 32, odd=True))
    assert large.programs == {**dict.fromkeys(COUPLE, 2), **dict.fromkeys(ACT, 4)}
    assert {"act_result_3", "couple_weights_1"} <= names(large.text)


def test_tables_without_paths_have_sources():
    empty = products(CouplingTable(Irreps("2x3o"), 1, Irreps("1x0e")))
    assert {*COUPLE, *ACT} <= names(empty.text)


@pytest.mark.parametrize("n_warps", [pytest.param(1, marks=pytest.mark.slow), 4])
@pytest.mark.parametrize("name", [*COUPLE, *ACT])
def test_every_product_compiles(name, n_warps, compiler, tmp_path):
    kernel = of_module(products(table_of(6, 6, odd=True)), name, n_warps=n_warps)
    assert resources(kernel, tmp_path)[1] == 0


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_environment_compiles(name, each, compiler, tmp_path):
    kernel = of_module(environments(3, 32), name, n_warps=4, each=each)
    assert resources(kernel, tmp_path)[1] == 0
    assert keeps_its_layout(kernel)


@pytest.mark.slow
@pytest.mark.parametrize("scalar", ["fp32", "fp64"])
@pytest.mark.parametrize("name", ACT)
def test_a_usual_table_fits_into_registers_and_keeps_its_layout(name, scalar, compiler, tmp_path):
    kernel = of_module(products(table_of(32, 32, 32)), name, scalar=scalar)
    registers, stack = resources(kernel, tmp_path)
    assert registers <= (128 if scalar == "fp32" else 255)
    assert stack == 0
    assert keeps_its_layout(kernel)
    assert "bar.sync" not in kernel.asm["ptx"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*COUPLE, *ACT])
def test_a_large_table_fits_into_registers(name, compiler, tmp_path):
    kernel = of_module(products(table_of(32, 32, 32, odd=True, summed=False)), name, n_warps=4)
    assert resources(kernel, tmp_path)[1] == 0


def test_double_precision_has_no_single(compiler, tmp_path):
    for name in (*COUPLE, *ACT):
        assert ".f32" not in of_module(products(table_of(2, 2)), name, scalar="fp64").asm["ptx"]


def report(channels, folder):
    for module, kernels in ((products(table_of(*channels)), COUPLE + ACT), (environments(2, 32), ENVIRONMENTS)):
        for name in kernels:
            for n_warps in (1, 4):
                registers, stack = resources(of_module(module, name, n_warps=n_warps), folder)
                print(f"{name}, {n_warps} warps: {registers} registers, {stack} bytes of stack")


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        report([int(argument) for argument in sys.argv[1:]] or [32, 32, 32], Path(scratch))
