"""Makes the tables of docs/benchmarks.md from raw timings."""

import json
import re
from pathlib import Path
from statistics import median, quantiles
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
RESULTS = Path(__file__).parent / "results"
OURS = "equiforce"


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return low, middle, high


def ratio(theirs: list[float], ours: list[float]) -> float:
    """Return the ratio of their time to ours: the median over rounds, because a busy machine slows down both."""
    return median(a / b for a, b in zip(theirs, ours, strict=False))


def digits(value: float) -> str:
    """Write a number with one decimal below 100 and none above."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def summary(entries: list[dict[str, Any]]) -> list[str]:
    """Write a row for each case, with equiforce and the fastest peer."""
    rows = [
        "| case | threads | equiforce | fastest peer | times as long | memory | peer's memory | times as much |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        measured = {name: r for name, r in entry["runners"].items() if r.get("ms")}
        ours = measured.pop(OURS, None)
        if not measured or ours is None:
            continue
        peer = min(measured, key=lambda name: median(measured[name]["ms"]))
        theirs = measured[peer]
        memory = theirs["peak_mb"] / ours["peak_mb"]
        rows.append(
            f"| {entry['case']} | {entry['threads']} | {digits(median(ours['ms']))} ms "
            f"| {digits(median(theirs['ms']))} ms, {peer} | **{ratio(theirs['ms'], ours['ms']):.2f}** "
            f"| {ours['peak_mb']:,.0f} MB | {theirs['peak_mb']:,.0f} MB | {memory:.2f} |"
        )
    return rows if len(rows) > 2 else []


def details(entries: list[dict[str, Any]]) -> list[str]:
    """Write a row for each program and case."""
    rows = [
        "| case | threads | atoms, pairs | program | median ms | quartiles | rounds | peak MB | model MB | over ours |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        ours = entry["runners"].get(OURS, {}).get("ms")
        for name, r in entry["runners"].items():
            case = f"| {entry['case']} | {entry['threads']} "
            if not r.get("ms"):
                rows.append(f"{case}| | {name} | {r['failed']} | | | | | |")
                continue
            low, middle, high = quartiles(r["ms"])
            times = f"{ratio(r['ms'], ours):.2f}" if ours else ""
            rows.append(
                f"{case}| {r['atoms']:,}, {r['edges']:,} | {name} | {digits(middle)} | {digits(low)} to {digits(high)} "
                f"| {len(r['ms'])} | {r['peak_mb']:,.0f} | {r['over_mb']:,.0f} | {times} |"
            )
    return rows


def provenance(result: dict[str, Any]) -> list[str]:
    """Write the machine, the versions and the commands."""
    m = result["machine"]
    found: dict[str, set[str]] = {}
    for entry in result["entries"]:
        for r in entry["runners"].values():
            for package, version in r.get("versions", {}).items():
                found.setdefault(package, set()).add(version)
    versions = ", ".join(f"{name} {' and '.join(sorted(v))}" for name, v in sorted(found.items()))
    commits = ", ".join(sorted({entry["commit"] for entry in result["entries"]}))
    gpu = f", {m['gpu']}" if m["gpu"] else ", no GPU"
    return [
        f"{result['date']}; {m['cpu']}, {m['cores']} cores, {m['instructions']}, {m['memory_gib']} GiB{gpu}; "
        f"load before the run {m['load_before']}. equiforce at {commits}. {versions}.",
        "",
        *(f"    {command}" for command in result["commands"]),
    ]


def write_peers(result: dict[str, Any]) -> None:
    """Write the tables of a comparison into the page."""
    entries = result["entries"]
    parts = [provenance(result), summary(entries), details(entries)]
    replace_between("peers", "\n\n".join("\n".join(part) for part in parts if part))


def replace_between(marker: str, text: str, page: Path = PAGE) -> None:
    """Replace the text between two markers of a page."""
    start, stop = f"<!-- {marker}: written by benchmarks/ -->", f"<!-- end of {marker} -->"
    content = page.read_text()
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(stop), re.DOTALL)
    page.write_text(pattern.sub(lambda _: f"{start}\n\n{text}\n\n{stop}", content))


def save(path: Path, result: dict[str, Any]) -> None:
    """Write a result, and replace an earlier file only when the new one is complete."""
    path.parent.mkdir(exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(result, indent=1) + "\n")
    unfinished.replace(path)
