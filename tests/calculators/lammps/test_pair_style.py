"""What a user meets: clear errors that stop every rank, dynamics that conserve energy, restarts, heat flux."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from tests import systems
from tests.calculators.lammps.runs import LMP, MPIRUN, needs_lammps
from tests.calculators.lammps.simulations import BAR, SECONDS, errors, ran, results, run, save_model, waters, write_data
from tests.systems import potential_of

pytestmark = needs_lammps

SETUP = """
units metal
atom_style {style}
newton {newton}
read_data water.data
{setting}
pair_style equiforce {precision}
pair_coeff * * {model} {elements}
{more}
run 1
"""
DEFAULTS = {
    "style": "atomic", "newton": "on", "setting": "", "precision": "", "model": "nequip.eqf", "elements": "H C O",
    "more": "",
}  # fmt: skip
HEAT_FLUX = """
compute kinetic all ke/atom
compute potential all pe/atom
compute virial all centroid/stress/atom NULL virial
compute flux all heat/flux kinetic potential virial
"""


MOLECULE = """a molecule with a bond

2 atoms
1 bonds
3 atom types
1 bond types

0 10 xlo xhi
0 10 ylo yhi
0 10 zlo zhi

Masses

1 1.0
2 12.0
3 16.0

Atoms # bond

1 1 1 1.0 1.0 1.0
2 1 3 2.0 1.0 1.0

Bonds

1 1 1 2
"""


def boxed(structure: systems.Structure) -> Atoms:
    atoms = Atoms(structure.atomic_numbers, structure.positions, cell=[20.0] * 3)
    atoms.center()
    return atoms


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Models and water, as LAMMPS reads them."""
    folder = tmp_path_factory.mktemp("lammps")
    models = {"nequip": potential_of(l_max=1, n_layers=2, channels=4), "allegro": potential_of("allegro", l_max=1)}
    for name, potential in models.items():
        potential.atomic_energies.data.zero_()  # next to which everything else would seem exact
        potential.scale.data.fill_(0.1)  # eV: forces that atoms of 300 K can follow
        save_model(folder / f"{name}.eqf", potential)
    for kind, options in (("nequip", {"n_layers": 2, "channels": 4}), ("allegro", {})):
        huge = potential_of(kind, l_max=1, zbl=True, **options)
        huge.scale.data.fill_(1e307)  # the energy is finite unless atoms are very close
        save_model(folder / f"{kind}-huge.eqf", huge)
    whole = (folder / "nequip.eqf").read_bytes()
    (folder / "changed.eqf").write_bytes(whole[:-64] + bytes(64))  # some of the weights
    write_data(folder / "water.data", waters())
    return folder


MISTAKES = {
    "element": ({"elements": "H C N"}, "atom type 3 has the element N, but the model nequip.eqf knows only H, C, O"),
    "too-few": ({"elements": "H C"}, "the chemical symbol of each of the 3 atom types"),
    "null-alone": ({"elements": "H C NULL"}, "All pair coeffs are not set"),
    "all-null": ({"elements": "NULL NULL NULL"}, "NULL for all atom types"),
    "no-file": ({"model": "none.eqf"}, "there is no model file none.eqf"),
    "no-model": ({"model": "water.data"}, "water.data is not an equiforce model file"),
    "changed": ({"model": "changed.eqf"}, "changed.eqf is damaged: its checksum does not fit its content"),
    "precision": ({"precision": "double"}, "float32 or float64"),
    "newton": ({"newton": "off"}, "needs newton on"),
    "units": ({"setting": "clear\nunits electron\nread_data water.data"}, "not units electron"),
    "excluded": ({"more": "neigh_modify exclude type 1 3"}, "neigh_modify exclude type removes some from the list"),
    "order": ({"elements": "O C H"}, "type 1 with mass 1.008 u is H (1.008 u) and not O (15.999 u) as pair_coeff says"),
    "mass-later": ({"more": "mass 1 15.999"}, "atom type 1 with mass 15.999 u is O (15.999 u) and not H"),
    "masses-of-atoms": ({"more": "fix m all property/atom rmass\nset type 3 mass 1.008\nset type 1 mass 2.014"},
                        "atom type 3 with mass 1.008 u is H (1.008 u) and not O"),
    "space": ({"model": "my nequip.eqf"}, "a path with spaces needs double quotes"),
    "heat-flux": ({"more": HEAT_FLUX + "thermo_style custom step c_flux[1]"}, "use an Allegro model"),
    "coincident": ({"more": "set atom 2 x 1.0 y 1.0 z 1.0\nset atom 1 x 1.0 y 1.0 z 1.09"},
                   "in step 0: atoms 1 and 2 (IDs of LAMMPS) are 0.09 Å apart, closer than 0.1 Å"),
}  # fmt: skip
ON_TWO_RANKS = ("element", "heat-flux", "coincident", "masses-of-atoms")


