"""Compiling, keeping and loading, with the compiler that is here."""

import json
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from equiforce.cache import sound, user_folder
from equiforce.errors import InputError
from equiforce.geometry.irreps import Irreps
from equiforce.kernels import LinearPlan, Radial, convolve, linear
from equiforce.kernels.cpu import build
from equiforce.kernels.cpu import convolution as cpu
from equiforce.kernels.cpu import nodes as cpu_nodes
from equiforce.kernels.cpu.codegen.convolution import ConvolutionKernel
from equiforce.kernels.cpu.targets import TARGETS
from tests.fuzz import harness
from tests.kernels.cases import TABLES, assert_same, random_graph, random_inputs

PLAN = LinearPlan(Irreps("8x0e + 4x1o"), Irreps("8x0e + 4x1o"), 1)
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


def test_no_cut_or_flipped_file_is_loaded(fresh, monkeypatch):
    """A cut library ends the process that loads it, so each try is a process of its own."""
    x, weights, plan = torch.randn(10, 20), torch.randn(1, PLAN.n_weights), PLAN
    expected = linear(x, weights, None, plan, "reference")
    kernels = cpu_nodes.needed(torch.float32)
    whole = {build.compile_into(fresh, kernel, build.target()).name: kernel for kernel in kernels}
    content = {name: (fresh / name).read_bytes() for name in whole}
    compiled = []

    def compile_into(folder, kernel, family):  # what the compiler would make again
        name = build.file_name(kernel, family)
        compiled.append(name)
        (folder / f"{name}.draft").write_bytes(content[name])
        return (folder / f"{name}.draft").rename(folder / name)

    def attack(rng, folder):
        name, at = rng.choice(list(content)), rng.randrange(1 << 30)
        damaged = bytearray(content[name])
        if way := rng.random() < 0.5:
            del damaged[at % len(damaged) :]
        else:
            damaged[at % len(damaged)] ^= 1 << rng.randrange(8)
        (fresh / name).unlink()  # the process may use this file still
        (fresh / name).write_bytes(damaged)
        compiled.clear()
        result = linear(x, weights, None, plan, "cpu")
        monkeypatch.setattr(build, "_loaded", {})
        for cached in (cpu_nodes.ready, cpu_nodes._kernel):
            cached.cache_clear()
        right = torch.allclose(result, expected, rtol=1e-5, atol=1e-5)
        return f"{'cut' if way else 'flipped'}, {'right' if right and compiled == [name] else 'wrong'}"

    monkeypatch.setattr(build, "compile_into", compile_into)
    tally = harness.run(attack, fresh, tries=140)
    assert not tally.failures
    assert set(tally.counts) == {"cut, right", "flipped, right"}
    assert min(tally.counts.values()) >= 48


@pytest.mark.slow
def test_processes_at_the_same_time(fresh):
    """All of them find a cut file, and each loads a whole one."""
    program = (
        "import sys; from pathlib import Path; from equiforce.kernels.cpu import build\n"
        "from tests.kernels.cases import TABLES\n"
        "from equiforce.kernels.cpu.codegen.convolution import ConvolutionKernel\n"
        "build.PREBUILT, build.cache_folder = Path('none'), lambda: Path(sys.argv[1])\n"
        "build.prepare([ConvolutionKernel(TABLES['l1'], 'double', kind) for kind in ('forward',)]); print('done')"
    )
    command = [sys.executable, "-c", program, str(fresh)]
    path = build.compile_into(fresh, ConvolutionKernel(TABLES["l1"], "double", "forward"), build.target())
    path.write_bytes(path.read_bytes()[:5000])
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0].strip() for process in running] == ["done"] * 3
    assert sound(path) == path
    assert sorted(fresh.iterdir()) == [path.with_suffix(".c"), path]


ON_A_SMALL_DISK = """
import json, logging, os, sys
from pathlib import Path
import torch
from equiforce.geometry.irreps import Irreps
from equiforce.kernels import linear
from equiforce.kernels.cpu import build
from equiforce.kernels.spec.plans import LinearPlan

torch.set_num_threads(1)
disk, rooms = Path(sys.argv[1]), [int(room) for room in sys.argv[2:]]
build.PREBUILT = Path("none")
irreps = Irreps("8x0e + 4x1o")
plan = LinearPlan(irreps, irreps, 1)
x, weights = torch.randn(10, 20), torch.randn(1, plan.n_weights)
build.compiler(), build._is_gcc(), build._generator(), build.cache_folder()
for room in rooms:
    sys.stdout.flush()
    if (child := os.fork()) == 0:
        said = []
        logging.getLogger("equiforce").addFilter(lambda record: said.append(record.getMessage()))
        (disk / "rest").write_bytes(bytes(max(0, os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - room)))
        right = torch.allclose(linear(x, weights, None, plan), linear(x, weights, None, plan, "reference"), atol=1e-5)
        left = [file.name for file in (disk / "equiforce" / "kernels").iterdir()]
        unsound = [name for name in left if not (name.endswith(".c") or build.sound(disk / "equiforce/kernels" / name))]
        print(json.dumps([room, right, [line for line in said if "plain torch" in line], len(left), unsound]))
        sys.stdout.flush()
        for file in [disk / "rest", *(disk / "equiforce" / "kernels").iterdir()]:
            file.unlink()
        os._exit(0)
    os.waitpid(child, 0)
"""


