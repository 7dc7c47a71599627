from equiforce.geometry.irreps import Irreps, blocks, hidden_irreps
from equiforce.kernels.spec.paths import PathTable, sparse_coupling


def test_number_of_paths_of_natural_parity():
    """Counted by hand: l1 + l2 + l3 even and a triangle."""
    for l_max, expected in [(0, 1), (1, 4), (2, 11), (3, 23)]:
        irreps = hidden_irreps((2,) * (l_max + 1), odd=False)
        assert len(PathTable(irreps, l_max, irreps).paths) == expected


def test_without_reflections_degrees_alone_decide():
    irreps = hidden_irreps((2, 2, 2), odd=False, reflections=False)
    table = PathTable(irreps, 2, irreps, reflections=False)
    assert str(table.irreps_out) == "6x0e+12x1e+12x2e"
    assert len(table.paths) == 15  # 11 and the four of odd l1 + l2 + l3: 111, 122, 212, 221
    assert table != PathTable(irreps, 2, irreps)


def test_paths_fill_the_message_without_gap_or_overlap():
    irreps = hidden_irreps((3, 2, 4), odd=True)
    table = PathTable(irreps, 2, irreps)
    for target in blocks(table.irreps_out):
        own = sorted((p.channel, p.source.channels) for p in table.paths if p.target == target)
        ends = [first + n for first, n in own]
        assert [first for first, _ in own] == [0, *ends[:-1]]
        assert ends[-1] == target.channels
    weights = sorted((p.weight, p.source.channels) for p in table.paths)
    assert [first for first, _ in weights] == [0, *[first + n for first, n in weights][:-1]]
    assert table.n_weights == sum(n for _, n in weights)


def test_tables_of_equal_content_are_equal():
    """Kernels are generated and kept for each table."""
    make = lambda: PathTable(Irreps("4x0e + 2x1o"), 1, Irreps("4x0e + 2x1o"))  # noqa: E731
    assert make() == make()
    assert hash(make()) == hash(make())


def test_scalar_coupling_is_one():
    assert sparse_coupling(0, 0, 0) == ((0, 0, 0, 1.0),)
