"""The cases of the comparison: models, structures, tasks, and the programs that run them."""

import sys
from argparse import ArgumentParser, Namespace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from structures import SPECIES, file_of

HERE = Path(__file__).parent
ENVIRONMENTS = HERE / ".peers"
WARM_UP = 2  # calls
SHARED = {"cutoff": 5.0, "species": SPECIES, "mean_neighbors": 40.0}
RADIAL = {"n_bessel": 8, "radial_depth": 2, "radial_width": 64}
NEQUIP = {"l_max": 2, "channels": 32, "n_layers": 4, **RADIAL}

MODELS: dict[str, dict[str, Any]] = {
    "nequip": {"kind": "nequip", "model": {**NEQUIP, "parity": False}},
    "nequip-parity": {"kind": "nequip", "model": {**NEQUIP, "parity": True}},
    "mace": {
        "kind": "mace",
        "model": {"l_max": 3, "hidden_l_max": 1, "channels": 64, "n_layers": 2, "correlation": 3, **RADIAL},
    },
    "allegro": {
        "kind": "allegro",
        "model": {"l_max": 2, "parity": True, "scalars": 64, "tensors": 32, "n_layers": 2, **RADIAL},
        # equiforce refuses parity here, because with two layers tensors of the other parity give no scalar; the peer
        # leaves these tensors out by itself
        "ours": {
            "l_max": 2,
            "scalar_channels": 64,
            "tensor_channels": 32,
            "latent_width": 64,
            "readout_width": 32,
            "n_layers": 2,
            "n_basis": 8,
            "radial_depth": 2,
            "radial_width": 64,
        },
    },
}
TASKS = {
    "energy_forces": ("acac", "water64", "water512", "crystal4000"),
    "training_step": ("acac5", "water64"),
}


class Runner(NamedTuple):
    """A program of the comparison, and how to start it."""

    package: str  # also the name of its environment
    program: str
    compile_threads: int = 0  # 0 is eager

    @property
    def python(self) -> Path:
        return Path(sys.executable) if self.package == "equiforce" else ENVIRONMENTS / self.package / "bin" / "python"


RUNNERS = {
    "equiforce": Runner("equiforce", "equiforce_worker.py"),
    "nequip": Runner("nequip", "nequip_worker.py"),
    "nequip-compiled-1": Runner("nequip", "nequip_worker.py", 1),
    "nequip-compiled-2": Runner("nequip", "nequip_worker.py", 2),
    "mace": Runner("mace", "mace_worker.py"),
    "allegro": Runner("allegro", "nequip_worker.py"),
    "allegro-compiled-1": Runner("allegro", "nequip_worker.py", 1),
    "allegro-compiled-2": Runner("allegro", "nequip_worker.py", 2),
}
COMPILED = ("nequip-compiled-1", "nequip-compiled-2", "allegro-compiled-1", "allegro-compiled-2")
# the model of each runner in a case; equiforce runs its NequIP against MACE
ENTRIES = {
    "nequip": dict.fromkeys(("equiforce", "nequip", "nequip-compiled-1", "nequip-compiled-2"), "nequip"),
    "nequip-parity": dict.fromkeys(("equiforce", "nequip", "nequip-compiled-1", "nequip-compiled-2"), "nequip-parity"),
    "mace": {"equiforce": "nequip", "mace": "mace"},
    "allegro": dict.fromkeys(("equiforce", "allegro", "allegro-compiled-1", "allegro-compiled-2"), "allegro"),
}


class Case(NamedTuple):
    """One comparison: several programs do one task on one structure."""

    about: str
    structure: str
    task: str

    @property
    def name(self) -> str:
        return f"{self.about}/{self.structure}/{self.task}"

    def entries(self) -> dict[str, str]:
        """Return the model of each runner of the case; compiled models cannot be trained."""
        entries = ENTRIES[self.about]
        trains = self.task == "training_step"
        return {runner: model for runner, model in entries.items() if not (trains and runner in COMPILED)}


def described(runner: str, model: str) -> dict[str, Any]:
    """Return the kind of a model and its options, with the names that the runner uses."""
    of_model = dict(MODELS[model])
    ours = of_model.pop("ours", of_model["model"])
    return of_model | {"model": ours} if runner == "equiforce" else of_model


def message(runner: str, model: str, structure: str, task: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the message that describes a case to a worker."""
    told = {
        **SHARED,
        **described(runner, model),
        "structure": str(file_of(structure)),
        "task": task,
        "compile_threads": RUNNERS[runner].compile_threads,
        **settings,
    }
    return told | {"options": settings["options"] if runner == "equiforce" else {}}


def add_settings(parser: ArgumentParser) -> None:
    """Add the options that all benchmarks have."""
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--calls", type=int, default=1, help="calls per round, of which the median is taken")
    parser.add_argument("--timeout", type=float, default=900, help="seconds to wait for one answer of a program")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="more options of equiforce's model")


def settings_of(options: Namespace) -> dict[str, Any]:
    """Return these options as entries of a worker's message."""
    more = {name: yaml.safe_load(value) for name, value in (entry.split("=", 1) for entry in options.set)}
    same = {name: getattr(options, name) for name in ("threads", "dtype", "device", "calls")}
    return {**same, "warm_up": WARM_UP, "options": more}


def all_cases() -> list[Case]:
    """Return all cases, the quick ones of each model first."""
    return [Case(about, structure, task) for about in ENTRIES for task in TASKS for structure in TASKS[task]]


def chosen(patterns: list[str]) -> list[Case]:
    """Return the cases whose name, or a part of it between slashes, matches one of the patterns; all without one."""
    cases = all_cases()
    if not patterns:
        return cases
    return [c for c in cases if any(fnmatch(part, p) for p in patterns for part in (c.name, *c))]
