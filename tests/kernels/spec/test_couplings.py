from equiforce.geometry.irreps import Irreps, hidden_irreps
from equiforce.kernels import CouplingTable


def table(l_max: int, *, odd: bool = False, summed: bool = True, channels: int = 4) -> CouplingTable:
    irreps = hidden_irreps((channels,) * (l_max + 1), odd=odd)
    return CouplingTable(irreps, l_max, irreps, summed)


def test_number_of_paths_of_natural_parity():
    """Counted by hand: l1 + l2 + l3 even and a triangle."""
    assert [table(l_max).n_paths for l_max in range(4)] == [1, 4, 11, 23]


def test_paths_that_are_not_summed_lie_side_by_side():
    summed, apart = table(2), table(2, summed=False)
    assert str(summed.irreps_out) == "12x0e+4x1o+4x2e"  # scalars never are
    assert str(summed.split) == "4x0e+4x0e+4x0e+4x1o+4x2e"
    assert str(apart.irreps_out) == "12x0e+16x1o+16x2e"
    assert apart.n_components[1] == 3 + 3 * 4 + 5 * 4
    assert len({e.row for e in apart.elements}) == apart.n_components[1]


def test_elements_are_sorted_and_each_stands_once():
    places = [(e.row, e.column) for e in table(2, odd=True).elements]
    assert places == sorted(set(places))


def test_only_what_is_wanted_is_coupled():
    to_scalars = CouplingTable(hidden_irreps((4, 4), odd=False), 1, Irreps("4x0e"))
    assert to_scalars.n_paths == 2
    assert {e.row for e in to_scalars.elements} == {0, 1}
    assert len(to_scalars.elements) == 4


def test_tables_of_equal_content_are_equal():
    assert table(2) == table(2)
    assert hash(table(2)) == hash(table(2))
    assert table(2) != table(2, summed=False)
