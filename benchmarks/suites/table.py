"""Writes the tables of docs/suites.md from the results of the suites."""

from typing import Any

from report import ROOT, replace_between

PAGE = ROOT / "docs" / "suites.md"
PROGRAMS = {"equiforce": "equiforce", "nequix": "Nequix", "sevenn": "SevenNet"}
OURS = "equiforce"
SUITES = ("locality", "extensivity", "diatomics", "relaxation", "eos", "elasticity", "phonons", "iron", "combustion")
OF_MANY = ("diatomics", "relaxation", "eos", "elasticity", "phonons")  # suites whose systems depend on the model


def write(results: list[dict[str, Any]]) -> None:
    """Write the scores of whole and of quick runs, and how far programs differ on single systems."""
    for marker, quick in (("whole suites", False), ("quick suites", True)):
        replace_between(marker, scores([one for one in results if one["quick"] is quick]), PAGE)
    replace_between("differences", differences(results), PAGE)
    replace_between("common systems", common([one for one in results if not one["quick"]]), PAGE)


def scores(results: list[dict[str, Any]]) -> str:
    """Return a table with a row for each score and a column for each model and program."""
    columns = sorted({_column(one) for one in results})
    lines = [f"| suite | score | {' | '.join(columns)} |", "|---" * (2 + len(columns)) + "|"]
    for suite in SUITES:
        of_suite = {_column(one): one for one in results if one["suite"] == suite}
        named = {name: found["unit"] for one in of_suite.values() for name, found in one.get("scores", {}).items()}
        for i, (name, unit) in enumerate(named.items()):
            cells = (_cell(of_suite.get(column), name) for column in columns)
            title = f"{name}, {unit}" if unit else name
            lines.append(f"| {'' if i else suite} | {title} | {' | '.join(cells)} |")
        if suite in OF_MANY:
            counts = (str(len(of_suite.get(column, {}).get("values", {})) or "") for column in columns)
            lines.append(f"| | systems | {' | '.join(counts)} |")
    return "\n".join(lines)


def common(results: list[dict[str, Any]]) -> str:
    """Return a table of mean absolute errors over the systems that all models of a suite know."""
    columns = sorted({_column(one) for one in results if "values" in one})
    lines = [f"| suite | mean absolute | systems | {' | '.join(columns)} |", "|---" * (3 + len(columns)) + "|"]
    for suite in OF_MANY:
        of_suite = {_column(one): one["values"] for one in results if one["suite"] == suite and "values" in one}
        for name in dict.fromkeys(name for rows in of_suite.values() for row in rows.values() for name in row):
            found = {column: _numbers(rows, name) for column, rows in of_suite.items()}
            shared = sorted(set.intersection(*(set(numbers) for numbers in found.values())))
            if name.startswith("error") and shared and len(found) > 1:
                means = {column: sum(abs(n[system]) for system in shared) / len(shared) for column, n in found.items()}
                cells = (f"{means[column]:.4g}" if column in means else "" for column in columns)
                lines.append(f"| {suite} | {name} | {', '.join(shared)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def differences(results: list[dict[str, Any]]) -> str:
    """Return a table of the largest difference between a model in equiforce and in its own program."""
    lines = ["| model | suite | value | systems | mean | largest difference |", "|---|---|---|---|---|---|"]
    for ours, theirs in pairs(results):
        for name in dict.fromkeys(name for row in theirs["values"].values() for name in row):
            if name.startswith("error"):  # it differs as the value does
                continue
            if found := _differences_of(ours, theirs, name):
                size = sum(abs(value) for _, value in found) / len(found)
                suite = f"{ours['suite']}{', quick' if ours['quick'] else ''}"
                largest = max(difference for difference, _ in found)
                lines.append(f"| {ours['model']} | {suite} | {name} | {len(found)} | {size:.4g} | {largest:.1g} |")
    return "\n".join(lines)


def pairs(results: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return results of the same model, suite and part in equiforce and in another program."""
    found = []
    for theirs in results:
        if theirs["program"] != OURS and "values" in theirs:
            same = ("model", "suite", "quick")
            found += [
                (ours, theirs)
                for ours in results
                if ours["program"] == OURS and "values" in ours and all(ours[key] == theirs[key] for key in same)
            ]
    return found


def _differences_of(ours: dict[str, Any], theirs: dict[str, Any], name: str) -> list[tuple[float, float]]:
    """The difference and the value of each system that has a number of this name in both."""
    mine, others = _numbers(ours["values"], name), _numbers(theirs["values"], name)
    return [(abs(mine[system] - others[system]), others[system]) for system in mine if system in others]


def _numbers(rows: dict[str, dict[str, Any]], name: str) -> dict[str, float]:
    """The numbers of a name by system; systems without one are left out."""
    return {system: row[name] for system, row in rows.items() if isinstance(row.get(name), int | float)}


def _column(one: dict[str, Any]) -> str:
    """The title of the column of a result."""
    precision = ", float64" if one["dtype"] == "float64" else ""
    return f"{one['model']}{precision} in {PROGRAMS[one['program']]}"


def _cell(one: dict[str, Any] | None, name: str) -> str:
    """A score with four digits, or what stands for one that is missing."""
    if one is None:
        return ""
    value = one.get("scores", {}).get(name, {}).get("value")
    return "–" if value is None else f"{value:.3e}" if 0 < abs(value) < 1e-3 else f"{value:.4g}"
