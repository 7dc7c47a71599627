"""The report: what it warns of, and that its page, tables and values say the same."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from equiforce.coverage import Ranges
from equiforce.distillation.comparison import Simulated, Speed
from equiforce.distillation.options import DistillOptions
from equiforce.distillation.radial import Difference
from equiforce.distillation.report import Report
from equiforce.distillation.rounds import Round
from equiforce.evaluate import errors, predict
from equiforce.terminal import show
from equiforce.training.verdict import Verdict
from tests.systems import ethanol, potential_of

SIMULATED = Simulated(
    structure="C2H6O, start.xyz, frame 0",
    temperature=600.0,
    steps=100,
    outside=0.0,
    departures={},
    drift=0.02,
    stopped="",
    radial=[Difference("C-H", 0.2, 1.1, 5.0), Difference("H-H", 0.1, 1.8, 2.0)],
    noise={"C-H": 0.3, "H-H": 0.1},
)


@pytest.fixture(scope="module")
def report():
    potential = potential_of(l_max=0, channels=4, n_layers=1)
    rng = np.random.default_rng(0)
    structures = [
        replace(ethanol(seed), energy=-7000.0 - seed, forces=rng.normal(size=(9, 3)), group=group)
        for seed, group in enumerate(("md 300 K", "md 600 K", "md 600 K"))
    ]
    found = errors(structures, predict(potential, structures))
    return Report(
        folder=Path("distill-small"),
        model=Path("small.eqf"),
        teacher={"name": "large_1|2", "sha256": "ab" * 32, "licence": "MIT"},
        options=DistillOptions(frames=10, temperatures="300,600"),
        timestep=0.5,
        n_frames={"train": 8, "validation": 1, "test": 1},
        n_violent=0,
        stopped=[],
        speeds=[Speed(structure="start.xyz, frame 0", n_atoms=9, teacher_ms=60.0, student_ms=5.0)],
        held_out=found,
        references={"teacher": found, "student": found},
        ranges=Ranges(
            cutoff=4.0, distances={"C-H": [(0.9, 4.0)]}, neighbors=(3, 8), largest_force=4.0, volume_per_atom=None
        ),
        simulated=[SIMULATED],
        verdict=Verdict("converged", "long enough", False),
    )


def test_a_sound_student_has_no_warning(report):
    assert report.gain == 12
    assert report.warnings() == []
    assert "## Warnings" not in report.page()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stopped": ["0-600K: too hot", "1-600K: too"]}, "2 trajectories of the teacher went wrong and ended early"),
        ({"n_frames": {"train": 2, "validation": 1, "test": 1}}, "only 4 of the 10 frames were found"),
        ({"verdict": Verdict("falling", "train longer", True)}, "the student was still learning"),
        ({"verdict": Verdict("gap", "it is twice", False)}, "more frames would help the student most (it is twice)"),
        (
            {"speeds": [Speed(structure="a", n_atoms=9, teacher_ms=5.0, student_ms=5.0)]},
            "the student is only 1 times as fast as its teacher on 9 atoms",
        ),
    ],
)
def test_each_weakness_is_a_sentence(changes, words, report):
    (warning,) = replace(report, **changes).warnings()
    assert words in warning
    assert warning in " ".join(replace(report, **changes).page().replace("\\", "").split())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stopped": "it stopped at step 3"}, "600 K the student's dynamics of C2H6O, start.xyz, frame 0 went wrong"),
        (
            {"outside": 0.25, "departures": {"distance C-H": "they are close"}},
            "is outside of its training data in 25 % of the steps: they are close",
        ),
        ({"drift": -3.0}, "does not keep its energy, which drifts by -3 meV/atom/ps"),
        (
            {"radial": [Difference("C-H", 0.7, 1.1, 5.0)]},
            "has another g(r) of C-H than the teacher: it differs by 0.70 at 1.10 Å, where the two halves of the "
            "teacher's trajectory differ by 0.30 at most",
        ),
    ],
)
def test_each_fault_of_the_dynamics_is_a_sentence(changes, words, report):
    (warning,) = replace(report, simulated=[replace(SIMULATED, **changes)]).warnings()
    assert words in warning


def test_page_tables_and_values_have_the_same_numbers(report):
    page, values = report.page(), json.loads(json.dumps(report.as_dict(), allow_nan=False))
    console = Console(file=StringIO(), width=200)
    for table in report.tables():
        show(console, table)
    shown = console.file.getvalue()
    forces = report.held_out.total.forces
    assert values["held_out"]["total"]["forces"]["rmse"] == forces.rmse
    assert values["speeds"][0]["gain"] == 12
    assert values["simulated"][0]["radial"][0]["pair"] == "C-H"
    assert values["options"]["temperatures"] == "300,600"
    for text in (page, shown):
        assert f"{forces.rmse:.4g}" in text
        assert "12.0" in text
        assert "forces, md 600 K" in text
        assert "C-H 0.20 at 1.10 Å (peak 5.0, noise 0.30)" in text
        assert "0.90 to 4.00" in text
        assert "8 for train, 1 for validation, 1 for test" in text
    assert "large_1\\|2" in page
    assert "licence of the teacher: MIT" in page


def test_rounds_are_a_table_in_page_and_terminal(report):
    one = Round(
        number=1,
        n_frames={"train": 8, "validation": 1, "test": 1},
        n_violent=0,
        reached=[("0-300K", 5.0, ""), ("0-600K", 0.25, "it left | at step 500")],
        chosen_before=report.held_out,
        before=report.held_out,
        after=None,
    )
    found = replace(report, rounds=[one], options=replace(report.options, rounds=1), n_frames={"train": 18, "test": 2})
    forces = f"{report.held_out.total.forces.rmse:.4g}"
    row = f"| 1 | 1 of 2 to the end | 0.25 | 8 for train, 1 for validation, 1 for test | {forces} | {forces} | – |"
    assert row in found.page()
    assert "- round 1, 0-600K: it left \\| at step 500" in found.page()
    assert str(found.tables()[0].title).startswith("rounds: forces against the teacher")
    assert found.tables()[0].row_count == 1
    assert json.loads(json.dumps(found.as_dict()))["rounds"][0]["trajectories"][1]["time_ps"] == 0.25
    assert found.warnings() == []
    (warning,) = replace(found, n_frames={"train": 10}).warnings()
    assert warning.startswith("only 10 of the 20 frames were found")


def test_energies_of_another_level_are_compared_without_their_mean(report):
    energy = report.held_out.total.energy_per_atom
    scatter = (energy.rmse**2 - energy.bias**2) ** 0.5
    assert f"| energy per atom, without its mean | {scatter:.4g} | {scatter:.4g} | meV/atom |" in report.page()
    assert scatter < 0.1 * energy.rmse
