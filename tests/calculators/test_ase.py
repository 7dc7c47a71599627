"""The calculator says what the potential says, of every system that ASE can hold."""

import copy
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError

import equiforce
from equiforce import model_file
from equiforce.calculators.ase import Calculator
from equiforce.errors import InputError
from equiforce.neighbors import build_graph
from equiforce.structure import Structure


def water_box(n: int = 1) -> Atoms:
    water = molecule("H2O", cell=[3.2, 3.3, 3.4], pbc=True)
    box = water.repeat((n, n, n))
    box.rattle(0.1, seed=1)
    return box


SYSTEMS = {
    "one atom": Atoms("O"),
    "one atom in a cell smaller than the cutoff": Atoms("O", cell=[2.1, 2.2, 2.3], pbc=True),
    "atoms out of reach": Atoms("HO", positions=[[0, 0, 0], [30, 0, 0]]),
    "molecule": molecule("H2O"),
    "molecule in a box, not periodic": molecule("H2O", vacuum=3.0),
    "liquid": water_box(2),
    "skewed cell": Atoms("OH", [[0, 0, 0], [0.9, 0.3, 0]], cell=[[3, 0, 0], [2, 3, 0], [1, 1, 3]], pbc=True),
    "slab": Atoms("OHH", [[0, 0, 0], [0, 0, 1], [1.4, 0, 1.2]], cell=[[3, 0, 0], [0, 3, 0], [0, 0, 0]], pbc=[1, 1, 0]),
    "slab with vacuum": Atoms("OHH", [[0, 0, 0], [0, 0, 1], [1.4, 0, 1.2]], cell=[3, 3, 20], pbc=[1, 1, 0]),
    "atoms outside the cell": Atoms("OH", [[-7, 0, 0], [12.1, 0.3, 9]], cell=[4, 4, 4], pbc=True),
}


POTENTIALS = {
    "nequip": {"channels": 8, "n_layers": 2},
    "allegro": {"kind": "allegro", "tensor_channels": 4, "scalar_channels": 8},
}


@pytest.fixture(scope="module", params=POTENTIALS)
def potential(request):
    return equiforce.untrained(["H", "O"], l_max=1, cutoff=4.0, seed=0, **POTENTIALS[request.param]).potential


def direct(potential, atoms: Atoms):
    structure = Structure(atomic_numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell.array, pbc=atoms.pbc)
    return potential(build_graph(structure, potential.species, potential.cutoff), stress=True)


def assert_same(atoms: Atoms, potential) -> None:
    expected = direct(potential, atoms)
    assert atoms.get_potential_energy() == pytest.approx(expected.energy.item(), rel=1e-6, abs=1e-5)
    assert atoms.get_potential_energies().sum() == pytest.approx(expected.energy.item(), rel=1e-6, abs=1e-5)
    np.testing.assert_allclose(atoms.get_forces(), expected.forces, atol=1e-5)
    if expected.stress is not None and atoms.pbc.any():
        np.testing.assert_allclose(atoms.get_stress(voigt=False), expected.stress[0], atol=1e-6)


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_gives_what_the_potential_gives(name, potential):
    atoms = SYSTEMS[name].copy()
    atoms.calc = Calculator(potential)
    assert_same(atoms, potential)
    assert atoms.calc.graph.n_atoms == len(atoms)


def test_moving_atoms_keep_the_list_until_they_must_not(potential):
    atoms, rng = water_box(), np.random.default_rng(0)
    atoms.calc = Calculator(potential, skin=0.6)
    for _ in range(12):
        atoms.positions += rng.normal(scale=0.08, size=atoms.positions.shape)
        assert_same(atoms, potential)
    assert 1 < atoms.calc.n_neighbor_builds < 10


def test_a_new_cell_new_elements_and_new_boundaries_are_noticed(potential):
    atoms = water_box()
    atoms.calc = Calculator(potential)
    assert_same(atoms, potential)
    atoms.set_cell(atoms.cell * 1.05, scale_atoms=True)
    assert_same(atoms, potential)
    atoms.numbers[[0, 1]] = atoms.numbers[[1, 0]]
    assert_same(atoms, potential)
    atoms.pbc = [True, True, False]
    assert_same(atoms, potential)
    atoms.pbc = False
    assert_same(atoms, potential)
    del atoms[2:]
    assert_same(atoms, potential)


