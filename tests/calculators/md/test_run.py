"""Molecular dynamics conserves, thermalises, stops in time and loses nothing."""

import contextlib
import csv
import json
import os
import re
import signal
import subprocess
import threading
import time
from dataclasses import replace
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
from equiforce.calculators.md import MDOptions, resume_md, run_md
from equiforce.coverage import ranges_of
from equiforce.errors import InputError, UnstableError
from equiforce.storage.folders import used
from equiforce.structure import Structure
from tests.storage.test_faults import small_disk


@pytest.fixture(scope="module")
def potential():
    return equiforce.untrained(["H", "O"], l_max=0, channels=4, n_layers=1, cutoff=4.0, dtype="float64").potential


def water(pbc: bool = False) -> Atoms:
    return molecule("H2O", cell=[3.4, 3.5, 3.6], pbc=True) if pbc else molecule("H2O")


def rows(folder) -> list[dict[str, str]]:
    with (folder / "thermo.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_nve_conserves_energy_and_writes_everything(potential, tmp_path):
    options = MDOptions(ensemble="nve", temperature=100.0, steps=16, thermo_every=4, trajectory_every=8, seed=1)
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
        run_md(potential, start, MDOptions(steps=2, seed=0, max_memory=memory), tmp_path / folder, console=console)
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
        (Atoms("HH", positions=[[0, 0, 0], [0, 0, 0.1]]), MDOptions(), "are 0.1 Å apart, and the limit"),
        (Atoms("Cu"), MDOptions(), "Cu"),
        ("nowhere.xyz", MDOptions(), "There is no file nowhere.xyz"),
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
    more = resume_md(tmp_path, potential, options={"steps": summary.n_steps + 2})
    assert (more.n_steps, more.interrupted) == (summary.n_steps + 2, False)


def test_the_terminal_shows_units(potential, tmp_path):
    console = Console(record=True, width=120, file=StringIO())
    summary = run_md(potential, water(pbc=True), MDOptions(steps=2, thermo_every=1), tmp_path, console=console)
    console.print(summary.table())
    shown = console.export_text()
    for piece in ("memory: energy and forces of ", "E_pot", "eV/Å", "GPa", "ns/day", "steps/s", "mean temperature"):
        assert piece in shown


WAYS = {
    "nve": {"ensemble": "nve"},
    "langevin": {"ensemble": "langevin"},
    "bussi": {"ensemble": "bussi"},
    "npt": {"ensemble": "npt"},
    "full": {"ensemble": "npt", "coupling": "full"},
    "held": {"ensemble": "langevin", "fixed": "0"},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_resumed_run_is_the_run_without_a_stop(way, potential, tmp_path):
    options = MDOptions(steps=14, timestep=2.0, thermo_every=3, trajectory_every=2, seed=1, **WAYS[way])
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = run_md(potential, water(pbc=True), options, whole)
    run_md(potential, water(pbc=True), replace(options, steps=5), parts)
    with (parts / "trajectory.xyz").open("a") as file:
        file.write("3\nhalf a frame of a run that was killed")
    found = resume_md(parts, potential, options={"steps": 14})
    for name in ("trajectory.xyz", "thermo.csv", "last.xyz"):
        assert (parts / name).read_text() == (whole / name).read_text()
    assert (found.n_steps, found.mean_temperature, found.drift) == (14, expected.mean_temperature, expected.drift)


def test_a_resume_changes_nothing_but_the_number_of_steps(potential, tmp_path):
    run_md(potential, water(), MDOptions(steps=2), tmp_path / "run")
    other = equiforce.untrained(["H", "O"], l_max=0, channels=4, n_layers=1, cutoff=4.0, dtype="float64", seed=1)
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    for model, options, message in (
        (potential, {"temperature": 400.0}, "temperature is 300.0 in the run in .*, and a resume cannot change it"),
        (potential, {"timestep": 1.0, "steps": 9}, "start a new run from .*last.xyz"),
        (potential, {"ensemble": "nve", "steps": 9}, "ensemble is langevin"),
        (other.potential, {"steps": 9}, "the potential is not the model of the run in"),
        (None, {"steps": 9}, "began with a potential in memory: give the potential"),
        (potential, {}, "has made 2 steps already: give a larger number of steps for the whole run, such as --steps 4"),
    ):
        with pytest.raises(InputError, match=message):
            resume_md(tmp_path / "run", model, options=options)
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    assert resume_md(tmp_path / "run", potential, options={"steps": 4, "temperature": 300.0}).n_steps == 4


def test_options_that_were_changed_in_the_folder_are_said_and_written_again(potential, tmp_path):
    run_md(potential, water(), MDOptions(steps=2, seed=1), tmp_path)
    path, console = tmp_path / "md.yaml", Console(record=True, width=400, file=StringIO())
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace("temperature: 300.0", "temperature: 400.0"), encoding="utf-8")
    resume_md(tmp_path, potential, options={"steps": 3}, console=console)
    said = console.export_text(clear=True)
    assert "md.yaml was changed since the run began, which goes on as it was saved: with temperature: 300.0 and" in said
    assert "and not with temperature: 400.0" in said
    assert path.read_text(encoding="utf-8") == before.replace("steps: 2 ", "steps: 3 ")
    path.write_text(before[: before.index("timestep")], encoding="utf-8")
    resume_md(tmp_path, potential, options={"steps": 4}, console=console)
    assert "goes on as it was saved: with timestep: 0.5, steps: 3, friction: 5.0, " in console.export_text(clear=True)
    path.unlink()
    resume_md(tmp_path, potential, options={"steps": 5}, console=console)
    assert "md.yaml" not in console.export_text()
    assert path.read_text(encoding="utf-8") == before.replace("steps: 2 ", "steps: 5 ")


def test_a_state_of_an_earlier_version_goes_on_with_a_word(potential, tmp_path):
    options, console = MDOptions(steps=2, seed=1), Console(record=True, width=400, file=StringIO())
    run_md(potential, water(), replace(options, steps=4), tmp_path / "whole")
    run_md(potential, water(), options, tmp_path / "old")
    with np.load(tmp_path / "old" / "state.npz") as file:
        arrays = {name: file[name] for name in file.files if name != "checksum"}
    arrays["header"] = np.array(json.dumps({**json.loads(str(arrays["header"])), "format": 1}))
    np.savez(tmp_path / "old" / "state.npz", **arrays)
    resume_md(tmp_path / "old", potential, options={"steps": 4}, console=console)
    assert "state.npz is of an earlier version and has no checksum" in console.export_text()
    for name in ("trajectory.xyz", "thermo.csv", "last.xyz", "state.npz", "md.yaml"):
        assert (tmp_path / "old" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_files_without_a_state_are_no_run_that_can_be_resumed(potential, tmp_path):
    (tmp_path / "trajectory.xyz").write_text("of another program")
    (tmp_path / "md.yaml").write_text("")  # of a start that was killed: it alone is no run
    with pytest.raises(InputError, match=r"trajectory.xyz exists from an earlier run: name a new folder, or add --ov"):
        run_md(potential, water(), MDOptions(steps=1), tmp_path)
    (tmp_path / "trajectory.xyz").unlink()
    run_md(potential, water(), MDOptions(steps=1), tmp_path)


def test_two_runs_do_not_meet_in_a_folder(potential, tmp_path):
    run_md(potential, water(), MDOptions(steps=1), tmp_path)
    with used(tmp_path):
        for run in (
            lambda: run_md(potential, water(), MDOptions(steps=1), tmp_path, overwrite=True),
            lambda: resume_md(tmp_path, potential, options={"steps": 2}),
        ):
            with pytest.raises(InputError, match=f"is in use by process {os.getpid()} "):
                run()


def test_a_run_on_a_full_disk_goes_on_after_room_is_made(potential, tmp_path):
    every = {"trajectory_every": 1, "thermo_every": 1, "save_every": 0.005}
    options = MDOptions(ensemble="nve", temperature=20.0, steps=70, seed=1, **every)
    with small_disk(tmp_path / "disk") as disk:
        with pytest.raises(InputError) as caught:
            run_md(potential, water(), options, disk / "run")
        said = str(caught.value)
        assert re.search(
            r"cannot be written because the disk is full; it needs .* are free: make room, then go on", said
        )
        assert f"go on with: equiforce md --resume {disk / 'run'}" in said
        text = (disk / "run" / "trajectory.xyz").read_text()
        assert 5 * text.count("Properties") == text.count("\n") > 50
        assert (disk / "run" / "thermo.csv").read_text().endswith("\n")
        fill(disk)
        before = {path.name: path.read_bytes() for path in (disk / "run").iterdir()}
        with pytest.raises(InputError, match=r"the disk is full; .*: make room, then give the same command again"):
            run_md(potential, disk / "run" / "last.xyz", options, disk / "run", overwrite=True)
        assert {path.name: path.read_bytes() for path in (disk / "run").iterdir()} == before
        subprocess.run(["mount", "-o", "remount,size=1m", disk], check=True)
        resume_md(disk / "run", potential)
        run_md(potential, water(), options, tmp_path / "whole")
        for name in ("trajectory.xyz", "thermo.csv", "last.xyz", "state.npz", "md.yaml"):
            assert (disk / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def fill(disk) -> None:
    """Take all room on a disk."""
    with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(bytes(1024)):
            pass


@pytest.mark.slow
def test_chunks_of_a_run_are_independent(potential, tmp_path):
    """Free atoms diffuse: their mean square displacement is that of an Ornstein-Uhlenbeck process."""
    n_side, spacing, n_chunks, steps, timestep, friction = 4, 9.0, 3, 60, 4.0, 50.0
    grid = spacing * np.stack(np.meshgrid(*3 * [np.arange(n_side)]), axis=-1).reshape(-1, 3)
    atoms = Atoms("O" * len(grid), positions=grid)
    options = MDOptions(steps=steps, timestep=timestep, friction=friction, seed=1, trajectory_every=steps)
    places = [atoms.positions.copy()]
    for chunk in range(n_chunks):
        run_md(potential, atoms, options, tmp_path / str(chunk))
        atoms = ase.io.read(tmp_path / str(chunk) / "last.xyz")
        places.append(atoms.positions.copy())
    displacements = np.diff(places, axis=0).reshape(n_chunks, -1)
    assert np.abs(np.corrcoef(displacements) - np.eye(n_chunks)).max() < 0.35  # 1 if the noise is replayed
    rate, time_ = friction / (1000 * units.fs), n_chunks * steps * timestep * units.fs
    diffusion = units.kB * 300.0 / (atoms.get_masses()[0] * rate)
    expected = 6 * diffusion * (time_ - (1 - np.exp(-rate * time_)) / rate)
    found = ((places[-1] - places[0]) ** 2).sum(axis=1).mean()
    assert found == pytest.approx(expected, rel=0.4)  # 2.6 times as much if the noise is replayed


def test_a_seed_is_drawn_said_and_kept(potential, tmp_path):
    console = Console(record=True, width=200, file=StringIO())
    seeds = [run_md(potential, water(), MDOptions(steps=1), tmp_path / name, console=console).seed for name in "ab"]
    assert seeds[0] != seeds[1]
    assert f"seed: {seeds[0]} (drawn; the same --seed repeats the run)" in console.export_text()
    assert f"\nseed: {seeds[0]}  #" in (tmp_path / "a" / "md.yaml").read_text(encoding="utf-8")
    run_md(potential, water(), MDOptions(steps=1, seed=seeds[0]), tmp_path / "again")
    assert (tmp_path / "again" / "last.xyz").read_text() == (tmp_path / "a" / "last.xyz").read_text()


def test_what_is_simulated_is_said(potential, tmp_path):
    console = Console(record=True, width=200, file=StringIO())
    ase.io.write(tmp_path / "two.xyz", [water(), water()])
    options = MDOptions(ensemble="nvt", steps=2, fixed="O")
    run_md(potential, tmp_path / "two.xyz", options, tmp_path / "run", console=console)
    said = console.export_text()
    for piece in ("device: cpu", "langevin, 300 K", "the last of several frames in", "held fixed: 1 atom (O)"):
        assert piece in said
    last = ase.io.read(tmp_path / "run" / "last.xyz")
    np.testing.assert_allclose(last.positions[0], water().positions[0], atol=1e-8)
    assert np.abs(last.positions[1] - water().positions[1]).max() > 1e-4
    run_md(potential, tmp_path / "run" / "last.xyz", MDOptions(steps=1), tmp_path / "more", console=console)
    assert "held fixed: 1 atom (O) by FixAtoms" in console.export_text(clear=True)


def test_a_run_that_leaves_the_training_data_says_so(potential, tmp_path):
    rng, console = np.random.default_rng(0), Console(record=True, width=200, file=StringIO())
    numbers, places = water().numbers, water().positions
    data = [
        Structure(
            atomic_numbers=numbers,
            positions=places + rng.normal(scale=0.02, size=(3, 3)),
            cell=np.zeros((3, 3)),
            pbc=np.zeros(3, dtype=bool),
        )
        for _ in range(20)
    ]
    model = tmp_path / "water.eqf"
    equiforce.save(model, potential, data[:1], {"ranges": ranges_of(data, 4.0).to_dict()})
    hot = MDOptions(ensemble="nve", temperature=20_000.0, steps=20, seed=0)
    summary = run_md(model, water(), hot, tmp_path / "hot", console=console)
    console.print(summary.table())
    said = console.export_text()
    assert "leaves the training data: " in said
    assert "finished, but the run left the training data" in said
    assert summary.departures
    assert 0 < summary.outside <= 1
    with pytest.raises(UnstableError, match=r"stopped at step \d+ .* after it left the training data at step"):
        run_md(model, water(), hot, tmp_path / "stopped", stop_outside=True)
    assert (tmp_path / "stopped" / "last.xyz").is_file()
    cold = run_md(model, water(), replace(hot, temperature=1.0, steps=5), tmp_path / "cold")
    assert not cold.departures
    again = resume_md(tmp_path / "cold", options={"steps": 9})  # with the file from which it began
    assert again.n_steps == 9


def test_each_step_is_told_also_after_a_resume(potential, tmp_path):
    told: list[int] = []
    run_md(potential, water(), MDOptions(steps=3, seed=1), tmp_path, on_step=told.append)
    resume_md(tmp_path, potential, options={"steps": 5}, on_step=told.append)
    assert told == [0, 1, 2, 3, 4, 5]


def test_a_simulation_that_goes_wrong_has_its_own_error(potential, tmp_path, monkeypatch):
    problems = iter([None, None, "atoms collapse"])
    monkeypatch.setattr("equiforce.calculators.guard.Guard.problem", lambda *_: next(problems))
    with pytest.raises(UnstableError, match=r"the simulation stopped at step 2 .* because atoms collapse: try"):
        run_md(potential, water(), MDOptions(steps=5, seed=1), tmp_path / "later")
    monkeypatch.setattr("equiforce.calculators.guard.Guard.problem", lambda *_: "atoms overlap")
    with pytest.raises(UnstableError, match="cannot be simulated because atoms overlap"):
        run_md(potential, water(), MDOptions(steps=5), tmp_path / "at-once")
