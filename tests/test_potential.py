from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from threading import Barrier

import pytest
import torch

from equiforce import model_file
from equiforce.errors import InputError
from equiforce.kernels import using
from equiforce.potential import EDGES_AT_ONCE, Potential, center_batches, evaluating
from tests.systems import (
    ATOMIC_ENERGIES,
    SPECIES,
    Images,
    atom,
    crystal,
    ethanol,
    graph_of,
    potential_of,
    slab,
    tensors_of,
    with_ghosts,
)


def test_trainable_shift_and_scale_have_gradients():
    for trainable in (True, False):
        potential = potential_of(l_max=0, n_layers=1, channels=4)
        potential.atomic_energies.requires_grad_(trainable)
        potential.scale.requires_grad_(trainable)
        potential.train()
        potential(graph_of(ethanol())).energy.sum().backward()
        if trainable:
            assert potential.atomic_energies.grad.tolist() == [6.0, 2.0, 1.0]  # H, C and O atoms of ethanol
            assert potential.scale.grad.abs().min() > 0
        else:
            assert potential.atomic_energies.grad is None


def test_scale_of_a_species_scales_its_atoms():
    potential, graph = potential_of(l_max=1, n_layers=2, channels=4), graph_of(ethanol())
    before = potential(graph).energies
    potential.scale[0] *= 3  # hydrogen
    after = potential(graph).energies
    hydrogen = graph.species == 0
    torch.testing.assert_close(after[hydrogen] - ATOMIC_ENERGIES[0], 3 * (before[hydrogen] - ATOMIC_ENERGIES[0]))
    assert torch.equal(after[~hydrogen], before[~hydrogen])


def test_nothing_is_computed_that_was_not_asked_for():
    potential, graph = potential_of(l_max=1, n_layers=2, channels=4), graph_of(crystal())
    energy_only = potential(graph, forces=False)
    assert (energy_only.forces, energy_only.virial, energy_only.stress) == (None, None, None)
    stress_only = potential(graph, forces=False, stress=True)
    assert stress_only.forces is None
    assert stress_only.stress.shape == (1, 3, 3)
    assert torch.equal(energy_only.energy, stress_only.energy)


def test_evaluation_leaves_no_graph_behind():
    prediction = potential_of(l_max=1, n_layers=2, channels=4)(graph_of(crystal()), stress=True)
    assert not any(value.requires_grad for value in tensors_of(prediction))


def test_stress_exists_where_every_structure_has_a_volume():
    potential = potential_of(l_max=0, n_layers=1, channels=2)
    assert potential(graph_of(crystal(), slab()), stress=True).stress.shape == (2, 3, 3)
    mixed = potential(graph_of(crystal(), atom()), stress=True)
    assert mixed.stress is None
    assert mixed.virial.shape == (2, 3, 3)


def test_parts_that_share_out_the_atoms_add_up():
    potential, graph = potential_of(l_max=1, n_layers=2, channels=4, zbl=True), graph_of(crystal(), ethanol())
    mask = torch.arange(graph.n_atoms) % 3 == 0
    whole = potential(graph, stress=True)
    one, other = (potential(graph, stress=True, energy_mask=energy_mask) for energy_mask in (mask, ~mask))
    assert torch.equal(one.energies, torch.where(mask, whole.energies, 0.0))
    for quantity in ("energy", "energies", "forces", "virial"):
        total = getattr(one, quantity) + getattr(other, quantity)
        torch.testing.assert_close(total, getattr(whole, quantity), rtol=0, atol=1e-10)


def test_the_virial_of_a_batch_is_that_of_each_structure():
    potential = potential_of(l_max=1, n_layers=2, channels=4)
    structures = (crystal(), slab(), crystal(1))
    alone = torch.cat([potential(graph_of(s), stress=True).virial for s in structures])
    torch.testing.assert_close(potential(graph_of(*structures), stress=True).virial, alone, rtol=0, atol=1e-10)


def test_float32_weights_give_float64_results():
    potential = potential_of(dtype="float32", l_max=1, n_layers=2, channels=4)
    prediction = potential(graph_of(ethanol()))
    assert potential.dtype == torch.float32
    assert {value.dtype for value in tensors_of(prediction)} == {torch.float64}
    exact = potential_of(l_max=1, n_layers=2, channels=4)
    exact.load_state_dict(potential.state_dict())
    torch.testing.assert_close(prediction.forces, exact(graph_of(ethanol())).forces, rtol=0, atol=1e-4)