def test_stress_has_the_sign_of_ase(potential):
    atoms = SYSTEMS["skewed cell"].copy()
    atoms.calc = Calculator(potential)
    stress, step = atoms.get_stress(voigt=False), 1e-3
    for a, b in ((0, 0), (1, 2)):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += sign * step / 2
            strain[b, a] += sign * step / 2
            strained = atoms.copy()
            strained.calc = atoms.calc
            strained.set_cell(atoms.cell @ strain, scale_atoms=True)
            energies.append(strained.get_potential_energy())
        expected = (energies[0] - energies[1]) / (2 * step * atoms.get_volume())
        assert stress[a, b] == pytest.approx(expected, abs=2e-4)


def test_stress_is_computed_when_it_is_asked_for(potential):
    atoms = water_box()
    atoms.calc = Calculator(potential)
    atoms.get_forces()
    assert "stress" not in atoms.calc.results
    atoms.get_stress()
    assert "forces" in atoms.calc.results
    atoms.calc = Calculator(potential, always_stress=True)
    atoms.get_forces()
    assert "stress" in atoms.calc.results


@pytest.mark.parametrize("name", ["molecule", "molecule in a box, not periodic", "slab"])
def test_no_stress_without_a_volume(name, potential):
    atoms = SYSTEMS[name].copy()
    atoms.calc = Calculator(potential, always_stress=True)
    atoms.get_forces()
    with pytest.raises(PropertyNotImplementedError, match="no stress"):
        atoms.get_stress()


def test_what_does_not_fit_into_memory_is_computed_in_chunks(potential):
    atoms = water_box().repeat((12, 1, 1))
    need = Calculator(potential).plan(atoms).need
    atoms.calc = Calculator(potential, max_memory=0.6e-9 * need)
    assert len(atoms.calc.plan(atoms).chunks) > 1
    atoms.get_stress()
    assert_same(atoms, potential)
    atoms.rattle(0.02)
    assert_same(atoms, potential)


def test_an_unknown_element_is_named(potential):
    atoms = Atoms("OCu", positions=[[0, 0, 0], [2, 0, 0]], calculator=Calculator(potential))
    with pytest.raises(InputError, match=r"Cu.*H, O"):
        atoms.get_potential_energy()


def test_positions_that_are_not_numbers_are_refused(potential):
    atoms = Atoms("OH", positions=[[0, 0, 0], [np.nan, 0, 0]], calculator=Calculator(potential))
    with pytest.raises(InputError):
        atoms.get_potential_energy()


def test_a_model_file_is_as_good_as_a_potential(potential, tmp_path):
    box = water_box()
    structure = Structure(atomic_numbers=box.numbers, positions=box.positions, cell=box.cell.array, pbc=box.pbc)
    model_file.save(tmp_path / "model.eqf", potential, [structure], {})
    box.calc = Calculator(tmp_path / "model.eqf")
    assert_same(box, potential)


@pytest.mark.parametrize(
    ("origin", "warned"),
    [
        ("least squares", {"H", "O"}),
        ("isolated atoms (H), least squares (O)", {"O"}),
        ("zero because there are no energies", {"H", "O"}),
        ("isolated atoms", set()),
        ("given", set()),
        (None, set()),
    ],
)
def test_a_single_atom_with_a_fitted_energy_is_warned_about_once(potential, tmp_path, origin, warned):
    about = {} if origin is None else {"statistics": {"reference_energies_from": origin}}
    model_file.save(tmp_path / "model.eqf", potential, [Structure.from_ase(molecule("H2O"))], about)
    for symbol in ("H", "O"):
        calculator = Calculator(tmp_path / "model.eqf")
        calculator.get_potential_energy(molecule("H2O"))
        calculator.get_potential_energy(Atoms(symbol, cell=[2.0, 2.0, 2.0], pbc=True))  # it has neighbours
        if symbol in warned:
            with pytest.warns(UserWarning, match=f"single atom of {symbol} means nothing.*without isolated atoms"):
                calculator.get_potential_energy(Atoms(symbol))
        calculator.get_potential_energy(Atoms(symbol, cell=[20.0, 20.0, 20.0], pbc=True))


