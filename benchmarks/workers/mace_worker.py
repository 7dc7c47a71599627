"""Times MACE: see protocol.py."""

from typing import Any

import e3nn  # e3nn.o3 must not be imported before mace, which sets how torch loads its constants
import numpy as np
import torch
from ase.data import atomic_numbers
from mace import modules
from mace.data import AtomicData, config_from_atoms
from mace.tools import AtomicNumberTable
from mace.tools.torch_geometric import Batch
from protocol import Work, count_weights, random_labels, serve, training_step

ENVELOPE = 5  # this and READOUT are the defaults of mace_run_train
READOUT = "16x0e"


def inputs(case: dict, frames: list) -> tuple[Batch, tuple[torch.Tensor, torch.Tensor]]:
    """Return MACE's batch of all frames with neighbours, and labels."""
    torch.set_default_dtype(getattr(torch, case["dtype"]))
    table = AtomicNumberTable(sorted(atomic_numbers[name] for name in case["species"]))
    graphs = [AtomicData.from_config(config_from_atoms(a), z_table=table, cutoff=case["cutoff"]) for a in frames]
    return Batch.from_data_list(graphs).to(case["device"]), random_labels(frames)


def build(case: dict, prepared: tuple[Batch, tuple[torch.Tensor, torch.Tensor]]) -> Work:
    """Return the call that is timed, of an untrained model."""
    graph, (energies, forces) = prepared
    torch.manual_seed(0)
    model = modules.ScaleShiftMACE(**settings_of(case)).to(case["device"])
    n_edges, n_weights = graph["edge_index"].shape[1], count_weights(model)
    if case["task"] == "energy_forces":
        model.eval().requires_grad_(False)
        return Work(lambda: model(graph.to_dict()), n_edges, n_weights)
    model.train()
    energies = energies.to(graph["positions"])
    forces = forces.to(graph["positions"])
    n_atoms = graph["ptr"].diff()

    def loss() -> torch.Tensor:
        out = model(graph.to_dict(), training=True)
        per_atom = (out["energy"] - energies) / n_atoms
        return per_atom.square().mean() + (out["forces"] - forces).square().mean()

    return Work(training_step(model, loss), n_edges, n_weights)


def settings_of(case: dict) -> dict[str, Any]:
    """Return the options of a case's model with MACE's names."""
    model = case["model"]
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    channels = model["channels"]
    return {
        "r_max": case["cutoff"],
        "num_bessel": model["n_bessel"],
        "num_polynomial_cutoff": ENVELOPE,
        "max_ell": model["l_max"],
        "interaction_cls": block,
        "interaction_cls_first": block,
        "num_interactions": model["n_layers"],
        "num_elements": len(case["species"]),
        "hidden_irreps": e3nn.o3.Irreps([(channels, (l, (-1) ** l)) for l in range(model["hidden_l_max"] + 1)]),
        "MLP_irreps": e3nn.o3.Irreps(READOUT),
        "atomic_energies": np.zeros(len(case["species"])),
        "avg_num_neighbors": case["mean_neighbors"],
        "atomic_numbers": sorted(atomic_numbers[name] for name in case["species"]),
        "correlation": model["correlation"],
        "gate": torch.nn.functional.silu,
        "radial_MLP": [model["radial_width"]] * model["radial_depth"],
        "atomic_inter_scale": 1.0,
        "atomic_inter_shift": 0.0,
    }


if __name__ == "__main__":
    serve(inputs, build, ["mace-torch", "e3nn"])
