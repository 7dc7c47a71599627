"""Predictions in the order given, and errors that are what they say, whatever labels are missing."""

import json
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
import torch
from ase.build import molecule
from rich.console import Console

import equiforce
from equiforce.errors import InputError
from equiforce.evaluate import Errors, ErrorSums, Metric, Metrics, errors, errors_of, predict, validation_sums
from equiforce.graph import batch
from equiforce.labels import batch_labels
from equiforce.memory import step_memory
from equiforce.neighbors import build_graph
from equiforce.quantities import ENERGY, FORCES, STRESS
from equiforce.structure import Structure
from tests.systems import structure_of


def structure(name: str = "H2O", cell: float = 0.0, pbc: bool = False, group: str = "") -> Structure:
    atoms = molecule(name) if name != "O" else molecule("O")
    return Structure(
        atomic_numbers=atoms.numbers,
        positions=atoms.positions,
        cell=cell * np.eye(3),
        pbc=np.full(3, pbc),
        group=group,
    )


@pytest.fixture(scope="module")
def potential():
    return equiforce.untrained(["H", "O"], l_max=0, channels=4, n_layers=1, cutoff=4.0, seed=0).potential


@pytest.fixture(scope="module")
def mixed() -> list[Structure]:
    """Periodic and not, one atom, several groups."""
    return [
        structure(group="molecule"),
        structure(cell=3.4, pbc=True, group="liquid"),
        structure("O", group="atom"),
        structure("H2", group="molecule"),
        structure(cell=3.6, pbc=True, group="liquid"),
        structure(cell=9.0, pbc=False, group="molecule"),
    ]


@pytest.fixture(scope="module")
def predictions(potential, mixed):
    return predict(potential, mixed)


def labelled(mixed, predictions, *, energy: float, forces: float, stress: float) -> list[Structure]:
    """Labels that are off by so much (eV, eV/Å, eV/Å³); stress only where a stress is predicted."""
    return [
        replace(
            one,
            energy=prediction.energy.item() - energy,
            forces=prediction.forces.numpy() - forces,
            stress=None if prediction.stress is None else prediction.stress[0].numpy() - stress,
        )
        for one, prediction in zip(mixed, predictions, strict=True)
    ]


