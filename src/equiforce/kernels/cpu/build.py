"""Compile the C source of a kernel once on a machine, keep the result on disk, and load it as a function."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch

from equiforce.cache import lack_of_room, seal, sound, tell_once, whole, workshop, writable_folder
from equiforce.errors import InputError
from equiforce.forks import openmp_runtime
from equiforce.kernels.cpu.launch import Function
from equiforce.kernels.cpu.targets import TARGETS, KernelSource, Target

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


REMEDY = "install gcc or clang, or run pip install 'equiforce[compiler]'"
NO_PLACE = "make room there, or set XDG_CACHE_HOME to a folder of yours with room, from which programs may run"


class NoCompilerError(RuntimeError):
    """There is no C compiler, or it failed, or there is no place for what it makes; the message says what helps."""


_loaded: dict[KernelSource, Function] = {}


def cache_folder() -> Path:
    """The folder of compiled kernels in the user's cache, or a temporary folder if that cannot be used."""
    return writable_folder("kernels")


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
        tell_once(f"equiforce computes with plain torch, which is many times slower, because {error}")
        return False
    return True


def prepare(kernels: Sequence[KernelSource]) -> None:
    """Compile the missing kernels in parallel and load all of them.

    Raises:
        NoCompilerError: a kernel is missing and cannot be compiled, or cannot be kept.
    """
    wanted = [kernel for kernel in dict.fromkeys(kernels) if kernel not in _loaded]
    missing = []
    try:
        for kernel in wanted:
            if (found := _load_first(kernel)) is not None:
                _loaded[kernel] = found
            else:
                missing.append(kernel)
        if missing:
            _compile(missing, cache_folder())
    except InputError as error:
        raise NoCompilerError(str(error)) from None


def _compile(missing: Sequence[KernelSource], folder: Path) -> None:
    compiler()
    tell_once(f"compiling kernels for this model, once on this machine (kept in {folder})")
    with ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)))) as pool:
        try:
            paths = pool.map(lambda kernel: compile_into(folder, kernel, target()), missing)
            for kernel, path in zip(missing, paths, strict=True):
                _loaded[kernel] = _load(path)
        except OSError as error:
            reason = lack_of_room(folder, error) or f"kernels cannot be kept in {folder} ({error})"
            raise NoCompilerError(f"{reason}: {NO_PLACE}") from None


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
    with workshop(folder) as drafts:
        draft, binary = drafts / text.name, drafts / path.name
        draft.write_text(kernel.source(family), encoding="utf-8")
        # -fopenmp goes to the compiler but not to the linker: a second OpenMP runtime would double the threads
        openmp = ("-fopenmp",) if openmp_runtime() and _is_gcc() else ()
        steps = (
            [*compiler(), *FLAGS, *_spelled(family.flags), *openmp, "-c", str(draft), "-o", f"{binary}.o"],
            [*compiler(), *LINKING, f"{binary}.o", "-o", str(binary)],
        )
        # in a group of its own, because a signal to ours, such as Ctrl-C, would end it as if it had failed;
        # the compiler's own drafts are removed with ours, and its messages are those that lack_of_room knows
        environment = {**os.environ, "TMPDIR": str(drafts), "LC_ALL": "C"}  # noqa: TID251 - of the compiler
        for command in steps:
            result = subprocess.run(
                command,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                check=False,
                env=environment,
                process_group=0,
            )
            if result.returncode:
                if reason := lack_of_room(folder, result.stderr):
                    raise NoCompilerError(f"{reason}: {NO_PLACE}")
                raise NoCompilerError(f"{command[0]} failed: {_said(result)}: {REMEDY}")
        seal(binary, path.name)
        draft.replace(text)
        binary.replace(path)
    return path


def _said(ended: "subprocess.CompletedProcess[str]") -> str:
    return ended.stderr.strip()[-500:] or f"it said nothing and ended with status {ended.returncode}"


@cache
def compiler() -> tuple[str, ...]:
    """The command of the C compiler: the system's, or the one that ``equiforce[compiler]`` installs from PyPI."""
    for name in COMPILERS:
        if path := shutil.which(name):
            return (path,)
    if find_spec("ziglang") is not None:
        return (sys.executable, "-m", "ziglang", "cc")
    raise NoCompilerError(f"there is no C compiler: {REMEDY}")


def _spelled(flags: tuple[str, ...]) -> list[str]:
    """Spell the options for the compiler: zig reads the hyphens in the name of a processor as minus signs."""
    zig = "ziglang" in compiler()
    return [flag.replace("x86-64-v", "x86_64_v") if zig else flag for flag in flags]


@cache
def _is_gcc() -> bool:
    """Whether the compiler is gcc; only gcc's OpenMP code can use torch's runtime."""
    result = subprocess.run(
        [*compiler(), "--version"], capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    return "Free Software Foundation" in result.stdout


def _load_first(kernel: KernelSource) -> Function | None:
    name = file_name(kernel, target())
    # whoever can write to PREBUILT can write to this module too
    for find in (lambda: whole(PREBUILT / name), lambda: sound(cache_folder() / name)):
        if (path := find()) is not None:
            try:
                return _load(path)
            except OSError:  # such as a file for another kind of machine: the kernel is compiled again
                continue
    return None


def _load(path: Path) -> Function:
    if runtime := openmp_runtime():
        ctypes.CDLL(runtime, mode=ctypes.RTLD_GLOBAL)
    run = ctypes.CDLL(str(path)).run
    run.argtypes, run.restype = [ctypes.c_void_p], ctypes.c_long
    return run
