"""A file that says that it has a billion atoms is refused at once."""

import pytest

from equiforce.data.counts import check_counts
from equiforce.data.read import read
from equiforce.errors import InputError
from tests.data import vasp_files

POSCAR = vasp_files.poscar()
XDATCAR = POSCAR.replace("Direct", "Direct configuration=     1")
DUMP = """ITEM: TIMESTEP
0
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS pp pp pp
0 5
0 5
0 5
ITEM: ATOMS id element x y z
1 Cu 0 0 0
2 Cu 2 2 2
"""


@pytest.mark.parametrize(
    ("name", "text", "old", "new", "line"),
    [
        ("POSCAR", POSCAR, "1 1\n", "1 {}\n", 7),
        ("XDATCAR", XDATCAR, "1 1\n", "{} 1\n", 7),
        ("a.dump", DUMP, "ATOMS\n2", "ATOMS\n{}", 4),
    ],
)
def test_more_atoms_than_lines(tmp_path, name, text, old, new, line):
    file = tmp_path / name
    file.write_text(text)
    assert len(read(file, labels_required=False)[0]) == 2
    for count in (10**9, 10**12):
        file.write_text(text.replace(old, new.format(count)))
        with pytest.raises(
            InputError, match=rf"{name}, line {line}: there are {count + (line == 7)} atoms, but the file"
        ):
            read(file, labels_required=False)


def test_words_that_are_no_counts_are_left_to_the_reader():
    check_counts("POSCAR", "vasp", ["title", "1.0", "5 0 0", "0 5 0", "0 0 5", "O H", "1 one"])
    check_counts("POSCAR", "vasp", ["title", "1.0", "5 0 0", "0 5 0", "0 0 5", "9" * 5000])