def on_a_disk(folder, options, command):
    """Run a command in which a folder is a disk of its own, without leaving it mounted."""
    alone = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    mount = [*alone, "sh", "-c", f'mount -t tmpfs -o {options} none "$0" && exec "$@"', str(folder)]
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    return subprocess.run([*mount, *command], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_on_a_full_disk_plain_torch_computes_and_the_advice_is_right(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    rooms = [0, 12_288, 40_960, 73_728, 106_496, 400_000]
    command = [sys.executable, "-W", "ignore", "-c", ON_A_SMALL_DISK, str(tmp_path), *map(str, rooms)]
    result = on_a_disk(tmp_path, "size=1m", command)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer[0] for answer in answers] == rooms
    for room, right, said, n_files, unsound in answers:
        assert right
        assert not unsound
        if not said:  # there was room enough
            assert room > 20_000
            assert n_files == 4
            continue
        (line,) = said
        assert f"because the disk of {tmp_path}/equiforce/kernels is full (0." in line
        assert "MB are free): make room there, or set XDG_CACHE_HOME to a folder" in line
        assert "gcc" not in line
    assert {bool(said) for _, _, said, _, _ in answers} == {True, False}


@pytest.mark.slow
def test_on_a_disk_from_which_nothing_may_run_plain_torch_computes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    command = [sys.executable, "-W", "ignore", "-c", ON_A_SMALL_DISK, str(tmp_path), "1000000"]
    result = on_a_disk(tmp_path, "size=9m,noexec", command)
    _, right, (line,), _, _ = json.loads(result.stdout)
    assert right
    assert f"because kernels cannot be kept in {tmp_path}/equiforce/kernels (" in line
    assert "set XDG_CACHE_HOME to a folder of yours with room, from which programs may run" in line


def test_without_any_folder_plain_torch_computes(fresh, monkeypatch, caplog):
    def nowhere():
        raise InputError("compiled code cannot be kept: set XDG_CACHE_HOME to a folder")

    monkeypatch.setattr(build, "cache_folder", nowhere)
    assert _run(random_graph(5, 20)).isfinite().all()
    (said,) = {record.message for record in caplog.records if "plain torch" in record.message}
    assert said.endswith("because compiled code cannot be kept: set XDG_CACHE_HOME to a folder")


def _run(graph):
    x, harmonics, values, knot_coordinates = random_inputs(TABLE, graph, torch.float32)
    return convolve(x, harmonics, Radial(values, knot_coordinates), graph, TABLE)


def _gradients(graph):
    """With respect to features, nine harmonics and knot coordinates: more harmonics than some vectors have lanes."""
    table = TABLES["to-scalars"]
    x, harmonics, values, knot_coordinates = random_inputs(table, graph, torch.float32)
    inputs = [x.requires_grad_(), harmonics.requires_grad_(), knot_coordinates.requires_grad_()]
    return torch.autograd.grad(convolve(x, harmonics, Radial(values, knot_coordinates), graph, table).sum(), inputs)


@pytest.mark.parametrize(
    ("commands", "reason"), [((), "there is no C compiler"), (("false",), "false failed")], ids=["none", "broken"]
)
def test_without_a_compiler_the_reference_computes_and_one_line_says_so(fresh, monkeypatch, caplog, commands, reason):
    expected = _run(random_graph(5, 20))
    monkeypatch.setattr(build, "_loaded", {})
    for path in fresh.iterdir():
        path.unlink()
    cpu.ready.cache_clear()
    monkeypatch.setattr(build, "COMPILERS", commands)
    monkeypatch.setattr(build, "find_spec", lambda _: None)
    monkeypatch.setattr(build, "compiler", build.compiler.__wrapped__)
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
    graph = random_graph(30, 500)
    expected, forces = _run(graph), _gradients(graph)
    monkeypatch.setattr(build, "_loaded", {})
    cpu._kernel.cache_clear()
    cpu.ready.cache_clear()
    monkeypatch.setattr(build, "target", lambda: TARGETS[family])
    torch.testing.assert_close(_run(graph), expected, rtol=1e-5, atol=1e-5)
    assert_same(_gradients(graph), forces, 1e-5)
    assert {path.name.split("-")[1] for path in fresh.glob("forward*.so")} >= {family}


def test_kernels_have_their_folder_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build.cache_folder() == user_folder("kernels") == tmp_path / "equiforce" / "kernels"
