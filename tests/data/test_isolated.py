import numpy as np
import pytest

from equiforce.data.isolated import (
    called_isolated,
    has_neighbors,
    is_isolated_atom,
    smallest_distance,
    without_neighbors,
)
from equiforce.structure import Structure


def line(n, spacing=1.0, box=None, group=""):
    """Atoms on the x axis, in a periodic cube or without a cell."""
    return Structure(
        atomic_numbers=np.full(n, 29),
        positions=np.arange(n)[:, None] * np.array([spacing, 0, 0]),
        cell=np.eye(3) * (box or 0.0),
        pbc=np.full(3, box is not None),
        group=group,
        source=f"a.xyz, frame {n}",
    )


@pytest.mark.parametrize(
    ("frame", "isolated"),
    [
        (line(1), True),
        (line(1, box=20.0), True),
        (line(1, box=20.0, group="IsolatedAtom"), True),
        (line(1, box=4.9), False),
        (line(1, box=4.9, group="IsolatedAtom"), False),
        (line(2, spacing=9.0), False),
        (line(2, group="IsolatedAtom"), False),
    ],
)
def test_an_isolated_atom_has_no_neighbour_whatever_its_name(frame, isolated):
    assert is_isolated_atom(frame, 5.0) is isolated


def test_the_cutoff_decides():
    assert is_isolated_atom(line(1, box=7.0), 6.9)
    assert not is_isolated_atom(line(1, box=7.0), 7.1)


def test_neighbours_of_any_atom_count():
    assert has_neighbors(line(3, spacing=4.0), 4.5)
    assert not has_neighbors(line(3, spacing=4.0), 3.5)
    assert has_neighbors(line(2, spacing=8.0, box=10.0), 3.0)  # through the boundary
    apart = line(3, spacing=8.0)
    apart.positions[2] = [0.0, 1.0, 0.0]  # a neighbour of an atom that is not next to it in the file
    assert has_neighbors(apart, 2.0)


def test_an_isolated_atom_by_name_alone_is_told():
    [note] = called_isolated([line(1, box=3.6, group="isolated_atom"), line(1, box=20.0, group="IsolatedAtom")], 5.0)
    assert note.startswith("a.xyz, frame 1 is called isolated_atom, but images of the atom are closer than the cutoff")
    assert called_isolated([line(1, box=3.6), line(1, group="IsolatedAtom")], 5.0) == []
    [note] = called_isolated([line(1, box=3.6, group="IsolatedAtom")] * 3, 5.0)
    assert "and 2 more frames are called" in note


def test_structures_without_neighbours_are_told():
    [note] = without_neighbors([line(2), line(3, spacing=9.0)], 5.0)
    assert "a.xyz, frame 3 has no neighbours within the cutoff of 5 Å" in note
    assert without_neighbors([line(2)], 5.0) == []


def test_the_smallest_distance_is_found_beyond_the_cutoff():
    assert smallest_distance([line(2, spacing=7.0), line(2, spacing=6.5)], 2.0) == pytest.approx(6.5)
    assert smallest_distance([line(1, box=11.0)], 2.0) == pytest.approx(11.0)
    assert smallest_distance([line(2, spacing=70.0)], 2.0) is None
