"""A relaxation finds a minimum, of the enthalpy if the cell relaxes too, or says that it has not."""

import json
import os
import signal
from io import StringIO

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.constraints import FixAtoms
from rich.console import Console

import equiforce
from equiforce.calculators.ase import Calculator
from equiforce.calculators.relax import relax
from equiforce.calculators.relax_options import RelaxOptions
from equiforce.errors import InputError
from tests.storage.test_faults import small_disk


@pytest.fixture(scope="module")
def potential():
    """The repulsion of nuclei alone, which a pressure balances."""
    repulsion = equiforce.untrained(
        ["H", "O"], l_max=0, channels=4, n_layers=1, cutoff=4.0, dtype="float64", zbl=True
    ).potential
    with torch.no_grad():
        repulsion.scale.zero_()
    return repulsion


def lattice() -> Atoms:
    atoms = Atoms("HO", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[2.1, 2.2, 2.3], pbc=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def enthalpy(potential, atoms: Atoms, pressure: float) -> float:
    atoms = atoms.copy()
    atoms.calc = Calculator(potential)
    return atoms.get_potential_energy() + pressure * units.GPa * atoms.get_volume()


def test_forces_vanish_at_the_minimum_and_everything_is_written(potential, tmp_path):
    console = Console(record=True, width=120, file=StringIO())
    summary = relax(potential, lattice(), RelaxOptions(fmax=1e-3), tmp_path, console=console)
    assert summary.converged
    assert 0 < summary.largest_force < 1e-3
    relaxed, path = ase.io.read(tmp_path / "relaxed.xyz"), ase.io.read(tmp_path / "path.xyz", ":")
    assert len(path) == summary.n_steps + 1
    np.testing.assert_array_equal(relaxed.positions, path[-1].positions)
    assert path[0].get_potential_energy() - relaxed.get_potential_energy() == pytest.approx(summary.lowered_by)
    assert summary.lowered_by > 0
    np.testing.assert_array_equal(relaxed.cell.array, lattice().cell.array)
    console.print(summary.table())
    said = console.export_text()
    for piece in ("device: cpu", "max |F|", "eV/Å", "converged", "GPa"):
        assert piece in said
    assert json.loads(json.dumps(summary.as_dict()))["converged"]


def test_velocities_of_the_start_are_left_out_and_said(potential, tmp_path):
    console, start = Console(record=True, width=120, file=StringIO()), lattice()
    start.set_momenta([[0, 0, np.nan], [0, 0, 1e9]])
    assert relax(potential, start, RelaxOptions(fmax=1e-3), tmp_path, console=console).converged
    assert "velocities of the start: left out" in console.export_text()
    assert not ase.io.read(tmp_path / "relaxed.xyz").has("momenta")
    assert start.has("momenta")


@pytest.mark.parametrize("cell", ["isotropic", "anisotropic", "full", "in-plane"])
def test_a_cell_relaxes_to_the_pressure(cell, potential, tmp_path):
    start, pressure = lattice(), 30.0
    options = RelaxOptions(cell=cell, pressure=pressure, fmax=5e-3, steps=300)
    summary = relax(potential, start, options, tmp_path)
    assert summary.converged
    relaxed = ase.io.read(tmp_path / "relaxed.xyz")
    stress = -relaxed.get_stress(voigt=False) / units.GPa
    axes = {"isotropic": [], "in-plane": [0, 1]}.get(cell, [0, 1, 2])
    np.testing.assert_allclose(np.diag(stress)[axes], pressure, atol=0.5)
    if cell == "isotropic":
        assert summary.pressure == pytest.approx(pressure, abs=0.5)
    strain = relaxed.cell.lengths() / start.cell.lengths()
    assert (np.ptp(strain) < 1e-6) == (cell == "isotropic")
    assert (abs(strain[2] - 1) < 1e-6) == (cell == "in-plane")
    assert enthalpy(potential, relaxed, pressure) < enthalpy(potential, start, pressure)


def test_a_relaxation_that_runs_out_of_steps_is_not_converged(potential, tmp_path):
    summary = relax(potential, lattice(), RelaxOptions(steps=1), tmp_path)
    assert (summary.converged, summary.n_steps) == (False, 1)
    assert summary.table().title.plain == "not converged"


def test_held_atoms_stay(potential, tmp_path):
    start = lattice()
    start.set_constraint(FixAtoms([1]))
    summary = relax(potential, start, RelaxOptions(steps=30, optimizer="fire"), tmp_path)
    relaxed = ase.io.read(tmp_path / "relaxed.xyz")
    np.testing.assert_allclose(relaxed.positions[1], start.positions[1], atol=1e-8)
    assert summary.lowered_by > 0
    assert relaxed.constraints


@pytest.mark.parametrize(
    ("start", "options", "message"),
    [
        (molecule("H2O"), RelaxOptions(cell="full"), "cell=full needs three cell vectors that are periodic in all"),
        (Atoms(), RelaxOptions(), "has no atoms"),
        (Atoms("HH", positions=[[0, 0, 0], [0, 0, 0.15]]), RelaxOptions(), "are 0.15 Å apart, and the limit"),
        (Atoms("Cu"), RelaxOptions(), "Cu"),
        (molecule("H2O"), RelaxOptions(fixed="H,O"), "no atom of the start structure can move"),
        ("nowhere.xyz", RelaxOptions(), "There is no file nowhere.xyz"),
    ],
)
def test_what_cannot_be_relaxed_is_refused(start, options, message, potential, tmp_path):
    with pytest.raises(InputError, match=message):
        relax(potential, start, options, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_earlier_relaxation_is_not_overwritten_unless_asked(potential, tmp_path):
    relax(potential, lattice(), RelaxOptions(steps=1), tmp_path)
    with pytest.raises(InputError, match=r"exists from an earlier relaxation: .*, start from .*relaxed.xyz"):
        relax(potential, lattice(), RelaxOptions(steps=1), tmp_path)
    relax(potential, tmp_path / "relaxed.xyz", RelaxOptions(steps=1), tmp_path, overwrite=True)


def test_a_request_to_stop_before_the_first_step_leaves_the_start(potential, tmp_path, monkeypatch):
    """Here it arrives while the model is loaded."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # where the tests are a background job
    try:
        monkeypatch.setattr("equiforce.calculators.relax.read_ranges", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        summary = relax(potential, lattice(), RelaxOptions(), tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (summary.interrupted, summary.n_steps) == (True, 0)
    assert (tmp_path / "relaxed.xyz").read_text() == (tmp_path / "path.xyz").read_text() != ""


def test_a_full_disk_is_no_fault_of_the_atoms(potential, tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        (disk / "filler").write_bytes(bytes(44_000))
        with pytest.raises(
            InputError, match=r"the disk is full; .*: make room, then go on with: equiforce relax MODEL .*"
        ):
            relax(potential, lattice().repeat((3, 3, 3)), RelaxOptions(fmax=1e-9), disk / "run")
        assert len(ase.io.read(disk / "run" / "path.xyz", ":")) >= 1
        assert len(ase.io.read(disk / "run" / "relaxed.xyz")) == 54
