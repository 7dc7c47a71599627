import pytest
import torch

from equiforce.errors import InputError
from equiforce.foundation.weights import Weights, set_linear, set_mlp, shown
from equiforce.geometry.irreps import Irreps
from equiforce.nn.equivariant import Linear, SpeciesLinear
from equiforce.nn.mlp import ScalarMLP

IRREPS_IN, IRREPS_OUT = Irreps("3x0e+2x1o"), Irreps("4x0e+1x1o")


@pytest.fixture
def matrices():
    torch.manual_seed(0)
    return {"0e": torch.randn(3, 4, dtype=torch.float64), "1o": torch.randn(2, 1, dtype=torch.float64)}


def test_a_linear_map_multiplies_by_the_matrices(matrices):
    linear = Linear(IRREPS_IN, IRREPS_OUT, scale=0.3).double()
    set_linear(linear, matrices)
    x = torch.randn(5, IRREPS_IN.dim, dtype=torch.float64)
    scalars, vectors = x[:, :3] @ matrices["0e"], x[:, 3:].view(5, 3, 2) @ matrices["1o"]
    torch.testing.assert_close(linear(x), torch.cat([scalars, vectors.flatten(1)], 1))


def test_each_species_can_have_its_own(matrices):
    linear = SpeciesLinear(IRREPS_IN, IRREPS_OUT, 2).double()
    set_linear(linear, matrices, [1])
    set_linear(linear, {name: 2 * matrix for name, matrix in matrices.items()}, [0])
    x = torch.randn(1, IRREPS_IN.dim, dtype=torch.float64).repeat(2, 1)
    doubled, once = linear(x, torch.tensor([0, 1]))
    torch.testing.assert_close(doubled, 2 * once)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"0e": None}, "the matrix for 0e is missing"),
        ({"0e": torch.zeros(3, 5)}, "the matrix for 0e is 3 x 5 instead of 3 x 4"),
        ({"2e": torch.zeros(1, 1)}, "matrices for 2e are left over"),
    ],
)
def test_matrices_that_do_not_fit_are_refused(change, words, matrices):
    given = {name: matrix for name, matrix in (matrices | change).items() if matrix is not None}
    with pytest.raises(InputError, match=words):
        set_linear(Linear(IRREPS_IN, IRREPS_OUT), given)


def test_a_perceptron_has_plain_silu():
    mlp = ScalarMLP(3, [4, 5], 2).double()
    matrices = [torch.randn(*shape, dtype=torch.float64) for shape in ((3, 4), (4, 5), (5, 2))]
    set_mlp(mlp, matrices)
    x, silu = torch.randn(6, 3, dtype=torch.float64), torch.nn.functional.silu
    torch.testing.assert_close(mlp(x), silu(silu(x @ matrices[0]) @ matrices[1]) @ matrices[2])
    with pytest.raises(InputError, match="has 2 matrices instead of 3"):
        set_mlp(mlp, matrices[:2])
    with pytest.raises(InputError, match="a matrix is 4 x 4 instead of 3 x 4"):
        set_mlp(mlp, [torch.zeros(4, 4), *matrices[1:]])


def test_shapes_in_words():
    assert shown((8, 64)) == "8 x 64"
    assert shown(()) == "a number"


def test_weights_are_taken_once():
    weights = Weights(
        {"a": torch.ones(2, 3), "b": torch.tensor([1.0, torch.nan]), "c": torch.ones(2, dtype=torch.int64)}
    )
    assert weights.take("a", 2, 3).dtype == torch.float64
    for name, words in (("a", "is missing"), ("b", "not finite"), ("c", "not finite")):
        with pytest.raises(InputError, match=f"the weight {name} .*{words}"):
            weights.take(name)
    with pytest.raises(InputError, match="the weight a is 2 instead of 3"):
        Weights({"a": torch.ones(2)}).take("a", 3)
    with pytest.raises(InputError, match="the weights a belong to nothing that equiforce knows"):
        Weights({"a": torch.ones(2)}).require_end()
    Weights({"a._w3j_0": torch.ones(2), "b": torch.ones(0)}, ["_w3j_"]).require_end()
    assert Weights({}).take_if_there("a") is Weights({}).find("a") is None
