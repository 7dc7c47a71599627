"""What a header says is checked before anything is built from it; each sentence names the file."""

import pytest

from equiforce.errors import InputError
from equiforce.model_file import (
    FORMAT,
    load,
    path_of,
    ranges_of,
    read_header,
    read_stored_header,
    reference_energies_from,
    references,
)
from tests.model_file.files import content, rewritten, with_value, without

HUGE = 2**62


def test_the_folder_of_a_run_stands_for_its_model(file, tmp_path):
    assert path_of(file) == path_of(str(file.parent)) == file
    assert read_header(file.parent) == read_header(file)
    assert load(file.parent).species == load(file).species
    with pytest.raises(InputError, match=r"has no model\.eqf: give a model file, or the folder of a training run"):
        load(tmp_path)
    (tmp_path / "split.json").touch()
    with pytest.raises(InputError, match=r"has not validated yet .* equiforce train --resume"):
        read_header(tmp_path)


def shift_too(_, header):
    header["potential"]["shift"] = [1.0, 2.0, 3.0]


NEWER = rf"was written by a newer equiforce \(file format {FORMAT + 1}\): upgrade equiforce"
NO_MODEL = "is not an equiforce model file, or is damaged"
POTENTIAL, CONFIG, REFERENCE = ("potential",), ("potential", "config"), ("references", 0)
ATOM = (*REFERENCE, "positions", 0)
REFERENCES = "its reference structures are wrong"


def damaged(name):
    return f"damaged because '{name}' in its header is missing or wrong"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (with_value(FORMAT + 1, "format"), NEWER),
        (without("format"), NO_MODEL),
        (with_value("x", "format"), NO_MODEL),
        (with_value(True, "format"), NO_MODEL),
        (with_value(0, "format"), NO_MODEL),
        (lambda *_: [1], NO_MODEL),
        (without("references"), damaged("references")),
        (without("about"), damaged("about")),
        (without("forces", "units"), "is damaged because it lacks the unit of forces"),
        (with_value("kcal/mol", "units", "forces"), damaged("units")),
        (with_value([], "potential"), damaged("potential")),
        (shift_too, damaged("potential")),
        (without("species", *POTENTIAL), damaged("species")),
        (with_value([], *POTENTIAL, "species"), damaged("species")),
        (with_value(["H", "C", "C"], *POTENTIAL, "species"), damaged("species")),
        (with_value(["H", "C", "X"], *POTENTIAL, "species"), damaged("species")),
        (with_value(["H", "C", 8], *POTENTIAL, "species"), damaged("species")),
        (with_value(["H", "C", "O", "N"], *POTENTIAL, "species"), damaged("atomic_energies")),
        (with_value([1.0, 2.0], *POTENTIAL, "scale"), damaged("scale")),
        (with_value([1.0, 2.0, "3"], *POTENTIAL, "scale"), damaged("scale")),
        (with_value(None, *CONFIG), damaged("config")),
        (with_value(1, *POTENTIAL, "zbl"), damaged("zbl")),
        (with_value("k" * 1000, *POTENTIAL, "kind"), damaged("kind")),
        (with_value({"cutoff": "x"}, "about", "ranges"), "damaged because 'ranges' in its header is wrong"),
        (with_value([], "references"), REFERENCES),
        (with_value([{}], "references"), REFERENCES),
        (with_value([1], "references"), REFERENCES),
        (with_value([1], *REFERENCE, "atomic_numbers"), REFERENCES),
        (with_value([7] * 9, *REFERENCE, "atomic_numbers"), REFERENCES),
        (with_value([1.5] * 9, *REFERENCE, "atomic_numbers"), REFERENCES),
        (with_value([], *REFERENCE, "atomic_numbers"), REFERENCES),
        (with_value([0.0, 0.0], *ATOM), REFERENCES),
        (with_value([0.0, 0.0, None], *ATOM), REFERENCES),
        (with_value([[0.0] * 3] * 2, *REFERENCE, "cell"), REFERENCES),
        (with_value([True, 1, False], *REFERENCE, "pbc"), REFERENCES),
        (with_value(None, *REFERENCE, "energy"), REFERENCES),
        (with_value(None, *REFERENCE, "forces"), REFERENCES),
        (with_value([[1.0] * 3], *REFERENCE, "forces"), REFERENCES),
        (with_value([1.0], *REFERENCE, "energy"), REFERENCES),
        (with_value("low", *REFERENCE, "energy"), REFERENCES),
        (with_value("wide", *CONFIG, "cutoff"), REFERENCES),
        (with_value(HUGE, *CONFIG, "cutoff"), REFERENCES),
    ],
)  # fmt: skip
def test_a_header_that_cannot_be_right_is_refused(file, tmp_path, change, sentence):
    path = rewritten(file, tmp_path / "model.eqf", change)
    for opened in (read_header, load):
        with pytest.raises(InputError, match=sentence) as caught:
            opened(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def only_carbon(_, header):
    first = header["references"][0]
    one = {"atomic_numbers": [6], "positions": [[0.0] * 3], "forces": [[0.0] * 3], "energy": 0.0, "stress": None}
    header["references"] = [{**first, **one}]


def more(n_references, n_atoms):
    def change(_, header):
        first = header["references"][0]
        rows = [[float(k), 0.0, 0.0] for k in range(n_atoms)]
        many = {**first, "atomic_numbers": [1] * n_atoms, "positions": rows, "forces": rows}
        header["references"] += [many] * n_references

    return change


def tiny_cell(_, header):
    cell = {"cell": [[0.2, 0, 0], [0, 0.2, 0], [0, 0, 0.2]], "pbc": [True] * 3}
    header["references"][0] |= cell
    header["potential"]["config"]["cutoff"] = 40.0


@pytest.mark.parametrize("change", [only_carbon, more(30, 1), more(1, 300), more(1, 101), tiny_cell])
def test_references_are_complete_and_not_too_many(file, tmp_path, monkeypatch, change):
    for name, most in (("MOST_REFERENCES", 20), ("MOST_ATOMS", 200), ("MOST_PAIRS", 10_000)):
        monkeypatch.setattr(references, name, most)
    read_header(file)
    with pytest.raises(InputError, match=REFERENCES):
        read_header(rewritten(file, tmp_path / "model.eqf", change))


RANGES = {
    "cutoff": 3.5, "distances": {"C-H": [[1.0, 1.2]]}, "neighbors": [1, 4], "largest_force": 2.0,
    "volume_per_atom": None,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"cutoff": None},
        {"neighbors": "ab"},
        {"neighbors": [1]},
        {"largest_force": "x"},
        {"volume_per_atom": [1.0, [2.0]]},
        {"distances": {"C-H": []}},
        {"distances": {"C-H": [[1.0, None]]}},
        {"distances": [1]},
    ],
)
def test_ranges_are_numbers(file, tmp_path, change):
    good = rewritten(file, tmp_path / "model.eqf", with_value(RANGES, "about", "ranges"))
    assert ranges_of(read_header(good), good).neighbors == (1, 4)
    with pytest.raises(InputError, match="'ranges' in its header is wrong"):
        read_header(rewritten(file, tmp_path / "model.eqf", with_value(RANGES | change, "about", "ranges")))


def test_statistics_that_are_none_have_no_origin(file, tmp_path):
    path = rewritten(file, tmp_path / "model.eqf", with_value([1], "about", "statistics"))
    assert reference_energies_from(path) == ""


def test_the_stored_header_is_as_it_was_written(file):
    assert read_stored_header(file) == content(file)[1]