def test_conversion_keeps_reference_energies_exact(tmp_path):
    potential = potential_of(l_max=1, channels=4, n_layers=2, zbl=True)
    energies = [-4210.123456789, -1029.5, 0.1]
    potential.atomic_energies.data = torch.tensor(energies, dtype=torch.float64)
    for convert in (Potential.float, Potential.double, lambda p: p.to(torch.float32)):
        converted = convert(potential)
        assert converted is potential
        assert converted.atomic_energies.tolist() == energies
        assert {t.dtype for t in (converted.scale, converted.zbl.charges)} == {torch.float64}
    assert potential.dtype == torch.float32
    model_file.save(tmp_path / "model.eqf", potential, [])
    assert model_file.load(tmp_path / "model.eqf").atomic_energies.tolist() == energies


def test_atomic_energies_and_scales_must_match_the_species():
    with pytest.raises(InputError, match="3 species have 2 atomic energies"):
        model = potential_of(l_max=0, n_layers=1).model
        Potential(model, species=SPECIES, cutoff=3.0, atomic_energies=[0.0, 0.0], scale=[1.0] * 3)


@pytest.mark.parametrize("options", [{"kind": "allegro"}, {"kind": "nequip", "l_max": 0, "n_layers": 1}], ids=str)
@pytest.mark.parametrize("at_once", [1, 40, 300])
def test_in_center_batches_is_the_whole(options, at_once, monkeypatch):
    potential = potential_of(**options, zbl=True)
    graph = graph_of(ethanol(), crystal(), atom(), slab())
    mask = torch.arange(graph.n_atoms) % 3 > 0
    order = torch.randperm(graph.n_edges, generator=torch.Generator().manual_seed(0))
    neighbors = graph.neighbors[order]
    shuffled = replace(
        graph,
        centers=graph.centers[order],
        neighbors=neighbors,
        shifts=graph.shifts[order],
        by_neighbor=neighbors.argsort(stable=True),
    )
    whole = [potential(graph, stress=True), potential(graph, energy_mask=mask), potential(shuffled, forces=False)]
    monkeypatch.setitem(EDGES_AT_ONCE, "cpu", at_once)
    parts = [potential(graph, stress=True), potential(graph, energy_mask=mask), potential(shuffled, forces=False)]
    for one, other in zip(parts, whole, strict=True):
        for a, b in zip(tensors_of(one), tensors_of(other), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    assert not any(value.requires_grad for value in tensors_of(parts[0]))


def test_center_batches_share_out_atoms_and_edges_and_keep_species():
    graph = graph_of(ethanol(), atom("O"), crystal())
    for most in (1, 20, 10_000):
        parts = list(center_batches(graph, 3, most))
        assert [i for p in parts for i in range(graph.n_atoms)[p.atoms]] == list(range(graph.n_atoms))
        assert [e for p in parts for e in range(graph.n_edges)[p.edges]] == list(range(graph.n_edges))
        for part, atoms, edges in parts:
            assert torch.equal(part.species[part.centers], graph.species[graph.centers[edges]])
            assert torch.equal(part.species[part.neighbors], graph.species[graph.neighbors[edges]])
            assert part.n_atoms == atoms.stop - atoms.start + 3
            assert part.sorted_by_center() is None
            assert part.n_edges <= most or atoms.stop - atoms.start == 1


def test_center_batches_of_atoms_without_edges():
    alone = graph_of(atom(), atom("H"))
    (part,) = center_batches(alone, 3, 5)
    assert part.topology.n_edges == 0
    assert part.topology.species.tolist() == [2, 0, 0, 1, 2]


def test_a_model_that_sees_further_is_never_computed_in_center_batches(monkeypatch):
    potential, graph = potential_of(l_max=1, n_layers=2, channels=4), graph_of(ethanol())
    before = potential(graph).energies
    monkeypatch.setitem(EDGES_AT_ONCE, "cpu", 1)
    assert torch.equal(potential(graph).energies, before)


GHOST_MODELS = [
    {"kind": "nequip", "l_max": 2, "n_layers": 3, "channels": 4},
    {"kind": "nequip", "l_max": 1, "n_layers": 2, "channels": 4, "first_self_connection": True, "residual": False},
    {"kind": "nequip", "l_max": 1, "n_layers": 3, "channels": 4, "residual": True},
    {
        "kind": "nequip", "l_max": 1, "n_layers": 3, "channels": 4, "first_self_connection": True,
        "shared_self_connection": True, "layer_norm": True,
    },
    {
        "kind": "nequip", "l_max": 1, "n_layers": 3, "channels": 4, "species_linear_in": True,
        "pair_cutoffs": {"H-H": 2.0, "C-H": 2.5},
    },
    {"kind": "allegro", "l_max": 1},
]  # fmt: skip


@pytest.mark.parametrize("options", GHOST_MODELS, ids=str)
@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("structure", [crystal(), slab(), ethanol()], ids=["crystal", "slab", "molecule"])
def test_images_may_be_ghosts_whose_features_are_fetched(options, backend, structure):
    potential = potential_of(**options, zbl=True)
    graph = graph_of(structure)
    apart = with_ghosts(graph)
    whole = potential(graph, stress=True)
    with using(backend):
        energies, edge_gradients = potential.energies_and_edge_gradients(apart, apart.edge_vectors())
        found = potential(apart, stress=True)
    torch.testing.assert_close(energies.detach(), whole.energies, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.energy, whole.energy, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.virial, whole.virial, rtol=0, atol=1e-10)
    assert len(found.forces) == apart.n_atoms
    assert edge_gradients.shape == (graph.n_edges, 3)
    # what ghosts feel is felt by the atoms that they are images of
    torch.testing.assert_close(apart.halo.reverse_comm(found.forces), whole.forces, rtol=0, atol=1e-10)


def test_ghosts_are_fetched_once_for_each_layer_that_hears_of_neighbours_features(monkeypatch):
    calls = []
    apart = with_ghosts(graph_of(crystal()))
    for name in ("forward_comm", "reverse_comm"):
        method = getattr(Images, name)
        monkeypatch.setattr(Images, name, lambda self, x, n=name, m=method: (calls.append(n), m(self, x))[1])
    potential_of(l_max=1, n_layers=3, channels=4)(apart)
    assert calls == ["forward_comm"] * 2 + ["reverse_comm"] * 2
    calls.clear()
    molecule = graph_of(ethanol())  # has no images, but must go along: others may need its features
    potential_of(l_max=1, n_layers=3, channels=4)(replace(molecule, halo=Images(9, torch.tensor([], dtype=int))))
    assert calls == ["forward_comm"] * 2 + ["reverse_comm"] * 2
    calls.clear()
    potential_of("allegro")(apart)
    assert calls == []


def test_training_through_ghosts():
    potential = potential_of(l_max=1, n_layers=3, channels=4).train()
    graph = graph_of(crystal())
    apart, weights = with_ghosts(graph), [w for w in potential.model.parameters() if w.requires_grad]
    alone, shared = potential(graph).forces, apart.halo.reverse_comm(potential(apart).forces)
    wanted = torch.autograd.grad(alone.square().sum(), weights, allow_unused=True)
    found = torch.autograd.grad(shared.square().sum(), weights, allow_unused=True)
    for a, b in zip(found, wanted, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b)


# What a user of torch may differentiate. Center batches are for Allegro, and must not be taken where they would lose
# the record of how a result was computed.
DIFFERENTIABLE = [
    {"kind": "nequip", "l_max": 2, "n_layers": 2, "channels": 4, "parity": True},
    {"kind": "nequip", "l_max": 1, "n_layers": 3, "channels": 4, "residual": True, "radial_knots": None},
    {"kind": "nequip", "l_max": 1, "n_layers": 2, "channels": 4, "first_self_connection": True, "layer_norm": True},
    {"kind": "nequip", "l_max": 1, "n_layers": 2, "channels": 4, "pair_cutoffs": {"C-H": 2.0}},
    {"kind": "allegro", "l_max": 1},
    {"kind": "allegro", "l_max": 1, "residual": True, "pair_cutoffs": {"H-H": 2.0, "C-C": 2.5}},
]
both_models = pytest.mark.parametrize("options", [DIFFERENTIABLE[0], DIFFERENTIABLE[4]], ids=["nequip", "allegro"])
both_modes = pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
both_sizes = pytest.mark.parametrize("at_once", [10_000, 40], ids=["at_once", "in_batches"])


def that_require_grad(graph, positions=True, cell=True):
    """The same graph with leaves in the place of its positions and cells."""
    return replace(
        graph,
        positions=graph.positions.clone().requires_grad_(positions),
        cell=graph.cell.clone().requires_grad_(cell),
    )


def direction_like(tensor, seed=0):
    return torch.randn(tensor.shape, dtype=tensor.dtype, generator=torch.Generator().manual_seed(seed))


def finite_difference(function, graph, positions, cell, step=1e-5):
    """The derivative of a function of the graph along a displacement of positions and cells."""
    ahead, behind = (
        function(replace(graph, positions=graph.positions + h * positions, cell=graph.cell + h * cell)).detach()
        for h in (step, -step)
    )
    return (ahead - behind) / (2 * step)


@pytest.mark.parametrize("options", DIFFERENTIABLE, ids=str)
@both_modes
@both_sizes
def test_the_gradient_of_the_energy_is_minus_the_forces(options, training, at_once, monkeypatch):
    potential = potential_of(**options, zbl=True)
    plain = graph_of(ethanol(), crystal(), atom(), slab())
    expected = potential(plain)
    monkeypatch.setitem(EDGES_AT_ONCE, "cpu", at_once)
    potential.train(training)
    graph = that_require_grad(plain)
    for forces in (True, False):
        prediction = potential(graph, forces=forces)
        (gradient,) = torch.autograd.grad(prediction.energy.sum(), graph.positions)
        torch.testing.assert_close(gradient, -expected.forces, rtol=0, atol=1e-10)
    atoms = torch.autograd.grad(potential(graph).energies[:9].sum(), graph.positions)[0]  # those of the first structure
    torch.testing.assert_close(atoms[:9], -expected.forces[:9], rtol=0, atol=1e-10)
    assert not atoms[9:].any()


@pytest.mark.parametrize("options", DIFFERENTIABLE, ids=str)
@both_modes
@both_sizes
def test_forces_differentiate_to_the_hessian(options, training, at_once, monkeypatch):
    potential = potential_of(**options).train(training)
    monkeypatch.setitem(EDGES_AT_ONCE, "cpu", at_once)
    plain = graph_of(ethanol(), crystal())
    graph, along = that_require_grad(plain, cell=False), direction_like(plain.positions)
    (found,) = torch.autograd.grad((potential(graph).forces * along).sum(), graph.positions)
    expected = finite_difference(lambda g: potential(g).forces, plain, along, 0.0)  # the Hessian is symmetric
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert expected.abs().max() > 0.1
    # and by the energy, whose gradient is minus the forces
    (gradient,) = torch.autograd.grad(potential(graph, forces=False).energy.sum(), graph.positions, create_graph=True)
    (again,) = torch.autograd.grad((-gradient * along).sum(), graph.positions)
    torch.testing.assert_close(again, found, rtol=0, atol=1e-10)


@both_models
@both_modes
@both_sizes
def test_stress_differentiates_by_positions_and_cell(options, training, at_once, monkeypatch):
    potential = potential_of(**options).train(training)
    monkeypatch.setitem(EDGES_AT_ONCE, "cpu", at_once)
    plain = graph_of(crystal(), slab())
    weights = direction_like(torch.zeros(2, 3, 3, dtype=torch.float64), seed=1)
    for quantity in ("stress", "virial"):
        graph = that_require_grad(plain)
        scalar = (getattr(potential(graph, forces=False, stress=True), quantity) * weights).sum()
        by_positions, by_cell = torch.autograd.grad(scalar, (graph.positions, graph.cell))
        moved, strained = direction_like(plain.positions, seed=2), direction_like(plain.cell, seed=3)

        def of(g, quantity=quantity):
            return (getattr(potential(g, stress=True), quantity) * weights).sum()

        for displacement, deformation in ((moved, torch.zeros_like(strained)), (torch.zeros_like(moved), strained)):
            found = (by_positions * displacement).sum() + (by_cell * deformation).sum()
            expected = finite_difference(of, plain, displacement, deformation)
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
            assert expected.abs() > 1e-3


@both_models
@both_modes
def test_the_gradient_by_the_cell_belongs_to_the_stress(options, training):
    potential = potential_of(**options).train(training)
    plain = graph_of(crystal(), slab(), crystal(1))
    for positions in (True, False):
        graph = that_require_grad(plain, positions=positions)
        prediction = potential(graph, stress=True)
        (by_cell,) = torch.autograd.grad(prediction.energy.sum(), graph.cell, retain_graph=True)
        deformation = direction_like(plain.cell)
        expected = finite_difference(lambda g: potential(g).energy.sum(), plain, 0.0, deformation)
        torch.testing.assert_close((by_cell * deformation).sum(), expected, rtol=1e-6, atol=1e-8)
    # strain moves the lattice and the atoms: V σ = cellᵀ dE/dcell + Σ r ⊗ dE/dr
    of_atoms = -plain.positions.unsqueeze(2) * prediction.forces.unsqueeze(1)
    of_structures = torch.zeros_like(plain.cell).index_add(0, plain.structure_of_atom, of_atoms)
    total = (plain.cell.mT @ by_cell + of_structures) / plain.volumes().view(-1, 1, 1)
    torch.testing.assert_close(total, prediction.stress, rtol=0, atol=1e-10)


@both_models
def test_grad_of_positions_changes_nothing_about_the_training_of_weights(options):
    potential, plain = potential_of(**options).train(), graph_of(ethanol(), crystal())
    gradients = []
    for graph in (plain, that_require_grad(plain)):
        prediction = potential(graph, stress=True)
        loss = prediction.forces.square().sum() + prediction.virial.square().sum() + prediction.energies.sin().sum()
        potential.zero_grad()
        loss.backward()
        gradients.append([w.grad.clone() for w in potential.model.parameters() if w.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 0
    for alone, beside in zip(*gradients, strict=True):
        torch.testing.assert_close(beside, alone)


def test_evaluation_gives_gradients_of_weights_beside_those_of_positions():
    potential, graph = potential_of(l_max=1, n_layers=2, channels=4), that_require_grad(graph_of(ethanol()))
    potential(graph).forces.square().sum().backward()
    by_evaluation = {name: w.grad.clone() for name, w in potential.named_parameters() if w.grad is not None}
    potential.zero_grad()
    potential.train()(graph_of(ethanol())).forces.square().sum().backward()
    by_training = {name: w.grad for name, w in potential.named_parameters() if w.grad is not None}
    assert by_evaluation
    torch.testing.assert_close(by_evaluation, by_training)


@both_models
@both_modes
@both_sizes
def test_without_grad_nothing_requires_grad(options, training, at_once, monkeypatch):
    potential = potential_of(**options).train(training)
    graph = that_require_grad(graph_of(crystal(), slab()))
    vectors = graph.edge_vectors().detach().requires_grad_()
    expected = potential(graph, stress=True)
    assert all(value.requires_grad for value in tensors_of(expected))
    monkeypatch.setitem(EDGES_AT_ONCE, "cpu", at_once)
    with torch.no_grad():
        found = potential(graph, stress=True)
        more = [
            *tensors_of(potential(graph, forces=False)),
            *potential.energies_and_edge_gradients(graph, vectors),
        ]
    assert not any(value.requires_grad for value in [*tensors_of(found), *more])
    for one, other in zip(tensors_of(found), tensors_of(expected), strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=0, atol=1e-10)


@both_models
@both_modes
def test_tensors_of_the_caller_stay_as_they_are(options, training):
    potential, graph = potential_of(**options).train(training), graph_of(crystal(), slab())
    vectors = graph.edge_vectors()
    given = [vectors, *(getattr(graph, f.name) for f in fields(graph) if f.init and f.name != "halo")]
    before = [(t.requires_grad, t._version, t.clone()) for t in given]
    potential.energies_and_edge_gradients(graph, vectors)
    potential(graph, stress=True)
    for tensor, (requires_grad, version, copy) in zip(given, before, strict=True):
        assert (tensor.requires_grad, tensor._version, tensor.grad) == (requires_grad, version, None)
        assert torch.equal(tensor, copy)
    leaf = vectors.clone().requires_grad_()
    potential.energies_and_edge_gradients(graph, leaf)
    assert leaf.requires_grad
    assert leaf.grad is None


def test_vectors_that_require_grad_have_gradients():
    potential, graph = potential_of(l_max=1, n_layers=2, channels=4), graph_of(ethanol())
    vectors = graph.edge_vectors().requires_grad_()
    energies, edge_gradients = potential.energies_and_edge_gradients(graph, vectors)
    (found,) = torch.autograd.grad(energies.sum(), vectors, retain_graph=True)
    torch.testing.assert_close(found, edge_gradients.detach())
    assert torch.autograd.grad(edge_gradients.square().sum(), vectors)[0].abs().max() > 0


def test_a_lone_atom_has_no_gradient():
    potential, graph = potential_of(l_max=1, n_layers=2, channels=4), that_require_grad(graph_of(atom()))
    prediction = potential(graph)
    for result in (prediction.energy, prediction.forces):
        (gradient,) = torch.autograd.grad(result.sum(), graph.positions, retain_graph=True)
        assert torch.equal(gradient, torch.zeros(1, 3, dtype=torch.float64))


def test_float32_weights_have_float64_gradients():
    potential = potential_of(dtype="float32", l_max=1, n_layers=2, channels=4)
    graph = that_require_grad(graph_of(ethanol()))
    prediction = potential(graph)
    (gradient,) = torch.autograd.grad(prediction.energy.sum(), graph.positions)
    assert gradient.dtype == torch.float64
    torch.testing.assert_close(gradient, -prediction.forces.detach(), rtol=0, atol=1e-5)


@both_models
def test_inference_mode_is_refused_and_leaves_nothing_behind(options):
    potential = potential_of(**options).requires_grad_(False)
    with torch.inference_mode():
        for forces in (True, False):
            with pytest.raises(InputError, match=r"use torch\.no_grad\(\) instead"):
                potential(graph_of(ethanol()), forces=forces)
    graph = that_require_grad(graph_of(ethanol()))
    assert torch.autograd.grad(potential(graph).energy.sum(), graph.positions)[0].abs().max() > 0


@both_models
def test_a_third_derivative_is_refused_and_the_reference_has_it(options):
    potential, plain = potential_of(**options), graph_of(ethanol())
    along = direction_like(plain.positions)

    def curvature(graph, create_graph):
        """The second derivative of the energy along a direction, twice."""
        forces = potential(graph).forces
        (product,) = torch.autograd.grad((forces * along).sum(), graph.positions, create_graph=create_graph)
        return -(product * along).sum()

    graph = that_require_grad(plain)
    with pytest.raises(RuntimeError, match="have no third derivative"):
        curvature(graph, create_graph=True)
    with using("reference"):
        (third,) = torch.autograd.grad(curvature(graph, create_graph=True), graph.positions)
    expected = finite_difference(lambda g: curvature(that_require_grad(g), False), plain, along, 0.0, step=1e-4)
    torch.testing.assert_close((third * along).sum(), expected, rtol=1e-3, atol=1e-3)
    assert expected.abs() > 0.1


def test_threads_that_evaluate_at_once_leave_the_mode_as_it_was():
    potential = potential_of(l_max=0, n_layers=1, channels=4).train()
    potential.model.eval()
    modes, step = [module.training for module in potential.modules()], Barrier(2, timeout=20)

    def first():
        with evaluating(potential):
            step.wait()  # the second begins
            step.wait()
        step.wait()  # the first has ended
        step.wait()

    def second():
        step.wait()
        with evaluating(potential):
            step.wait()
            step.wait()
            within = [module.training for module in potential.modules()]
        step.wait()
        return within

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(function) for function in (first, second)]
        assert not any(running[1].result())
        running[0].result()
    assert [module.training for module in potential.modules()] == modes
    assert any(modes)


def test_a_thread_that_evaluates_does_not_disturb_one_that_trains():
    potential, graph, step = potential_of(l_max=0, n_layers=1, channels=4).train(), graph_of(ethanol()), Barrier(2)

    def evaluate():
        with evaluating(potential):
            step.wait(20)
            step.wait(20)
            return potential(graph).forces.requires_grad

    with ThreadPoolExecutor(1) as pool:
        evaluated = pool.submit(evaluate)
        step.wait(20)
        assert potential(graph).forces.requires_grad
        step.wait(20)
        assert not evaluated.result()
    assert potential(graph).forces.requires_grad
