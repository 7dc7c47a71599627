"""The boundary to C: every operation, with tensors of any strides and dtypes, against the reference.

Value, gradient and second gradient of each operation are those of the reference, for inputs, cotangents and tangents
that lie in memory in any way. Inputs of another dtype give the same numbers or a sentence, never other numbers.
"""

import copy

import pytest
import torch

from equiforce.errors import InputError
from equiforce.geometry import spherical_harmonics
from equiforce.geometry.irreps import Irreps, hidden_irreps
from equiforce.graph import HaloExchange, Topology, batch
from equiforce.kernels import (
    CouplingTable,
    GatePlan,
    LinearPlan,
    Radial,
    convolve,
    edge_geometry,
    environment,
    gate,
    leading,
    linear,
    lookup,
    pair_gradient,
    tensor_product,
    tensor_product_of_harmonics,
    using,
    weighted_harmonics,
)
from equiforce.kernels.order import sorted_edges
from equiforce.kernels.reference import convolution as reference
from equiforce.kernels.reference import local as reference_local
from equiforce.potential import EDGES_AT_ONCE, evaluating
from tests.kernels.cases import TABLES, TOLERANCE, assert_same, random_graph, shuffled
from tests.systems import ethanol, graph_of, potential_of

GRAPH = random_graph(9, 70)
N_ATOMS, N_EDGES = GRAPH.n_atoms, GRAPH.n_edges
PATHS, COUPLINGS = TABLES["l1"], CouplingTable(hidden_irreps((5, 5), odd=False), 1, hidden_irreps((5, 5), odd=False))
LINEAR = LinearPlan(Irreps("4x0e + 3x1o"), Irreps("5x0e + 2x1o"), n_species=3)
ONE_LINEAR = LinearPlan(Irreps("4x0e + 3x1o"), Irreps("5x0e + 2x1o"))
GATE = GatePlan(Irreps("4x0e + 2x0o + 3x1o"))
KINDS = torch.arange(N_EDGES) % 3
SMALLEST = {
    "nequip": {"l_max": 1, "n_layers": 2, "channels": 4},
    "allegro": {"l_max": 1, "n_layers": 2, "tensor_channels": 4, "scalar_channels": 8},
}


def two(harmonics_and_coordinates):
    harmonics, coordinates = harmonics_and_coordinates
    return torch.cat([harmonics, coordinates.unsqueeze(1)], dim=1)


# of each operation: the function of its tensors and the backend, and the shapes of the tensors
OPERATIONS = {
    "convolve": (
        lambda x, y, values, t, b: convolve(x, y, Radial(values, 5 + t), GRAPH, PATHS, b),
        [(N_ATOMS, PATHS.dims[0]), (N_EDGES, 4), (15, PATHS.n_weights), (N_EDGES,)],
    ),
    "edge_geometry": (lambda v, b: two(edge_geometry(v, 2, 2.0, b)), [(N_EDGES, 3)]),
    "linear": (
        lambda x, w, b: linear(x, w, GRAPH.species, LINEAR, b),
        [(N_ATOMS, LINEAR.dims[0]), (3, LINEAR.n_weights)],
    ),
    "linear of one species": (
        lambda x, w, b: linear(x, w, None, ONE_LINEAR, b),
        [(N_ATOMS, ONE_LINEAR.dims[0]), (1, ONE_LINEAR.n_weights)],
    ),
    "gate": (lambda x, b: gate(x, GATE, 1.7, 1.6, b), [(N_ATOMS, GATE.irreps_in.dim)]),
    "weighted_harmonics": (weighted_harmonics, [(N_EDGES, 10), (N_EDGES, 4)]),
    "environment": (lambda w, y, b: environment(w, y, GRAPH, b), [(N_EDGES, 10), (N_EDGES, 4)]),
    "tensor_product": (
        lambda x, g, w, b: tensor_product(x, g, w, GRAPH, COUPLINGS, b),
        [(N_EDGES, COUPLINGS.dims[0]), (N_ATOMS, COUPLINGS.dim_environment), (COUPLINGS.n_paths, 5)],
    ),
    "tensor_product_of_harmonics": (
        lambda v, y, g, w, b: tensor_product_of_harmonics(v, y, g, w, GRAPH, COUPLINGS, b),
        [(N_EDGES, 10), (N_EDGES, 4), (N_ATOMS, COUPLINGS.dim_environment), (COUPLINGS.n_paths, 5)],
    ),
    "lookup": (lambda values, t, b: lookup(values, 5 + t, KINDS, b), [(3, 15, 7), (N_EDGES,)]),
    "pair_gradient": (lambda g, b: pair_gradient(g, GRAPH, b), [(N_EDGES, 3)]),
    "leading": (lambda x, b: torch.cat(leading(x, 3), dim=1), [(N_ATOMS, 8)]),
}
# inputs that are converted, for under autocast features and tables come in other dtypes
CONVERTED = {("convolve", 0), ("convolve", 2), ("lookup", 0), ("lookup", 1)}


