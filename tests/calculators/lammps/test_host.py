"""The pair style in real LAMMPS, on several ranks, against the same potential as an ASE calculator."""

import ctypes
import os
from dataclasses import dataclass

import numpy as np
import pytest
from ase import Atoms

from equiforce.calculators.ase import Calculator
from equiforce.calculators.lammps import host as host_module
from equiforce.calculators.lammps.host import Host, attach, ranks_of_this_machine, species_of, threads_of_a_rank
from equiforce.errors import InputError
from equiforce.memory import step_memory
from equiforce.neighbors import find_pairs
from tests import systems
from tests.calculators.lammps.runs import needs_lammps
from tests.calculators.lammps.simulations import BAR, ran, results, save_model, waters, write_data
from tests.systems import SPECIES, potential_of

MODELS = {
    "nequip": {"l_max": 2, "n_layers": 3, "channels": 8, "zbl": True},
    "sees-itself": {"l_max": 1, "n_layers": 2, "channels": 8, "first_self_connection": True},
    "allegro": {"kind": "allegro", "l_max": 1, "zbl": True},
}
SYMBOLS = " ".join(SPECIES)
EQUIFORCE = "pair_style equiforce {precision}\npair_coeff * * {model}.eqf " + SYMBOLS
OVERLAY = (
    f"pair_style hybrid/overlay equiforce {{precision}} lj/cut 3.0\npair_coeff * * equiforce {{model}}.eqf {SYMBOLS}\n"
    "pair_coeff * * lj/cut 0.05 2.0"
)
TWO_MODELS = (
    "pair_style hybrid/overlay equiforce {precision} equiforce {precision}\n"
    f"pair_coeff * * equiforce 1 {{model}}.eqf {SYMBOLS}\npair_coeff * * equiforce 2 allegro.eqf {SYMBOLS}"
)
WITHOUT_H = (
    "pair_style hybrid/overlay equiforce {precision} lj/cut 3.0\npair_coeff * * equiforce {model}.eqf NULL C O\n"
    "pair_coeff * * lj/cut 0.0 2.0"
)


@dataclass(frozen=True)
class Case:
    """A structure, and how LAMMPS shall treat it."""

    atoms: Atoms
    boundary: str = "p p p"
    setting: str = ""
    pair: str = EQUIFORCE
    energy_unit: float = 1.0  # eV


def atoms_of(structure: systems.Structure) -> Atoms:
    return Atoms(structure.atomic_numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)


def boxed(atoms: Atoms, edge: float) -> Atoms:
    atoms = atoms.copy()
    atoms.set_cell([edge] * 3)
    atoms.center()
    return atoms


def ethanol() -> Atoms:
    return boxed(atoms_of(systems.ethanol()), 24.0)


CASES = {
    "periodic": Case(waters()),
    "tiled": Case(waters(), setting="comm_style tiled\nbalance 1.0 rcb"),
    "tiny-triclinic": Case(atoms_of(systems.crystal())),
    "slab": Case(atoms_of(systems.slab()), "p p f"),
    "molecule-in-a-corner": Case(ethanol(), "f f f", "processors 1 1 *"),
    "shrunk-box": Case(ethanol(), "s s s"),
    "one-atom": Case(boxed(Atoms("O"), 9.0), "f f f"),
    "real-units": Case(waters(), setting="units real", energy_unit=23.060549),
    "overlay": Case(waters(), pair=OVERLAY),
    "two-models": Case(waters(), pair=TWO_MODELS),
    "unseen-type": Case(ethanol(), "f f f", pair=WITHOUT_H),
}


