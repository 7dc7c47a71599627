"""What the README shows runs as it is written."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from equiforce.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_python_code_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    assert "Metric(mae=" in printed
    assert (tmp_path / "runs" / "ethanol" / "model.eqf").is_file()


def test_commands_and_options_exist():
    commands = set(re.findall(r"^    equiforce (\w+)", README, flags=re.MULTILINE))
    assert {"train", "evaluate", "md", "lammps", "study", "info", "config"} == commands
    for line in re.findall(r"^    equiforce .*", README, flags=re.MULTILINE):
        words = line.split()[1:]
        shown = CliRunner().invoke(app, [*words[: 2 if words[0] == "study" else 1], "--help"]).output
        for option in re.findall(r"--[a-z-]+", line.partition("#")[0]):
            assert option in shown


def test_every_file_of_the_tree_exists():
    tree = README.partition("## The tree")[2].partition("Read next")[0]
    for name in re.findall(r"^      ([\w/]+(?:\.py)?(?:, \w+\.py)*) ", tree, flags=re.MULTILINE):
        for part in name.split(", "):
            assert (ROOT / "src" / "equiforce" / part).exists()
