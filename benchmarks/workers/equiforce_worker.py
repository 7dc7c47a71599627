"""Times equiforce: see protocol.py."""

from dataclasses import replace

import torch
from lightning_fabric import Fabric
from protocol import Work, count_weights, random_labels, serve

from equiforce.graph import AtomicGraph, batch
from equiforce.labels import Label, Labels
from equiforce.model_file import build_potential
from equiforce.neighbors import build_graph
from equiforce.quantities import ENERGY, FORCES
from equiforce.structure import Structure
from equiforce.training.loop import backward
from equiforce.training.loss import LossConfig
from equiforce.training.optimizer import OptimizerConfig, build_optimizer


def inputs(case: dict, frames: list) -> tuple[AtomicGraph, Labels]:
    """Return one graph of all frames, and labels."""
    structures = [
        Structure(atomic_numbers=a.numbers, positions=a.positions, cell=a.cell.array, pbc=a.pbc) for a in frames
    ]
    graph = batch([build_graph(s, case["species"], case["cutoff"]) for s in structures])
    energies, forces = random_labels(frames)
    known = torch.ones(len(frames), dtype=torch.bool)
    labels = Labels({ENERGY: Label(energies, known), FORCES: Label(forces, known)})
    return graph.to(case["device"]), labels.to(case["device"])


def build(case: dict, prepared: tuple[AtomicGraph, Labels]) -> Work:
    """Return the call that is timed, of an untrained potential."""
    graph, labels = prepared
    torch.manual_seed(0)
    shared = {"cutoff": case["cutoff"], "mean_neighbors": case["mean_neighbors"]}
    potential = build_potential(
        {
            "kind": case["kind"],
            "config": shared | case["model"] | case["options"],
            "species": case["species"],
            "dtype": case["dtype"],
            "zbl": False,
            "atomic_energies_trainable": False,
            "scale_trainable": False,
        }
    ).to(case["device"])
    n_weights = count_weights(potential)
    if case["task"] == "energy_forces":
        potential.eval().requires_grad_(False)
        # a simulation has a new graph object in each step, so that caches by object must not help here either
        return Work(lambda: potential(replace(graph)), graph.n_edges, n_weights)
    fabric = Fabric(accelerator="cpu" if case["device"] == "cpu" else "cuda", devices=1)
    loss = LossConfig(energy=1.0, forces=1.0, stress=0.0)
    # the optimiser of the peers' steps
    optimizer = build_optimizer(potential, OptimizerConfig(name="adam", learning_rate=1e-3))

    def step() -> None:
        optimizer.zero_grad(set_to_none=False)
        backward(potential, replace(graph), labels, 0.0, loss, fabric)
        optimizer.step()

    return Work(step, graph.n_edges, n_weights)


if __name__ == "__main__":
    serve(inputs, build, ["equiforce"])
