"""Models of Nequix with random weights give what Nequix computes with them; ``make_nequix.py`` wrote both."""

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

import equiforce
from equiforce.errors import InputError
from equiforce.foundation import import_potential, nequix

FOLDER = Path(__file__).parent / "nequix"
VARIANTS = sorted(path.stem for path in FOLDER.glob("*.nqx"))
PUBLISHED = FOLDER / "published.nqx"


def results(potential, row):
    atoms = Atoms(numbers=row["numbers"], positions=row["positions"], cell=row["cell"], pbc=row["pbc"])
    atoms.calc = equiforce.Calculator(potential)
    stress = atoms.get_stress() if row["stress"] is not None else None
    return atoms.get_potential_energy(), atoms.get_forces(), stress


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(("n_knots", "tolerance"), [(None, 2e-6), (1024, 4e-6)])
def test_it_gives_what_nequix_gives(name, n_knots, tolerance):
    potential = import_potential(FOLDER / f"{name}.nqx", n_knots=n_knots).potential
    for row in json.loads((FOLDER / f"{name}.json").read_text()):
        energy, forces, stress = results(potential, row)
        assert energy == pytest.approx(row["energy"], abs=1e-6)  # eV; Nequix computes in single precision
        np.testing.assert_allclose(forces, row["forces"], rtol=0, atol=tolerance)
        if stress is not None:
            np.testing.assert_allclose(stress, row["stress"], rtol=0, atol=3e-7)


def test_every_variant_is_there():
    assert VARIANTS == ["by-species", "l3", "published", "without-norm"]


@pytest.mark.parametrize("name", ["published", "by-species"])
def test_fewer_elements_change_nothing(name):
    row = json.loads((FOLDER / f"{name}.json").read_text())[1]  # of Cu and O
    few = import_potential(FOLDER / f"{name}.nqx", ["Cu", "O"]).potential
    assert few.species == ["O", "Cu"]
    assert few.model.embed.weight.shape[0] == 2
    whole = import_potential(FOLDER / f"{name}.nqx").potential
    for one, other in zip(results(few, row), results(whole, row), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


def changed(folder, options=None, arrays=None, end=b""):
    """A file with other options, and with arrays that a function changed."""
    with PUBLISHED.open("rb") as file:
        known = json.loads(file.readline()) | (options or {})
        read = []
        while file.peek(1):
            read.append(np.load(file))
    written = io.BytesIO()
    written.write((json.dumps({k: v for k, v in known.items() if v != "gone"}) + "\n").encode())
    for array in read if arrays is None else arrays(read):
        np.save(written, array)
    path = folder / "changed.nqx"
    path.write_bytes(written.getvalue() + end)
    return path


def nan(arrays):
    arrays[3][0] = np.nan
    return arrays


@pytest.mark.parametrize(
    ("options", "arrays", "words"),
    [
        ({"cutoff": "gone"}, None, "lacks the option cutoff"),
        ({"cutoff": "6"}, None, "lacks the option cutoff"),
        ({"n_layers": True}, None, "lacks the option n_layers"),
        ({"n_layers": 10**9}, None, "the options do not fit together"),
        ({"n_layers": 2}, None, "instead of"),
        ({"radial_mlp_size": 4}, None, "instead of"),
        ({"radial_polynomial_p": 2.5}, None, "radial_polynomial_p is not a whole number"),
        ({"radial_basis_size": 10**9}, None, "the options do not fit together"),
        ({"lmax": 3}, None, "hidden_irreps"),
        ({"lmax": 10**9}, None, "degrees up to 8"),
        ({"lmax": -1}, None, "degrees up to 8"),
        ({"hidden_irreps": "6x0e + 4x1e + 3x2e"}, None, "natural parity"),
        ({"hidden_irreps": "many"}, None, "hidden_irreps"),
        ({"avg_n_neighbors": 0.0}, None, "the options do not fit together"),
        ({"scale": float("nan")}, None, "not finite"),
        ({"scale": 0.0}, None, "scale"),
        ({"shift": float("inf")}, None, "not finite"),
        ({"atomic_numbers": [8, 8, 1]}, None, "no list of elements"),
        ({"atomic_numbers": [8, 1, 500]}, None, "no list of elements"),
        ({"atomic_numbers": []}, None, "the options do not fit together"),
        ({"layer_norm": False}, None, "instead of|belong to nothing"),
        ({}, lambda arrays: arrays[:-1], "too few arrays"),
        ({}, lambda arrays: [*arrays, np.zeros(3, dtype=np.float32)], "belong to nothing"),
        ({}, lambda arrays: [a.astype(np.int32) for a in arrays], "is not a file of Nequix"),
        ({}, nan, "is not a file of Nequix"),
    ],
)
def test_what_is_not_understood_is_refused(options, arrays, words, tmp_path):
    with pytest.raises(InputError, match=words) as caught:
        import_potential(changed(tmp_path, options, arrays))
    assert "\n" not in str(caught.value)


def test_numbers_after_the_weights_are_options(tmp_path):
    """As in nequix-oam-1.nqx, whose options follow its weights as numbers."""
    path = changed(tmp_path, arrays=lambda arrays: [*arrays, np.array(2.5), np.array(3), np.array(True)], end=b"\n")
    row = json.loads((FOLDER / "published.json").read_text())[0]
    assert results(import_potential(path).potential, row)[0] == pytest.approx(row["energy"], abs=3e-6)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]\n", b"\x00" * 100, b"{" * 10**5, b'{"cutoff": 1}\n\x93NUMPY'])
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "other.nqx").write_bytes(content)
    with pytest.raises(InputError):
        nequix.read(tmp_path / "other.nqx")


