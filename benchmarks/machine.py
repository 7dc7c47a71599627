"""Describes the machine and the version of the package with which a result was measured."""

import os
import platform
import re
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from equiforce.machine import cpu_model

ROOT = Path(__file__).parents[1]


def machine() -> dict[str, Any]:
    """Return processor, cores, memory, GPU and load of this machine."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
        "load_before": round(os.getloadavg()[0], 2),
    }


def commit(checkout: Path = ROOT) -> str:
    """Return the commit of a checkout, with a mark if its source has uncommitted changes."""
    changed = git("status", "--porcelain", "--", "src", checkout=checkout)
    return git("rev-parse", "--short", "HEAD", checkout=checkout) + (", changed" if changed else "")


def git(*arguments: str, checkout: Path = ROOT) -> str:
    """Return the output of git, which is empty outside a repository."""
    answer = subprocess.run(["git", "-C", str(checkout), *arguments], capture_output=True, text=True, check=False)
    return answer.stdout.strip()


def slug(described: dict[str, Any]) -> str:
    """Return the name of the machine as a part of a file name."""
    name = described["gpu"] or f"{described['cpu']} {described['cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def today() -> str:
    """Return the date as in file names."""
    return datetime.now().astimezone().strftime("%Y-%m-%d")
