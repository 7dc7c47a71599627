"""Which compiled kernels a model loads when it computes and is trained, in a process of its own."""

import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = """
import torch
from equiforce.kernels.cpu import build, pairs
from tests.systems import ethanol, graph_of, potential_of
from tests.test_memory import step

potential, needed = potential_of(**{options}), set(pairs.needed())
for training in (False, True):
    step(potential, graph_of(ethanol()), training)()
    needed |= set(potential.model.needed_kernels(torch.float64, training=training))
    loaded = build._loaded.keys()
    print(len(needed), *[f"missing {{kernel}}" for kernel in loaded - needed], sep="; ")
    print(len(needed), *[f"not used {{kernel}}" for kernel in needed - loaded], sep="; ")
"""


def differences(**options: Any) -> list[str]:
    """Two lines after use and two after training: how many kernels a model needs, and those that differ."""
    command = [sys.executable, "-c", PROGRAM.format(options=options)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.splitlines()
