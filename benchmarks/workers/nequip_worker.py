"""Times nequip and allegro, eager or compiled: see protocol.py."""

from typing import Any

import torch
from nequip.data import AtomicDataDict, from_ase
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
from nequip.model.inference_models import load_compiled_model
from nequip.utils.global_state import set_global_state
from nequip_model import build_model, compiled_file, settings_of
from protocol import Work, count_weights, random_labels, serve, training_step

FAR = 1e3  # Å


def inputs(case: dict, frames: list) -> tuple[dict, tuple[torch.Tensor, torch.Tensor]]:
    """Return nequip's dictionary of all frames with neighbours, and labels."""
    set_global_state(allow_tf32=False)  # also makes data float64
    transforms = [
        ChemicalSpeciesToAtomTypeMapper(case["species"], {name: name for name in case["species"]}),
        NeighborListTransform(r_max=case["cutoff"]),
    ]
    graphs = []
    for atoms in frames:
        data = from_ase(atoms)
        for transform in transforms:
            data = transform(data)
        graphs.append(data)
    data = graphs[0] if len(graphs) == 1 else AtomicDataDict.batched_from_list(graphs)
    return AtomicDataDict.to_(with_cell(data), case["device"]), random_labels(frames)


def build(case: dict, prepared: tuple[dict, tuple[torch.Tensor, torch.Tensor]]) -> Work:
    """Return the call that is timed, of an untrained model."""
    data, (energies, forces) = prepared
    n_edges = AtomicDataDict.num_edges(data)
    if case["compile_threads"]:
        model, _ = load_compiled_model(str(compiled_file(case)), case["device"])
        return Work(lambda: model(data), n_edges, 0)
    model = build_model(settings_of(case)).to(case["device"])
    n_weights = count_weights(model)
    if case["task"] == "energy_forces":
        model.eval().requires_grad_(False)
        return Work(lambda: model(data), n_edges, n_weights)
    model.train()
    n_atoms = torch.as_tensor(data.get(AtomicDataDict.NUM_NODES_KEY, len(forces)), device=case["device"])
    energies, forces = energies.to(case["device"]), forces.to(case["device"])

    def loss() -> torch.Tensor:
        out: dict[str, Any] = model(data)
        per_atom = (out[AtomicDataDict.TOTAL_ENERGY_KEY].flatten() - energies) / n_atoms
        return per_atom.square().mean() + (out[AtomicDataDict.FORCE_KEY] - forces).square().mean()

    return Work(training_step(model, loss), n_edges, n_weights)


def with_cell(data: dict) -> dict:
    """Give a graph without a cell a wide one, because nequip divides the stress by the volume."""
    cell = data[AtomicDataDict.CELL_KEY]
    if bool(cell.any()):
        return data
    return data | {AtomicDataDict.CELL_KEY: FAR * torch.eye(3).to(cell).expand_as(cell)}


if __name__ == "__main__":
    serve(inputs, build, ["nequip", "nequip-allegro", "e3nn"])
