"""Compiles a model of nequip or allegro with nequip's own command; the case is one JSON line on standard input."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from nequip.train import NequIPLightningModule
from nequip.utils import get_current_code_versions
from nequip_model import build_model, compiled_file, settings_of


def save_checkpoint(settings: dict[str, Any], structure: str, path: Path) -> None:
    """Write a checkpoint like that of a training, with untrained weights."""
    data = {
        "_target_": "nequip.data.datamodule.ASEDataModule",
        "seed": 0,
        "train_file_path": structure,
        "val_file_path": structure,
        "transforms": [
            {
                "_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper",
                "model_type_names": settings["type_names"],
                "chemical_species_to_atom_type_map": {name: name for name in settings["type_names"]},
            },
            {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": settings["r_max"]},
        ],
        "train_dataloader": {"_target_": "torch.utils.data.DataLoader", "batch_size": 1},
    }
    about = {
        "versions": get_current_code_versions(verbose=False),
        "training_module": {"_target_": "nequip.train.NequIPLightningModule"},
        "data": data,
    }
    build_model(settings)  # sets nequip's global state
    datasets = {"train": 1, "val": 1, "test": 0, "predict": 0}
    module = NequIPLightningModule(model=settings, num_datasets=datasets, info_dict=about)
    checkpoint = {
        "hyper_parameters": dict(module.hparams),
        "state_dict": module.state_dict(),
        "pytorch-lightning_version": version("lightning"),
    }
    torch.save(checkpoint, path)


def compile_model(case: dict, structure: str) -> Path:
    """Compile the model of a case with nequip's own command, unless the file exists already."""
    path = compiled_file(case)
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = path.with_suffix(".ckpt")
    save_checkpoint(settings_of(case), structure, checkpoint)
    unfinished = path.with_name(f"unfinished-{path.name}")
    command = [str(Path(sys.executable).with_name("nequip-compile")), str(checkpoint), str(unfinished)]
    command += ["--mode", "aotinductor", "--target", "ase", "--device", case["device"]]
    # the command has no option for the number of threads, which torch takes from this variable
    threads = f"OMP_NUM_THREADS={case['compile_threads']}"
    subprocess.run(["env", threads, *command], check=True, stdout=sys.stderr)
    unfinished.replace(path)
    path.with_suffix(".json").write_text(json.dumps(case, indent=1))
    return path


if __name__ == "__main__":
    wanted = json.loads(sys.stdin.readline())
    print(compile_model(wanted, wanted["structure"]))