def script(name: str, case: Case, model: str, precision: str) -> str:
    label = f"{name}:{model}:{precision}"
    units, _, setting = (
        case.setting.partition("\n") if case.setting.startswith("units") else ("units metal", "", case.setting)
    )
    return f"""
clear
{units}
boundary {case.boundary}
{setting if setting.startswith("processors") else ""}
read_data {name}.data
{setting if setting.startswith("comm_style") else ""}
{case.pair.format(model=model, precision=precision)}
compute energies all pe/atom
compute centroid all centroid/stress/atom NULL virial
compute symmetric all stress/atom NULL virial
compute centroids all reduce sum c_centroid[*]
compute symmetrics all reduce sum c_symmetric[*]
thermo_style custom step pe pxx pyy pzz pxy pxz pyz vol c_centroids[*] c_symmetrics[*]
run 0 post no
write_dump all custom {label.replace(":", "-")}.dump id fx fy fz c_energies modify sort id format float %.16g
print "RESULT {label}:pe $(pe:%.16g)"
print "RESULT {label}:pressure $(pxx:%.16g) $(pyy:%.16g) $(pzz:%.16g) $(pxy:%.16g) $(pxz:%.16g) $(pyz:%.16g)"
print "RESULT {label}:centroid $(c_centroids[1]:%.16g) $(c_centroids[2]:%.16g) $(c_centroids[3]:%.16g) &
$(c_centroids[4]:%.16g) $(c_centroids[5]:%.16g) $(c_centroids[6]:%.16g)"
print "RESULT {label}:symmetric $(c_symmetrics[1]:%.16g) $(c_symmetrics[2]:%.16g) $(c_symmetrics[3]:%.16g) &
$(c_symmetrics[4]:%.16g) $(c_symmetrics[5]:%.16g) $(c_symmetrics[6]:%.16g)"
print "RESULT {label}:volume $(vol:%.16g)"
"""


def lennard_jones(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Energies, forces and virial of OVERLAY's second part."""
    pairs = find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, 3.0)
    vectors = atoms.positions[pairs.neighbors] + pairs.shifts @ atoms.cell.array - atoms.positions[pairs.centers]
    sixth = (2.0 / pairs.distances) ** 6
    energies = np.bincount(pairs.centers, 0.5 * 0.2 * (sixth**2 - sixth), len(atoms))
    slopes = 0.2 * (12 * sixth**2 - 6 * sixth) / pairs.distances**2
    forces = np.zeros((len(atoms), 3))
    np.add.at(forces, pairs.centers, -slopes[:, None] * vectors)
    return energies, forces, 0.5 * np.einsum("e,ea,eb->ab", slopes, vectors, vectors)


