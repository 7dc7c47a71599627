"""The page says what its rows say, in words that follow the numbers, and names what is missing."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from equiforce.studies.learning_curve import LearningCurve, LearningCurveOptions, Subsets
from equiforce.studies.page import write_page
from equiforce.studies.runs import DIVERGED, DONE, Row, Run, measured_columns

SIZES, SEEDS, RATES = [25, 50, 100, 200, 400, 800], [0, 1, 2], [0.01, 0.02, 0.04]
MODELS = {f"l={l}": {"model.l_max": l} for l in range(4)}
# of the forces: error at one structure, exponent
LAWS = {"l=0": (400.0, -0.30), "l=1": (400.0, -0.50), "l=2": (300.0, -0.50), "l=3": (300.0, -0.51)}
WEIGHTS = {"l=0": 32_384, "l=1": 59_008, "l=2": 99_968, "l=3": 158_336}


def study(**changes) -> LearningCurve:
    options = {
        "title": "made up", "pool": ["pool.xyz"], "test": ["test.xyz"], "sizes": SIZES, "seeds": SEEDS,
        "steps": [100, 100, 200, 200, 300, 300], "learning_rates": RATES, "scan_sizes": [50, 400], "models": MODELS,
        "common": {"model.n_layers": 3},
    }  # fmt: skip
    subsets = Subsets(
        pool=("pool.xyz",), test=("test.xyz",), validation=tuple(range(50)), candidates=tuple(range(50, 1000)),
        fingerprint="0123abcd", n_test=321, n_copies=7,
    )  # fmt: skip
    return LearningCurve(LearningCurveOptions(**options | changes), subsets)


def row(run: Run, spread: float = 0.02) -> Row:
    """As a table would have it; the middle learning rate is the best one."""
    ids = run.id_values
    model, size, seed = ids["model"], ids["size"], ids["seed"]
    prefactor, slope = LAWS[model]
    rng = np.random.default_rng([seed, size, len(model) + 10 * int(model[2])])
    worse = 1 + abs(np.log2(ids["learning_rate"] / 0.02))
    gain = 0.8 if (ids["budget"], model) == (2, "l=2") else 1.0
    error = gain * worse * prefactor * size**slope * np.exp(spread * rng.normal())
    measured = {
        "state": DONE, "n_weights": WEIGHTS[model], "steps": 100, "validation_loss": worse,
        "test_forces_mae_meV_per_A": error, "test_forces_rmse_meV_per_A": 1.4 * error,
        "test_energy_mae_meV_per_atom": 0.02 * error, "test_energy_rmse_meV_per_atom": 0.03 * error,
        "seconds": 36.0, "threads": 2, "machine": "a machine", "equiforce": "0.1.0", "torch": "2.13", "hash": run.hash,
    }  # fmt: skip
    return dict(ids) | dict.fromkeys(measured_columns()) | measured


def rows_of(curve: LearningCurve, **how) -> list[Row]:
    """Of a finished study."""
    rows: list[Row] = []
    while missing := [run for run in curve.runs(rows) if run.hash not in {r["hash"] for r in rows}]:
        rows += [row(run, **how) for run in missing]
    assert len(rows) == curve.count()
    return rows


def page(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def section(folder: Path, name: str) -> str:
    return re.split(r"^## ", page(folder).split(f"## {name}\n")[1], flags=re.MULTILINE)[0]


def line(text: str, start: str) -> list[str]:
    """The cells of the one line of a table that starts so."""
    (found,) = (each for each in text.splitlines() if each.startswith(f"| {start} |"))
    return [cell.strip() for cell in found.strip("|").split("|")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "study"
    curve = study()
    write_page(curve, rows_of(curve), folder)
    return folder


@pytest.fixture(autouse=True)
def without_figures(finished, monkeypatch):
    """Leaves out the figures of all pages but the finished one, for they take most of the time."""
    monkeypatch.setattr(
        "equiforce.studies.page.learning_curve_plot", lambda paths, *_, **__: [p.touch() for p in paths]
    )


def test_files(finished, tmp_path):
    curve = study(models={"l=0": MODELS["l=0"]})
    files = write_page(curve, rows_of(curve), tmp_path)
    names = {"README.md", "fits.csv", "forces.png", "forces.svg", "energy.png", "energy.svg"}
    assert {file.name for file in files} == names == {file.name for file in finished.iterdir()}
    assert all(file.parent == tmp_path for file in files)
    assert all(file.stat().st_size for file in finished.iterdir())


def test_a_page_starts_with_how_to_redo_it(finished):
    start = "# made up\n\n    equiforce study learning-curve STUDY.yaml --data FOLDER\n\n## In short\n"
    assert page(finished).startswith(start)
    assert "unfinished" not in page(finished).lower()


def test_links_lead_to_figures(finished):
    links = re.findall(r"\]\((.+?)\)", page(finished))
    assert links == ["forces.png", "energy.png"]
    assert all((finished / link).exists() for link in links)


def test_what_was_done(finished):
    text = section(finished, "What was done")
    for words in (
        "`pool.xyz`, 950 structures to train on and 50 to validate",
        "7 more are copies",
        "321 structures of `test.xyz`",
        "25, 50, 100, 200, 400, 800 training structures",
        "subset: 0, 1, 2.",
        "100, 100, 200, 200, 300, 300 gradient steps",
        "0.01, 0.02, 0.04 were tried with seed 0 at 50, 400 structures",
        "`model.n_layers=3`",
        "a machine (92 runs)",
        "0.920 hours, or 1.84 core hours",
        "equiforce 0.1.0, torch 2.13",
    ):
        assert words in text
    assert line(text, "l=2") == ["l=2", "`model.l_max=2`", "99,968", "0.02", "0.02"]


def test_errors_are_means_and_deviations_over_seeds(finished):
    curve = study()
    of_cell = [r for r in curve.curve(rows_of(curve)) if (r["model"], r["size"]) == ("l=1", 100)]
    forces = [r["test_forces_mae_meV_per_A"] for r in of_cell]
    assert len(forces) == 3
    shown = line(section(finished, "Forces").split("Exponents")[0], "l=1")[3]
    assert shown == f"{np.mean(forces):.1f} ± {np.std(forces, ddof=1):.1f}"
    energy = line(section(finished, "Energy").split("Exponents")[0], "l=1")[3]
    assert energy == f"{0.02 * np.mean(forces):.3f} ± {0.02 * np.std(forces, ddof=1):.3f}"


def test_a_small_deviation_keeps_a_digit(tmp_path):
    curve = study(models={"l=0": MODELS["l=0"]})
    write_page(curve, rows_of(curve, spread=0.001), tmp_path)
    shown = line(section(tmp_path, "Forces").split("Exponents")[0], "l=0")[1]
    assert re.fullmatch(r"15\d\.\d+ ± 0\.\d*[1-9]\d*", shown)


def test_exponents_are_those_of_the_fits(finished):
    with (finished / "fits.csv").open(encoding="utf-8", newline="") as file:
        fits = {(r["model"], r["quantity"]): r for r in csv.DictReader(file)}
    assert len(fits) == 4 * 4  # no stress
    for model, (prefactor, slope) in LAWS.items():
        forces = fits[model, "test_forces_mae_meV_per_A"]
        assert float(forces["exponent_low"]) < slope < float(forces["exponent_high"])
        assert float(forces["prefactor"]) == pytest.approx(prefactor, rel=0.1)
        assert float(fits[model, "test_forces_rmse_meV_per_A"]["exponent"]) == pytest.approx(float(forces["exponent"]))
        assert forces["n_runs"] == "18"
        shown = line(section(finished, "Forces").split("Exponents")[1].split("Slope")[0], model)
        for cell, name in zip(shown[1:5], ("exponent", "early", "late", "curvature"), strict=True):
            assert float(cell.split()[0].replace("−", "-")) == pytest.approx(float(forces[name]), abs=0.0051)
        assert shown[5:] == ["all", "18"]


def test_differences_say_what_moves(finished):
    text = section(finished, "Forces")
    steeper, shifted, same = (
        line(text, f"{b} against {a}") for a, b in (("l=0", "l=1"), ("l=1", "l=2"), ("l=2", "l=3"))
    )
    assert re.fullmatch(r"steeper by 0\.\d\d \(0\.1\d, 0\.2\d\), p = 0\.0\d\d|steeper by .*, p < 0\.001", steeper[1])
    assert steeper[4] == "slope and shift"
    assert shifted[1].startswith("no difference found: ")
    assert re.match(r"1\.3\d \(1\.\d\d, 1\.\d\d\) times lower at 141 structures, p", shifted[2])
    assert shifted[4] == "shift"
    assert same[1].startswith("no difference found: ")
    assert "can be compared, 3;" in text.replace("\n", " ")


def test_a_pair_may_be_named_either_way(tmp_path):
    curve = study(compare=[("l=1", "l=0")])
    write_page(curve, rows_of(curve), tmp_path)
    cells = line(section(tmp_path, "Forces"), "l=0 against l=1")
    assert cells[1].startswith("flatter by 0.")
    assert "times higher at 141 structures" in cells[2]
    assert "l=1 against l=0" not in page(tmp_path)


def test_what_twice_the_budget_brought(finished):
    text = section(finished, "Twice the budget")
    assert line(text, "l=2")[3] == "−20 %"
    assert line(text, "l=1")[3] == "+0 %"
    sentence = next(each for each in text.split("\n\n") if each.startswith("Forces"))
    named = re.search(
        r"lower for l=2 \(−20 %; late exponent −0\.(\d\d) to −0\.(\d\d)\)\. These models had not converged", sentence
    )
    assert int(named[2]) - int(named[1]) in (15, 16, 17)  # ln 0.8 / (2 ln 2)
    assert "too flat" in sentence
    assert "l=1" not in sentence


def test_no_gain_is_said_too(tmp_path):
    curve = study(models={"l=0": MODELS["l=0"]})
    write_page(curve, rows_of(curve), tmp_path)
    assert "Forces: no model gained more than 5 %." in section(tmp_path, "Twice the budget")
    assert "too flat" not in page(tmp_path)
    assert "Holm" not in page(tmp_path)


def test_without_double_budget_there_is_no_such_section(tmp_path):
    curve = study(models={"l=0": MODELS["l=0"]}, doubled=False)
    write_page(curve, rows_of(curve), tmp_path)
    assert "Twice" not in page(tmp_path)


def test_an_unfinished_study_names_what_is_missing(tmp_path):
    curve = study()
    rows = [
        r
        for r in rows_of(curve)
        if r["model"] != "l=3"
        and not (r["model"] == "l=2" and (r["size"] == 800 or (r["size"] == 200 and r["seed"] == 2)))
    ]
    write_page(curve, rows, tmp_path)
    assert f"**unfinished: {len(rows)} of 92 runs**" in page(tmp_path)
    limits = section(tmp_path, "What cannot be said")
    assert "- Missing of l=2: 1 of 3 seeds at 200; 3 of 3 seeds at 800." in limits
    assert "- Missing of l=3: every run of the curve." in limits
    assert "Missing of l=1" not in limits
    forces = section(tmp_path, "Forces")
    errors, rest = forces.split("Exponents")
    assert line(errors, "l=3")[1:] == ["–"] * 6
    assert line(errors, "l=2")[4].endswith("(2 of 3 seeds)")
    assert line(errors, "l=2")[6] == "–"
    assert line(rest, "l=3 against l=2")[-1] == "cannot be said"
    assert "(sizes 25, 50, 100, 200, 400)" in line(rest, "l=2 against l=1")[1]
    assert "Not known yet: l=2; l=3." in section(tmp_path, "Twice the budget")
    assert line(section(tmp_path, "What was done"), "l=3")[2:] == ["–", "–", "–"]
    assert "nan" not in page(tmp_path)


def test_one_seed_makes_no_claim(tmp_path):
    curve = study(seeds=[0])
    write_page(curve, rows_of(curve), tmp_path)
    forces = section(tmp_path, "Forces")
    assert line(forces, "l=1 against l=0")[1].endswith("without an interval")
    for claim in ("steeper by", "flatter by", "p =", "p <", "±"):
        assert claim not in forces.split("\n", 3)[3].replace("mean over seeds ± standard deviation", "")
    assert "One seed does not show the noise" in page(tmp_path)


@pytest.mark.parametrize("sizes", [[50], [50, 400]])
def test_few_sizes(sizes, tmp_path):
    curve = study(sizes=sizes, scan_sizes=[], steps=10)
    write_page(curve, rows_of(curve), tmp_path)
    assert f"they have only {len(sizes)} size{'s' * (len(sizes) > 1)}." in section(tmp_path, "What cannot be said")
    assert ("there are no exponents" in page(tmp_path)) == (len(sizes) == 1)
    assert "Early sizes are" not in page(tmp_path)
    with (tmp_path / "fits.csv").open(encoding="utf-8") as file:
        assert len(file.readlines()) == 1 + (4 * 4 if len(sizes) == 2 else 0)


def test_a_study_before_its_first_run(tmp_path):
    files = write_page(study(), [], tmp_path)
    assert [file.name for file in files] == ["README.md", "fits.csv"]
    assert "**unfinished: 0 of 92 runs**" in page(tmp_path)


def test_forces_alone(tmp_path):
    curve = study()
    rows = [r | dict.fromkeys([name for name in r if "energy" in name]) for r in rows_of(curve)]
    files = write_page(curve, rows, tmp_path)
    assert "energy.png" not in {file.name for file in files}
    assert "## Energy" not in page(tmp_path)


@pytest.mark.parametrize("everywhere", [True, False])
def test_stress_is_fitted_where_all_runs_have_it(everywhere, tmp_path):
    curve = study(models={"l=0": MODELS["l=0"]})
    rows = [r | {"test_stress_mae_GPa": r["test_forces_mae_meV_per_A"] / 40} for r in rows_of(curve)]
    if not everywhere:
        rows[-1]["test_stress_mae_GPa"] = None
        assert rows[-1] in curve.curve(rows) or rows[-1]["budget"] == 2
        rows[0 if rows[0] in curve.curve(rows) else 1]["test_stress_mae_GPa"] = None
    write_page(curve, rows, tmp_path)
    assert ("test_stress_mae_GPa" in (tmp_path / "fits.csv").read_text()) == everywhere


def test_learning_rates_at_the_edge_are_named(finished, tmp_path):
    assert "learning rate tried" not in page(finished)
    curve = study(learning_rates=[0.02, 0.04])
    write_page(curve, rows_of(curve), tmp_path)
    assert "The lowest learning rate tried, 0.02, was the best for l=0 at 50, 400; l=1 at" in page(tmp_path)
    assert "highest" not in section(tmp_path, "What cannot be said")


def test_what_diverged_is_named_and_not_used(tmp_path):
    curve = study()
    rows = rows_of(curve)
    lost = next(r for r in rows if (r["model"], r["size"], r["seed"]) == ("l=1", 800, 2))
    keep = ("model", "size", "seed", "learning_rate", "budget", "hash", "machine")
    bare = dict.fromkeys(lost) | {name: lost[name] for name in keep} | {"state": DIVERGED}
    write_page(curve, [bare if r is lost else r for r in rows], tmp_path)
    limits = section(tmp_path, "What cannot be said")
    assert "Diverged: model l=1, size 800, seed 2, learning_rate 0.02, budget 1." in limits
    assert "Missing of l=1: 1 of 3 seeds at 800." in limits
    assert "without 1 run whose time is unknown" in page(tmp_path)


def test_bent_curves_are_named(finished, tmp_path):
    assert "flatten" not in section(finished, "Forces")
    curve = study()
    rows = rows_of(curve)
    for r in rows:
        if r["model"] == "l=0":
            r["test_forces_mae_meV_per_A"] *= np.exp(0.1 * np.log(r["size"] / 141) ** 2)
    write_page(curve, rows, tmp_path)
    assert "Curves that flatten towards large sizes: l=0." in section(tmp_path, "Forces")


def test_a_name_with_a_bar_keeps_its_table(tmp_path):
    curve = study(models={"l=0": MODELS["l=0"]})
    rows = rows_of(curve)
    renamed = study(models={"l=0|1": MODELS["l=0"]})
    write_page(renamed, [r | {"model": "l=0|1"} for r in rows], tmp_path)
    assert r"| l=0\|1 |" in section(tmp_path, "Forces")
