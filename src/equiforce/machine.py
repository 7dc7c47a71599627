"""The names of the processor and the GPU, and the number of cores, for reports."""

import os
import platform
import re
from pathlib import Path

import torch


def device_name(device: torch.device) -> str:
    """The device in words, such as ``CPU (AMD EPYC 9V74)`` or ``GPU (NVIDIA H200)``."""
    return f"GPU ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else f"CPU ({cpu_model()})"


def cpu_model() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def n_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