@pytest.mark.parametrize(
    "mistake", ["element", *(pytest.param(m, marks=pytest.mark.slow) for m in MISTAKES if m != "element")]
)
def test_a_mistake_stops_all_ranks_with_one_sentence(mistake, folder):
    changes, sentence = MISTAKES[mistake]
    result = run(folder, SETUP.format(**{**DEFAULTS, **changes}), 2 if mistake in ON_TWO_RANKS else 1)
    said = errors(result)
    assert result.returncode != 0
    assert len(said) == 1, result.stdout[-1500:] + result.stderr[-1500:]
    assert sentence in said[0]


LOW = "set atom 2 x 1.0 y 1.0 z 1.0\nset atom 1 x 1.0 y 1.0 z {:g}\n"
HIGH = "set atom 24 x 5.0 y 5.0 z 5.0\nset atom 23 x 5.0 y 5.0 z {:g}\n"
BREAKS = {  # where each rank has half of the box
    "on the first rank": (LOW.format(1.09), "atoms 1 and 2 (IDs of LAMMPS) are 0.09 Å apart"),
    "on the second rank": (HIGH.format(5.05), "atoms 23 and 24 (IDs of LAMMPS) are 0.05 Å apart"),
    "on both ranks": (LOW.format(1.09) + HIGH.format(5.05), "atoms 1 and 2 (IDs of LAMMPS) are 0.09 Å apart"),
    "after a run": (HIGH.format(5.3) + "run 0\ngroup b id 23\ndisplace_atoms b move 0 0 -0.29", "atoms 23 and 24"),
    "forces": (HIGH.format(5.12), "the energy or the forces are not finite"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "model"), [*((place, "nequip") for place in BREAKS), ("on both ranks", "allegro"), ("forces", "allegro")]
)
def test_what_breaks_on_one_rank_stops_all_with_one_sentence(place, model, folder):
    commands, sentence = BREAKS[place]
    if place == "forces":
        model += "-huge"
    changes = {"model": f"{model}.eqf", "more": commands}
    text = SETUP.format(**{**DEFAULTS, **changes}).replace("read_data", "processors 1 1 *\nread_data")
    result = run(folder, text, 2)
    assert result.returncode != 0
    (said,) = errors(result)
    assert f"ERROR: equiforce, in step 0: {sentence}" in said
    assert "MPI_Abort" not in result.stderr


MASSES = {
    "deuterium": "mass 1 2.014",
    "repartitioned": "mass 1 3.024\nmass 3 11.967",
    "of atoms": "fix m all property/atom rmass\nset type 1 mass 2.014\nset type 3 mass 15.999\nset atom 2 mass 17.999",
}


@pytest.mark.slow
@pytest.mark.parametrize("case", MASSES)
def test_isotopes_and_heavy_hydrogen_are_no_mistake(case, folder):
    output = ran(folder, SETUP.format(**DEFAULTS).replace("run 1", f"{MASSES[case]}\nfix move all nve\nrun 1"))
    assert "with mass" not in output


