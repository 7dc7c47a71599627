"""Runs the notebooks of the tutorial, and reads what they print."""

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parents[1]
TUTORIAL = Path("docs") / "tutorial"
BUDGET = "EQUIFORCE_TUTORIAL_STEPS"


def execute(notebook_file: Path, folder: Path, *more: str) -> tuple[NotebookNode, Path]:
    """Runs a copy of a notebook, and more code after it; returns it with its outputs, and where it ran."""
    place = folder / TUTORIAL
    place.mkdir(parents=True)
    for examples in ("ethanol", "silicon"):
        shutil.copytree(ROOT / "examples" / examples, folder / "examples" / examples)
    shutil.copy(notebook_file, place)
    notebook = nbformat.read(place / notebook_file.name, as_version=4)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    notebook.cells += [nbformat.v4.new_code_cell(code) for code in more]
    resources = {"metadata": {"path": str(place)}}
    client = NotebookClient(
        notebook, timeout=1800, kernel_name="python3", resources=resources, coalesce_streams=True, record_timing=False
    )
    client.execute()
    return notebook, place


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def digest(notebook: NotebookNode) -> str:
    """Of all code; the notebook carries that of the code that its outputs are of."""
    return hashlib.sha256("\0".join(cell.source for cell in code_cells(notebook)).encode()).hexdigest()


def printed(notebook: NotebookNode, stream: str = "stdout") -> list[str]:
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs if output.output_type == "stream"]
    return [output.text for output in outputs if output.name == stream]


def figures(notebook: NotebookNode) -> list[str]:
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]


def numbers_of(notebook: NotebookNode) -> dict:
    """What the last cell printed as JSON; the cell is removed."""
    found = json.loads(code_cells(notebook)[-1].outputs[0].text)
    del notebook.cells[-1]
    return found


def named_files(notebook: NotebookNode) -> set[str]:
    """The files of the repository that its text and its code name."""
    text = "\n".join(cell.source for cell in notebook.cells)
    return set(re.findall(r"`((?:docs|examples|studies)/[\w./]*)`", text))


def check_outputs(notebook: NotebookNode, n_figures: int, n_errors: int = 0) -> None:
    """No error but those that the text shows, no warning, and every figure."""
    assert not [o for cell in code_cells(notebook) for o in cell.outputs if o.output_type == "error"]
    assert not printed(notebook, "stderr")
    text = "\n".join(printed(notebook))
    assert "Warning" not in text
    assert "Traceback" not in text
    assert text.count("error: ") == n_errors
    assert len(figures(notebook)) == n_figures


def check_committed(notebook: NotebookNode) -> None:
    """The outputs are those of the code with its normal budget, without colours, moving bars or places of a machine."""
    assert notebook.metadata["executed"] == digest(notebook)
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    (normal,) = re.findall(rf'getenv\("{BUDGET}", "(\d+)"\)', code_cells(notebook)[0].source)
    assert printed(notebook)[0].startswith(f"{normal} steps of ")
    text = "\n".join(printed(notebook))
    assert not re.findall(r"[\x00-\x08\x0b-\x1f]", text)
    assert not re.findall(r"(?<![\w.~])/(?:home|root|tmp|work|usr|opt|var|Users)\b\S*", text)


def write(notebook_file: Path) -> None:
    """Runs a notebook as on a new machine, with nothing compiled, and writes it with its outputs."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"XDG_CACHE_HOME": f"{folder}/cache", "IPYTHONDIR": f"{folder}/ipython"}
        os.environ.pop(BUDGET, None)
        began = time.monotonic()
        notebook, _ = execute(notebook_file, Path(folder) / "copy")
        sys.stdout.write(f"{time.monotonic() - began:.0f} s\n")
        for cell in code_cells(notebook):
            for output in cell.outputs:
                if output.output_type == "stream":
                    text = output.text.replace("\r\n", "\n").replace(f"{folder}/cache", "~/.cache")
                    output.text = text.replace(f"{folder}/copy", "~/equiforce")
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},  # as pages show the code
        "executed": digest(notebook),
    }
    nbformat.write(notebook, notebook_file)
