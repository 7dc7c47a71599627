"""Our errors beside published ones: tables and page of made-up rows."""

import pytest
import yaml

from equiforce.errors import InputError
from equiforce.studies.comparison import Bold, Comparison, Published, PublishedNumbers, Sheet, load_published
from equiforce.studies.runs import DIVERGED, DONE
from equiforce.studies.task import Task

TASKS = {
    "mol": Task(
        title="A molecule",
        note="Not the official split.",
        pool=["p.xyz"],
        tests={"MD": ["a.xyz"], "scan": ["b.xyz"]},
        errors={"energy": "MAE meV", "forces": "MAE meV/Å"},
    ),
    "box": Task(
        title="A box",
        pool=["p.xyz"],
        tests={"liquid": ["c.xyz"]},
        errors={"energy": "RMSE meV/molecule", "stress": "RMSE GPa"},
        molecule=3,
    ),
    "later": Task(title="Not run", pool=["p.xyz"], tests={"x": ["d.xyz"]}, errors={"energy": "MAE meV"}),
}
SOURCES = {"paper": "A paper, arXiv 1234.56789", "other": "Another paper"}


def number(task, test, quantity, value, method="NequIP", source="paper", **more):
    error = TASKS[task].printed_errors[quantity]
    return {
        "task": task,
        "test": test,
        "quantity": quantity,
        "metric": error.metric,
        "unit": error.unit,
        "method": method,
        "value": value,
        "source": source,
        **more,
    }


NUMBERS = [
    number("mol", "MD", "energy", 2.0, spread=0.1, note="on more frames"),
    number("mol", "MD", "forces", 8.0),
    number("mol", "MD", "forces", 6.5, method="MACE", source="other", note="larger"),
    number("box", "liquid", "energy", 1.7),
    number("later", "x", "energy", 1.0),
]


def row(task, model, test, seed=0, **errors):
    return {
        "task": task, "model": model, "test": test, "seed": seed, "n_test": 10, "state": DONE, "n_weights": 1234,
        "n_train": 7, "steps": 5000, "seconds": 600.0, "threads": 1, "machine": "a machine", "equiforce": "1",
        "torch": "2", "validation_forces_mae_meV_per_A": 9.0,
        **{error.column: None for error in TASKS[task].printed_errors.values()}, **errors,
    }  # fmt: skip


def mol(model, energy, forces, seed=0, **more):
    return row("mol", model, "MD", seed, test_energy_mae_meV=energy, test_forces_mae_meV_per_A=forces, **more)


ROWS = [
    mol("small", 1.0, 12.0, validation_forces_mae_meV_per_A=12.0),
    mol("standard", 2.1, 7.0),
    mol("standard", 2.3, 9.0, seed=1),
    row("mol", "standard", "scan", test_energy_mae_meV=30.0),
    row("box", "standard", "liquid", test_energy_rmse_meV_per_atom=0.5, test_stress_rmse_GPa=0.32),
]


def write_numbers(folder, numbers=NUMBERS):
    file = folder / "published.yaml"
    file.write_text(yaml.safe_dump({"sources": SOURCES, "numbers": numbers}, sort_keys=False))
    return file


@pytest.fixture
def compared(tmp_path):
    return Comparison(TASKS, load_published(write_numbers(tmp_path), TASKS), ROWS)


def line(text, start):
    (found,) = [part for part in text.splitlines() if part.startswith(start)]
    return [cell.strip() for cell in found.split("|")[1:-1]]


def test_means_spreads_and_units(compared):
    ours = compared.ours("mol", "standard", "MD", "forces")
    assert (ours.mean, ours.n_seeds) == (8.0, 2)
    assert ours.spread == pytest.approx(2**0.5)
    assert str(ours) == "8.00 ± 1.41"
    assert compared.ours("mol", "small", "MD", "energy").spread is None
    assert compared.ours("box", "standard", "liquid", "energy").mean == pytest.approx(1.5)  # per molecule of three
    assert compared.ours("box", "standard", "liquid", "stress").mean == pytest.approx(0.32)
    assert compared.ours("mol", "small", "scan", "energy") is None


@pytest.mark.parametrize(
    ("mean", "text"), [(0.01234, "0.0123"), (1.2345, "1.23"), (123.4, "123"), (1234.5, "1234"), (0.0, "0")]
)
def test_three_digits(mean, text):
    from equiforce.studies.comparison import Value

    assert str(Value(mean, None, 1)) == text


def test_what_is_not_above_the_published_number_is_bold(compared):
    assert compared.cell("mol", "standard", "MD", "forces") == "8.00 ± 1.41 (1.00)"
    assert compared.cell("mol", "small", "MD", "forces") == "12.0 (1.50)"
    assert compared.cell("mol", "small", "MD", "energy") == "1.00 (0.50)"
    assert compared.cell("mol", "standard", "scan", "energy") == "30.0"
    assert compared.cell("mol", "small", "scan", "energy") == "–"


