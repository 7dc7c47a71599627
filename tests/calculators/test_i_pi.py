"""What i-PI prints is what the ASE calculator says, in one process and through a socket; real runs of i-PI."""

import runpy
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from time import monotonic, sleep

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.socketio import SocketClient

import equiforce
from equiforce import model_file
from equiforce.calculators.ase import Calculator
from equiforce.errors import InputError
from tests.calculators.test_ase import SYSTEMS
from tests.systems import structure_of

pytest.importorskip("ipi", reason="i-PI is not installed: pip install 'equiforce[ipi]'")

from equiforce.calculators.i_pi import ENERGY, LENGTH, EquiforceDriver

EXAMPLE = Path(__file__).parents[2] / "examples" / "ipi"
PROGRAMS = Path(sys.executable).parent
PATIENCE = 300.0  # s; the machine may be busy
POTENTIALS = {
    "nequip": {"channels": 4, "n_layers": 2},
    "allegro": {"kind": "allegro", "tensor_channels": 4, "scalar_channels": 8},
}
CONSTANT_PRESSURE = """
<simulation verbosity="low">
  <output prefix="out">
    <properties filename="txt"> [conserved{electronvolt}, potential{electronvolt}, virial_md{ev/ang3}] </properties>
    <trajectory filename="x" format="bin" cell_units="angstrom"> x_centroid{angstrom} </trajectory>
    <trajectory filename="f" format="bin"> f_centroid </trajectory>
  </output>
  <total_steps> 10 </total_steps>
  <prng> <seed> 1 </seed> </prng>
  <ffsocket mode="unix" name="equiforce"> <address> model </address> <latency> 1e-3 </latency> </ffsocket>
  <system>
    <initialize nbeads="1">
      <file mode="ase"> start.xyz </file>
      <velocities mode="thermal" units="kelvin"> 100 </velocities>
    </initialize>
    <forces> <force forcefield="equiforce"/> </forces>
    <ensemble>
      <temperature units="kelvin"> 100 </temperature>
      <pressure units="ev/ang3"> 0.01 </pressure>
    </ensemble>
    <motion mode="dynamics">
      <dynamics mode="npt">
        <timestep units="femtosecond"> 0.1 </timestep>
        <thermostat mode="langevin"> <tau units="femtosecond"> 100 </tau> </thermostat>
        <barostat mode="isotropic">
          <tau units="femtosecond"> 20 </tau>
          <thermostat mode="langevin"> <tau units="femtosecond"> 100 </tau> </thermostat>
        </barostat>
      </dynamics>
    </motion>
  </system>
</simulation>
"""


@pytest.fixture(scope="module", params=POTENTIALS)
def potential(request):
    options = {"l_max": 1, "cutoff": 4.0, "dtype": "float64", **POTENTIALS[request.param]}
    return equiforce.untrained(["H", "O"], **options).potential


@pytest.fixture
def folder(potential, tmp_path, monkeypatch):
    """Where the model is, and nothing else."""
    monkeypatch.chdir(tmp_path)
    model_file.save("model.eqf", potential, [structure_of(SYSTEMS["molecule"])], {})
    return tmp_path


