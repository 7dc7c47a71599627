"""What a simulation leaves on disk and on the terminal."""

from io import StringIO

import ase.io
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console

from equiforce.calculators.md_output import LAST, THERMO, TRAJECTORY, Output, Thermo


def frame(energy: float):
    water = molecule("H2O")
    water.calc = SinglePointCalculator(water, energy=energy, forces=water.positions)
    return water


def test_frames_rows_and_the_last_structure_are_written(tmp_path):
    console, folder = Console(record=True, width=150, file=StringIO()), tmp_path / "a" / "b"
    with Output(folder, "nve 300 K", 2, 0.5, console, in_bulk=False) as output:
        for step in (0, 1):
            output.thermo(Thermo(step, 0.0005 * step, 300.0, -1.0, 0.25, -0.75, 0.5, None, None))
            output.frame(frame(-1.0 - step))
            output.advanced(step)
            assert len((folder / THERMO).read_text().splitlines()) == 2 + step  # at once, not at the end
        output.last(frame(-3.0))
    assert [atoms.get_potential_energy() for atoms in ase.io.read(folder / TRAJECTORY, ":")] == [-1.0, -2.0]
    assert ase.io.read(folder / LAST).get_potential_energy() == -3.0
    heading, *rows = (folder / THERMO).read_text().splitlines()
    assert heading.startswith("step,time_ps,temperature_K,")
    assert "pressure" not in heading
    assert rows[1] == "1,0.0005,300,-1,0.25,-0.75,0.5"
    assert "max |F|" in console.export_text()


def test_a_bulk_has_pressure_and_volume(tmp_path):
    with Output(tmp_path, "npt 300 K", 1, 0.5, Console(quiet=True), in_bulk=True) as output:
        output.thermo(Thermo(0, 0.0, 300.0, -1.0, 0.25, -0.75, 0.5, 0.1, 64.0))
    assert (tmp_path / THERMO).read_text().splitlines()[1].endswith("0.1,64")
