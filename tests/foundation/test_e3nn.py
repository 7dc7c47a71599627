"""The layout of e3nn's weights; ``make_e3nn.py`` wrote what e3nn computes."""

import json
from pathlib import Path

import pytest
import torch

from equiforce.errors import InputError
from equiforce.foundation.e3nn import (
    SILU,
    TANH,
    fully_connected_matrices,
    gain_ratio,
    gate_columns,
    in_order,
    linear_matrices,
    product_irreps,
    simplified,
    sorted_paths,
)
from equiforce.geometry.irreps import Irreps
from equiforce.nn.equivariant import Gate

RESULTS = json.loads((Path(__file__).parent / "e3nn.json").read_text())
LINEAR = Irreps("3x0e+2x1o+1x0e+2x1e"), Irreps("2x1o+2x0e+1x1o+1x2e+1x0e")
PRODUCT = Irreps("3x0e+2x1o+1x0o"), Irreps("2x0e+1x1o+1x2e")


def double(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def rows_of(x, irreps):
    """The features of each irrep [rows, channels, components]; e3nn stores channels first."""
    found = {}
    for (mul, ir), place in zip(irreps, irreps.slices(), strict=True):
        found.setdefault(str(ir), []).append(x[:, place].view(len(x), mul, ir.dim))
    return {name: torch.cat(parts, 1) for name, parts in found.items()}


def test_a_linear_map():
    flat, x, y = map(double, RESULTS["linear"])
    matrices = linear_matrices(flat, *LINEAR)
    given, expected = rows_of(x, LINEAR[0]), rows_of(y, LINEAR[1])
    assert set(matrices) == {"0e", "1o"}
    for name, matrix in matrices.items():
        torch.testing.assert_close(torch.einsum("nuc,uv->nvc", given[name], matrix), expected[name])
    with pytest.raises(InputError, match="a linear map has 17 weights instead of 18"):
        linear_matrices(flat[1:], *LINEAR)


def test_a_product_with_scalars():
    flat, x, scalars, y = map(double, RESULTS["product"])
    cubes = fully_connected_matrices(flat, PRODUCT[0], 3, PRODUCT[1])
    given, expected = rows_of(x, PRODUCT[0]), rows_of(y, PRODUCT[1])
    assert set(cubes) == {"0e", "1o"}
    for name, cube in cubes.items():
        torch.testing.assert_close(torch.einsum("nuc,usv,ns->nvc", given[name], cube, scalars), expected[name])


def test_paths():
    harmonics = Irreps.spherical_harmonics(2)
    paths = sorted_paths(Irreps("2x0e+3x1e+1x1o"), harmonics, Irreps("1x0e+1x0o+1x1o+1x1e+1x2o"))
    found = [[str(p.source), p.l2, str(p.target), p.channels, p.place] for p in paths]
    assert found == RESULTS["paths"]["paths"]
    assert str(product_irreps(paths)) == RESULTS["paths"]["irreps"]
    used = 0
    for path in paths:
        assert path.weight == used
        used += path.channels
    for target in {path.target for path in paths}:
        row = 0
        for path in sorted((p for p in paths if p.target == target), key=lambda p: p.place):
            assert path.row == row
            row += path.channels


def test_gates():
    """The columns and the factors: the gate of this package gives what e3nn's gate gives."""
    scalars, gated = Irreps("4x0e+3x0o"), Irreps("2x1e+5x1o+1x2e")
    irreps_in, x, y = Irreps(RESULTS["gate"][0]), double(RESULTS["gate"][1]), double(RESULTS["gate"][2])
    given, expected = rows_of(x, irreps_in), rows_of(y, scalars + gated)
    kept = Irreps("4x0e+3x0o+5x1o+2x1e")  # another order, and without 2e
    gate = Gate(kept)
    given["0e"] = given["0e"][:, gate_columns(scalars, gated, kept)]
    ordered = torch.cat([given[str(ir)].mT.flatten(1) for _, ir in gate.irreps_in], 1)
    found = gate(ordered)
    for (mul, ir), place in zip(kept, kept.slices(), strict=True):
        block = found[:, place].view(len(x), ir.dim, mul).mT * gain_ratio(ir)
        torch.testing.assert_close(block, expected[str(ir)])


def test_factors():
    assert pytest.approx(RESULTS["silu"], rel=1e-14) == SILU
    assert pytest.approx(RESULTS["tanh"], rel=1e-14) == TANH
    assert gain_ratio("1e") == gain_ratio("0e") != gain_ratio("0o")


def test_irreps_are_merged_and_sorted():
    assert str(simplified(Irreps("1x0e+2x0e+0x1o+3x0e+1x1o+1x0e"))) == "6x0e+1x1o+1x0e"
    assert str(in_order(Irreps("1x1e+2x0e+1x1o+1x0o+2x1e"))) == "1x0o+2x0e+1x1o+3x1e"
