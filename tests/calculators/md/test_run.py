"""Molecular dynamics conserves, thermalises, stops in time and loses nothing."""

import csv
import os
import signal
import threading
import time
from io import StringIO

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from rich.console import Console

import equiforce
from equiforce.calculators.ase import Calculator
from equiforce.calculators.md import MDOptions, run_md
from equiforce.errors import InputError


@pytest.fixture(scope="module")
def potential():
    return equiforce.untrained(["H", "O"], l_max=0, channels=4, n_layers=1, cutoff=4.0, dtype="float64").potential


def water(pbc: bool = False) -> Atoms:
    return molecule("H2O", cell=[3.4, 3.5, 3.6], pbc=True) if pbc else molecule("H2O")


def rows(folder) -> list[dict[str, str]]:
    with (folder / "thermo.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_nve_conserves_energy_and_writes_everything(potential, tmp_path):
    options = MDOptions(ensemble="nve", temperature=100.0, steps=16, thermo_every=4, trajectory_every=8)
    summary = run_md(potential, water(), options, tmp_path)
    table = rows(tmp_path)
    assert [int(row["step"]) for row in table] == [0, 4, 8, 12, 16]
    assert float(table[0]["temperature_K"]) == pytest.approx(100.0)
    assert "pressure_GPa" not in table[0]
    totals = [float(row["total_energy_eV"]) for row in table]
    assert np.ptp(totals) < 1e-4
    assert abs(summary.drift) < 5
    assert summary.time_ps == pytest.approx(0.008)
    assert not summary.interrupted
    frames = ase.io.read(tmp_path / "trajectory.xyz", ":")
    last = ase.io.read(tmp_path / "last.xyz")
    assert len(frames) == 3
    assert frames[-1].get_total_energy() == pytest.approx(totals[-1], abs=1e-6)
    assert np.abs(last.get_forces()).max() > 0
    np.testing.assert_allclose(last.get_momenta(), frames[-1].get_momenta())
    run_md(potential, tmp_path / "last.xyz", MDOptions(ensemble="nve", steps=0), tmp_path / "more")
    assert float(rows(tmp_path / "more")[0]["total_energy_eV"]) == pytest.approx(totals[-1], abs=1e-6)


@pytest.mark.parametrize("ensemble", ["nve", "langevin", "bussi", "npt"])
def test_every_ensemble_runs_in_a_periodic_cell(ensemble, potential, tmp_path):
    options = MDOptions(ensemble=ensemble, steps=4, thermo_every=2, trajectory_every=4, pressure=1.0)
    start = water(pbc=True)
    run_md(potential, start, options, tmp_path)
    assert not start.has("momenta")  # what the user gave is left alone
    table = rows(tmp_path)
    volumes = {row["volume_A3"] for row in table}
    assert len(volumes) == (3 if ensemble == "npt" else 1)
    assert all(np.isfinite([float(value) for value in row.values()]).all() for row in table)
    momenta = ase.io.read(tmp_path / "last.xyz").get_momenta()
    np.testing.assert_allclose(momenta.sum(axis=0), 0, atol=1e-6)


@pytest.mark.parametrize("ensemble", ["nve", "langevin", "bussi"])
@pytest.mark.parametrize("cell", [None, [2.5, 2.5, 2.5]])
def test_one_atom_moves(ensemble, cell, potential, tmp_path):
    options = MDOptions(ensemble=ensemble, steps=3, thermo_every=1)
    run_md(potential, Atoms("O", cell=cell, pbc=cell is not None), options, tmp_path)
    table = rows(tmp_path)
    assert float(table[0]["temperature_K"]) == pytest.approx(300.0)
    assert np.abs(ase.io.read(tmp_path / "last.xyz").positions).max() > 1e-4


def test_pressure_counts_the_motion_of_the_atoms(potential, tmp_path):
    start = Atoms("HHH", positions=np.diag([10.0, 20.0, 30.0]), cell=[50, 50, 50], pbc=True)
    run_md(potential, start, MDOptions(ensemble="nve", steps=0), tmp_path)
    ideal_gas = 2 * units.kB * 300.0 / 50**3 / units.GPa  # of 3 atoms whose drift was stopped
    assert float(rows(tmp_path)[0]["pressure_GPa"]) == pytest.approx(ideal_gas, rel=1e-6)


def test_a_run_can_be_repeated(potential, tmp_path):
    for folder, seed in (("one", 1), ("two", 1), ("three", 2)):
        run_md(potential, water(), MDOptions(steps=3, seed=seed), tmp_path / folder)
    one, two, three = ((tmp_path / folder / "last.xyz").read_text() for folder in ("one", "two", "three"))
    assert one == two != three


def test_a_system_that_does_not_fit_into_memory_moves_all_the_same(potential, tmp_path):
    start, console = water(pbc=True).repeat((20, 1, 1)), Console(record=True, width=200, file=StringIO())
    need = Calculator(potential).plan(start).need
    for folder, memory in (("whole", None), ("chunks", 0.5e-9 * need)):
        run_md(potential, start, MDOptions(steps=2, max_memory=memory), tmp_path / folder, console=console)
    assert "60 atoms need about " in (said := console.export_text())
    assert said.count(" chunks of at most ") == 1
    whole, chunks = (ase.io.read(tmp_path / folder / "last.xyz") for folder in ("whole", "chunks"))
    np.testing.assert_allclose(chunks.positions, whole.positions, atol=1e-7)
    np.testing.assert_allclose(chunks.get_forces(), whole.get_forces(), atol=1e-6)


def test_an_earlier_run_is_not_overwritten_unless_asked(potential, tmp_path):
    options = MDOptions(steps=1)
    run_md(potential, water(), options, tmp_path)
    before = (tmp_path / "trajectory.xyz").read_text()
    with pytest.raises(InputError, match="--overwrite"):
        run_md(potential, water(), options, tmp_path)
    assert (tmp_path / "trajectory.xyz").read_text() == before
    run_md(potential, water(), options, tmp_path, overwrite=True)


def test_a_run_continues_in_its_own_folder(potential, tmp_path):
    run_md(potential, water(), MDOptions(steps=2), tmp_path)
    before = ase.io.read(tmp_path / "last.xyz")
    run_md(potential, tmp_path / "last.xyz", MDOptions(steps=0), tmp_path, overwrite=True)
    np.testing.assert_allclose(ase.io.read(tmp_path / "last.xyz").positions, before.positions)


@pytest.mark.parametrize(
    ("start", "options", "message"),
    [
        (water(), MDOptions(ensemble="npt"), "periodic in all three directions"),
        (water(), MDOptions(temperature=0.0), "above 0 K"),
        (Atoms("HH", positions=[[0, 0, 0], [0, 0, 0.1]]), MDOptions(), "start structure cannot be simulated"),
        (Atoms("Cu"), MDOptions(), "Cu"),
        ("nowhere.xyz", MDOptions(), "no start structure can be read from nowhere.xyz"),
    ],
)
def test_what_cannot_be_simulated_is_refused(start, options, message, potential, tmp_path):
    with pytest.raises(InputError, match=message):
        run_md(potential, start, options, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_atoms_that_fly_apart_stop_the_run_and_nothing_is_lost(tmp_path):
    wild = equiforce.untrained(["H", "O"], l_max=0, channels=4, n_layers=1, cutoff=4.0).potential
    with torch.no_grad():
        wild.scale.mul_(300.0)
    options = MDOptions(ensemble="nve", steps=300, trajectory_every=1, timestep=1.0)
    with pytest.raises(InputError, match=r"stopped at step \d+ \(.* ps\) because .*: try a smaller timestep"):
        run_md(wild, water(), options, tmp_path)
    frames = ase.io.read(tmp_path / "trajectory.xyz", ":")
    last = ase.io.read(tmp_path / "last.xyz")
    np.testing.assert_array_equal(last.positions, frames[-1].positions)
    assert all(np.isfinite(frame.get_forces()).all() for frame in frames)


@pytest.fixture
def heeds_ctrl_c():
    """Where the tests are a shell's background job, Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_an_interrupt_ends_the_run_cleanly(potential, tmp_path):
    def press_ctrl_c() -> None:
        trajectory, give_up = tmp_path / "trajectory.xyz", time.monotonic() + 20
        while time.monotonic() < give_up and not (trajectory.exists() and trajectory.read_text().count("energy") > 3):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press_ctrl_c)
    presser.start()
    summary = run_md(potential, water(), MDOptions(steps=100_000, trajectory_every=1), tmp_path)
    presser.join()
    assert summary.interrupted
    assert 3 <= summary.n_steps < 100_000
    assert len(ase.io.read(tmp_path / "trajectory.xyz", ":")) >= summary.n_steps
    assert ase.io.read(tmp_path / "last.xyz").get_kinetic_energy() > 0


def test_the_terminal_shows_units(potential, tmp_path):
    console = Console(record=True, width=120, file=StringIO())
    summary = run_md(potential, water(pbc=True), MDOptions(steps=2, thermo_every=1), tmp_path, console=console)
    console.print(summary.table())
    shown = console.export_text()
    for piece in ("memory: energy and forces of ", "E_pot", "eV/Å", "GPa", "ns/day", "steps/s", "mean temperature"):
        assert piece in shown