@pytest.mark.slow
def test_a_doubtful_mass_is_said_once(folder):
    output = ran(folder, SETUP.format(**{**DEFAULTS, "more": "mass 3 30\nfix move all nve\nrun 0"}), 2)
    (warning,) = [line for line in output.splitlines() if "WARNING" in line]
    assert "atom type 3 with mass 30 u is O according to pair_coeff, which has 15.999 u" in warning


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_model_may_have_any_name(locale, folder, monkeypatch):
    wanted = results(ran(folder, SETUP.format(**DEFAULTS) + 'print "RESULT pe $(pe:%.16g)"'))["pe"]
    path = folder / "W\u00e4rme \u6c34" / "m\u00f6del.eqf"
    path.parent.mkdir(exist_ok=True)
    shutil.copy(folder / "nequip.eqf", path)
    monkeypatch.setenv("LC_ALL", locale)
    for name in (path.relative_to(folder), path):
        text = SETUP.format(**{**DEFAULTS, "model": f'"{name}"'}) + 'print "RESULT pe $(pe:%.16g)"'
        assert results(ran(folder, text, 2))["pe"] == pytest.approx(wanted, rel=1e-12)


@pytest.mark.slow
def test_bonded_atoms_must_be_seen(folder, tmp_path):
    """LAMMPS takes bonded neighbours off its list where special_bonds says 0, which is its default."""
    save_model(tmp_path / "nequip.eqf", potential_of(l_max=0, n_layers=1))
    (tmp_path / "water.data").write_text(MOLECULE)
    said = errors(run(tmp_path, SETUP.format(**{**DEFAULTS, "style": "bond"})))
    assert len(said) == 1
    assert "write special_bonds lj/coul 1.0 1.0 1.0" in said[0]
    ran(tmp_path, SETUP.format(**{**DEFAULTS, "style": "bond", "setting": "special_bonds lj/coul 1.0 1.0 1.0"}))