def test_every_cut_is_refused(tmp_path):
    content = PUBLISHED.read_bytes()
    for length in range(0, len(content) - 1, 97):
        (tmp_path / "cut.nqx").write_bytes(content[:length])
        with pytest.raises(InputError):
            import_potential(tmp_path / "cut.nqx")


def test_a_weight_that_no_model_has_is_refused(tmp_path):
    """As one flipped bit makes it."""
    content = PUBLISHED.read_bytes()
    (tmp_path / "flipped.nqx").write_bytes(content[:-4] + struct.pack("<f", 1e30))
    with pytest.raises(InputError, match=r"flipped\.nqx has weights above 1e\+06 or not finite, so it is damaged"):
        import_potential(tmp_path / "flipped.nqx")


def test_an_array_that_says_that_it_is_large_takes_no_memory(tmp_path):
    content = PUBLISHED.read_bytes()
    shape = b"(3,), }" + b" " * 20
    place = content.index(b"(3,), }")
    large = b"(99999999999,), }".ljust(len(shape))
    (tmp_path / "large.nqx").write_bytes(content[:place] + large + content[place + len(shape) :])
    with pytest.raises(InputError, match="is not a file of Nequix"):
        nequix.read(tmp_path / "large.nqx")


def test_pickled_objects_are_not_loaded(tmp_path):
    with PUBLISHED.open("rb") as file:
        options = file.readline()
    written = io.BytesIO()
    np.save(written, np.array([print], dtype=object), allow_pickle=True)
    (tmp_path / "pickled.nqx").write_bytes(options + written.getvalue())
    with pytest.raises(InputError, match="is not a file of Nequix"):
        nequix.read(tmp_path / "pickled.nqx")


def test_published_potentials(shared_data):
    """Energies that Nequix 0.4.5 computes, in eV."""
    potential, source = import_potential(shared_data / "nequix-mp-1.nqx", ["Na", "Cl"])
    assert (source.name, source.program, source.licence) == ("nequix-mp-1", "nequix", "MIT")
    assert "2508.16067" in source.citation
    assert potential.species == ["Na", "Cl"]
