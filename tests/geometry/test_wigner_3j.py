import sys
from itertools import product

import numpy as np
import pytest
import torch
from e3nn import o3
from scipy.spatial.transform import Rotation

from equiforce.errors import MissingPackageError
from equiforce.geometry.spherical_harmonics import spherical_harmonics
from equiforce.geometry.wigner_3j import L_MAX, TABLE, wigner_3j
from tools.wigner_3j import table

COUPLED = [d for d in product(range(L_MAX + 1), repeat=3) if abs(d[0] - d[1]) <= d[2] <= d[0] + d[1]]


def test_every_symbol_of_the_table_is_that_of_e3nn():
    assert len(COUPLED) == 175
    for degrees in COUPLED:
        expected = o3.wigner_3j(*degrees, dtype=torch.float64)
        torch.testing.assert_close(wigner_3j(*degrees), expected, rtol=0, atol=1e-14)
        assert torch.equal(wigner_3j(*degrees) != 0, expected.abs() > 1e-12)


def test_the_table_is_what_its_script_writes():
    """The last bits of e3nn may be others on another machine, and the file is not written there."""
    written = table(L_MAX)
    with np.load(TABLE) as stored:
        assert set(stored) == set(written)
        for name, values in written.items():
            assert stored[name].dtype == values.dtype
            np.testing.assert_allclose(stored[name], values, rtol=0, atol=1e-14 if name == "values" else 0)


def test_the_table_is_small():
    assert TABLE.stat().st_size < 50_000


@pytest.mark.parametrize("degrees", [(1, 1, 0), (1, 1, 1), (1, 2, 3), (2, 2, 2), (3, 2, 4), (4, 4, 3), (6, 6, 6)])
def test_it_is_invariant(degrees):
    vectors = torch.randn(3, 3, dtype=torch.float64)
    turned = vectors @ torch.from_numpy(Rotation.random(rng=1).as_matrix())

    def coupled(abc):
        a, b, c = (spherical_harmonics(v[None], l)[0, l**2 :] for v, l in zip(abc, degrees, strict=True))
        return torch.einsum("abc,a,b,c->", wigner_3j(*degrees), a, b, c)

    torch.testing.assert_close(coupled(turned), coupled(vectors), rtol=0, atol=1e-12)
    torch.testing.assert_close(wigner_3j(*degrees).norm().item(), 1.0)


def test_higher_degrees_come_from_e3nn():
    assert torch.equal(wigner_3j(7, 1, 6), o3.wigner_3j(7, 1, 6, dtype=torch.float64))


def test_without_e3nn_higher_degrees_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "e3nn", None)  # makes its import fail
    with pytest.raises(MissingPackageError, match=r'degree 8 .*: run pip install "equiforce\[high-degrees\]"'):
        wigner_3j(2, 8, 7)


def test_degrees_that_do_not_couple_are_refused():
    with pytest.raises(ValueError, match="degrees 1 and 2 do not couple to 4"):
        wigner_3j(1, 2, 4)
