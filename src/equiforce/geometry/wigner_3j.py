"""Real Wigner 3j symbols in the basis and with the signs of e3nn."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from equiforce.errors import MissingPackageError

# tools/wigner_3j.py writes this table with e3nn; it is stored because importing e3nn takes a second and 150 MB
TABLE = Path(__file__).with_name("wigner_3j.npz")
L_MAX = 6  # the highest degree of the table


@cache
def wigner_3j(l1: int, l2: int, l3: int) -> Float[Tensor, "m1 m2 m3"]:
    """Return C, for which sum C[m1, m2, m3] a[m1] b[m2] c[m3] is invariant under rotation.

    Args:
        l1: degree of a.
        l2: degree of b.
        l3: degree of c, from |l1-l2| to l1+l2.

    Returns:
        float64 of shape [2 l1 + 1, 2 l2 + 1, 2 l3 + 1], of Frobenius norm 1.

    Raises:
        ValueError: l3 is not between |l1-l2| and l1+l2.
        MissingPackageError: a degree is above 6 and e3nn is not installed.
    """
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        raise ValueError(f"degrees {l1} and {l2} do not couple to {l3}: give l3 between |l1-l2| and l1+l2")
    if max(l1, l2, l3) > L_MAX:
        return _of_e3nn(l1, l2, l3)
    components, values = _table()[l1, l2, l3]
    dense = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    dense[tuple(components.T)] = values
    return torch.from_numpy(dense)


@cache
def _table() -> dict[tuple[int, int, int], tuple[np.ndarray, np.ndarray]]:
    """The indices [entries, 3] and the values [entries] of the non-zero elements of each symbol."""
    with np.load(TABLE) as file:
        arrays = file.f  # with the names that tools/wigner_3j.py writes
        stops = np.cumsum(arrays.sizes)[:-1]
        entries = zip(np.split(arrays.components, stops), np.split(arrays.values, stops), strict=True)
        return dict(zip(map(tuple, arrays.degrees.tolist()), entries, strict=True))


def _of_e3nn(l1: int, l2: int, l3: int) -> Float[Tensor, "m1 m2 m3"]:
    try:
        from e3nn import o3  # noqa: PLC0415 - an optional package
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"degree {max(l1, l2, l3)} needs e3nn, which is not installed: "
            f'run pip install "equiforce[high-degrees]", or train with l_max {L_MAX} or less'
        ) from error
    with torch.device("cpu"):  # the result is cached for models that are built elsewhere, or without memory
        return o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
