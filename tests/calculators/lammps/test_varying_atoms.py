"""Simulations whose atoms come, go and change, against ASE and against statistical mechanics."""

import math
from pathlib import Path

import ase.io
import pytest
from ase import Atoms

from equiforce import model_file
from equiforce.calculators.ase import Calculator
from tests.calculators.lammps.runs import needs_lammps
from tests.calculators.lammps.simulations import errors, ran, results, run, save_model, waters, write_data
from tests.systems import potential_of

pytestmark = needs_lammps

MODELS = {
    "nequip": {"l_max": 1, "n_layers": 2, "channels": 4, "zbl": True},
    "allegro": {"kind": "allegro", "l_max": 1, "zbl": True},
    "ideal": {"l_max": 0, "n_layers": 1, "channels": 2},  # atoms that do not see one another
}
ENERGIES = [-1.5, -2.0, -3.0]  # eV, of H, C and O
SETUP = """
units metal
atom_modify map yes
region all block EDGES EDGES EDGES
read_data water.data
pair_style equiforce float64
pair_coeff * * MODEL.eqf H C O
neighbor 1.0 bin
neigh_modify every 1 delay 0 check yes
timestep 0.0001
thermo_style custom step atoms pe
thermo_modify format float %.16g
thermo 5
"""
FRAMES = """
dump frames all custom 5 frames.dump id element x y z
dump_modify frames element H C O sort id format float %.16g
"""
CHANGES = {
    "gcmc": "fix g all gcmc 1 4 4 1 4711 800 -1.6 0.2 full_energy overlap_cutoff 0.6\nfix move all nve",
    "gcmc of two types": "fix g all gcmc 1 4 4 1 4711 800 -1.6 0.2\nfix o all gcmc 2 4 0 3 4712 800 -3.5 0.2\n",
    "widom": "fix g all widom 1 5 1 4711 800\nfix move all nve",
    "atom/swap": "fix s all atom/swap 1 4 4711 30000 types 1 3\nfix move all nve",
    "deposit": "region top block EDGES EDGES EDGES\nfix d all deposit 8 2 5 4711 region top near 0.7 attempt 100\n"
    "fix move all nve",
    "evaporate": "fix e all evaporate 5 2 all 4711\nfix move all nve",
    "delete_atoms": "fix move all nve\nrun 3\ngroup some id 3 7\ndelete_atoms group some\ncreate_atoms 2 single 1 1 1",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Models and water."""
    folder = tmp_path_factory.mktemp("varying")
    write_data(folder / "water.data", waters())
    for name, options in MODELS.items():
        potential = potential_of(**options)
        potential.atomic_energies.data[:] = potential.atomic_energies.new_tensor(ENERGIES)
        potential.scale.data.fill_(0.0 if name == "ideal" else 0.1)
        save_model(folder / f"{name}.eqf", potential)
    return folder


def setup(model: str) -> str:
    return with_edges(SETUP.replace("MODEL", model))


def with_edges(text: str) -> str:
    return text.replace("EDGES", "0 6.2")


def energies(output: str) -> dict[int, tuple[int, float]]:
    """Number of atoms and energy of each step."""
    rows = [line.split() for line in output.splitlines()]
    return {int(row[0]): (int(row[1]), float(row[2])) for row in rows if len(row) == 3 and row[0].isdigit()}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("model", "n_ranks"), [("nequip", 2), ("allegro", 1)])
def test_every_energy_is_that_of_the_atoms_that_are_there(model, change, n_ranks, folder):
    text = setup(model) + FRAMES + with_edges(CHANGES[change]) + "\nrun 20\n"
    found = energies(ran(folder, text, n_ranks))
    calculator, seen = Calculator(model_file.load(folder / f"{model}.eqf", dtype="float64")), set()
    for step, atoms in zip(range(0, 25, 5), ase.io.read(folder / "frames.dump", ":"), strict=False):
        assert atoms.pbc.all()
        wanted = calculator.get_potential_energy(atoms)
        assert found[step] == (len(atoms), pytest.approx(wanted, rel=1e-9)), step
        seen.add(str(atoms.symbols))
    assert len(found) >= 5
    assert (len(seen) > 1) == (change != "widom")


@pytest.mark.slow
def test_gcmc_has_the_density_of_an_ideal_gas(folder):
    """An atom that a trial removes must not count with its reference energy."""
    temperature, wanted = 1000.0, 20
    beta = 1 / (8.617333e-5 * temperature)
    wavelength = 17.458 / math.sqrt(1.008 * temperature)  # Å, of hydrogen
    mu = ENERGIES[0] + math.log(wanted * wavelength**3 / 6.214**3) / beta
    text = f"""{setup("ideal")}
delete_atoms group all
fix g all gcmc 1 40 0 1 4711 {temperature} {mu:.8f} 0.1 full_energy
variable n equal atoms
fix mean all ave/time 1 80 100 v_n
run 100
print "RESULT mean $(f_mean) $(pe) $(atoms)"
"""
    mean, energy, n_atoms = results(ran(folder, text))["mean"]
    assert mean == pytest.approx(wanted, rel=0.15)
    assert energy == pytest.approx(ENERGIES[0] * n_atoms)


@pytest.mark.slow
def test_widom_finds_the_reference_energy_of_an_ideal_gas(folder):
    text = setup("ideal") + "fix g all widom 1 50 3 4711 1000\nrun 2\n" + 'print "RESULT mu $(f_g[1]:%.12g)"'
    assert results(ran(folder, text))["mu"][0] == pytest.approx(ENERGIES[2], abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["nequip", "allegro"])
def test_atoms_of_the_exclusion_group_are_not_there(model, folder):
    text = setup(model) + "fix g all gcmc 100 1 0 1 4711 800 -1 0.1\nrun 0\n"
    text += 'group FixGCMC:gcmc_exclusion_group:g id 3 8\nrun 0\nprint "RESULT pe $(pe:%.16g)"\n'
    found = results(ran(folder, text, 2))["pe"][0]
    atoms = ase.io.read(folder / "water.data", format="lammps-data", units="metal", atom_style="atomic")
    atoms.pbc = True
    del atoms[[2, 7]]
    wanted = Calculator(model_file.load(folder / f"{model}.eqf", dtype="float64")).get_potential_energy(atoms)
    assert found == pytest.approx(wanted, rel=1e-9)


@pytest.mark.slow
def test_a_trial_on_top_of_an_atom_is_rejected(folder):
    """It is no reason to end the simulation."""
    write_data(folder / "dense.data", Atoms("O", positions=[[3, 3, 3]], cell=[6.2] * 3, pbc=True))
    text = setup("nequip").replace("water.data", "dense.data")
    text += "region spot block 2.97 3.03 2.97 3.03 2.97 3.03\nfix g all gcmc 1 20 0 3 4711 800 50 0.1 region spot\n"
    text += 'run 2\nprint "RESULT n $(atoms) $(f_g[3]) $(f_g[4])"\n'
    n_atoms, attempts, insertions = results(ran(folder, text))["n"]
    assert n_atoms <= 1
    assert attempts > 0
    assert insertions <= 1


EXCLUSIONS = {
    "group": (
        "group frozen id 1:6\nfix f frozen setforce 0 0 0\nneigh_modify exclude group frozen frozen",
        "neigh_modify exclude group frozen frozen removes some from the list, on which the forces on other atoms "
        "depend: remove it, and hold atoms in place by fix setforce",
    ),
    "type": (
        "neigh_modify exclude type 1 3",
        "neigh_modify exclude type removes some from the list: remove it, or give",
    ),
    "gcmc and group": (
        "fix g all gcmc 1 1 1 1 4711 800 -1 0.1\ngroup frozen id 1:6\nneigh_modify exclude group frozen all",
        "neigh_modify exclude group frozen all removes",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", EXCLUSIONS)
def test_what_excludes_pairs_is_named(case, folder):
    commands, sentence = EXCLUSIONS[case]
    result = run(folder, f"{setup('nequip')}{commands}\nrun 1\n")
    (said,) = errors(result)
    assert result.returncode != 0
    assert sentence in said
