"""The table is consistent, and a fourth quantity that only this file knows goes from labels to every table and file."""

import csv
import json
from dataclasses import dataclass, fields, replace
from io import StringIO

import ase.io
import numpy as np
import pytest
import torch
from rich.console import Console

from equiforce import model_file
from equiforce.chunks import compact, in_chunks
from equiforce.data.dataset import Batches, fingerprint
from equiforce.data.frames import label_names
from equiforce.data.read import ReadOptions, read, read_with_report
from equiforce.data.statistics import Statistics, compute
from equiforce.data.write import write_structures
from equiforce.errors import InputError
from equiforce.evaluate import errors, predict, validation_sums
from equiforce.graph import Prediction, batch
from equiforce.labels import batch_labels
from equiforce.neighbors import build_graph
from equiforce.options import option
from equiforce.potential import Potential
from equiforce.quantities import (
    ENERGY,
    FORCES,
    MEV,
    QUANTITIES,
    STRESS,
    Headline,
    Measure,
    ParityPanel,
    Quantity,
    Residual,
    by_rank,
    in_present_units,
    join_words,
    requested,
)
from equiforce.report import parity_plot, training_plot
from equiforce.structure import Structure
from equiforce.studies.runs import measured_columns
from equiforce.studies.table import ResultTable
from equiforce.training.display import Display
from equiforce.training.loop import fit, new_state, validation_loss
from equiforce.training.loss import LossConfig, Weight, terms
from equiforce.training.trackers import CsvLog
from tests.training.setups import SPECIES, mixed, setup_of, tiny_potential

PER_ATOM = Measure(
    key="polarization", title="polarization", unit="me·Å/atom", factor=MEV, per_atom=True, column="meA_per_atom"
)
POLARIZATION = Quantity(
    name="polarization",
    plural="polarizations",
    keys=("polarization",),
    unit="e·Å",
    dimension=(0, 1),
    of_atoms=False,
    shape=(3,),
    on_request=False,
    residual=Residual.PER_ATOM,
    weight=10.0,
    measures=(PER_ATOM,),
    logged=PER_ATOM,
    panel=ParityPanel(title="Polarization", unit="e·Å/atom", factor=1.0, measure=PER_ATOM),
    headline=Headline(rank=2, symbol="P", digits=1, error="MAE of the polarization"),
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Polar(Structure):
    polarization: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class PolarPrediction(Prediction):
    polarization: torch.Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class PolarLoss(LossConfig):
    polarization: Weight | None = option(None, "of residuals in e·Å/atom")


class PolarPotential(Potential):
    """Atoms with the same charge for each species, which is trained."""

    def __init__(self, potential: Potential):
        super().__init__(
            potential.model,
            species=potential.species,
            cutoff=potential.cutoff,
            atomic_energies=potential.atomic_energies.tolist(),
            scale=potential.scale.tolist(),
        )
        self.charges = torch.nn.Parameter(torch.zeros(len(self.species), dtype=torch.float64))

    def forward(self, graph, forces=True, stress=False, energy_mask=None):
        found = super().forward(graph, forces, stress, energy_mask)
        charges = self.charges[graph.species] if energy_mask is None else self.charges[graph.species] * energy_mask
        moments = charges[:, None] * graph.positions
        polarization = moments.new_zeros(graph.n_structures, 3).index_add(0, graph.structure_of_atom, moments)
        polarization = polarization if self.training else polarization.detach()
        return PolarPrediction(**{f.name: getattr(found, f.name) for f in fields(found)}, polarization=polarization)


@pytest.fixture
def fourth():
    """The table with a polarization in it."""
    QUANTITIES.append(POLARIZATION)
    try:
        yield POLARIZATION
    finally:
        QUANTITIES.remove(POLARIZATION)


def polar(structure: Structure, polarization: np.ndarray | None) -> Polar:
    return Polar(
        **{field.name: getattr(structure, field.name) for field in fields(structure)}, polarization=polarization
    )


def structures(seed: int = 0) -> list[Structure]:
    """Crystals without a polarization, and molecules with that of charges 0.4 e on H and -0.8 e on O."""
    found = []
    for structure in mixed(seed=seed):
        charges = np.where(structure.atomic_numbers == 1, 0.4, -0.8)
        found.append(polar(structure, None if structure.pbc.any() else charges @ structure.positions))
    return found


def charged(potential: Potential, charges: tuple[float, ...] = (0.4, -0.8, 0.0)) -> PolarPotential:
    """A potential that predicts just those polarizations."""
    found = PolarPotential(potential)
    found.charges.data[:] = torch.tensor(charges, dtype=torch.float64)
    return found.eval()


def test_every_quantity_is_an_attribute_of_structures_predictions_and_the_loss():
    for kind in (Structure, Prediction, LossConfig):
        assert {quantity.name for quantity in QUANTITIES} <= {field.name for field in fields(kind)}


def test_names_keys_and_columns_are_told_apart():
    measures = [measure for quantity in QUANTITIES for measure in quantity.measures]
    assert len({measure.key for measure in measures}) == len(measures)
    keys = [key for quantity in QUANTITIES for key in quantity.keys]
    assert len(set(keys)) == len(keys)
    ranks = [quantity.headline.rank for quantity in QUANTITIES if quantity.headline]
    assert len(set(ranks)) == len(ranks)


def test_what_follows_from_the_table():
    three = [ENERGY, FORCES, STRESS]
    assert [quantity.residual_unit for quantity in three] == ["eV/atom", "eV/Å", "eV/Å³"]
    assert [quantity.some for quantity in three] == ["an energy", "forces", "a stress"]
    assert [quantity.one for quantity in three] == ["energy", "force", "stress"]
    assert [quantity.rows_of(5) for quantity in three] == [(), (5, 3), (3, 3)]
    assert [quantity.needs_volume for quantity in three] == [False, False, True]
    assert by_rank()[:2] == [FORCES, ENERGY]
    assert requested([ENERGY, STRESS]) == {"forces": False, "stress": True}
    assert STRESS.column("rmse") == "stress_rmse_GPa"
    assert join_words(["a", "b", "c"]) == "a, b or c"
    assert join_words(["a"]) == "a"


def test_stresses_of_older_tables_become_gpa():
    row = in_present_units({"step": "3", "stress_mae_meV_per_A3": "10.0", "test_stress_rmse_meV_per_A3": ""})
    assert float(row.pop("stress_mae_GPa")) == pytest.approx(1.6021766208)
    assert row == {"step": "3", "test_stress_rmse_GPa": ""}
    assert in_present_units({"stress_mae_GPa": "1.6"}) == {"stress_mae_GPa": "1.6"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"logged": FORCES.logged}, "the errors of energy cannot be logged in meV/Å"),
        ({"logged": ENERGY.measures[0]}, "the residuals of energy cannot be logged in meV"),
    ],
)
def test_an_entry_that_contradicts_itself_is_refused(changes, reason):
    with pytest.raises(ValueError, match=reason):
        replace(ENERGY, **changes)