def column_major(t):
    return t.mT.contiguous().mT if t.dim() > 1 else torch.stack([t, t], dim=1)[:, 0]


def every_second(t):
    return torch.stack([t, torch.full_like(t, torch.nan)], dim=-1).flatten(-2)[..., ::2]


def off_the_start(t):
    """Rows of a wider tensor, whose first number is not aligned to a vector."""
    wide = torch.full((*t.shape[:-1], t.shape[-1] + 3), torch.nan, dtype=t.dtype)
    wide[..., 1:-2] = t
    return wide[..., 1:-2]


def rows_backwards(t):
    return torch.flip(t, (0,))[torch.arange(len(t) - 1, -1, -1)].as_strided(t.shape, t.stride())


def negated(t):
    """The same numbers with the opposite sign in memory, as the imaginary part of a conjugate has them."""
    return torch._neg_view(-t)


LAYOUTS = [torch.clone, negated, column_major, every_second, off_the_start, rows_backwards]


def derivatives(function, inputs, lay):
    """Value, gradients and second gradients, with cotangents and tangents that are laid out in the same way."""
    torch.manual_seed(2)
    dtype = inputs[0].dtype

    def drawn(shape):  # the same numbers in both precisions
        return lay(torch.randn(shape, dtype=torch.float64).to(dtype))

    inputs = [lay(value).detach().requires_grad_() for value in inputs]
    out = function(*inputs)
    cotangent = drawn(out.shape).detach().requires_grad_()
    first = torch.autograd.grad(out, inputs, cotangent, create_graph=True)
    tangents = [drawn(value.shape) for value in inputs]
    asked = [cotangent, *inputs]
    second = torch.autograd.grad(first, asked, tangents, allow_unused=True, materialize_grads=True)
    return [part.detach() for part in (out, *first, *second)]


def inputs_of(name, dtype):
    torch.manual_seed(1)
    return [torch.randn(shape, dtype=torch.float64).to(dtype) for shape in OPERATIONS[name][1]]


@pytest.mark.parametrize("lay", LAYOUTS, ids=lambda lay: lay.__name__)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_any_strides(name, dtype, lay):
    function = OPERATIONS[name][0]
    fused = derivatives(lambda *given: function(*given, "cpu"), inputs_of(name, dtype), lay)
    exact = derivatives(lambda *given: function(*given, "reference"), inputs_of(name, torch.float64), torch.clone)
    assert_same([part.double() for part in fused], exact, TOLERANCE[dtype] if dtype == torch.float64 else 1e-4)


@pytest.mark.parametrize("name", [name for name, (_, shapes) in OPERATIONS.items() if len(shapes) > 1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_one_input_of_another_dtype(name, dtype):
    """The right numbers, or one sentence: never memory that is read as another type."""
    function, other = OPERATIONS[name][0], torch.float32 if dtype == torch.float64 else torch.float64
    exact = function(*inputs_of(name, torch.float64), "reference")
    for place in range(len(OPERATIONS[name][1])):
        inputs = inputs_of(name, dtype)
        inputs[place] = inputs[place].to(other)
        if (name, place) in CONVERTED:
            assert_same([function(*inputs, "cpu").double()], [exact], 1e-4)
        else:
            with pytest.raises(InputError, match=r"float64.*float32|float32.*float64"):
                function(*inputs, "cpu")


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "leading"])
def test_a_column_less_is_refused(name):
    function, shapes = OPERATIONS[name]
    for place in range(len(shapes)):
        if (name, place) == ("lookup", 0):
            continue  # splines of fewer columns
        inputs = inputs_of(name, torch.float64)
        inputs[place] = inputs[place][..., :-1]
        with pytest.raises((InputError, TypeError)):  # TypeError is jaxtyping's, which is on in the tests
            function(*inputs, "cpu")


