"""Judges a model by the tests of others, offline, beside the program that trained it.

    python benchmarks/peers/install.py suites nequix sevenn
    python benchmarks/suites/run.py MODEL [--program equiforce|nequix|sevenn] [--suite NAME] [--quick]

MODEL is a model file of equiforce, a file of Nequix or SevenNet, or the name of a published potential; equiforce
imports those of others first. Every program runs in its own environment, and the suites in another. The scores go into
``results/suites.json`` and into the tables of docs/suites.md. ``--quick`` is a part of each suite that a slow program
finishes in minutes; its scores are compared with those of other quick runs only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the modules of the other benchmarks

from machine import commit
from peers.install import python_of
from report import RESULTS, save
from table import SUITES, write

from equiforce import model_file
from equiforce.foundation import import_potential, path_of
from equiforce.machine import cpu_model

HERE = Path(__file__).parent
FILE = RESULTS / "suites.json"


def prepare(arguments: argparse.Namespace, folder: Path) -> tuple[str, Path, list[str]]:
    """Return the name of the model, the file for its program and its elements; import what is to be imported."""
    model = path_of(arguments.model)
    if model.suffix == ".eqf":
        if arguments.program != "equiforce":
            sys.exit(f"{arguments.program} cannot open {model}: give the file that {arguments.program} wrote")
        return arguments.name or model.stem, model, model_file.load(model).species
    imported = import_potential(model, modal=arguments.modal)
    name = arguments.name or imported.source.name + (f", {arguments.modal}" if arguments.modal else "")
    potential = imported.potential
    if arguments.program == "equiforce":
        model = folder / "model.eqf"
        model_file.save(model, potential if arguments.dtype == "float64" else potential.float(), [])
    elif arguments.program != imported.source.program:
        sys.exit(f"{arguments.program} cannot open {model}, a file of {imported.source.program}")
    return name, model, potential.species


def judge(job: dict[str, Any], python: Path) -> dict[str, Any]:
    """Run a suite in its environment and return its answer."""
    reader, writer = os.pipe()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    command = [python, HERE / "compute.py", str(writer)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, pass_fds=[writer], env=environment)
    os.close(writer)
    print(json.dumps(job), file=process.stdin, flush=True)
    with os.fdopen(reader) as answers:
        answer = answers.read()
    if process.wait():
        sys.exit(f"the suite {job['suite']} has ended with an error, see above")
    return json.loads(answer)


def keep(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Put a result in the place of an earlier one of the same model, program and suite, and return all."""
    same = ("model", "program", "suite", "quick", "dtype")
    results = json.loads(FILE.read_text())["results"] if FILE.exists() else []
    results = [*(old for old in results if any(old[key] != result[key] for key in same)), result]
    save(FILE, {"results": results})
    return results


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--program", choices=("equiforce", "nequix", "sevenn"), default="equiforce")
    parser.add_argument("--suite", choices=SUITES, action="append", help="may be repeated; all by default")
    parser.add_argument("--quick", action="store_true", help="a part of each suite")
    parser.add_argument("--name", help="of the model in the tables")
    parser.add_argument("--modal", help="the level of theory of a SevenNet model that has several")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="of what is imported here")
    parser.add_argument("--picoseconds", type=float, help="of the combustion; MLIP Arena takes 1000")
    parser.add_argument("--python", type=Path, help="an interpreter that has the program")
    parser.add_argument("--suites-python", type=Path, default=python_of("suites"), help="one that has the suites")
    return parser.parse_args()


def main() -> None:
    """Run the suites of the command line."""
    arguments = read_arguments()
    own = Path(sys.executable) if arguments.program == "equiforce" else python_of(arguments.program)
    python = arguments.python or own
    for peer, one in ((arguments.program, python), ("suites", arguments.suites_python)):
        if not one.exists():
            sys.exit(f"there is no {one}: make it with python benchmarks/peers/install.py {peer}")
    with tempfile.TemporaryDirectory() as folder:
        name, model, elements = prepare(arguments, Path(folder))
        worker = {"program": arguments.program, "model": str(model.resolve()), "modal": arguments.modal}
        for suite in arguments.suite or SUITES:
            job = {"suite": suite, "quick": arguments.quick, "elements": list(elements), "python": str(python)}
            answer = judge(job | {"worker": worker, "picoseconds": arguments.picoseconds}, arguments.suites_python)
            print(suite, json.dumps(answer.get("scores", answer), ensure_ascii=False), flush=True)
            dtype = arguments.dtype if arguments.program == "equiforce" and model.parent == Path(folder) else None
            where = {"cpu": cpu_model(), "commit": commit(), "date": datetime.now(UTC).date().isoformat()}
            keys = {"model": name, "program": arguments.program, "suite": suite, "quick": arguments.quick}
            write(keep(keys | {"dtype": dtype} | where | answer))


if __name__ == "__main__":
    main()
