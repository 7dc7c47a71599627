"""What a simulation leaves on disk and on the terminal."""

from io import StringIO

import ase.io
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console

from equiforce.calculators.md.output import AXES_COLUMNS, LAST, THERMO, TRAJECTORY, Output, Thermo
from equiforce.errors import InputError


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


def test_the_axes_have_columns_of_their_own_in_the_file(tmp_path):
    console = Console(record=True, width=150, file=StringIO())
    with Output(tmp_path, "npt 300 K", 1, 0.5, console, in_bulk=True, with_axes=True) as output:
        output.thermo(Thermo(0, 0.0, 300.0, -1.0, 0.25, -0.75, 0.5, 0.1, 64.0, (0.1, 0.2, 0.3, 4.0, 4.0, 4.5)))
    heading, row = (tmp_path / THERMO).read_text().splitlines()
    assert heading.endswith("volume_A3," + ",".join(AXES_COLUMNS))
    assert AXES_COLUMNS == ("pressure_x_GPa", "pressure_y_GPa", "pressure_z_GPa", "a_A", "b_A", "c_A")
    assert row.endswith("0.1,64,0.1,0.2,0.3,4,4,4.5")
    assert "pressure_x" not in console.export_text()


def test_a_run_that_continues_cuts_off_what_came_after_its_state(tmp_path):
    quiet = Console(quiet=True)
    with Output(tmp_path, "nve 300 K", 9, 0.5, quiet, in_bulk=False) as output:
        output.thermo(Thermo(0, 0.0, 300.0, -1.0, 0.25, -0.75, 0.5, None, None))
        output.frame(frame(-1.0))
        sizes = output.sizes()
        output.frame(frame(-2.0))
        output.trajectory.append("half a fra")
    with Output(tmp_path, "nve 300 K", 9, 0.5, quiet, in_bulk=False, sizes=sizes) as output:
        output.thermo(Thermo(7, 0.0, 300.0, -1.0, 0.25, -0.75, 0.5, None, None))
        output.frame(frame(-3.0))
    assert [atoms.get_potential_energy() for atoms in ase.io.read(tmp_path / TRAJECTORY, ":")] == [-1.0, -3.0]
    assert [row.split(",")[0] for row in (tmp_path / THERMO).read_text().splitlines()] == ["step", "0", "7"]


def test_files_that_lack_what_was_saved_are_refused_and_stay(tmp_path):
    (tmp_path / TRAJECTORY).write_text("short")
    with pytest.raises(InputError, match=r"trajectory.xyz has 5 bytes, but 900 when the run was saved"):
        Output(tmp_path, "", 9, 0.5, Console(quiet=True), in_bulk=False, sizes={TRAJECTORY: 900, THERMO: 0})
    assert (tmp_path / TRAJECTORY).read_text() == "short"
