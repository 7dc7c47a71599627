"""The ranges of training data, and the structures that leave them."""

import json

import numpy as np
import pytest

from equiforce.coverage import Coverage, Ranges, _intervals, pair_of, ranges_of
from equiforce.neighbors import find_pairs
from equiforce.structure import Structure

HYDROXYL = {"atomic_numbers": np.array([8, 1]), "cell": np.zeros((3, 3)), "pbc": np.zeros(3, dtype=bool)}


def hydroxyl(length: float, force: float = 1.0) -> Structure:
    positions, forces = np.array([[0, 0, 0], [0, 0, length]]), np.array([[0, 0, force], [0, 0, -force]])
    return Structure(**HYDROXYL, positions=positions, forces=forces)


def gas(density: float) -> Structure:
    return Structure(
        atomic_numbers=np.array([1, 1]),
        positions=np.array([[0, 0, 0], [0, 0, 0.75]]),
        cell=np.eye(3) * (2 / density) ** (1 / 3),
        pbc=np.ones(3, dtype=bool),
    )


@pytest.fixture(scope="module")
def ranges() -> Ranges:
    lengths = [0.905, 0.95, 1.0, 1.05, 2.0, 2.095]
    return ranges_of([*(hydroxyl(length, 2 * length) for length in lengths), gas(0.02), gas(0.025)], cutoff=2.5)


def departures(structure: Structure, ranges: Ranges, volume: float | None = None):
    pairs = find_pairs(structure.positions, structure.cell, structure.pbc, ranges.cutoff)
    coverage = Coverage(ranges, ["H" if z == 1 else "O" for z in structure.atomic_numbers])
    return coverage.departures(pairs.centers, pairs.neighbors, pairs.distances, structure.forces, volume)


def test_the_ranges_are_those_of_the_data(ranges):
    assert ranges.distances["H-O"] == [(0.9, 1.06), (2.0, 2.1)]
    assert ranges.distances["H-H"] == [(0.74, 0.76)]
    assert ranges.neighbors == (1, 1)
    assert ranges.largest_force == pytest.approx(4.19)
    assert ranges.volume_per_atom == pytest.approx((1 / 0.025, 1 / 0.02))
    assert ("largest force in the data", "4.19 eV/Å") in ranges.rows()
    assert Ranges.from_dict(json.loads(json.dumps(ranges.to_dict()))) == ranges


def test_a_bond_ends_where_the_data_have_a_gap(ranges):
    assert ranges.longest_bond("H-O") == 1.06
    assert ranges.longest_bond("O-O") is None
    assert ranges_of([hydroxyl(x) for x in np.arange(0.9, 2.5, 0.05)], 2.5).longest_bond("H-O") is None


def test_what_the_data_cover_is_no_departure(ranges):
    for length in (0.85, 0.95, 1.1, 1.2, 1.9, 2.4):  # a little below the shortest distance, too
        assert departures(hydroxyl(length), ranges) == []
    assert departures(gas(0.022), ranges, 2 / 0.022) == []


@pytest.mark.parametrize(
    ("structure", "volume", "what", "sentence"),
    [
        (hydroxyl(0.62), None, "distance H-O", "atom 0 (O) and atom 1 (H) are 0.62 Å apart, and the data have no H-O "
         "below 0.90 Å"),
        (hydroxyl(1.5), None, "bond H-O", "atom 0 (O) and atom 1 (H) are 1.50 Å apart, and the data have no H-O "
         "between 1.06 and 2.00 Å"),
        (hydroxyl(1.0, 9.0), None, "force", "the force on atom 0 (O) is 9 eV/Å, and the data have up to 4.19"),
        (gas(0.03), 2 / 0.03, "volume", "the volume is 33.33 Å³ per atom, and the data have 40 to 50"),
        (
            Structure(atomic_numbers=np.array([8, 8]), positions=np.diag([0, 0, 1.3])[1:], cell=np.zeros((3, 3)),
                      pbc=np.zeros(3, dtype=bool)),
            None,
            "distance O-O",
            "atom 0 (O) and atom 1 (O) are 1.30 Å apart, and the data have no O-O within 2.5 Å",
        ),
    ],
)  # fmt: skip
def test_a_departure_names_atoms_value_and_data(structure, volume, what, sentence, ranges):
    (found,) = departures(structure, ranges, volume)
    assert found == (what, sentence)


def test_crowded_and_lonely_atoms_are_departures():
    many = ranges_of([Structure(**crystal(1.6))], cutoff=2.5)
    assert many.neighbors == (18, 18)
    (found,) = departures(Structure(**crystal(1.8)), many)  # the second shell is beyond the cutoff
    assert found.sentence == "atom 0 (H) has 6 neighbours within 2.5 Å, and the data have always 18"


def crystal(spacing: float) -> dict:
    return {
        "atomic_numbers": np.array([1]),
        "positions": np.zeros((1, 3)),
        "cell": np.eye(3) * spacing,
        "pbc": np.ones(3, dtype=bool),
    }


def test_pairs_have_one_name():
    assert pair_of("O", "H") == pair_of("H", "O") == "H-O"


def test_a_stray_short_distance_is_no_bond():
    seen = np.zeros(251, dtype=int)
    seen[99] = 2  # at 1.98 Å, far below all others
    seen[110:240] = 40
    assert _intervals(seen, 5.0) == [(1.98, 4.8)]
    seen[99] = 200
    assert _intervals(seen, 5.0) == [(1.98, 2.0), (2.2, 4.8)]