def test_the_table_of_a_task(compared):
    text = compared.sheet("mol").markdown()
    head = line(text, "|  | MD")
    assert head[1:4] == ["MD: energy, MAE, meV", "MD: forces, MAE, meV/Å", "scan: energy, MAE, meV"]
    assert head[4:] == ["trained on", "steps", "time", "threads", "weights", "seeds", "source"]
    own = line(text, "| equiforce standard")
    assert own[1:4] == ["2.20 ± 0.14 (1.10)", "**8.00 ± 1.41 (1.00)**", "30.0"]
    assert own[4:] == ["7", "5,000", "10 min", "1", "1,234", "2", ""]
    assert line(text, "| NequIP")[1:4] == ["2.0 ± 0.1", "8.0", "–"]
    assert line(text, "| MACE")[1:4] == ["–", "6.5", "–"]
    assert line(text, "| MACE")[-1] == "other"
    assert "forces" not in " ".join(head[3:])  # nothing is known of the forces of the scan


def test_the_gaps_are_those_of_the_model_that_validated_best(compared):
    gaps = {(gap.task, gap.test, gap.quantity): gap for gap in compared.gaps()}
    assert set(gaps) == {("mol", "MD", "energy"), ("mol", "MD", "forces"), ("box", "liquid", "energy")}
    assert {gap.model for gap in gaps.values()} == {"standard"}  # though small has the lower test error of energies
    assert gaps["mol", "MD", "energy"].ratio == pytest.approx(1.1)
    (missing,) = compared.missing()
    assert missing == (
        "A molecule, MD: energy 2.20 ± 0.14 against 2.0 meV (MAE; on more frames), 1.10 times; standard, 5,000 steps, "
        "10 min, 2 seeds"
    )


def test_the_page(compared):
    page = compared.page("A title", "A note on all.")
    assert page.startswith("# A title\n")
    assert "A note on all." in page
    assert "2 of 3 errors are not larger than those published for NequIP" in page
    assert f"- {compared.missing()[0]}" in page
    assert "Not run yet: Not run." in page
    assert (
        "## A molecule\n\nNot the official split. Validated on 50; tested on MD (10 frames), scan (10 frames)." in page
    )
    assert "NequIP: on more frames. MACE: larger. Ours: a machine, equiforce 1, torch 2." in page
    assert "## Not run" not in page
    assert "- paper: A paper, arXiv 1234.56789" in page
    assert line(page, "| A molecule, MD: energy")[1] == "2.0 ± 0.1 (on more frames)"
    overview = line(page, "| A molecule, MD: forces")
    assert overview[1:] == ["8.0", "12.0 (1.50)", "**8.00 ± 1.41 (1.00)**"]


def test_a_page_without_rows_or_numbers():
    page = Comparison(TASKS, PublishedNumbers({}, ()), []).page("Empty", "")
    assert "Not run yet: A molecule; A box; Not run." in page
    page = Comparison(TASKS, PublishedNumbers({}, ()), ROWS).page("Alone", "")
    assert "No published numbers were found for: A molecule; A box." in page
    assert "The others" not in page


def test_what_diverged_is_told():
    lost = row("box", "small", "liquid", 3) | {"state": DIVERGED, "seconds": None}
    compared = Comparison(TASKS, PublishedNumbers({}, ()), [*ROWS, lost])
    assert "Diverged: box, small, seed 3." in compared.page("A title", "")
    assert compared.models("box") == ["standard"]


def test_a_sheet_in_the_terminal():
    table = Sheet("title", ["a", "b"], [["x", Bold("1.0 [2]")]]).rich()
    assert table.title.plain == "title"
    (cell,) = table.columns[1].cells
    assert (cell.plain, str(cell.style)) == ("1.0 [2]", "bold")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "none"}, "number 2: there is no task 'none': choose from mol, box, later"),
        ({"test": "none"}, "there is no test 'none': choose from MD, scan"),
        ({"quantity": "stress"}, "there is no quantity 'stress': choose from energy, forces"),
        ({"source": "none"}, "there is no source 'none': choose from paper, other"),
        ({"metric": "RMSE"}, "the task mol prints the energy as MAE, meV, not as RMSE, meV"),
        ({"unit": "meV/atom"}, "not as MAE, meV/atom"),
        ({"value": 0.0}, "published.value=0.0 is not allowed"),
        ({"values": 1.0}, "no option published.values: did you mean published.value"),
        ({}, "number 2: there is another number for mol, MD, energy, NequIP"),
    ],
)
def test_a_number_that_fits_nothing_is_told(changes, message, tmp_path):
    numbers = [NUMBERS[0], NUMBERS[0] | changes]
    with pytest.raises(InputError, match=message):
        load_published(write_numbers(tmp_path, numbers), TASKS)


def test_a_number_is_found_again(tmp_path):
    published = load_published(write_numbers(tmp_path), TASKS)
    found = published.of("mol", "MD", "forces", "MACE")
    assert isinstance(found, Published)
    assert (found.value, found.note, found.source) == (6.5, "larger", "other")
    assert published.of("mol", "scan", "energy") is None
