"""Builds the wheel, with the kernels of common models compiled for every family of processors: make wheel.

They are compiled by the C compiler that is here and serve any Linux on x86-64 with the C library of GLIBC or newer; on
other machines, and for other models, kernels are compiled at first use.
"""

import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from equiforce.kernels import build, cpu, cpu_local, cpu_nodes, cpu_pairs
from equiforce.kernels.cpu.targets import TARGETS, KernelSource
from equiforce.model_file import build_potential
from equiforce.models import PRESETS

GLIBC = (2, 31)
ROOT = Path(__file__).parents[1]
COMMON = (
    *PRESETS["nequip"].values(),
    {"l_max": 2, "channels": 32, "parity": True},
    {"l_max": 1, "channels": 64},
)


def untrained(kind: str, config: dict) -> torch.nn.Module:
    """A network of this shape."""
    described = {"kind": kind, "config": config, "species": ["H"], "dtype": "float32", "zbl": False}
    return build_potential({**described, "atomic_energies_trainable": False, "scale_trainable": False}).model


def common_kernels() -> list[KernelSource]:
    """What the common models need in float32, and what every model needs."""
    wanted: list[KernelSource] = list(cpu_pairs.needed())
    for dtype in (torch.float32, torch.float64):
        wanted += [*cpu_nodes.needed(dtype), *cpu_local.needed_for_lookup(dtype)]
        for l_max in range(4):
            wanted += cpu.needed_for_edges(l_max, dtype)
    for config in COMMON:
        for layer in untrained("nequip", config).layers:
            wanted += cpu.needed(layer.convolution.table, torch.float32, training=True)
    for config in PRESETS["allegro"].values():
        for number, layer in enumerate(untrained("allegro", config).layers):
            table = layer.table
            wanted += cpu_local.needed_for_environments(table.l_max, table.channels, torch.float32)
            wanted += cpu_local.needed_for_products(table, torch.float32, of_harmonics=number == 0)
    return list(dict.fromkeys(wanted))


def main() -> None:
    """Compiles, packs, and cleans up."""
    build.PREBUILT.mkdir(exist_ok=True)
    jobs = [(kernel, family) for kernel in common_kernels() for family in TARGETS.values()]
    try:
        with ThreadPoolExecutor(2) as pool:
            paths = list(pool.map(lambda job: build.compile_into(build.PREBUILT, *job), jobs))
        for path in paths:
            path.with_suffix(".c").unlink()
            symbols = subprocess.run(["objdump", "-T", path], capture_output=True, text=True, check=True).stdout
            needed = max((tuple(map(int, v)) for v in re.findall(r"GLIBC_(\d+)\.(\d+)", symbols)), default=(0, 0))
            if needed > GLIBC:
                sys.exit(f"{path.name} needs glibc {needed}, newer than the {GLIBC} that the wheel promises")
        size = sum(path.stat().st_size for path in paths) / 1e6
        print(f"{len(paths)} kernels, {size:.1f} MB")
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", "."]
        subprocess.run(pip, cwd=ROOT, check=True)
        (wheel,) = (ROOT / "dist").glob("*-py3-none-any.whl")
        tag = f"manylinux_{GLIBC[0]}_{GLIBC[1]}_x86_64"
        tags = [sys.executable, "-m", "wheel", "tags", "--platform-tag", tag, "--remove", str(wheel)]
        subprocess.run(tags, check=True)
    finally:
        shutil.rmtree(build.PREBUILT)
        shutil.rmtree(ROOT / "build", ignore_errors=True)


if __name__ == "__main__":
    main()
