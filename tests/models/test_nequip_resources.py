"""Memory and kernels of NequIP; tests/test_memory.py compares the memory with what is measured."""

import pytest
import torch

from equiforce import kernels
from equiforce.geometry.irreps import Irreps
from equiforce.kernels import PathTable
from equiforce.models.nequip_resources import NequIPLayerShape, footprint, needed_kernels
from tests.models.loaded_kernels import differences

TABLE = PathTable(Irreps("3x0e+2x1o"), 1, Irreps("3x0e"))


def of(*layers: NequIPLayerShape, training: bool = False, **options):
    given = {"n_harmonics": 4, "n_samples": 64, "example": torch.zeros(1)} | options
    return footprint(layers, training=training, **given)


def test_one_layer_counted_by_hand():
    layer = NequIPLayerShape(TABLE, gated=5, result=3, hidden=7)
    features, messages = 3 + 3 * 2, TABLE.irreps_out.dim
    assert (layer.features, layer.messages, layer.weights) == (features, messages, TABLE.n_weights)
    forward, backward = of(layer).peaks
    # what is kept, messages, and what is sent; vectors, harmonics and knot coordinate; all in float32
    assert forward == (4 * (features + 5 + messages + features), 4 * 5 + 3 * 4)
    assert backward == (4 * (features + 2 * features), 2 * 4 * 5 + 3 * 4)
    assert of(layer).fixed == 0
    assert of(layer, training=True).fixed == 4 * 64 * (3 * 7 + 2 * TABLE.n_weights)


def test_layers_add_up_and_training_takes_more():
    layer = NequIPLayerShape(TABLE, gated=5, result=3, hidden=7)
    one, two, trained = of(layer), of(layer, layer), of(layer, layer, training=True)
    largest = [max(peak.per_atom for peak in found.peaks) for found in (one, two, trained)]
    assert largest == sorted(largest)
    assert len(set(largest)) == 3


def test_edges_have_channels_only_without_fused_kernels():
    wide = NequIPLayerShape(PathTable(Irreps("6x0e+4x1o"), 1, Irreps("6x0e")), gated=10, result=6, hidden=7)
    layer = NequIPLayerShape(TABLE, gated=5, result=3, hidden=7)
    if kernels.fused("cpu"):
        assert of(layer).peaks[0].per_edge == of(wide).peaks[0].per_edge
    assert of(layer, n_samples=0).peaks[0].per_edge > of(layer).peaks[0].per_edge
    with kernels.using("reference"):
        assert of(layer).peaks[0].per_edge < of(wide).peaks[0].per_edge


def test_kernels_are_those_of_a_precision_and_more_for_training():
    used, trained = (set(needed_kernels([TABLE], torch.float32, training=training)) for training in (False, True))
    assert used < trained
    assert not trained & set(needed_kernels([TABLE], torch.float64, training=True))


@pytest.mark.slow
def test_what_is_needed_is_what_is_loaded():
    said = differences(l_max=1, n_layers=2, channels=4)
    assert len(said) == 4
    assert all(line.isdigit() and int(line) > 8 for line in said)
