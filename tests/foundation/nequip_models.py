"""The models that ``make_nequip.py`` wrote, and changed copies of them."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

import equiforce
from equiforce.foundation import import_potential

FOLDER = Path(__file__).parent / "nequip"
NAMES = sorted(path.name.removesuffix(".json") for path in FOLDER.glob("*.json"))


def rows_of(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def results(potential, row):
    """Energy in eV, forces in eV/Å, and stress in eV/Å³ or None."""
    atoms = Atoms(numbers=row["numbers"], positions=row["positions"], cell=row["cell"], pbc=row["pbc"])
    atoms.calc = equiforce.Calculator(potential)
    stress = atoms.get_stress() if row["stress"] is not None else None
    return atoms.get_potential_energy(), atoms.get_forces(), stress


def compare(name, n_knots, energy, forces, stress):
    """Compare a model with what its program computes; the bars are in eV/atom, eV/Å and eV/Å³."""
    potential = import_potential(FOLDER / name, n_knots=n_knots).potential
    largest = 0.0
    for row in rows_of(name):
        found = results(potential, row)
        assert found[0] == pytest.approx(row["energy"], abs=energy * len(row["numbers"]))
        np.testing.assert_allclose(found[1], row["forces"], rtol=0, atol=forces)
        if row["stress"] is not None:
            np.testing.assert_allclose(found[2], row["stress"], rtol=0, atol=stress)
        largest = max(largest, np.abs(row["forces"]).max())
    assert largest > 0.1  # the comparison is of something


def with_options(name, folder, **changed):
    """A checkpoint with other options of the model; ``gone`` removes one."""
    checkpoint = torch.load(FOLDER / name, weights_only=True)
    options = checkpoint["hyper_parameters"]["model"] | changed
    checkpoint["hyper_parameters"]["model"] = {key: value for key, value in options.items() if value != "gone"}
    path = folder / "changed.ckpt"
    torch.save(checkpoint, path)
    return path


def with_weights(name, folder, change):
    """A checkpoint whose state a function has changed."""
    checkpoint = torch.load(FOLDER / name, weights_only=True)
    change(checkpoint["state_dict"])
    path = folder / "changed.ckpt"
    torch.save(checkpoint, path)
    return path


def with_members(name, folder, change):
    """A zip file whose members, by name, a function has changed."""
    with zipfile.ZipFile(FOLDER / name) as source:
        members = {one: source.read(one) for one in source.namelist()}
    path = folder / ("changed.nequip.zip" if name.endswith(".zip") else "changed.ckpt")
    with zipfile.ZipFile(path, "w") as target:
        for one, content in change(members).items():
            target.writestr(one, content)
    return path
