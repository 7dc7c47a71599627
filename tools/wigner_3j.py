"""Writes the table of Wigner 3j symbols that the package carries, from e3nn: python tools/wigner_3j.py.

The table holds every symbol of degrees up to ``L_MAX``, as four arrays:

    degrees     [symbols, 3]    l1, l2, l3
    sizes       [symbols]       how many entries of the symbol are not zero
    components  [entries, 3]    m1, m2, m3 of each such entry, counted from 0, symbol after symbol
    values      [entries]       the entries, float64, to the last bit as e3nn gives them

It need not be written again unless ``L_MAX`` changes. The last bits may differ on another machine or with
another version of e3nn, so compare results before and after.
"""

from itertools import product

import numpy as np
import torch
from e3nn import o3

from equiforce.geometry.wigner_3j import L_MAX, TABLE

NOISE = 1e-12  # smaller entries are zero but for rounding; the smallest of the table are above 0.001


def table(l_max: int) -> dict[str, np.ndarray]:
    """The four arrays."""
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
    """Writes the file."""
    np.savez_compressed(TABLE, **table(L_MAX))
    print(f"{TABLE}: {TABLE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
