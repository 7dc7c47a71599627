"""Compiling, keeping and loading, with the compiler that is here."""

import logging
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from equiforce.kernels import Radial, convolve
from equiforce.kernels.cpu import build
from equiforce.kernels.cpu import convolution as cpu
from equiforce.kernels.cpu import nodes as cpu_nodes
from equiforce.kernels.cpu.codegen.convolution import ConvolutionKernel
from equiforce.kernels.cpu.targets import TARGETS
from tests.kernels.cases import TABLES, random_graph, random_inputs

TABLE = TABLES["l1"]


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """A machine that has compiled nothing yet."""
    monkeypatch.setattr(build, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(build, "PREBUILT", tmp_path / "none")
    monkeypatch.setattr(build, "_loaded", {})
    caches = (cpu.ready, cpu.edges_ready, cpu._kernel, cpu._edge_kernel, cpu_nodes.ready, cpu_nodes._kernel)
    for cached in (*caches, build.tell_once):
        cached.cache_clear()
    yield tmp_path
    for cached in (*caches, build.tell_once):
        cached.cache_clear()


def test_compiled_once_and_found_again(fresh, monkeypatch):
    kernel = ConvolutionKernel(TABLE, "float", "forward")
    build.prepare([kernel])
    assert sorted(path.suffix for path in fresh.iterdir()) == [".c", ".so"]
    monkeypatch.setattr(build, "_loaded", {})
    monkeypatch.setattr(build, "compile_into", lambda *_: pytest.fail("compiled again"))
    build.prepare([kernel])


def test_the_name_tells_kernels_targets_and_versions_apart(monkeypatch):
    kernel, family = ConvolutionKernel(TABLE, "float", "forward"), TARGETS["avx2"]
    names = {
        build.file_name(kernel, family),
        build.file_name(replace(kernel, scalar="double"), family),
        build.file_name(replace(kernel, table=TABLES["l2"]), family),
        build.file_name(replace(kernel, jvp=True), family),
        build.file_name(kernel, TARGETS["avx512"]),
    }
    monkeypatch.setattr(build, "_generator", lambda: "another version")
    assert len(names | {build.file_name(kernel, family)}) == 6


def test_a_damaged_file_is_compiled_again(fresh, monkeypatch):
    kernel = ConvolutionKernel(TABLE, "float", "forward")
    (fresh / build.file_name(kernel, build.target())).write_bytes(b"half of a file")
    build.prepare([kernel])
    assert kernel in build._loaded


@pytest.mark.slow
def test_processes_at_the_same_time(fresh):
    program = (
        "import sys; from pathlib import Path; from equiforce.kernels.cpu import build\n"
        "from tests.kernels.cases import TABLES\n"
        "from equiforce.kernels.cpu.codegen.convolution import ConvolutionKernel\n"
        "build.cache_folder = lambda: Path(sys.argv[1])\n"
        "build.prepare([ConvolutionKernel(TABLES['l1'], 'double', kind) for kind in ('forward',)]); print('done')"
    )
    command = [sys.executable, "-c", program, str(fresh)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0].strip() for process in running] == ["done"] * 3
    assert len(list(fresh.glob("*.so"))) == 1
    assert not [path for path in fresh.iterdir() if path.is_dir()]


def _run(graph):
    x, harmonics, values, knot_coordinates = random_inputs(TABLE, graph, torch.float32)
    return convolve(x, harmonics, Radial(values, knot_coordinates), graph, TABLE)


@pytest.mark.parametrize(
    ("command", "reason"), [(None, "there is no C compiler"), (("false",), "false failed")], ids=["none", "broken"]
)
def test_without_a_compiler_the_reference_computes_and_one_line_says_so(fresh, monkeypatch, caplog, command, reason):
    def no_compiler():
        if command is None:
            raise build.NoCompilerError("there is no C compiler")
        return command

    expected = _run(random_graph(5, 20))
    monkeypatch.setattr(build, "_loaded", {})
    for path in fresh.iterdir():
        path.unlink()
    cpu.ready.cache_clear()
    monkeypatch.setattr(build, "compiler", no_compiler)
    with caplog.at_level(logging.WARNING, logger="equiforce"):
        for _ in range(3):
            actual = _run(random_graph(5, 20))
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    told = [record.message for record in caplog.records if "plain torch" in record.message]
    assert len(told) == 1
    assert reason in told[0]
    assert "equiforce[compiler]" in told[0]


@pytest.mark.parametrize("family", TARGETS)
def test_every_family_computes_the_same(fresh, monkeypatch, family):
    capabilities = {"avx512": {"AVX512"}, "avx2": {"AVX512", "AVX2"}, "portable": {"AVX512", "AVX2", "DEFAULT"}}
    if torch.backends.cpu.get_cpu_capability() not in capabilities[family]:
        pytest.skip(f"this processor has no {family}")
    expected = _run(random_graph(30, 500))
    monkeypatch.setattr(build, "_loaded", {})
    cpu._kernel.cache_clear()
    cpu.ready.cache_clear()
    monkeypatch.setattr(build, "target", lambda: TARGETS[family])
    torch.testing.assert_close(_run(random_graph(30, 500)), expected, rtol=1e-5, atol=1e-5)
    assert {path.name.split("-")[1] for path in fresh.glob("forward*.so")} >= {family}