def test_a_potential_in_training_stays_in_training(potential):
    potential.train()
    atoms = Atoms("OH", positions=[[0, 0, 0], [1, 0, 0]], calculator=Calculator(potential))
    atoms.get_forces()
    assert potential.training
    potential.eval()


def test_a_potential_of_the_caller_is_left_as_it_is(potential):
    """Its device, its mode and its weights; ``meta`` stands for a device where the potential is not."""
    potential.train()
    weights = [(w, w.requires_grad, w._version) for w in potential.parameters()]
    atoms = molecule("H2O")
    atoms.calc = Calculator(potential, device="cpu")
    assert atoms.calc.potential is potential
    atoms.get_forces()
    elsewhere = Calculator(potential, device="meta").potential
    assert {w.device.type for w in elsewhere.parameters()} == {"meta"}
    assert all(module.training for module in potential.modules())
    for now, (weight, requires_grad, version) in zip(potential.parameters(), weights, strict=True):
        assert now is weight
        assert (now.device.type, now.requires_grad, now._version, now.grad) == ("cpu", requires_grad, version, None)
    potential.eval()


def test_atoms_are_left_as_they_are(potential):
    atoms = molecule("H2O")
    before = atoms.copy()
    atoms.calc = Calculator(potential)
    forces = atoms.get_forces()
    forces += 1.0  # nor do the results belong to what was handed out
    assert atoms == before
    assert not np.array_equal(atoms.get_forces(), forces)


def in_threads(jobs, work):
    """What ``work`` returns for each job, computed by four threads that take turns as often as Python can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(work, jobs))
    finally:
        sys.setswitchinterval(before)


def numbers(atoms: Atoms, calculator: Calculator) -> list[np.ndarray]:
    atoms = atoms.copy()
    atoms.calc = calculator
    parts = [atoms.get_potential_energy(), atoms.get_forces(), atoms.get_potential_energies(), atoms.positions]
    return [*parts, atoms.get_stress()] if atoms.pbc.all() and atoms.cell.rank == 3 else parts


@pytest.mark.parametrize("shared", ["calculator", "potential"])
def test_threads_that_share_get_what_each_gets_alone(potential, shared):
    """ASE asks a calculator for one number after the other, and another thread computes in between."""
    jobs = [SYSTEMS[name].copy() for name in ("molecule", "skewed cell", "slab", "one atom")] * 5
    for seed, atoms in enumerate(jobs):
        atoms.rattle(0.05, seed=seed)
    double = copy.deepcopy(potential).double()
    calculator = Calculator(double)
    found = in_threads(jobs, lambda atoms: numbers(atoms, calculator if shared == "calculator" else Calculator(double)))
    for atoms, actual in zip(jobs, found, strict=True):
        for one, other in zip(actual, numbers(atoms, Calculator(double)), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)


def test_a_thread_has_its_own_results_and_a_copy_those_of_its_maker(potential):
    atoms = water_box()
    atoms.calc = Calculator(potential)
    energy = atoms.get_potential_energy()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: (atoms.calc.results, atoms.calc.graph, atoms.calc.n_neighbor_builds)).result() == (
            {},
            None,
            0,
        )
        with pytest.raises(InputError, match="this thread has computed nothing with this calculator yet"):
            pool.submit(atoms.calc.get_potential_energy).result()
        assert pool.submit(atoms.get_potential_energy).result() == pytest.approx(energy)
    for calculator in (copy.deepcopy(atoms.calc), pickle.loads(pickle.dumps(atoms.calc))):
        assert calculator.results["energy"] == energy
        assert calculator.get_potential_energy(atoms) == energy
        assert calculator.n_neighbor_builds == 1
