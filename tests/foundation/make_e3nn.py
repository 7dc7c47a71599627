"""Writes what e3nn computes with a few maps, for ``test_e3nn.py``; needs ``pip install e3nn``.

python tests/foundation/make_e3nn.py
"""

import json
from pathlib import Path
from typing import Any

import torch
from e3nn import o3
from e3nn.math import normalize2mom
from e3nn.nn import Gate

FILE = Path(__file__).parent / "e3nn.json"
LINEAR = "3x0e+2x1o+1x0e+2x1e", "2x1o+2x0e+1x1o+1x2e+1x0e"
PRODUCT = "3x0e+2x1o+1x0o", "2x0e+1x1o+1x2e"
PATHS = "2x0e+3x1e+1x1o", "1x0e+1x0o+1x1o+1x1e+1x2o"
GATE = "4x0e+3x0o", "2x1e+5x1o+1x2e"


def product(irreps_in: str, allowed: str, l_max: int) -> dict[str, Any]:
    """A product as nequip and SevenNet make it: the results are sorted, the weights are in the order of the loops."""
    features, harmonics, results = o3.Irreps(irreps_in), o3.Irreps.spherical_harmonics(l_max), []
    rows = []
    for i, (mul, a) in enumerate(features):
        for j, (_, b) in enumerate(harmonics):
            for ir in a * b:
                if ir in o3.Irreps(allowed):
                    rows.append((i, j, str(ir)))
                    results.append((mul, ir))
    irreps, places, _ = o3.Irreps(results).sort()
    instructions = [(i, j, places[k], "uvu", True) for k, (i, j, _) in enumerate(rows)]
    made = o3.TensorProduct(features, harmonics, irreps, instructions, shared_weights=False, internal_weights=False)
    taken = [(o3.Irreps(irreps_in)[i].ir, j, ir) for i, j, ir in rows]
    shapes = [instruction.path_shape[0] for instruction in made.instructions]
    return {
        "paths": [[str(a), j, ir, mul, place] for (a, j, ir), mul, place in zip(taken, shapes, places, strict=True)],
        "irreps": str(irreps.simplify()),
    }


def main() -> None:
    """Write the file."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    linear, x = o3.Linear(*LINEAR), torch.randn(2, o3.Irreps(LINEAR[0]).dim)
    full = o3.FullyConnectedTensorProduct(PRODUCT[0], "3x0e", PRODUCT[1])
    y, scalars = torch.randn(2, o3.Irreps(PRODUCT[0]).dim), torch.randn(2, 3)
    silu = torch.nn.functional.silu
    gated = o3.Irreps(GATE[1])
    gate = Gate(GATE[0], [silu, torch.tanh], [(m, "0e") for m, _ in gated], [silu] * len(gated), gated)
    z = torch.randn(2, gate.irreps_in.dim)
    results = {
        "silu": normalize2mom(silu).cst,
        "tanh": normalize2mom(torch.tanh).cst,
        "linear": [linear.weight.tolist(), x.tolist(), linear(x).tolist()],
        "product": [full.weight.tolist(), y.tolist(), scalars.tolist(), full(y, scalars).tolist()],
        "paths": product(*PATHS, 2),
        "gate": [str(gate.irreps_in), z.tolist(), gate(z).tolist()],
    }
    FILE.write_text(json.dumps(results) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