def test_a_fourth_quantity_is_in_the_loss_and_in_the_sums_of_errors(fourth):
    known = structures()
    labels = batch_labels(known)
    assert labels[fourth].known.tolist() == [False, False, True, True]
    potential = charged(tiny_potential("float64"), (0.0, 0.0, 0.0)).train()
    graph = batch([build_graph(one, SPECIES, potential.cutoff) for one in known])
    term = terms(potential(graph), labels, graph, PolarLoss())[fourth]
    expected = sum(((one.polarization / 3) ** 2).sum() for one in known if one.polarization is not None)
    assert (term.total.item(), term.n.item()) == (pytest.approx(expected), 6)
    term.total.backward()
    assert potential.charges.grad[:2].abs().min() > 0
    assert potential.charges.grad[2] == 0


def test_a_label_that_a_potential_does_not_predict_is_left_out(fourth):
    known = structures()
    graph = batch([build_graph(one, SPECIES, 3.5) for one in known])
    prediction = replace(charged(tiny_potential())(graph), polarization=None)
    found = terms(prediction, batch_labels(known), graph, PolarLoss())
    assert found[fourth].n.item() == 0
    assert found[FORCES].n.item() > 0


def test_a_label_of_another_shape_is_refused(fourth):
    wrong = replace(structures()[-1], source="a.xyz, frame 3", polarization=np.ones(2))
    with pytest.raises(InputError, match=r"a\.xyz, frame 3: polarization has the shape \[2\], but has to have \[3\]"):
        batch_labels([wrong])


def test_a_fourth_quantity_is_trained_on_logged_shown_and_drawn(fourth, tmp_path):
    common = {"species": SPECIES, "cutoff": 3.5}
    log, console = CsvLog(tmp_path / "log.csv"), Console(record=True, width=200, file=StringIO())
    loss = PolarLoss(energy=1.0, forces=1.0, stress=10.0, polarization=100.0)
    with Display(console, QUANTITIES) as display:
        _, setup = setup_of(tmp_path, loss=loss, max_steps=60, validate_every=6, trackers=[log], on_step=display)
        setup = replace(
            setup,
            training=Batches(structures(), **common, batch_size=2, seed=0),
            validation=Batches(structures(7), **common, max_edges=1000),
        )
        fit(new_state(charged(tiny_potential(), (0.0, 0.0, 0.0)), setup.optimizer), setup)
        beside_bar = display.bar.tasks[0].fields["errors"]
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[-2:] == ["polarization_mae_meA_per_atom", "polarization_rmse_meA_per_atom"]
    first, last = (float(rows[i]["polarization_mae_meA_per_atom"]) for i in (0, -1))
    assert last < 0.7 * first
    assert "P " in beside_bar
    assert "me·Å/atom" in beside_bar
    assert "polarization MAE" in console.export_text()
    training_plot(tmp_path / "training.png", tmp_path / "log.csv")


