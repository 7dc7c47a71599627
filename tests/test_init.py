import ast
import inspect
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

import equiforce
from equiforce.model_file import save
from tests.systems import ethanol, potential_of

HEAVY = ("torch", "e3nn", "matplotlib", "lightning_fabric", "ase", "numpy")
PROGRAM = f"""
import sys
import equiforce
loaded = {{name.partition(".")[0] for name in sys.modules}}
from equiforce.cli import main
sys.argv = ["equiforce", "train", "--help"]
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
after = {{name.partition(".")[0] for name in sys.modules}}
heavy = set({HEAVY!r})
print("loaded:", sorted(loaded & heavy), sorted(after & heavy))
"""


def test_neither_import_nor_help_loads_what_is_heavy():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=True)
    assert "--energy-key" in done.stdout
    assert "loaded: [] []" in done.stdout


# a second and 150 MB together, none of which a calculator needs
NEEDLESS = (
    "e3nn", "sympy", "torch._dynamo", "torch._inductor", "pydantic", "matplotlib", "lightning_fabric", "triton",
    "rich", "scipy", "yaml",
)  # fmt: skip
CALCULATOR = f"""
import sys
import torch
own = set(sys.modules)  # what torch loads by itself is not ours to choose
from ase import Atoms
import equiforce
atoms = Atoms("HO", [[0, 0, 0], [0, 0, 1]], cell=[5, 5, 5], pbc=True, calculator=equiforce.Calculator(sys.argv[1]))
atoms.get_forces(), atoms.get_stress()
print("loaded:", sorted(set({NEEDLESS!r}) & set(sys.modules) - own))
"""


@pytest.mark.parametrize("kind", ["nequip", "allegro"])
def test_a_calculator_loads_only_what_it_needs(kind, tmp_path):
    save(tmp_path / "model.eqf", potential_of(kind, l_max=1, n_layers=2), [ethanol()], {})
    command = [sys.executable, "-c", CALCULATOR, tmp_path / "model.eqf"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "loaded: []" in done.stdout


@pytest.mark.parametrize("name", equiforce.__all__)
def test_every_public_name_is_there(name):
    assert getattr(equiforce, name) is not None
    assert name in dir(equiforce)


def test_an_unknown_name_is_said():
    with pytest.raises(AttributeError, match=r"equiforce has no 'trian'; it has .*train"):
        _ = equiforce.trian


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(equiforce.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == {name: f"equiforce.{home}" for name, home in equiforce._HOMES.items()}


PUBLIC = {name: getattr(equiforce, name) for name in equiforce.__all__ if name != "__version__"}
UNCHECKED = ("Labels", "Prediction", "ReadOptions", "RunConfig", "Structure")  # whoever makes them checks the values
MORE = {"Structure.from_ase": equiforce.Structure.from_ase, "Potential.forward": equiforce.Potential.forward}


@pytest.mark.parametrize("name", [*PUBLIC, *MORE])
def test_every_public_name_says_what_it_takes_and_gives(name):
    thing = (PUBLIC | MORE)[name]
    text = thing.__doc__  # its own, not that of a base class
    summary, _, rest = text.partition("\n\n")
    assert summary.rstrip().endswith(".")
    if isinstance(thing, type) and issubclass(thing, Exception):
        return
    options = {f.name for f in fields(thing) if f.metadata} if is_dataclass(thing) else set()  # say what they are
    parameters = set(inspect.signature(thing).parameters) - {"self", *options}
    arguments = rest.partition("Args:\n")[2].partition("\n\n")[0]
    assert not [p for p in parameters if not re.search(rf"^ +(\w+, )*{p}(, \w+)*: ", arguments, flags=re.MULTILINE)]
    if not isinstance(thing, type) and inspect.signature(thing).return_annotation is not None:
        assert "Returns:\n" in rest
    if name not in UNCHECKED:
        assert "Raises:\n" in rest