@pytest.mark.parametrize("wrong", [-1, 3])
def test_an_index_that_would_read_beyond_a_table_is_refused(wrong):
    species, kinds = GRAPH.species.clone(), KINDS.clone()
    species[4] = kinds[5] = wrong
    with pytest.raises(InputError, match="linear: species of row 4 is out of range"):
        linear(*inputs_of("linear", torch.float64), species, LINEAR, "cpu")
    values, coordinates = inputs_of("lookup", torch.float64)
    with pytest.raises(InputError, match="lookup: kinds of row 5 is out of range"):
        lookup(values, coordinates, kinds, "cpu")


def test_edges_that_are_not_sorted_by_centre_are_refused_where_they_have_to_be():
    mixed = shuffled(GRAPH, torch.randperm(N_EDGES, generator=torch.Generator().manual_seed(1)))
    weights, harmonics = inputs_of("environment", torch.float64)
    with pytest.raises(InputError, match="environment: the edges have to be sorted by centre"):
        environment(weights, harmonics, mixed)
    with pytest.raises(InputError, match="tensor_product: the edges have to be sorted by centre"):
        tensor_product(*inputs_of("tensor_product", torch.float64), mixed, COUPLINGS)


@pytest.mark.parametrize("name", ["tensor_product", "tensor_product_of_harmonics"])
def test_an_environment_less_is_refused(name):
    function, _ = OPERATIONS[name]
    inputs = inputs_of(name, torch.float64)
    inputs[-2] = inputs[-2][:-1]
    for backend in ("auto", "reference"):
        with pytest.raises(InputError, match="tensor_product: environments has 8 rows, but there are 9 centres"):
            function(*inputs, backend)


def test_matrices_of_several_species_need_the_species():
    x, weights = inputs_of("linear", torch.float64)
    for backend in ("auto", "reference"):
        with pytest.raises(InputError, match="matrices for 3 species: give the species"):
            linear(x, weights, None, LINEAR, backend)


def test_the_structure_of_an_atom_that_is_changed_in_place_is_checked_again():
    potential = potential_of("nequip", **SMALLEST["nequip"])
    graph = batch([graph_of(ethanol()), graph_of(ethanol())])
    with evaluating(potential):
        potential(graph)
        graph.structure_of_atom[0] = 10**9
        with pytest.raises(InputError, match="structure_of_atom holds 1000000000"):
            potential(graph)


def by_torch(tensor, row, value):
    tensor[row] = value


def behind_torch(tensor, row, value):
    tensor.numpy()[row] = value


@pytest.mark.parametrize("write", [by_torch, behind_torch])
@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
@pytest.mark.parametrize("value", [10**9, -(10**9)])
@pytest.mark.parametrize("name", ["centers", "neighbors", "by_neighbor", "structure_of_atom"])
def test_no_index_that_is_changed_in_place_reaches_c(name, value, used, write):
    potential = potential_of("nequip", **SMALLEST["nequip"])
    graph = batch([graph_of(ethanol()), graph_of(ethanol())])
    with evaluating(potential):
        if used:
            potential(graph)
        write(getattr(graph, name), -1, value)
        with pytest.raises(InputError, match=rf"{name} holds {value}"):
            potential(graph)


def indices_of(topology):
    return {name: getattr(topology, name) for name in ("species", "centers", "neighbors", "by_neighbor")}


def test_the_number_of_owned_atoms_is_checked():
    class Halo(HaloExchange):
        n_owned = 9

        def forward_comm(self, x):
            return x

        def reverse_comm(self, g):
            return g

    topology = Topology(**indices_of(GRAPH), halo=Halo())
    for wrong in (10**7, -1):
        Halo.n_owned = wrong
        with pytest.raises(InputError, match=r"halo\.n_owned is .*, but has to be a whole number from 0 to 9"):
            sorted_edges(topology)
        with pytest.raises(InputError, match=r"halo\.n_owned"):
            Topology(**indices_of(GRAPH), halo=Halo())
    Halo.n_owned = 2
    with pytest.raises(InputError, match="centers holds"):
        sorted_edges(topology)


