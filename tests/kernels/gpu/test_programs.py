"""How paths are divided: each exactly once, within what registers hold."""

import pytest

from equiforce.geometry.irreps import Irreps, hidden_irreps
from equiforce.kernels.gpu.programs import KERNEL_KINDS, MOST_SUMS, WARP, divide_paths, n_programs
from equiforce.kernels.spec.paths import PathTable


def hidden(channels, *, odd):
    irreps = hidden_irreps(channels, odd=odd)
    return PathTable(irreps, len(channels) - 1, irreps)


TABLES = {
    "l2": hidden((32, 32, 32), odd=False),
    "l3-both-parities": hidden((8, 8, 8, 8), odd=True),
    "unequal": hidden((64, 33, 8), odd=True),
    "thrice-the-same": PathTable(Irreps("2x1o+2x1o+2x1o"), 1, Irreps("1x0e")),
    "no-path": PathTable(Irreps("2x3o"), 1, Irreps("1x0e")),
}


@pytest.mark.parametrize("kind", KERNEL_KINDS)
@pytest.mark.parametrize("name", TABLES)
def test_each_path_is_divided_once(name, kind):
    table = TABLES[name]
    divided = [path for assigned in divide_paths(table, kind) for unit in assigned.twins for path in unit]
    assert len(divided) == len(table.paths)
    assert set(divided) == set(table.paths)


@pytest.mark.parametrize("kind", KERNEL_KINDS)
@pytest.mark.parametrize("name", TABLES)
def test_twins_have_the_same_code_and_tiles_hold_all_channels(name, kind):
    for assigned in divide_paths(TABLES[name], kind):
        kinds = {tuple((p.source.l, p.l2, p.target.l, p.source.channels) for p in unit) for unit in assigned.twins}
        assert len(kinds) == 1
        assert assigned.width <= WARP
        for path in assigned.twins[0]:
            assert path.source.channels <= assigned.width * assigned.n_blocks < 2 * max(path.source.channels, WARP)


def test_sums_fit_into_registers():
    table = TABLES["l3-both-parities"]
    for assigned in divide_paths(table, "forward"):
        assert sum(2 * path.target.l + 1 for path in assigned.twins[0]) <= MOST_SUMS
    for assigned in divide_paths(table, "knots"):
        assert 4 * len(assigned.twins[0]) <= MOST_SUMS


def test_all_paths_from_a_block_are_scattered_by_one_program():
    for assigned in divide_paths(TABLES["l3-both-parities"], "backward"):
        for unit in assigned.twins:
            sources = {path.source for path in unit}
            assert {path for path in TABLES["l3-both-parities"].paths if path.source in sources} == set(unit)


def test_parities_share_code_and_a_small_table_one_program():
    assert n_programs(TABLES["l2"], "backward") == 1
    assert n_programs(TABLES["l2"], "forward") == 3
    assert all(len(assigned.twins) == 2 for assigned in divide_paths(TABLES["l3-both-parities"], "backward"))
    assert n_programs(TABLES["no-path"], "forward") == 0