def in_i_pi(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    return atoms.cell.array.T * LENGTH, atoms.positions * LENGTH


def assert_as_in_ase(answer, atoms: Atoms, potential) -> None:
    energy, forces, virial, _ = answer
    atoms.calc = Calculator(potential)
    assert energy / ENERGY == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
    np.testing.assert_allclose(forces / (ENERGY / LENGTH), atoms.get_forces(), rtol=0, atol=1e-10)
    if atoms.pbc.any() and atoms.cell.volume > 0:
        expected = -atoms.get_volume() * atoms.get_stress(voigt=False)
        np.testing.assert_allclose(virial / ENERGY, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "name", ["skewed cell", "slab with vacuum", "molecule in a box, not periodic", "atoms outside the cell"]
)
def test_beads_one_by_one_and_in_a_batch_give_what_ase_gets(name, potential, folder):
    beads = [SYSTEMS[name].copy() for _ in range(3)]
    for number, bead in enumerate(beads):
        bead.rattle(0.05, seed=number)
    beads[0].write("template.xyz")
    driver = EquiforceDriver("template.xyz", "model.eqf")
    cells, positions = (list(parts) for parts in zip(*map(in_i_pi, beads), strict=True))
    for answer, one_by_one, bead in zip(driver(cells, positions), map(driver, cells, positions), beads, strict=True):
        assert_as_in_ase(answer, bead, potential)
        assert_as_in_ase(one_by_one, bead, potential)


def test_a_template_that_does_not_fit_is_an_error(folder):
    water = SYSTEMS["molecule"]
    water.write("molecule.xyz", format="xyz")
    with pytest.raises(InputError, match="periodic=False"):
        EquiforceDriver("molecule.xyz", "model.eqf")
    driver = EquiforceDriver("molecule.xyz", "model.eqf", periodic=False)
    with pytest.raises(InputError, match="i-PI sends 4 atoms"):
        driver(np.eye(3), np.zeros((4, 3)))
    with pytest.raises(InputError, match=r"structure 1 of 2 .*: atom 2"):
        driver([10 * np.eye(3)] * 2, [water.positions, np.where(np.arange(3)[:, None] == 2, np.nan, water.positions)])
    Atoms("OCu", positions=[[0, 0, 0], [2, 0, 0]]).write("copper.xyz")
    with pytest.raises(InputError, match=r"copper.xyz: atom 1 .*Cu.*H, O"):
        EquiforceDriver("copper.xyz", "model.eqf", periodic=False)


def connected(path: Path, server: subprocess.Popen) -> None:
    """Returns when i-PI listens."""
    end = monotonic() + PATIENCE
    while not path.exists():
        assert server.poll() is None, server.communicate()[0]
        assert monotonic() < end
        sleep(0.02)
    sleep(0.1)  # between the name and the listening


@pytest.mark.parametrize(
    ("client", "potential"),
    [pytest.param("i-pi-driver-py", "nequip", marks=pytest.mark.slow), ("ase", "allegro")],
    indirect=["potential"],
)
def test_i_pi_prints_what_ase_gets(client, potential, folder, monkeypatch):
    start = SYSTEMS["skewed cell"].repeat((2, 1, 1))
    start.rattle(0.05, seed=0)
    start.write("start.xyz")
    (folder / "input.xml").write_text(CONSTANT_PRESSURE)
    prefix = f"{folder}/s_"
    command = [PROGRAMS / "i-pi", "--sockets_prefix", prefix, "input.xml"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        connected(Path(f"{prefix}model"), server)
        if client == "ase":
            monkeypatch.setattr("ase.calculators.socketio.actualunixsocketname", lambda name: f"{prefix}{name}")
            atoms = ase.io.read("start.xyz")
            atoms.calc = Calculator("model.eqf", always_stress=True)
            SocketClient(unixsocket="model", timeout=PATIENCE).run(atoms, use_stress=True)
        else:
            options = ["-u", "-a", "model", "-S", prefix, "-m", "custom", "-P", EXAMPLE / "driver.py"]
            parameters = ["-o", "template=start.xyz,model=model.eqf"]
            subprocess.run([PROGRAMS / client, *options, *parameters], check=True, timeout=PATIENCE)
        said, _ = server.communicate(timeout=PATIENCE)
        assert server.returncode == 0, said
    finally:
        server.kill()
    # ASE and i-PI differ in the eighth digit of eV and Å
    assert_printed_as_in_ase(potential, 1e-9 if client == "i-pi-driver-py" else 3e-6)


def binary_frames(name: str, n_frames: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cell, in columns, and what there is of each atom: in all digits, which no text format of i-PI has."""
    frames = np.fromfile(name, dtype=np.uint8).reshape(n_frames, -1)
    n_atoms = int(frames[0, 72:80].view(np.int64)[0])
    return [
        (frame[:72].view(np.float64).reshape(3, 3), frame[80 : 80 + 24 * n_atoms].view(np.float64).reshape(-1, 3))
        for frame in frames
    ]


def assert_printed_as_in_ase(potential, tolerance: float) -> None:
    conserved, energies, *virials = np.loadtxt("out.txt").T
    assert len(energies) == 11
    atoms = ase.io.read("start.xyz")
    atoms.calc = Calculator(potential)
    volumes = []
    frames = zip(binary_frames("out.x.bin", 11), binary_frames("out.f.bin", 11), strict=True)
    for ((cell, positions), (_, forces)), energy, virial in zip(frames, energies, np.transpose(virials), strict=True):
        atoms.set_cell(cell.T)
        atoms.positions = positions
        volumes.append(atoms.get_volume())
        # properties are printed with nine digits
        assert energy == pytest.approx(atoms.get_potential_energy(), rel=1e-7, abs=tolerance)
        np.testing.assert_allclose(forces / (ENERGY / LENGTH), atoms.get_forces(), rtol=0, atol=tolerance)
        expected = -atoms.get_stress(voigt=False)[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
        np.testing.assert_allclose(virial, expected, rtol=2e-6, atol=1e-7)
    assert np.ptp(volumes) > 1e-2  # Å³: the barostat is at work, and
    assert np.ptp(conserved) < 0.01 * np.ptp(energies)  # with a virial of the other sign it is 2 times as much


@pytest.mark.slow
def test_the_example_runs_four_beads_in_a_batch(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["run.py"])
    runpy.run_path(str(EXAMPLE / "run.py"))
    assert "conserved{electronvolt}" in capfd.readouterr().out
    monkeypatch.chdir("ipi_water")
    potentials = np.loadtxt("water.out")[:, 4]
    beads = [ase.io.read(f"water.pos_{number}.extxyz", ":") for number in range(4)]
    assert len(potentials) == 21
    calculator = Calculator("model.eqf")
    for step, same_time in zip(range(0, 21, 5), zip(*beads, strict=True), strict=True):
        energies = []
        for bead in same_time:
            bead.pbc = False
            energies.append(calculator.get_potential_energy(bead))
        assert potentials[step] == pytest.approx(np.mean(energies), abs=1e-5)  # float32 weights
    assert np.ptp(energies) > 1e-3


def test_without_i_pi_it_says_how_to_get_it(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "ipi"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "equiforce.calculators.i_pi")
    with pytest.raises(InputError, match=r"pip install \"equiforce\[ipi\]\""):
        import_module("equiforce.calculators.i_pi")
