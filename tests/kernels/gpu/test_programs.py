"""How paths are dealt out: each exactly once, within what registers hold."""

import pytest

from equiforce.geometry.irreps import Irreps, hidden_irreps
from equiforce.kernels.gpu.programs import FAMILIES, MOST_SUMS, WARP, n_parts, works
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


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", TABLES)
def test_each_path_is_dealt_out_once(name, family):
    table = TABLES[name]
    dealt = [path for work in works(table, family) for unit in work.twins for path in unit]
    assert len(dealt) == len(table.paths)
    assert set(dealt) == set(table.paths)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", TABLES)
def test_twins_have_the_same_code_and_tiles_hold_all_channels(name, family):
    for work in works(TABLES[name], family):
        kinds = {tuple((p.source.l, p.l2, p.target.l, p.source.channels) for p in unit) for unit in work.twins}
        assert len(kinds) == 1
        assert work.width <= WARP
        for path in work.twins[0]:
            assert path.source.channels <= work.width * work.n_blocks < 2 * max(path.source.channels, WARP)


def test_sums_fit_into_registers():
    table = TABLES["l3-both-parities"]
    for work in works(table, "forward"):
        assert sum(2 * path.target.l + 1 for path in work.twins[0]) <= MOST_SUMS
    for work in works(table, "knots"):
        assert 4 * len(work.twins[0]) <= MOST_SUMS


def test_all_paths_from_a_block_are_scattered_by_one_program():
    for work in works(TABLES["l3-both-parities"], "backward"):
        for unit in work.twins:
            sources = {path.source for path in unit}
            assert {path for path in TABLES["l3-both-parities"].paths if path.source in sources} == set(unit)


def test_parities_share_code_and_a_small_table_one_program():
    assert n_parts(TABLES["l2"], "backward") == 1
    assert n_parts(TABLES["l2"], "forward") == 3
    assert all(len(work.twins) == 2 for work in works(TABLES["l3-both-parities"], "backward"))
    assert n_parts(TABLES["no-path"], "forward") == 0
