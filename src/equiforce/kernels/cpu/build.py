"""Compile the C source of a kernel once on a machine, keep the result on disk, and load it as a function."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch

from equiforce.kernels.cache import cache_folder, tell_once
from equiforce.kernels.cpu.launch import Function
from equiforce.kernels.cpu.targets import TARGETS, KernelSource, Target
from equiforce.threads import openmp_runtime

PREBUILT = Path(__file__).parents[1] / "prebuilt"
COMPILERS = ("cc", "gcc", "clang")
LINKING = ("-shared", "-pthread")
FLAGS: tuple[str, ...] = (
    "-O2",
    "-std=gnu11",
    "-fPIC",
    "-shared",
    "-w",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-pthread",
)


class NoCompilerError(RuntimeError):
    """There is no C compiler, or it failed."""


_loaded: dict[KernelSource, Function] = {}


def function(kernel: KernelSource) -> Function:
    """Return the function of a kernel; compile it if this machine has not done so before."""
    found = _loaded.get(kernel)
    if found is None:
        prepare([kernel])
        found = _loaded[kernel]
    return found


def ready(kernels: Sequence[KernelSource]) -> bool:
    """Compile the missing kernels and return whether all can be used; if not, log the reason once."""
    if all(kernel in _loaded for kernel in kernels):
        return True
    try:
        prepare(kernels)
    except NoCompilerError as error:
        tell_once(
            f"equiforce computes with plain torch, which is many times slower, because {error}: install gcc or clang, "
            "or run pip install 'equiforce[compiler]'"
        )
        return False
    return True


def prepare(kernels: Sequence[KernelSource]) -> None:
    """Compile the missing kernels in parallel and load all of them.

    Raises:
        NoCompilerError: a kernel is missing and cannot be compiled.
    """
    wanted = [kernel for kernel in dict.fromkeys(kernels) if kernel not in _loaded]
    missing = []
    for kernel in wanted:
        if (found := _load_first(kernel)) is not None:
            _loaded[kernel] = found
        else:
            missing.append(kernel)
    if not missing:
        return
    compiler()
    folder = cache_folder()
    tell_once(f"compiling kernels for this model, once on this machine (kept in {folder})")
    with ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)))) as pool:
        for kernel, path in zip(missing, pool.map(lambda k: compile_into(folder, k, target()), missing), strict=True):
            _loaded[kernel] = _load(path)


@cache
def target() -> Target:
    """The family of processors to which this machine belongs."""
    family = {"AVX512": "avx512", "AVX2": "avx2"}.get(torch.backends.cpu.get_cpu_capability(), "portable")
    return TARGETS[family]


def file_name(kernel: KernelSource, family: Target) -> str:
    """The file name of a compiled kernel, with a hash of the kernel, the family, the options and the generators."""
    described = f"{kernel} {family} {FLAGS} {_generator()}"
    return f"{kernel.kind}-{family.name}-{hashlib.sha256(described.encode()).hexdigest()[:20]}.so"


@cache
def _generator() -> str:
    """A hash of the source files and tables from which kernels are generated."""
    package = Path(__file__).parents[2]
    folders = (package / "geometry", package / "kernels" / "spec", Path(__file__).parent)
    files = sorted(file for folder in folders for file in folder.rglob("*") if file.suffix in (".py", ".c", ".npz"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def compile_into(folder: Path, kernel: KernelSource, family: Target) -> Path:
    """Compile a kernel into a folder; several processes may do this at the same time."""
    path = folder / file_name(kernel, family)
    text = path.with_suffix(".c")
    with tempfile.TemporaryDirectory(dir=folder) as workshop:
        draft, binary = Path(workshop) / text.name, Path(workshop) / path.name
        draft.write_text(kernel.source(family))
        # -fopenmp goes to the compiler but not to the linker: a second OpenMP runtime would double the threads
        openmp = ("-fopenmp",) if openmp_runtime() and _is_gcc() else ()
        steps = (
            [*compiler(), *FLAGS, *_spelled(family.flags), *openmp, "-c", str(draft), "-o", f"{binary}.o"],
            [*compiler(), *LINKING, f"{binary}.o", "-o", str(binary)],
        )
        for command in steps:
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                raise NoCompilerError(f"{command[0]} failed: {result.stderr.strip()[-500:]}")
        draft.replace(text)
        binary.replace(path)
    return path


@cache
def compiler() -> tuple[str, ...]:
    """The command of the C compiler: the system's, or the one that ``equiforce[compiler]`` installs from PyPI."""
    for name in COMPILERS:
        if path := shutil.which(name):
            return (path,)
    if find_spec("ziglang") is not None:
        return (sys.executable, "-m", "ziglang", "cc")
    raise NoCompilerError("there is no C compiler")


def _spelled(flags: tuple[str, ...]) -> list[str]:
    """Spell the options for the compiler: zig reads the hyphens in the name of a processor as minus signs."""
    zig = "ziglang" in compiler()
    return [flag.replace("x86-64-v", "x86_64_v") if zig else flag for flag in flags]


@cache
def _is_gcc() -> bool:
    """Whether the compiler is gcc; only gcc's OpenMP code can use torch's runtime."""
    result = subprocess.run([*compiler(), "--version"], capture_output=True, text=True, check=False)
    return "Free Software Foundation" in result.stdout


def _load_first(kernel: KernelSource) -> Function | None:
    name = file_name(kernel, target())
    for folder in (PREBUILT, cache_folder()):
        if (folder / name).exists():
            try:
                return _load(folder / name)
            except OSError:  # a damaged file: the kernel is compiled again
                continue
    return None


def _load(path: Path) -> Function:
    if runtime := openmp_runtime():
        ctypes.CDLL(runtime, mode=ctypes.RTLD_GLOBAL)
    run = ctypes.CDLL(str(path)).run
    run.argtypes, run.restype = [ctypes.c_void_p], ctypes.c_long
    return run
