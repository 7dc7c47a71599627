"""Builds the wheel with compiled kernels of common models for all processor families: make wheel.

The C compiler of this machine compiles the kernels, which then run on any Linux on x86-64 with glibc ``GLIBC`` or
newer. On other machines, and for other models, kernels are compiled at first use.
"""

import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from equiforce.calculators.untrained import untrained
from equiforce.kernels.cpu import build, convolution, local, nodes, pairs
from equiforce.kernels.cpu.targets import TARGETS, KernelSource
from equiforce.models import REGISTRY

GLIBC = (2, 31)
ROOT = Path(__file__).parents[1]
COMMON = (
    *((kind, options) for kind in ("nequip", "allegro") for options in REGISTRY[kind].presets.values()),
    ("nequip", {"l_max": 2, "channels": 32, "parity": True}),
    ("nequip", {"l_max": 1, "channels": 64}),
)


def common_kernels() -> list[KernelSource]:
    """Return the kernels of the common models in float32, and those that most models share."""
    wanted: list[KernelSource] = list(pairs.needed())
    for dtype in (torch.float32, torch.float64):
        wanted += [*nodes.needed(dtype), *local.needed_for_lookup(dtype)]
        for l_max in range(4):
            wanted += convolution.needed_for_edges(l_max, dtype)
    for kind, options in COMMON:
        model = untrained(["H"], kind=kind, **options).potential.model
        wanted += model.needed_kernels(torch.float32, training=True)
    return list(dict.fromkeys(wanted))


def main() -> None:
    """Compile the kernels, build the wheel, and clean up."""
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
                found, promised = (".".join(map(str, version)) for version in (needed, GLIBC))
                sys.exit(f"{path.name} needs glibc {found}, but the wheel promises {promised}: build on an older one")
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
