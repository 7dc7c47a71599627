"""Writes the package's table of Wigner 3j symbols with values of e3nn: python tools/wigner_3j.py.

The table holds every symbol of degrees up to ``L_MAX``, as four arrays:

    degrees     [symbols, 3]    l1, l2, l3
    sizes       [symbols]       number of entries of the symbol that are not zero
    components  [entries, 3]    m1, m2, m3 of these entries, counted from 0, symbol after symbol
    values      [entries]       the entries in float64, with the bits that e3nn computes

The table must be written again only if ``L_MAX`` changes. The last bits may differ on another machine or with another
version of e3nn, so compare results before and after.
"""

from itertools import product

import numpy as np
import torch
from e3nn import o3

from equiforce.geometry.wigner_3j import L_MAX, TABLE

NOISE = 1e-12  # smaller entries are rounding errors of zero; the smallest entries of the table are above 0.001


def table(l_max: int) -> dict[str, np.ndarray]:
    """Return the four arrays."""
    degrees, components, values = [], [], []
    for l1, l2, l3 in product(range(l_max + 1), repeat=3):
        if abs(l1 - l2) <= l3 <= l1 + l2:
            symbol = o3.wigner_3j(l1, l2, l3, dtype=torch.float64).numpy()
            found = np.argwhere(np.abs(symbol) > NOISE)
            degrees.append((l1, l2, l3))
            components.append(found)
            values.append(symbol[tuple(found.T)])
    return {
        "degrees": np.array(degrees, dtype=np.uint8),
        "sizes": np.array([len(each) for each in values], dtype=np.uint16),
        "components": np.concatenate(components).astype(np.uint8),
        "values": np.concatenate(values),
    }


def main() -> None:
    """Write the file."""
    np.savez_compressed(TABLE, **table(L_MAX))
    print(f"{TABLE}: {TABLE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