def test_a_fourth_quantity_is_evaluated_in_every_table(fourth, tmp_path):
    known, potential = structures(), charged(tiny_potential("float64"))
    predictions = predict(potential, known)
    assert all(isinstance(one, PolarPrediction) for one in predictions)
    shifted = [
        replace(one, polarization=None if one.polarization is None else one.polarization - 0.003) for one in known
    ]
    found = errors(shifted, predictions)
    assert found.total.polarization.mae == pytest.approx(1.0)  # 3 me·Å of 3 atoms
    assert found.total.polarization.n == 6
    assert json.loads(json.dumps(found.as_dict()))["units"]["polarization"] == "me·Å/atom"
    console = Console(record=True, width=120, file=StringIO())
    console.print(found.table())
    assert "me·Å/atom" in console.export_text()
    parity_plot(tmp_path / "parity.png", shifted, predictions)
    graph = batch([build_graph(one, SPECIES, potential.cutoff) for one in known])
    validated = validation_sums(potential, [(graph, batch_labels(shifted))]).errors()
    assert validation_loss(validated, PolarLoss(polarization=2.0)) == pytest.approx(2.0 * 0.001**2)


def test_a_fourth_quantity_is_summed_over_chunks(fourth):
    potential = charged(tiny_potential("float64"))
    graph = build_graph(structures()[-1], SPECIES, potential.cutoff)
    whole, parts = potential(graph), in_chunks(potential, graph, tuple(compact(graph, 3)))
    torch.testing.assert_close(parts.polarization, whole.polarization, rtol=0, atol=1e-12)
    assert whole.polarization.abs().max() > 0.01


def test_a_fourth_quantity_is_written_counted_and_told_apart(fourth, tmp_path):
    known = structures()
    write_structures(tmp_path / "a.xyz", known, predict(charged(tiny_potential("float64")), known))
    back = ase.io.read(tmp_path / "a.xyz", ":")[-1]
    np.testing.assert_allclose(back.calc.results["polarization"], known[-1].polarization)
    np.testing.assert_allclose(back.info["predicted_polarization"], known[-1].polarization)
    np.testing.assert_allclose(Polar.from_ase(back).polarization, known[-1].polarization)
    found = compute(known, [], 3.5)
    assert (found.n_labels[fourth], found.to_dict()["n_polarizations"]) == (2, 2)
    assert Statistics.from_dict(found.to_dict()) == found
    others = [replace(one, polarization=None) for one in known]
    assert fingerprint(known, labels=True) != fingerprint(others, labels=True)
    assert "polarization" in label_names()


def test_a_fourth_quantity_is_read(fourth, tmp_path, monkeypatch):
    monkeypatch.setattr("equiforce.data.read.Structure", Polar)
    known = structures()
    write_structures(tmp_path / "a.xyz", known)
    back, report = read_with_report(tmp_path / "a.xyz", ReadOptions(length_unit="nm"))
    assert "polarization from 'polarization' (2 of 4)" in str(report)
    assert back[0].polarization is None
    np.testing.assert_allclose(back[-1].polarization, 10 * known[-1].polarization)
    frames = ase.io.read(tmp_path / "a.xyz", ":")
    for wrong, reason in (
        ([1.0, 2.0], r"a polarization is \(3,\)"),
        ([1.0, np.nan, 2.0], "whose polarization is not known"),
    ):
        frames[-1].calc.results["polarization"] = np.array(wrong)
        ase.io.write(tmp_path / "wrong.xyz", frames)
        with pytest.raises(InputError, match=reason):
            read(tmp_path / "wrong.xyz")


def test_a_fourth_quantity_is_checked_when_a_model_file_is_opened(fourth):
    known, potential = structures(), charged(tiny_potential("float64"))
    references = [model_file.as_reference(potential, one) for one in known]
    assert references[-1]["polarization"] == pytest.approx(known[-1].polarization)
    header = {"units": model_file.stored_units(), "references": references}
    model_file.verify(potential, header, 1e-8, "model.eqf")
    references[-1]["polarization"][0] += 1e-3
    with pytest.raises(InputError, match=r"gives another polarization for reference structure 3 .* e·Å"):
        model_file.verify(potential, header, 1e-8, "model.eqf")


def test_model_files_and_tables_without_the_fourth_quantity_still_open(tmp_path):
    reference = model_file.as_reference(charged(tiny_potential("float64")), structures()[0])
    header = {"units": model_file.stored_units(), "references": [reference]}
    about = {"state": "diverged", "date": "2026", "equiforce": "0", "torch": "2", "config": "{}", "hash": "1"}
    ResultTable(tmp_path, ("model",)).add(dict.fromkeys(measured_columns(), "") | about | {"model": "m"})
    QUANTITIES.append(POLARIZATION)
    try:
        model_file.verify(charged(tiny_potential("float64")), header, 1e-8, "model.eqf")
        (row,) = ResultTable(tmp_path, ("model",)).rows()
        assert row["test_polarization_mae_meA_per_atom"] is None
    finally:
        QUANTITIES.remove(POLARIZATION)
