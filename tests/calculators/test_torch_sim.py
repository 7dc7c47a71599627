"""torch-sim gets what ASE gets, of every system alone and of all of them in one batch."""

import runpy
import sys
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.md.verlet import VelocityVerlet

import equiforce
from equiforce import model_file
from equiforce.calculators.ase import Calculator
from equiforce.errors import InputError
from tests.calculators.test_ase import SYSTEMS
from tests.systems import ethanol

with warnings.catch_warnings():
    # torch-sim scripts functions with torch.jit and imports vesin.torch, which torch and vesin call deprecated
    warnings.simplefilter("ignore", DeprecationWarning)
    ts = pytest.importorskip("torch_sim", reason="torch-sim is not installed: pip install 'equiforce[torch-sim]'")

from torch_sim.models.interface import validate_model_outputs

from equiforce.calculators.torch_sim import TorchSimModel

CPU = torch.device("cpu")
NVE = ts.Integrator.nve if hasattr(ts, "Integrator") else ts.nve  # newer and older torch-sim
SPECIES = ["H", "C", "O", "Mg", "Si", "Fe"]
POTENTIALS = {
    "nequip": {"channels": 4, "n_layers": 2},
    "allegro": {"kind": "allegro", "tensor_channels": 4, "scalar_channels": 8},
}
BATCH = ["one atom", *(name for name in SYSTEMS if name not in ("one atom", "liquid"))]


@pytest.fixture(scope="module", params=POTENTIALS)
def potential(request):
    options = {"l_max": 1, "cutoff": 4.0, "dtype": "float64", **POTENTIALS[request.param]}
    return equiforce.untrained(SPECIES, **options).potential


def state_of(*systems: Atoms, dtype: torch.dtype = torch.float64):
    """A state that says of every system along which directions it repeats."""
    state = ts.io.atoms_to_state([Atoms(s, pbc=True) for s in systems], CPU, dtype)
    state.pbc = torch.tensor(np.array([s.pbc for s in systems]))
    return state


def assert_as_in_ase(output: dict[str, torch.Tensor], systems: list[Atoms], potential) -> None:
    start = 0
    for k, system in enumerate(systems):
        atoms, own = system.copy(), slice(start, start + len(system))
        atoms.calc = Calculator(potential)
        assert output["energy"][k].item() == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        np.testing.assert_allclose(output["energies"][own], atoms.get_potential_energies(), rtol=0, atol=1e-10)
        np.testing.assert_allclose(output["forces"][own], atoms.get_forces(), rtol=0, atol=1e-10)
        if atoms.pbc.any() and atoms.cell.volume > 0:
            np.testing.assert_allclose(output["stress"][k], atoms.get_stress(voigt=False), rtol=0, atol=1e-10)
        else:
            assert bool(output["stress"][k].isnan().all())
        start += len(system)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_it_is_what_torch_sim_takes_for_a_model(dtype, potential):
    model = TorchSimModel(potential, dtype=dtype, compute_forces=False, compute_stress=False)
    assert set(model(state_of(SYSTEMS["molecule"], dtype=dtype))) == {"energy", "energies"}
    validate_model_outputs(model, CPU, dtype)
    output = model(state_of(SYSTEMS["molecule"], dtype=dtype))
    assert {value.dtype for value in output.values()} == {dtype}
    assert not any(value.requires_grad for value in output.values())
    assert model.memory_scales_with == "n_atoms"
    assert TorchSimModel(potential, memory_scales_with="n_atoms_x_density").memory_scales_with == "n_atoms_x_density"


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_gives_what_ase_gets(name, potential):
    assert_as_in_ase(TorchSimModel(potential)(state_of(SYSTEMS[name])), [SYSTEMS[name]], potential)


def test_a_batch_of_all_kinds_of_systems_gives_what_ase_gets(potential):
    systems = [SYSTEMS[name] for name in BATCH]
    assert_as_in_ase(TorchSimModel(potential)(state_of(*systems)), systems, potential)


def test_boundaries_may_be_shared(potential):
    systems = [SYSTEMS["skewed cell"], SYSTEMS["liquid"], bulk("Si")]
    state = ts.io.atoms_to_state(systems, CPU, torch.float64)
    model = TorchSimModel(potential)
    assert_as_in_ase(model(state), systems, potential)
    fields = {name: getattr(state, name) for name in ("positions", "cell", "pbc", "atomic_numbers", "system_idx")}
    assert_as_in_ase(model(fields), systems, potential)
    # a molecule that has a cell: its images play no part
    boxed = [SYSTEMS["molecule in a box, not periodic"], Atoms("CO", [[0, 0, 0], [1.2, 0, 0]], cell=[1, 1, 1])]
    assert_as_in_ase(model(ts.io.atoms_to_state(boxed, CPU, torch.float64)), boxed, potential)