@pytest.mark.parametrize("max_edges", [1, 60, 100_000])
def test_batches_change_nothing(max_edges, potential, mixed):
    for one, prediction in zip(mixed, predict(potential, mixed, max_edges=max_edges), strict=True):
        alone = potential(build_graph(one, potential.species, potential.cutoff), stress=bool(one.pbc.any()))
        torch.testing.assert_close(prediction.energy, alone.energy, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(prediction.energies, alone.energies, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(prediction.forces, alone.forces, atol=1e-6, rtol=1e-6)
        assert (prediction.stress is None) == (not one.pbc.any())
        if one.pbc.any():
            torch.testing.assert_close(prediction.stress, alone.stress, atol=1e-7, rtol=1e-6)
            torch.testing.assert_close(prediction.virial, alone.virial, atol=1e-6, rtol=1e-6)


def test_what_does_not_fit_into_memory_is_computed_in_chunks(potential, mixed, capsys):
    long = structure_of(molecule("H2O", cell=[3.2, 3.3, 3.4], pbc=True).repeat((20, 1, 1)))
    graph = build_graph(long, potential.species, potential.cutoff)
    max_memory = 0.5e-9 * step_memory(potential).bytes(graph.n_atoms, graph.n_edges)
    console = Console(width=200)
    *_, found = predict(potential, [*mixed, long], max_edges=1, max_memory=max_memory, console=console)
    assert "energy and forces of 60 atoms need about" in (said := capsys.readouterr().out)
    assert "computed in" in said
    exact = potential(graph, stress=True)
    torch.testing.assert_close(found.forces, exact.forces, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.stress, exact.stress, atol=1e-7, rtol=1e-6)


def test_predicting_nothing_gives_nothing(potential):
    assert predict(potential, []) == []


def test_a_progress_bar_is_shown_where_asked(potential, mixed, capsys):
    predict(potential, mixed[:1])
    assert capsys.readouterr().out == ""
    predict(potential, mixed[:1], console=Console(width=80))
    assert "predicting" not in capsys.readouterr().out  # it would only be in the way in a file
    predict(potential, mixed[:1], console=Console(width=80, force_terminal=True))
    assert "predicting" in capsys.readouterr().out


def test_an_unknown_element_is_named(potential):
    with pytest.raises(InputError, match="N"):
        predict(potential, [structure("NH3")])


def test_errors_have_the_size_and_sign_of_the_difference(mixed, predictions):
    found = errors(labelled(mixed, predictions, energy=0.003, forces=-0.02, stress=0.001), predictions)
    total = found.total
    assert total.energy.mae == pytest.approx(3.0)
    assert total.energy.bias == pytest.approx(3.0)
    per_atom = np.array([3 / len(one) for one in mixed])
    assert total.energy_per_atom.mae == pytest.approx(per_atom.mean())
    assert total.energy_per_atom.rmse == pytest.approx(np.sqrt((per_atom**2).mean()))
    assert total.energy_per_atom.max == pytest.approx(3.0)
    assert total.forces.rmse == pytest.approx(20.0)
    assert total.forces.bias == pytest.approx(-20.0)
    assert total.stress.mae == pytest.approx(0.160218, rel=1e-5)  # GPa
    assert (total.energy.n, total.forces.n, total.stress.n) == (6, 3 * sum(map(len, mixed)), 18)
    assert list(found.by_group) == ["atom", "liquid", "molecule"]
    assert found.by_group["molecule"].stress is None
    assert list(found.forces_by_element) == ["H", "O"]
    assert found.forces_by_element["O"].n == 15


def test_errors_of_one_structure_have_names_with_units(mixed, predictions):
    wrong = labelled(mixed, predictions, energy=0.003, forces=-0.02, stress=0.001)
    found = errors_of(wrong[1], predictions[1])
    assert found == pytest.approx(
        {
            "error_energy_meV_per_atom": 1.0,
            "error_forces_rmse_meV_per_A": 20.0,
            "error_stress_rmse_GPa": 0.160218,
        },
        rel=1e-5,
    )
    assert errors_of(mixed[0], predictions[0]) == {}
    assert list(errors_of(wrong[0], predictions[0])) == ["error_energy_meV_per_atom", "error_forces_rmse_meV_per_A"]


def test_a_bias_is_shown_where_it_is_more_than_noise():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=1000)
    noise -= noise.mean()
    deviation = noise.std() / np.sqrt(999)
    assert not Metric.of([noise + 1.9 * deviation], 1.0).is_biased
    assert Metric.of([noise - 2.1 * deviation], 1.0).is_biased
    assert not Metric.of([np.array([5.0])], 1.0).is_biased  # a single error tells no bias
    shown = {}
    for shift in (0.0, 1.0):
        metric = Metric.of([noise + shift], 1.0)
        table = Errors(
            n_structures=1000,
            total=Metrics(energy=metric, forces=Metric.of([noise], 1.0)),
            by_group={},
            forces_by_element={},
        ).table()
        shown[shift] = (
            [column.header.plain for column in table.columns],
            [cell.plain for cell in table.columns[4].cells],
        )
    assert "bias" not in shown[0.0][0]
    assert shown[1.0][0][4] == "bias"
    assert shown[1.0][1] == ["1", ""]


def test_the_table_fits_80_columns_and_loses_nothing(mixed, predictions):
    named = [replace(one, group=f"{one.group} [a group with a long name]") for one in mixed]
    found = errors(labelled(named, predictions, energy=123.456, forces=0.02, stress=0.001), predictions)
    console = Console(record=True, width=80, file=StringIO())
    console.print(found.table())
    shown = console.export_text()
    assert "…" not in shown
    assert "1.235e+05" in shown
    assert max(map(len, shown.splitlines())) <= 80
    words = " ".join(line.split("│")[1].strip() for line in shown.splitlines() if line.startswith("│"))
    assert "liquid [a group with a long name]: energy per atom" in words


def test_only_known_labels_count(mixed, predictions):
    wrong = labelled(mixed, predictions, energy=0.1, forces=0.1, stress=0.1)
    partial = [replace(one, energy=None, stress=None) for one in wrong[:2]] + [
        replace(one, forces=None, stress=None) for one in wrong[2:]
    ]
    total = errors(partial, predictions).total
    assert total.energy.n == 4
    assert total.forces.n == 18
    assert total.stress is None
    bare = errors(mixed, predictions)
    assert not bare.total
    assert bare.total.energy is None
    with pytest.raises(AttributeError, match="no measure of errors 'charm'"):
        bare.total.charm  # noqa: B018
    assert bare.forces_by_element == {}
    assert bare.table().row_count == 0


def test_errors_as_json_and_as_a_table_have_units(mixed, predictions):
    found = errors(labelled(mixed, predictions, energy=0.003, forces=0.02, stress=0.001), predictions)
    read = json.loads(json.dumps(found.as_dict()))
    assert read["units"]["forces"] == "meV/Å"
    assert read["total"]["forces"]["mae"] == pytest.approx(20.0)
    assert "stress" not in read["by_group"]["atom"]
    console = Console(record=True, width=120, file=StringIO())
    console.print(found.table())
    shown = console.export_text()
    for piece in ("meV/atom", "meV/Å", "GPa", "forces on H", "liquid: stress", "RMSE"):
        assert piece in shown


def test_validation_errors_are_the_errors(potential, mixed, predictions):
    structures = labelled(mixed, predictions, energy=0.003, forces=0.02, stress=0.001)
    structures[0] = replace(structures[0], energy=None)
    structures[3] = replace(structures[3], forces=None)
    graphs = [build_graph(one, potential.species, potential.cutoff) for one in structures]
    batches = [(batch(graphs[start : start + 3]), batch_labels(structures[start : start + 3])) for start in (0, 3)]
    total, found = errors(structures, predictions).total, validation_sums(potential, batches).errors()
    for quantity, metric in ((ENERGY, total.energy_per_atom), (FORCES, total.forces), (STRESS, total.stress)):
        assert found[quantity] == pytest.approx((metric.mae, metric.rmse), rel=1e-3)
    shares = [validation_sums(potential, [one]).as_tensor() for one in batches]
    assert ErrorSums.from_tensor(shares[0] + shares[1]).errors().columns() == pytest.approx(found.columns())


def test_validation_without_a_label_says_none(potential):
    one = replace(structure(), energy=1.0)
    potential.train()
    batch = build_graph(one, potential.species, potential.cutoff), batch_labels([one])
    found = validation_sums(potential, [batch]).errors()
    assert potential.training
    potential.eval()
    assert found[ENERGY].mae > 0
    assert list(found) == [ENERGY]
    assert found.columns()["stress_rmse_GPa"] is None


def test_ase_atoms_are_predicted_like_structures(potential):
    water, crystal = molecule("H2O"), molecule("H2O", cell=[3.4, 3.5, 3.6], pbc=True)
    expected = predict(potential, [structure_of(water), structure_of(crystal)])
    for found, wanted in zip(predict(potential, [water, structure_of(crystal)]), expected, strict=True):
        assert torch.equal(found.energy, wanted.energy)
        assert torch.equal(found.forces, wanted.forces)
    for one in (crystal, structure_of(crystal)):
        alone = predict(potential, one)
        assert alone.energy.shape == (1,)
        torch.testing.assert_close(alone.stress, expected[1].stress, rtol=0, atol=1e-10)
    assert predict(potential, iter([water]))[0].forces.shape == (3, 3)
    assert predict(potential, []) == []


def test_atoms_that_cannot_be_predicted_are_named(potential):
    with pytest.raises(InputError, match=r"^structure 1 \(counted from 0\): atom 0 .* is an element N"):
        predict(potential, [molecule("H2O"), molecule("NH3")])
    with pytest.raises(InputError, match=r"^the structure: atom 0 .* is an element N"):
        predict(potential, molecule("NH3"))


def test_prediction_leaves_the_atoms_and_the_modes_of_the_potential_alone(potential):
    atoms = molecule("H2O")
    potential.train()
    potential.model.embed.eval()  # as for a part whose weights are frozen
    before = {name: module.training for name, module in potential.named_modules()}
    with torch.enable_grad():
        predictions = predict(potential, [atoms])
    assert {name: module.training for name, module in potential.named_modules()} == before
    assert not predictions[0].energy.requires_grad
    assert not predictions[0].forces.requires_grad
    assert atoms.calc is None
    with pytest.raises(InputError), torch.enable_grad():
        predict(potential, [molecule("NH3")])
    assert {name: module.training for name, module in potential.named_modules()} == before
    potential.eval()
