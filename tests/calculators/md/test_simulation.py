"""A running simulation: its random numbers, its thermo line and its stop."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule
from rich.console import Console

import equiforce
from equiforce.calculators.ase import Calculator
from equiforce.calculators.md.options import MDOptions
from equiforce.calculators.md.simulation import Simulation
from equiforce.calculators.md.state import read_state
from equiforce.errors import InputError
from equiforce.signals import StopRequest


@pytest.fixture(scope="module")
def potential():
    return equiforce.untrained(["H", "O"], l_max=0, channels=4, n_layers=1, cutoff=4.0, dtype="float64").potential


def simulation(potential, shift: float = 0.0, **options) -> Simulation:
    atoms = molecule("H2O", cell=[3.4, 3.5, 3.6], pbc=True)
    atoms.positions += shift
    atoms.calc = Calculator(potential, always_stress=True)
    return Simulation(atoms, MDOptions(**{"seed": 1, "steps": 3} | options), None, "")


def test_random_numbers_follow_from_the_seed_and_the_start(potential):
    first = [simulation(potential, **chosen).rng.random() for chosen in ({}, {}, {"seed": 2}, {"shift": 1e-9})]
    assert first[0] == first[1]
    assert len(set(first)) == 3


def test_a_table_has_the_pressure_along_each_axis(potential, tmp_path):
    run = simulation(potential, ensemble="npt", coupling="anisotropic", thermo_every=1)
    with run.output(tmp_path, Console(quiet=True)) as output:
        assert run.play(output, StopRequest()) is None
    names, *rows = (tmp_path / "thermo.csv").read_text().splitlines()
    last = dict(zip(names.split(","), map(float, rows[-1].split(",")), strict=True))
    along = [last[f"pressure_{axis}_GPa"] for axis in "xyz"]
    assert np.mean(along) == pytest.approx(last["pressure_GPa"])
    assert np.ptp(along) > 1e-3
    lengths = [last[f"{length}_A"] for length in "abc"]
    assert np.prod(lengths) == pytest.approx(last["volume_A3"])
    np.testing.assert_allclose(lengths, run.atoms.cell.lengths())


def test_a_state_is_saved_from_the_start(potential, tmp_path):
    run = simulation(potential, steps=0)
    run.begin(tmp_path, {})
    assert read_state(tmp_path).header["sizes"] == {"trajectory.xyz": 0, "thermo.csv": 0}
    assert "seed: 1  #" in (tmp_path / "md.yaml").read_text(encoding="utf-8")
    with run.output(tmp_path, Console(quiet=True)) as output:
        run.play(output, StopRequest())
    header = read_state(tmp_path).header
    assert (header["step"], header["sizes"]["thermo.csv"]) == (0, (tmp_path / "thermo.csv").stat().st_size)


def test_a_request_to_stop_before_the_first_step_leaves_a_run_that_goes_on(potential, tmp_path):
    stop = StopRequest()
    stop.set()
    run = simulation(potential)
    with run.output(tmp_path, Console(quiet=True)) as output:
        run.play(output, stop)
    assert run.interrupted
    assert (run.summary(tmp_path).n_steps, read_state(tmp_path).header["step"]) == (0, 0)
    more = simulation(potential)
    more.continue_from(read_state(tmp_path), tmp_path)
    with more.output(tmp_path, Console(quiet=True), read_state(tmp_path).header["sizes"]) as output:
        more.play(output, StopRequest())
    assert (more.step, more.interrupted) == (3, False)


@pytest.mark.parametrize("part", ["generator", "integrator", "watch", "averages"])
def test_a_state_of_another_kind_is_refused(part, potential, tmp_path):
    run = simulation(potential, ensemble="npt")
    run.begin(tmp_path, {})
    state = read_state(tmp_path)
    wrong = replace(state, header={**state.header, part: {"wrong": 1}})
    with pytest.raises(InputError, match=r"state.npz is damaged: start a new run"):
        simulation(potential, ensemble="npt").continue_from(wrong, tmp_path)


def test_a_problem_ends_the_run_with_its_step(potential, tmp_path):
    run = simulation(potential, ensemble="nve", steps=5)
    run.guard.too_hot = 1.0
    with run.output(tmp_path, Console(quiet=True)) as output:
        problem = run.play(output, StopRequest())
    assert problem.startswith("the simulation stopped at step 1 (0.0005 ps) because the temperature is ")
    assert read_state(tmp_path).header["step"] == 0  # nothing wrong is saved


def test_a_start_that_is_wrong_is_refused(potential):
    atoms = molecule("H2O")
    atoms.positions[2] = atoms.positions[1] + [0, 0, 0.15]
    atoms.calc = Calculator(potential)
    with pytest.raises(InputError, match="the start structure cannot be simulated because atom 1"):
        Simulation(atoms, MDOptions(seed=0), None, "")
