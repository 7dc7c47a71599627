"""The input that is written runs in LAMMPS, means what was asked for, goes on after a stop, and refuses the rest."""

import shutil
import subprocess
import sys
import time

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111, molecule
from ase.constraints import FixAtoms

import equiforce
from equiforce import model_file
from equiforce.calculators.lammps.prepare import prepare
from equiforce.calculators.md import MDOptions
from equiforce.cli import main
from equiforce.errors import InputError
from tests.calculators.lammps.runs import LMP, MPIRUN, needs_lammps, run_lammps, thermo, with_pair

ARGON_LIKE = "pair_style lj/cut 4.0\npair_coeff * * 0.05 2.3"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("my models")
    potential = equiforce.untrained(["H", "O", "Cu"], l_max=0, channels=2, n_layers=1, cutoff=4.0).potential
    model_file.save(folder / "a $model's.eqf", potential, [], {})
    return folder / "a $model's.eqf"


@pytest.fixture
def written(model, tmp_path):
    """Writes an input for some atoms; returns its path."""

    def write(atoms: Atoms, **options) -> object:
        ase.io.write(tmp_path / "start.traj", atoms)
        prepare(model, tmp_path / "start.traj", tmp_path / "run" / "in.lammps", MDOptions(**options))
        return tmp_path / "run" / "in.lammps"

    return write


def slab() -> Atoms:
    atoms = fcc111("Cu", (2, 2, 3), vacuum=4.0)
    atoms.pbc = [True, True, False]
    return atoms


def held_slab(n: int) -> Atoms:
    atoms = slab()
    atoms.set_constraint(FixAtoms(range(n)))
    return atoms


def lines(path) -> list[str]:
    """The commands of an input, without comments."""
    return [line.partition("  #")[0].strip() for line in path.read_text().splitlines()]


@needs_lammps
@pytest.mark.parametrize("ensemble", ["nve", "langevin", "bussi", "npt"])
def test_a_crystal_runs_and_goes_on(written, ensemble):
    path = written(
        bulk("Cu", cubic=True) * (2, 2, 2), ensemble=ensemble, steps=50, trajectory_every=2, thermo_every=10, seed=3
    )
    table = thermo(run_lammps(with_pair(path, ARGON_LIKE)))
    assert [row["Step"] for row in table] == [0, 10, 20, 30, 40, 50]
    assert table[0]["Temp"] == pytest.approx(300.0)
    assert table[-1]["Time"] == pytest.approx(0.025)
    assert {"Press", "Volume", "Density", "Pxx", "Pyz"} <= set(table[0])
    totals = [row["TotEng"] for row in table]
    assert np.ptp(totals) < 0.02 or ensemble != "nve"
    folder = path.parent
    frames = ase.io.read(folder / "in.lammpstrj", ":")
    assert (len(frames), str(frames[0].symbols)) == (26, "Cu32")
    assert 2 * frames[0].get_kinetic_energy() / (93 * units.kB) == pytest.approx(300.0, rel=1e-5)
    run_lammps(path, "-var", "restart", "in.restart.2")
    more = ase.io.read(folder / "in.from.40.lammpstrj", ":")
    assert len(more) == 6
    if ensemble != "langevin":  # whose random numbers are other ones
        np.testing.assert_allclose(more[-1].positions, frames[-1].positions, atol=1e-8)
    longer = thermo(run_lammps(path, "-var", "restart", "in.restart.end", "-var", "steps", "60"))
    assert [row["Step"] for row in longer] == [50, 60]
    assert sorted(p.name for p in folder.iterdir() if "restart" not in p.name) == [
        "in.data", "in.from.40.lammpstrj", "in.from.40.log", "in.from.50.lammpstrj", "in.from.50.log", "in.lammps",
        "in.lammpstrj", "in.log", "log.lammps",
    ]  # fmt: skip


