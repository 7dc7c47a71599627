"""The processors of this machine: the name and the cores of its CPU, and the device that computes."""

import os
import platform
import re
from pathlib import Path

import torch


def cpu_model() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def n_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_device(device: torch.device) -> str:
    """Name the device that computes: the CPU with its number of threads, or a GPU."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    n_threads = torch.get_num_threads()
    return f"{device}, {n_threads} thread{'s' if n_threads > 1 else ''}"