def test_a_simulation_conserves_energy_and_goes_the_way_that_ase_goes(potential):
    model, step = TorchSimModel(potential), 0.5
    systems = [molecule("CH3CH2OH", cell=[9, 9, 9], pbc=True), bulk("Si", cubic=True), SYSTEMS["skewed cell"]]
    options = {"integrator": NVE, "temperature": 100.0, "timestep": 1e-3 * step}
    state = ts.integrate(systems, model, n_steps=1, **options)

    def total(state) -> torch.Tensor:
        return state.energy + ts.calc_kinetic_energy(
            masses=state.masses, momenta=state.momenta, system_idx=state.system_idx
        )

    first, atoms = total(state), state.to_atoms()
    for system, momenta in zip(atoms, state.momenta.split([len(s) for s in systems]), strict=True):
        system.set_momenta(momenta.numpy())
        system.calc = Calculator(potential)
        VelocityVerlet(system, step * units.fs).run(10)
    state = ts.integrate(state, model, n_steps=10, **options)
    torch.testing.assert_close(total(state), first, rtol=0, atol=3e-3)
    energies = [system.get_potential_energy() for system in atoms]
    # torch-sim and ASE differ in the seventh digit of the unit of time
    np.testing.assert_allclose(state.energy, energies, rtol=0, atol=1e-5)
    assert model.n_neighbor_builds < 10


def test_torch_sim_may_divide_a_batch_by_its_memory(potential):
    model = TorchSimModel(potential)
    systems = [bulk("Si", cubic=True), bulk("Si"), bulk("Fe", cubic=True), bulk("Si")]
    batcher = ts.BinningAutoBatcher(model, max_memory_scaler=500.0)
    divided, whole = ts.static(systems, model, autobatcher=batcher), ts.static(systems, model)
    assert len(batcher.index_bins) > 1
    for one, other in zip(divided, whole, strict=True):
        torch.testing.assert_close(one["forces"], other["forces"], rtol=0, atol=1e-10)
        torch.testing.assert_close(one["stress"], other["stress"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("systems", ["molecules", "both"])
def test_molecules_may_be_divided_too(systems, potential):
    model = TorchSimModel(potential)
    some = [molecule(name) for name in ("CH3CH2OH", "H2O", "CH4", "H2O")]
    state = [s.copy() for s in some] if systems == "molecules" else [*some, bulk("Si"), bulk("Fe", cubic=True)]
    for seed, atoms in enumerate(state):
        atoms.rattle(0.05, seed=seed)
        atoms.pbc = systems == "both"  # torch-sim 0.3 has one pbc for all systems
        if systems == "both" and not atoms.cell.volume:
            atoms.center(vacuum=4.0)
    options = {"memory_scales_with": model.memory_scales_with, "max_memory_scaler": 12}
    batcher = ts.BinningAutoBatcher(model, **options)
    divided, whole = ts.static(state, model, autobatcher=batcher), ts.static(state, model)
    assert len(batcher.index_bins) > 1
    for one, other in zip(divided, whole, strict=True):
        torch.testing.assert_close(one["potential_energy"], other["potential_energy"], rtol=0, atol=1e-10)
        torch.testing.assert_close(one["forces"], other["forces"], rtol=0, atol=1e-10)
    batcher = ts.InFlightAutoBatcher(model, **options)
    fire = ts.Optimizer.fire if hasattr(ts, "Optimizer") else ts.optimizers.fire
    steps = {"optimizer": fire, "steps_between_swaps": 2, "convergence_fn": lambda state, _: state.energy < torch.inf}
    divided, whole = ts.optimize(state, model, autobatcher=batcher, **steps), ts.optimize(state, model, **steps)
    torch.testing.assert_close(divided.energy, whole.energy, rtol=0, atol=1e-8)


def test_faults_name_system_and_atom(potential):
    model, water = TorchSimModel(potential), SYSTEMS["molecule"]
    with pytest.raises(InputError, match=r"system 1 .*: atom 1 .*Cu.*H, C, O"):
        model(state_of(water, Atoms("OCu", positions=[[0, 0, 0], [2, 0, 0]])))
    with pytest.raises(InputError, match=r"system 1 .*: atom 0"):
        model(state_of(water, Atoms("O", positions=[[np.nan, 0, 0]])))
    state = state_of(water, water)
    state.system_idx = state.system_idx.flip(0)
    with pytest.raises(InputError, match="sort its system_idx"):
        model(state)


def test_a_model_file_is_as_good_as_a_potential(potential, tmp_path):
    model_file.save(tmp_path / "model.eqf", potential, [ethanol()], {})
    model = TorchSimModel(tmp_path / "model.eqf", device="cpu")
    assert model.device == CPU
    assert_as_in_ase(model(state_of(SYSTEMS["liquid"])), [SYSTEMS["liquid"]], potential)


def test_without_torch_sim_it_says_how_to_get_it(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "torch_sim"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "equiforce.calculators.torch_sim")
    with pytest.raises(InputError, match=r"pip install \"equiforce\[torch-sim\]\""):
        import_module("equiforce.calculators.torch_sim")


def test_the_example_runs(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["with_torch_sim.py"])
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "with_torch_sim.py"))
    assert "CH3CH2OH" in capsys.readouterr().out