@pytest.mark.slow
def test_a_file_that_one_rank_lacks_stops_the_others(folder, tmp_path):
    (folder / "in.lack").write_text(SETUP.format(**DEFAULTS))
    shutil.copy(folder / "water.data", tmp_path)
    command = [MPIRUN, "-wdir", folder, "-np", "1", LMP, "-in", "in.lack", "-log", "none"]
    command += [":", "-wdir", tmp_path, "-np", "1", LMP, "-in", "in.lack", "-log", "none"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert result.returncode != 0
    said = errors(result)
    assert len(said) == 1, result.stdout + result.stderr
    assert said[0].startswith("ERROR: rank 1: there is no model file nequip.eqf")


DYNAMICS = """
units metal
atom_style atomic
boundary {boundary}
if "$(is_defined(variable,restart))" then "read_restart ${{restart}}" else "read_data {data}"
pair_style equiforce
pair_coeff * * {model} H C O
if "!$(is_defined(variable,restart))" then "velocity all create 300 1 loop geom"
timestep 0.0001
fix integrate all nve
{more}
thermo 10
thermo_modify format float %.12g
run {steps} upto
write_dump all custom {out} id x y z vx vy vz modify sort id format float %.16g
print "RESULT energy $(etotal:%.16g) $(ke:%.16g)"
"""


@pytest.mark.slow
@pytest.mark.parametrize("model", ["nequip.eqf", "allegro.eqf"])
def test_energy_is_conserved_and_ranks_do_not_matter(model, folder):
    ends, energies = [], []
    for n_ranks in (1, 2):
        text = DYNAMICS.format(boundary="p p p", data="water.data", model=model, more="", steps=100, out="end")
        start, end = (
            results(ran(folder, part, n_ranks))["energy"] for part in (text.replace("run 100", "run 0"), text)
        )
        assert abs(end[0] - start[0]) < 2e-3 * start[1]
        assert abs(end[1] - start[1]) > 0.02 * start[1]  # or nothing would have moved
        ends.append(np.loadtxt(folder / "end", skiprows=9))
        energies.append(end[0])
    np.testing.assert_allclose(ends[0], ends[1], rtol=0, atol=1e-9)
    np.testing.assert_allclose(*energies, rtol=1e-12)


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_identically(folder):
    given = {"boundary": "p p p", "data": "water.data", "model": "nequip.eqf"}
    dynamics = DYNAMICS.replace("timestep 0.0001", "timestep 0.00004")  # the random model lets atoms meet at 0.03 ps
    text = dynamics.format(**given, more="restart 20 killed.*", steps=100_000_000, out="never")
    (folder / "in.killed").write_text(text)
    process = subprocess.Popen(
        [LMP, "-in", "in.killed", "-log", "killed.log"], cwd=folder, stdout=subprocess.DEVNULL, process_group=0
    )
    try:
        wait_for((folder / "killed.60").exists)  # which may be written still, so that killed.40 is the last whole one
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    text = dynamics.format(**given, more="", steps=600, out="whole")
    whole = results(ran(folder, text))["energy"]
    text = dynamics.format(**given, more="", steps=600, out="continued")
    continued = results(ran(folder, text, 1, "-var", "restart", "killed.40"))["energy"]
    np.testing.assert_allclose(continued, whole, rtol=1e-12)
    ends = [np.loadtxt(folder / name, skiprows=9) for name in ("whole", "continued")]
    np.testing.assert_allclose(*ends, rtol=0, atol=1e-9)


def test_pressure_is_the_derivative_by_the_volume(folder):
    text = SETUP.replace("run 1", "variable e equal pe\nrun 0 post no\n").format(**DEFAULTS)
    text += 'print "RESULT pressure $(pxx:%.16g) $(pyy:%.16g) $(pzz:%.16g) $(vol:%.16g)"\n'
    step = 1e-5
    for axis in "xyz":
        for sign in (1, -1):
            scale = f"{axis} scale {1 + sign * step:.16g} remap"
            text += f"change_box all {scale}\nrun 0 post no\n"
            text += f'print "RESULT {axis}{sign} $(pe:%.16g)"\n'
            text += f"change_box all {axis} scale {1 / (1 + sign * step):.16g} remap\n"
    found = results(ran(folder, text))
    *pressure, volume = found["pressure"]
    for axis, value in zip("xyz", pressure, strict=True):
        slope = (found[f"{axis}1"][0] - found[f"{axis}-1"][0]) / (2 * step)
        assert abs(value + slope / volume * BAR) < 1e-6 * max(np.abs(pressure))


@pytest.mark.slow
def test_heat_flux_is_the_derivative_of_where_the_energy_is(folder):
    """J = d/dt Σ r_i (U_i + K_i), of atoms that do not repeat."""
    write_data(folder / "molecule.data", boxed(systems.ethanol()))
    setting = HEAT_FLUX + "\nthermo_style custom step pe etotal ke c_flux[*]\n"
    setting += "dump all all custom 1 flux.dump id x y z c_kinetic c_potential\n"
    setting += "dump_modify all sort id format float %.16g\ntimestep 0.00001\nrun 1 post no\n"
    setting += 'print "RESULT flux $(c_flux[1]:%.16g) $(c_flux[2]:%.16g) $(c_flux[3]:%.16g) &\n'
    setting += '$(c_flux[4]:%.16g) $(c_flux[5]:%.16g) $(c_flux[6]:%.16g)"\nrun 1 post no\n'
    text = DYNAMICS.format(
        boundary="f f f", data="molecule.data", model="allegro.eqf", more=setting, steps=2, out="end"
    )
    flux, convective = results(ran(folder, text, 2))["flux"].reshape(2, 3)
    blocks = (folder / "flux.dump").read_text().split("ITEM: ATOMS id x y z c_kinetic c_potential")[1:]
    frames = [np.loadtxt(block.partition("ITEM")[0].splitlines()) for block in blocks]
    middles = [(f[:, 1:4] * (f[:, 4] + f[:, 5])[:, None]).sum(axis=0) for f in (frames[0], frames[-1])]
    rate = (middles[1] - middles[0]) / 2e-5
    assert np.abs(flux - convective).max() > 0.1
    np.testing.assert_allclose(flux, rate, rtol=0, atol=1e-4 * np.abs(flux - convective).max())
