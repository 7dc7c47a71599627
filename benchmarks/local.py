"""Measures which parts of Allegro take the time of energy and forces, and of a training step.

    python benchmarks/local.py [--molecules 64] [--set scalar_channels=64 tensor_channels=32]

It runs on one thread and times the calls of each kernel within one call of the potential; the rest is Python, autograd,
copies and memory. It prints a table for docs/kernels.md.
"""

import argparse
import time
from collections import Counter
from statistics import median
from types import ModuleType

import torch
import yaml
from lightning_fabric import Fabric
from machine import commit, machine
from structures import water

from equiforce.kernels.cpu import convolution, nodes
from equiforce.kernels.cpu import local as local_kernels
from equiforce.labels import Label, Labels
from equiforce.model_file import build_potential
from equiforce.models.allegro import AllegroConfig
from equiforce.neighbors import build_graph
from equiforce.quantities import ENERGY, FORCES
from equiforce.structure import Structure
from equiforce.training.loop import backward
from equiforce.training.loss import LossConfig

PARTS: dict[str, tuple[tuple[ModuleType, str], ...]] = {
    "matrices of the perceptrons": ((nodes, "linear"),),
    "their SiLU": tuple((nodes, name) for name in ("gate", "gate_backward", "gate_double_backward")),
    "products with environments": tuple((local_kernels, name) for name in ("couple", "act", "act_on_harmonics")),
    "environments, V = w Y": ((local_kernels, "environment"),),
    "two-body splines": ((local_kernels, "lookup"),),
    "harmonics": tuple((convolution, f"edge_geometry{name}") for name in ("", "_backward", "_jvp", "_backward_jvp")),
}
REPEATS = 15


def watch(spent: Counter) -> None:
    """Replace all kernels by functions that add the time of each call to that of its part."""
    for part, functions in PARTS.items():
        for module, name in functions:
            inner = vars(module)[name]

            def timed(*arguments, part=part, inner=inner, **options):
                began = time.perf_counter()
                result = inner(*arguments, **options)
                spent[part] += time.perf_counter() - began
                return result

            setattr(module, name, timed)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--molecules", type=int, default=64)
    parser.add_argument("--set", nargs="*", default=["scalar_channels=64", "latent_width=64", "tensor_channels=32"])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    options = {name: yaml.safe_load(value) for name, value in (entry.split("=") for entry in chosen.set)}
    config = AllegroConfig(mean_neighbors=50.0, **options)
    shape = {"kind": "allegro", "config": vars(config), "species": ["H", "O"], "dtype": "float32", "zbl": False}
    potential = build_potential({**shape, "atomic_energies_trainable": False, "scale_trainable": False})
    atoms = water(chosen.molecules)
    structure = Structure(atomic_numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell.array, pbc=atoms.pbc)
    graph = build_graph(structure, potential.species, potential.cutoff)
    known, fabric = torch.ones(1, dtype=torch.bool), Fabric(accelerator="cpu", devices=1)
    energies, forces = torch.zeros(1).double(), torch.zeros(graph.n_atoms, 3).double()
    labels = Labels({ENERGY: Label(energies, known), FORCES: Label(forces, known)})
    loss = LossConfig(energy=1.0, forces=1.0, stress=0.0)
    spent: Counter = Counter()
    watch(spent)
    print(f"{machine()['cpu']}, equiforce at {commit()}, one thread, {graph.n_edges:,} pairs; {config}\n")
    print("| | ns an edge, energy and forces | share | ns an edge, training step | share |\n|---|---|---|---|---|")
    columns = []
    for training in (False, True):
        potential.train(training).requires_grad_(training)

        def call(training=training) -> None:
            if training:
                backward(potential, graph, labels, 0.0, loss, fabric)
            else:
                potential(graph)

        call()
        rounds = []
        for _ in range(REPEATS):
            spent.clear()
            began = time.perf_counter()
            call()
            rounds.append({"in all": time.perf_counter() - began, **spent})
        columns.append({part: 1e9 * median(r.get(part, 0.0) for r in rounds) / graph.n_edges for part in rounds[0]})
    for column in columns:
        column["rest: autograd, copies, memory"] = column["in all"] - sum(column[part] for part in PARTS)
    for part in (*PARTS, "rest: autograd, copies, memory", "in all"):
        cells = (f"{column[part]:,.0f} | {column[part] / column['in all']:.0%}" for column in columns)
        print(f"| {part} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