@pytest.mark.slow
@needs_lammps
def test_names_need_not_be_ascii(model, tmp_path, monkeypatch):
    folder = tmp_path / "W\u00e4rme \u6c34"
    folder.mkdir()
    shutil.copy(model, folder / "m\u00f6del.eqf")
    ase.io.write(folder / "kr\u00fcmel.xyz", bulk("Cu", cubic=True), format="extxyz")
    monkeypatch.setenv("LC_ALL", "C")
    arguments = ["lammps", "m\u00f6del.eqf", "kr\u00fcmel.xyz", "-o", "l\u00e4ufe/m\u00fcnze.in"]
    command = [sys.executable, "-c", "import sys; from equiforce.cli import main; main()", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    command = [LMP, "-in", "m\u00fcnze.in", "-var", "steps", "0"]
    subprocess.run(command, cwd=folder / "l\u00e4ufe", check=True, capture_output=True)
    log = (folder / "l\u00e4ufe" / "m_nze.log").read_text(errors="replace")
    wanted = equiforce.Calculator(model).get_potential_energy(bulk("Cu", cubic=True))
    assert thermo(log)[0]["PotEng"] == pytest.approx(wanted, rel=1e-6)


@needs_lammps
@pytest.mark.parametrize(
    ("atoms", "ensemble"),
    [
        (Atoms("Cu"), "langevin"),
        (Atoms("Cu", cell=[2.5, 2.6, 2.7], pbc=True), "npt"),
        (molecule("H2"), "bussi"),
        (molecule("H2O"), "nve"),
        (slab(), "bussi"),
        (held_slab(4), "langevin"),
        (held_slab(1), "bussi"),
    ],
    ids=lambda x: x if isinstance(x, str) else f"{x.symbols}",
)
def test_any_system_starts_at_its_temperature(written, atoms, ensemble):
    path = written(atoms, ensemble=ensemble, steps=4, thermo_every=2, trajectory_every=2)
    table = thermo(run_lammps(with_pair(path)))
    assert table[0]["Temp"] == pytest.approx(300.0)
    assert ("Press" in table[0]) == atoms.pbc.all()
    first, last = ase.io.read(path.parent / "in.lammpstrj", 0), ase.io.read(path.parent / "in.lammpstrj", -1)
    n_free = 3 * len(atoms) - 3
    momenta = first.get_momenta()
    if len(atoms) == 1 or atoms.constraints:
        n_free = atoms.get_number_of_degrees_of_freedom()
    else:
        assert np.abs(momenta.sum(axis=0)).max() < 1e-5
    if not atoms.pbc.any() and len(atoms) > 1:
        spin = np.cross(first.positions - first.get_center_of_mass(), momenta).sum(axis=0)
        assert np.abs(spin).max() < 1e-4
        n_free -= 2 if len(atoms) == 2 else 3
    assert 2 * first.get_kinetic_energy() / (units.kB * n_free) == pytest.approx(300.0, rel=1e-4)
    if ensemble == "bussi" and atoms.constraints:
        assert "fix_modify thermostat temp mobile_temp" in lines(path)
    moved = np.linalg.norm(last.positions - first.positions, axis=1)
    held = [i for c in atoms.constraints for i in c.get_indices()]
    assert not moved[held].any()
    assert np.delete(moved, held).all()


@pytest.mark.slow
@needs_lammps
def test_atoms_that_leave_a_molecule_are_not_lost(written):
    atoms = Atoms("Cu4", [[0, 0, 0], [2.5, 0, 0], [0, 2.5, 0], [0, 0, 2.5]])
    atoms.set_velocities((atoms.positions - atoms.get_center_of_mass()) / (200 * units.fs))
    path = written(atoms, ensemble="nve", steps=2000, timestep=5.0, trajectory_every=500)
    run_lammps(with_pair(path), ranks=1 if MPIRUN is None else 2)
    last = ase.io.read(path.parent / "in.lammpstrj", -1)
    np.testing.assert_allclose(last.get_all_distances(), 51 * atoms.get_all_distances(), rtol=1e-6)


def test_momenta_of_the_start_are_kept(written):
    atoms = molecule("H2O")
    atoms.set_momenta(np.random.default_rng(0).normal(size=(3, 3)))
    path = written(atoms, ensemble="nve")
    assert not [line for line in lines(path) if "create" in line]
    assert "Velocities" in (path.parent / "in.data").read_text()
    assert "compute_modify thermo_temp extra/dof 3" not in lines(path)


def test_units_are_those_of_lammps(written):
    atoms = bulk("Cu", cubic=True)
    path = written(
        atoms, ensemble="npt", pressure=2.5, tdamp=50.0, pdamp=400.0, timestep=1.5, skin=0.7, temperature=77.0
    )
    text = lines(path)
    assert "fix integrate all npt temp ${temperature} ${temperature} 0.05 iso 25000 25000 0.4" in text
    assert {"timestep 0.0015", "neighbor 0.7 bin", "variable temperature index 77", "boundary p p p"} <= set(text)
    assert 'pair_coeff * * "../../my models0/a $model\'s.eqf" Cu' in text


def test_friction_and_seed(written, tmp_path):
    path = written(bulk("Cu", cubic=True), friction=4.0, seed=10**12)
    fix = next(line for line in lines(path) if line.startswith("fix thermostat"))
    assert fix.startswith("fix thermostat all langevin ${temperature} ${temperature} 0.25 $(")
    assert fix.endswith("+step) zero yes")
    assert len({line for line in lines(path) if "create" in line or "langevin $" in line}) == 2


def test_only_elements_that_are_there_become_types_in_the_order_of_the_model(written, model, tmp_path):
    ase.io.write(tmp_path / "s.xyz", molecule("OCHCHO")[[0, 1, 4, 5]])
    with pytest.raises(InputError, match="an element C that the model does not know"):
        prepare(model, tmp_path / "s.xyz", tmp_path / "in.lammps", MDOptions())
    path = written(molecule("H2O"))
    assert any(line.endswith('.eqf" H O') for line in lines(path))


@pytest.mark.parametrize(
    ("output", "data"),
    [
        ("in.lammps", "in.data"),
        ("water.in", "water.data"),
        ("in.water", "in.water.data"),
        ("my water.lmp", "my_water.data"),
        ("x.data", "x.data.data"),
    ],
)
def test_files_are_named_after_the_input(model, tmp_path, output, data):
    ase.io.write(tmp_path / "s.xyz", molecule("H2O"))
    prepared = prepare(model, tmp_path / "s.xyz", tmp_path / "new" / output, MDOptions())
    assert (prepared.input.name, prepared.data.name) == (output, data)
    assert {p.name for p in (tmp_path / "new").iterdir()} == {output, data}
    assert f"read_data {data}" in prepared.input.read_text()
    assert f"{data} (3 atoms, types H O, not periodic, velocities drawn by LAMMPS)" in prepared.summary()


def test_a_write_that_fails_leaves_nothing(model, tmp_path, monkeypatch):
    ase.io.write(tmp_path / "s.xyz", molecule("H2O"))
    output = tmp_path / "new" / f"{'n' * 250}.lammps"
    with pytest.raises(InputError, match=r"cannot be written because .* choose a shorter name"):
        prepare(model, tmp_path / "s.xyz", output, MDOptions())
    assert not list((tmp_path / "new").iterdir())


@pytest.fixture
def command(model, tmp_path, monkeypatch, capsys):
    """``equiforce lammps``, run in this process: exit status, standard output and standard error."""
    ase.io.write(tmp_path / "water.xyz", molecule("H2O"))
    ase.io.write(tmp_path / "many.xyz", [molecule("H2"), molecule("H2O", vacuum=3.0)])
    ase.io.write(tmp_path / "copper.xyz", bulk("Cu"))
    ase.io.write(tmp_path / "ethanol.xyz", molecule("CH3CH2OH"))
    (tmp_path / "empty.xyz").write_text("0\n\n")
    (tmp_path / "model.eqf").write_bytes(model.read_bytes())

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(sys, "argv", ["equiforce", "lammps", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, *capsys.readouterr()

    return run


def test_the_command_says_what_it_wrote_and_how_to_run_it(command, tmp_path):
    status, out, err = command("model.eqf", "many.xyz")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "start: the last of several frames in many.xyz",
        "written: in.lammps and in.data (3 atoms, types H O, not periodic, velocities drawn by LAMMPS)",
        "run it: mpirun -np 2 lmp -in in.lammps",
    ]
    status, _, err = command("model.eqf", "many.xyz")
    assert (status, err) == (1, "error: in.lammps exists already: name another output, or add --overwrite\n")
    options = ["--ensemble", "npt", "--pressure", "1", "--temperature", "500", "--steps", "20", "--set", "tdamp=20"]
    status, out, _ = command("model.eqf", "copper.xyz", "--overwrite", *options, "--timestep", "2", "--seed", "7")
    assert status == 0
    assert "periodic in x, y, z" in out
    text = (tmp_path / "in.lammps").read_text()
    assert "temp ${temperature} ${temperature} 0.02 iso 10000 10000 1 " in text
    assert 'pair_coeff * * "model.eqf" Cu' in text
    status, out, _ = command("model.eqf", "copper.xyz", "-o", "a b/x y.lammps")
    assert "run it: cd 'a b' && mpirun -np 2 lmp -in 'x y.lammps'" in out
    assert "lmp -in 'x y.lammps' -var restart x_y.restart.1" in (tmp_path / "a b" / "x y.lammps").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("", "name a model file and a start structure: equiforce lammps MODEL STRUCTURE -o in.lammps"),
        ("model.eqf", "name a model file and a start structure"),
        ("none.eqf water.xyz", "there is no model file none.eqf"),
        ("water.xyz water.xyz", "water.xyz is not an equiforce model file"),
        ("model.eqf none.xyz", "There is no file none.xyz"),
        ("model.eqf model.eqf", "model.eqf is "),
        ("model.eqf empty.xyz", "empty.xyz "),
        ("model.eqf ethanol.xyz", "ethanol.xyz: atom 0 (counted from 0) is an element C that the model does not know"),
        ("model.eqf water.xyz --ensemble npt", "the npt ensemble needs a cell that is periodic"),
        ("model.eqf water.xyz --ensemble nph", "lammps.ensemble='nph' is not allowed"),
        ("model.eqf water.xyz --temperature 0", "the langevin ensemble needs a temperature above 0 K"),
        ("model.eqf water.xyz --pressure 1", "lammps.pressure changes nothing unless ensemble is npt"),
        (
            "model.eqf water.xyz --ensemble nve --friction 1",
            "lammps.friction changes nothing unless ensemble is langevin",
        ),
        ("model.eqf water.xyz --set tdamp=10", "lammps.tdamp changes nothing unless ensemble is bussi or npt"),
        ("model.eqf water.xyz --set stop_on_escape=false", "the option stop_on_escape has no effect in LAMMPS"),
        ("model.eqf water.xyz --set save_every=2", "the option save_every has no effect in LAMMPS"),
        ("model.eqf water.xyz --set fixed=7", "fixed=7 names no atom of the start structure"),
        ("model.eqf water.xyz --set max_memory=2", "the option max_memory has no effect in LAMMPS"),
        ("model.eqf water.xyz --set skn=1", "there is no option lammps.skn: did you mean lammps.skin?"),
        ("model.eqf water.xyz -o .", "the output . is a folder"),
        (
            "model.eqf water.xyz -o water.xyz --overwrite",
            "water.xyz is the start structure or the model of the simulation",
        ),
        ("model.eqf water.xyz -o water.xyz/in.lammps", "water.xyz is a file, not a folder"),
        ('model.eqf water.xyz -o a"b.lammps', "LAMMPS cannot read the name 'a\"b.lammps'"),
    ],
)
def test_a_mistake_ends_in_one_sentence(command, tmp_path, arguments, sentence):
    before = {p.name for p in tmp_path.iterdir()}
    status, out, err = command(*arguments.split())
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert sentence in err
    assert err.count("\n") == 1
    assert {p.name for p in tmp_path.iterdir()} == before


def test_a_large_system_is_written_in_seconds(model, tmp_path):
    atoms = bulk("Cu", cubic=True) * (20, 20, 20)
    ase.io.write(tmp_path / "s.traj", atoms)
    began = time.perf_counter()
    prepare(model, tmp_path / "s.traj", tmp_path / "in.lammps", MDOptions())
    assert time.perf_counter() - began < 5.0