@pytest.mark.parametrize("n", [0, 1, 8])
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("kind", ["nequip", "allegro"])
def test_a_mask_that_is_none_is_refused(kind, at_once, n, monkeypatch):
    monkeypatch.setitem(EDGES_AT_ONCE, "cpu", 4096 if at_once else 1)
    potential = potential_of(kind, **SMALLEST[kind]).eval()
    with pytest.raises(InputError, match="energy_mask has the shape"):
        potential.energies_and_edge_gradients(
            graph_of(ethanol()), graph_of(ethanol()).edge_vectors(), torch.ones(n).bool()
        )


def test_new_weights_at_an_old_address_are_noticed():
    potential, graph = potential_of("nequip", **SMALLEST["nequip"]).requires_grad_(False), graph_of(ethanol())
    flat = torch.nn.utils.parameters_to_vector(potential.model.parameters())
    for factor in (1.0, 1.1, 1.2, 1.3):
        torch.nn.utils.vector_to_parameters(factor * flat, potential.model.parameters())
        energy = potential(graph).energy
        torch.testing.assert_close(energy, copy.deepcopy(potential)(graph).energy, rtol=0, atol=1e-12)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("kind", ["nequip", "allegro"])
def test_vectors_that_are_not_those_of_the_edges_are_refused(kind, at_once, monkeypatch):
    monkeypatch.setitem(EDGES_AT_ONCE, "cpu", 4096 if at_once else 1)
    potential, graph = potential_of(kind, **SMALLEST[kind]).eval(), graph_of(ethanol())
    vectors = graph.edge_vectors()
    with pytest.raises(InputError, match="vectors is float32, but has to be float64"):
        potential.energies_and_edge_gradients(graph, vectors.float())
    with pytest.raises(InputError, match="vectors has the shape"):
        potential.energies_and_edge_gradients(graph, torch.cat([vectors, vectors]))


@pytest.mark.parametrize("kind", ["nequip", "allegro"])
def test_an_index_that_is_changed_in_place_is_checked_again(kind):
    potential, graph = potential_of(kind, **SMALLEST[kind]), graph_of(ethanol())
    with evaluating(potential):
        potential(graph)
        graph.centers[0] = 10**9
        with pytest.raises(InputError, match="centers holds 1000000000"):
            potential(graph)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("kind", ["nequip", "allegro"])
def test_a_model_that_was_used_in_inference_mode_can_be_differentiated_afterwards(kind, backend):
    for cached in (spherical_harmonics._recursion, reference._stacked, reference_local._indices):
        cached.cache_clear()
    potential, graph = potential_of(kind, **SMALLEST[kind]).requires_grad_(False), graph_of(ethanol())
    with using(backend):
        with torch.inference_mode():
            potential.model(graph, graph.edge_vectors())
        found = potential(graph).forces
    torch.testing.assert_close(found, potential_of(kind, **SMALLEST[kind])(graph).forces, rtol=0, atol=1e-9)


def test_a_graph_that_was_refused_in_inference_mode_can_be_used_afterwards():
    graph = graph_of(ethanol())
    graph = shuffled(graph, torch.randperm(graph.n_edges, generator=torch.Generator().manual_seed(1)))
    potential = potential_of("nequip", **SMALLEST["nequip"])
    with torch.inference_mode(), pytest.raises(InputError, match="inference_mode"):
        potential(graph)
    potential.train()(graph).forces.square().sum().backward()
    assert potential.model.embed.weight.grad.abs().max() > 0


@pytest.mark.parametrize("kind", ["nequip", "allegro"])
def test_a_buffer_that_is_changed_is_noticed(kind):
    potential, graph = potential_of(kind, **SMALLEST[kind]).requires_grad_(False), graph_of(ethanol())
    before = potential(graph).energy
    for _, buffer in potential.model.named_buffers():
        if buffer.is_floating_point() and buffer.ndim <= 1:
            buffer.mul_(1.1)
    after = potential(graph).energy
    with using("reference"):
        torch.testing.assert_close(after, potential(graph).energy, rtol=0, atol=1e-9)
    assert (after - before).abs() > 1e-6


def test_allegro_computes_within_autocast():
    potential, graph = potential_of("allegro", dtype="float32", **SMALLEST["allegro"]), graph_of(ethanol())
    exact = potential(graph).energy
    with torch.autocast("cpu", torch.bfloat16):
        found = potential(graph).energy
    assert 0 < (found - exact).abs() < 0.1
