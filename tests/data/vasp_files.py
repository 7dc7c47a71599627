"""Small outputs of VASP, as VASP writes them."""

from pathlib import Path

import numpy as np

CELL = np.array([[4.0, 0.0, 0.0], [0.5, 5.0, 0.0], [0.0, 0.0, 6.0]])
FREE_MINUS_ZERO = -0.02  # eV, of the free energy against the one extrapolated to sigma = 0


def positions(step):
    """Fractional positions of the two atoms, O and H."""
    return np.array([[0.1, 0.1, 0.98], [0.35, 0.1, 0.1 + 0.01 * step]])


def free_energy(step):
    return -10.0 - 0.125 * step


def forces(step):
    return np.array([[0.5, -0.25, 0.125 * step], [-0.5, 0.25, -0.125 * step]])


def _rows(array, decimals):
    return [" ".join(f"{x: .{decimals}f}" for x in row) for row in array]


def outcar(steps, *, unconverged=(), nelm=60, settings="NSW = 0; IBRION = -1"):
    """The text of an OUTCAR with the given ionic steps."""
    lines = [" vasp.6.4.2 20Jul23 (build) complex", " executed on Linux", ""]
    lines += [" POTCAR:    PAW_PBE O 08Apr2002", " POTCAR:    PAW_PBE H 15Jun2001"] * 2
    lines += [f"   {setting}" for setting in settings.split("; ")]
    lines += ["   ions per type =               1   1", f"   NELM   = {nelm};   NELMIN=  2", "   ISPIN  = 1    spin"]
    for number, step in enumerate(steps, 1):
        n_electronic = nelm if step in unconverged else 3
        lines += [f"------- Iteration {number}( {i})  -------" for i in range(1, n_electronic + 1)]
        if step not in unconverged:
            lines.append("----- aborting loop because EDIFF is reached -----")
        lines += ["  in kB   10.0  20.0  30.0  1.0  2.0  3.0", "  direct lattice vectors   reciprocal lattice vectors"]
        lines += [f"{row} 0 0 0" for row in _rows(CELL, 9)]
        lines += [" POSITION                                       TOTAL-FORCE (eV/Angst)", " ----"]
        lines += _rows(np.hstack([positions(step) % 1 @ CELL, forces(step)]), 5)
        lines += ["  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)", "  ----"]
        zero = free_energy(step) - FREE_MINUS_ZERO
        lines += [f"  free  energy   TOTEN  = {free_energy(step):.8f} eV", ""]
        lines += [f"  energy  without entropy= {zero:.8f}  energy(sigma->0) = {zero:.8f}"]
    return "\n".join([*lines, " General timing and accounting informations for this job:", ""])


def _xml(name, rows):
    return [f'<varray name="{name}" >', *(f"<v> {row} </v>" for row in rows), "</varray>"]


def vasprun(steps, *, unconverged=(), nelm=60):
    """The text of a vasprun.xml with the given ionic steps."""
    atoms = "".join(f"<rc><c>{symbol} </c><c>1</c></rc>" for symbol in "OH")
    basis = ["<crystal>", *_xml("basis", _rows(CELL, 8)), "</crystal>"]
    start = ['<structure name="initialpos" >', *basis, *_xml("positions", _rows(positions(0), 8)), "</structure>"]
    lines = ['<?xml version="1.0" encoding="ISO-8859-1"?>', "<modeling>"]
    lines += ["<kpoints>", *_xml("kpointlist", ["0 0 0"]), *_xml("weights", ["1"]), "</kpoints>"]
    lines += [
        "<parameters>",
        f'<i type="int" name="NELM"> {nelm}</i>',
        '<i type="int" name="NELM"> 1</i>',
        "</parameters>",
    ]
    lines += [f'<atominfo><array name="atoms" ><set>{atoms}</set></array></atominfo>', *start]
    for step in steps:
        energies = [f'<i name="e_fr_energy"> {free_energy(step):.8f} </i>']
        energies += [f'<i name="e_0_energy"> {free_energy(step) - FREE_MINUS_ZERO:.8f} </i>']
        electronic = ["<scstep>", "<energy>", *energies, "</energy>", "</scstep>"]
        lines += ["<calculation>", *electronic * (nelm if step in unconverged else 3)]
        lines += ["<structure>", *basis, *_xml("positions", _rows(positions(step), 8)), "</structure>"]
        lines += _xml("forces", _rows(forces(step), 8))
        lines += _xml("stress", ["10 1 3", "1 20 2", "3 2 30"])
        lines += ["<energy>", *energies, "</energy>", "</calculation>"]
    return "\n".join([*lines, "</modeling>", ""])


def poscar():
    """The text of a POSCAR of the first step."""
    return "\n".join(["title", "1.0", *_rows(CELL, 9), "O H", "1 1", "Direct", *_rows(positions(0), 9), ""])


def write_run(folder: Path, steps):
    """Write the files of one run into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "OUTCAR").write_text(outcar(steps))
    (folder / "vasprun.xml").write_text(vasprun(steps))
    (folder / "POSCAR").write_text(poscar())
    (folder / "INCAR").write_text("ENCUT = 500\n")