def expected(case: Case, atoms: Atoms, calculators: dict[str, Calculator], model: str):
    """Energies, forces and virial (eV), of atoms in LAMMPS' axes."""

    def of(one: str, some: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        calculator = calculators[one]
        prediction = calculator.potential(calculator._graph_of(some), stress=True)
        return prediction.energies.numpy(), prediction.forces.numpy(), prediction.virial[0].numpy()

    energies, forces, virial = of(model, atoms)
    if case.pair == OVERLAY:
        return tuple(a + b for a, b in zip((energies, forces, virial), lennard_jones(atoms), strict=True))
    if case.pair == TWO_MODELS:
        return tuple(a + b for a, b in zip((energies, forces, virial), of("allegro", atoms), strict=True))
    if case.pair == WITHOUT_H:
        seen = atoms.numbers != 1
        some_energies, some_forces, virial = of(model, atoms[seen])
        energies, forces = np.zeros(len(atoms)), np.zeros((len(atoms), 3))
        energies[seen], forces[seen] = some_energies, some_forces
    return energies, forces, virial


# four ranks on two processors wait for one another
CASES_OF_FOUR = ("tiled", "tiny-triclinic", "molecule-in-a-corner")


@needs_lammps
@pytest.mark.parametrize(
    ("n_ranks", "names", "models"),
    [
        pytest.param(2, ("periodic",), ("sees-itself", "allegro"), id="quick"),
        pytest.param(1, tuple(CASES), tuple(MODELS), id="1", marks=pytest.mark.slow),
        pytest.param(2, tuple(CASES), tuple(MODELS), id="2", marks=pytest.mark.slow),
        pytest.param(4, CASES_OF_FOUR, ("nequip", "allegro"), id="4", marks=pytest.mark.slow),
    ],
)
def test_every_number_is_that_of_the_potential(n_ranks, names, models, tmp_path):
    calculators = {}
    for model, options in MODELS.items():
        potential = potential_of(**options)
        save_model(tmp_path / f"{model}.eqf", potential)
        calculators[model] = Calculator(potential)
    seen = {name: write_data(tmp_path / f"{name}.data", case.atoms) for name, case in CASES.items()}
    wanted = [(name, model, "float64") for name in names for model in models]
    wanted += [("tiled" if "tiled" in names else names[0], model, "float32") for model in models]
    output = results(ran(tmp_path, "".join(script(n, CASES[n], m, p) for n, m, p in wanted), n_ranks))
    for name, model, precision in wanted:
        case, atoms, label = CASES[name], seen[name], f"{name}:{model}:{precision}"
        close = Tolerance(1e-9 if precision == "float64" else 1e-5, label)
        energies, forces, virial = expected(case, atoms, calculators, model)
        unit = case.energy_unit
        rows = np.loadtxt(tmp_path / f"{label.replace(':', '-')}.dump", skiprows=9, ndmin=2)
        close(rows[:, 4], energies * unit, size=abs(energies).max())
        close(rows[:, 1:4], forces * unit)
        close(output[f"{label}:pe"], energies.sum() * unit, size=abs(energies.sum()))
        # in LAMMPS' order; its constants of units real are not those of units metal
        six = virial[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
        if unit == 1.0:
            close(output[f"{label}:pressure"], six / output[f"{label}:volume"] * BAR)
            close(output[f"{label}:centroid"], -six * BAR)
            close(output[f"{label}:symmetric"], -six * BAR)


class Tolerance:
    """Closeness relative to the largest number."""

    def __init__(self, relative: float, label: str):
        self.relative, self.label = relative, label

    def __call__(self, actual: np.ndarray, wanted: np.ndarray, size: float = 0.0) -> None:
        atol = self.relative * max(1.0, size, np.abs(wanted).max())
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=atol, err_msg=self.label)


def test_types_are_elements_of_the_model():
    potential = potential_of(l_max=0, n_layers=1)
    assert [species_of(symbol, 1, potential, "here") for symbol in ("O", "H")] == [2, 0]
    with pytest.raises(InputError, match="atom type 3 has the element N, but the model here knows only H, C, O"):
        species_of("N", 3, potential, "here")


def test_ranks_share_the_processors(monkeypatch):
    for name in ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    assert [threads_of_a_rank(n) for n in (1, 2, 3, 16)] == [8, 4, 2, 1]
    assert ranks_of_this_machine(6) == 6
    monkeypatch.setenv("MPI_LOCALNRANKS", "3")
    assert ranks_of_this_machine(6) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert threads_of_a_rank(3) == 5


def test_what_does_not_fit_into_memory_is_refused(monkeypatch):
    host, free = Host(exchange=print), [1e6]
    monkeypatch.setattr("equiforce.calculators.lammps.host.available", lambda _: free[0])
    host.potentials.append(potential := potential_of(l_max=1, n_layers=2))
    host.step_memories.append(step_memory(potential))
    large = (0, 1_000_000, 1_200_000, 50_000_000)
    with pytest.raises(InputError, match=r"1,000,000 atoms and 200,000 ghosts on one rank need about .* GB of memory"):
        host.refuse_what_does_not_fit(*large)
    host.refuse_what_does_not_fit(0, 1, 1, 0)
    free[0] = None  # nobody knows
    host.refuse_what_does_not_fit(*large)


def test_what_a_model_holds_already_is_not_asked_for_again(monkeypatch):
    """In the course of a simulation the number of ghosts goes up and down."""
    host, free = Host(exchange=print), [1e12]
    monkeypatch.setattr("equiforce.calculators.lammps.host.available", lambda _: free[0])
    host.potentials.append(potential := potential_of(l_max=1, n_layers=2))
    host.step_memories.append(step_memory(potential))
    host.refuse_what_does_not_fit(0, 1_000_000, 1_200_000, 50_000_000)
    free[0] = 1e9  # the rest is held
    host.refuse_what_does_not_fit(0, 1_000_000, 1_200_100, 50_001_000)
    with pytest.raises(InputError, match="3,000,000 atoms"):
        host.refuse_what_does_not_fit(0, 3_000_000, 3_200_000, 150_000_000)


def test_an_exception_becomes_a_message(capfd):
    functions = host_module._Functions()
    attach(ctypes.addressof(functions))
    batch = host_module._Batch(model=7)
    assert functions.compute(ctypes.byref(batch)) == 1
    assert batch.problem.startswith(b"IndexError: ")
    assert "Traceback" in capfd.readouterr().err
    model = host_module._Model()
    functions.load(b"nowhere.eqf", b"H", b"", 1, (ctypes.c_int64 * 1)(), ctypes.byref(model))
    assert model.problem.decode().startswith("there is no model file nowhere.eqf")
    functions.load(b"m\xb6del.eqf", b"\xb6", b"", 1, (ctypes.c_int64 * 1)(), ctypes.byref(model))
    assert model.problem.startswith(b"there is no model file m\xb6del.eqf")
    assert not capfd.readouterr().err
