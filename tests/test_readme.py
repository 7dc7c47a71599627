"""What the README and the pages of Python, the command line and the architecture show is as they say."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from ase.build import molecule
from typer.testing import CliRunner

import equiforce
from equiforce.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
API, COMMAND_LINE, ARCHITECTURE = (
    (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("api.md", "command-line.md", "architecture.md")
)


@pytest.mark.slow
def test_python_code_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    names = run_blocks(README, "README.md")
    printed = capsys.readouterr().out
    assert "Metric(mae=" in printed
    assert (tmp_path / "runs" / "ethanol" / "model.eqf").is_file()
    assert names["atoms"].get_forces().shape == (9, 3)


def test_code_of_the_api_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    untrained = equiforce.untrained(["H", "C", "O"], l_max=1, n_layers=2, channels=4, dtype="float64", seed=0)
    equiforce.save("model.eqf", untrained.potential, [equiforce.Structure.from_ase(molecule("CH3CH2OH"))])
    names = run_blocks(API, "docs/api.md")
    assert "4 structures; energy from" in capsys.readouterr().out
    assert names["hessian"].shape == (9, 3, 9, 3)
    ones = names["hessian"].sum(dim=(2, 3))
    torch.testing.assert_close(names["product"][:9], -ones, rtol=0, atol=1e-6)


def test_the_api_page_has_every_public_name():
    table = API.partition("## Names")[2]
    shown = {
        name for row in re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert shown == {*equiforce.__all__} - {"__version__"}


def run_blocks(page: str, name: str) -> dict[str, Any]:
    """Runs the blocks of Python one after the other, and returns the names that they leave."""
    names: dict[str, Any] = {"__name__": "page"}
    for match in re.finditer(r"```python\n(.*?)```", page, flags=re.DOTALL):
        first_line = page[: match.start(1)].count("\n")
        exec(compile("\n" * first_line + match[1], name, "exec"), names)  # errors then name the line of the page
    return names


def test_commands_and_options_exist():
    commands = set(re.findall(r"^    equiforce (\w+)", COMMAND_LINE, flags=re.MULTILINE))
    assert commands == {"train", "import", "distill", "evaluate", "md", "relax", "lammps", "study", "info", "config"}
    for line in re.findall(r"^    equiforce .*", f"{README}\n{COMMAND_LINE}", flags=re.MULTILINE):
        words = line.split()[1:]
        shown = CliRunner().invoke(app, [*words[: 2 if words[0] == "study" else 1], "--help"]).output
        for option in re.findall(r"--[a-z-]+", line.partition("#")[0]):
            assert option in shown


def test_every_file_of_the_tree_exists():
    tree = ARCHITECTURE.partition("## The tree")[2]
    assert "potential.py" in tree
    for name in re.findall(r"^      ([\w/]+(?:\.py)?(?:, \w+\.py)*) ", tree, flags=re.MULTILINE):
        for part in name.split(", "):
            assert (ROOT / "src" / "equiforce" / part).exists()
