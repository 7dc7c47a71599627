"""Memory and kernels of Allegro; tests/test_memory.py compares the memory with what is measured."""

import pytest
import torch

from equiforce import kernels
from equiforce.geometry.irreps import Irreps
from equiforce.kernels import CouplingTable
from equiforce.models.allegro_resources import AllegroLayerShape, footprint, needed_kernels
from tests.models.loaded_kernels import differences

TABLE = CouplingTable(Irreps("2x0e+2x1o"), 1, Irreps("2x0e"), summed=True)
LAYER = AllegroLayerShape(TABLE, latent=7, environment=4, mixed=0)


def of(*layers: AllegroLayerShape, training: bool = False, hidden: int = 0):
    return footprint(layers, two_body=10, hidden=hidden, example=torch.zeros(1), training=training)


def test_numbers_of_an_edge_are_counted():
    assert LAYER.of_edge == sum(TABLE.dims) + 7 + 4
    once, twice = of(LAYER).per_edge_at_once, of(LAYER, LAYER).per_edge_at_once
    with kernels.using("reference"):
        products = of(LAYER, LAYER).per_edge_at_once - of(LAYER).per_edge_at_once
    assert twice - once == pytest.approx(4 * 0.95 * LAYER.of_edge)
    assert products == pytest.approx(4 * (0.95 * LAYER.of_edge + 4.7 * LAYER.products))
    assert of(LAYER, hidden=3).per_edge_at_once - once == pytest.approx(4 * 0.95 * 4 * 3)


def test_atoms_keep_something_for_training_alone():
    used, trained = of(LAYER), of(LAYER, training=True)
    assert used.peaks[0].per_atom == 0
    assert trained.peaks[0].per_atom == 4 * 2.5 * (LAYER.products + TABLE.dim_environment)
    assert used.per_edge_at_once < trained.per_edge_at_once
    assert (used.fixed, trained.fixed) == (0, 0)


def test_kernels_are_those_of_a_precision_and_splines_add_some():
    without, single = (set(needed_kernels([TABLE], splines=s, dtype=torch.float32)) for s in (False, True))
    assert without < single
    assert not single & set(needed_kernels([TABLE], splines=True, dtype=torch.float64))


@pytest.mark.slow
def test_what_is_needed_is_what_is_loaded():
    """In training; energies and forces alone load the same kernels, for a product compiles its own together."""
    small = {"l_max": 1, "tensor_channels": 4, "scalar_channels": 8, "latent_width": 8}
    said = differences(kind="allegro", **small)
    assert len(said) == 4
    assert all(line.isdigit() and int(line) > 8 for line in said)
