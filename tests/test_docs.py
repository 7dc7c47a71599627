"""The site builds without a warning from the pages and the code, and dead links are found."""

import re
import subprocess
import sys
from configparser import ConfigParser
from dataclasses import fields
from pathlib import Path

import pytest

import equiforce
from equiforce.calculators.md import MDOptions
from equiforce.calculators.relax_options import RelaxOptions
from equiforce.config import SECTIONS
from equiforce.distillation.options import DistillOptions
from equiforce.models import REGISTRY

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")), ROOT / "examples" / "README.md"]
FOLDERS = "docs|examples|studies|recipes|benchmarks|tools|tests|src"
COMMANDS = (
    "train",
    "distill",
    "evaluate",
    "md",
    "relax",
    "lammps",
    "study learning-curve",
    "study benchmark",
    "info",
    "config",
)


def build(source, folder, *options):
    command = [sys.executable, "-m", "sphinx", "-c", ROOT / "docs", "-b", "html", "-E", "-q", *options, source, folder]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_site_has_every_page_option_command_and_name(tmp_path):
    pytest.importorskip("sphinx")
    built = build(ROOT, tmp_path, "-W", "--keep-going")
    assert built.returncode == 0, built.stderr
    assert "url=README.html" in (tmp_path / "index.html").read_text(encoding="utf-8")
    pages = {
        name: (tmp_path / "docs" / f"{name}.html").read_text(encoding="utf-8")
        for name in ("options", "command-line", "reference", "coming-from-nequip-or-mace")
    }
    models = (REGISTRY[kind].config_class for kind in ("nequip", "allegro"))
    classes = [*SECTIONS.values(), *models, MDOptions, RelaxOptions, DistillOptions]
    for entry in (entry for cls in classes for entry in fields(cls)):
        assert f">{entry.name}</span>" in pages["options"]
    for command in COMMANDS:
        assert f"equiforce {command}<" in pages["command-line"]
    for name in {*equiforce.__all__} - {"__version__"}:
        assert f'id="equiforce.{name}"' in pages["reference"]
    assert ">r_max</span>" in pages["coming-from-nequip-or-mace"]
    figures = (
        (tmp_path / "docs" / "tutorial" / "tutorial.html").read_text(encoding="utf-8").count('<img alt="../../_im')
    )
    assert figures == 9
    assert "README" in (tmp_path / "searchindex.js").read_text(encoding="utf-8")
    links = (tmp_path / "external-links.txt").read_text(encoding="utf-8").splitlines()
    assert "https://creativecommons.org/publicdomain/zero/1.0/" in links
    assert all(link.startswith("http") for link in links)


@pytest.mark.slow
def test_dead_links_are_found(tmp_path):
    pytest.importorskip("sphinx")
    dead = "[a](none.md) [b](#nowhere) [c](docs/other.md#nowhere) [d](src/none.py) ![e](none.png)"
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(f"# Page\n\n{dead} [f](docs/other.md)\n", encoding="utf-8")
    (tmp_path / "docs" / "other.md").write_text("# Other\n", encoding="utf-8")
    warnings = [line for line in build(tmp_path, tmp_path / "build").stderr.splitlines() if "README.md:3:" in line]
    for target in ("none.md", "nowhere", "src/none.py", "none.png"):
        assert any(target in line for line in warnings)
    assert len(warnings) == 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_pages_name_exist(page):
    named = re.findall(rf"`((?:{FOLDERS})/[\w./-]+)`", page.read_text(encoding="utf-8"))
    assert not [name for name in named if not (ROOT / name).exists() and "/." not in name]


def test_the_tree_of_the_package_has_every_module():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = page.partition("    src/equiforce/\n")[2].partition("    examples/")[0]
    package = ROOT / "src" / "equiforce"
    listed = [package, package / "data", package / "training", package / "calculators"]
    modules = {path.name for folder in listed for path in folder.glob("*.py") if path.name != "__init__.py"}
    named = set(re.findall(r"\b\w+\.py\b", tree))
    assert modules - named == set()
    assert named - {path.name for path in package.rglob("*.py")} - {"_config.py", "_resources.py"} == set()
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    assert {folder for folder in folders if f"{folder}/ " not in tree} == set()


def test_contributing_lists_the_layers():
    contracts = ConfigParser()
    contracts.read(ROOT / ".importlinter")
    direction = contracts["importlinter:contract:direction"]
    page = " ".join((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    assert f"checks it: {', '.join(direction['layers'].split())}." in page
    assert all(module in page for module in direction["exhaustive_ignores"].split())


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
