"""Writes small models of nequip and nequip-allegro with random weights, and what these programs compute with them.

    pip install nequip nequip-allegro
    python tests/foundation/make_nequip.py [NAME ...]
    pip install nequip==0.12.1 nequip-allegro==0.7.0  # in which features have another order
    python tests/foundation/make_nequip.py nequip-0.12.ckpt nequip-0.12-no-parity.ckpt

The tests compare equiforce with these files in ``tests/foundation/nequip/``, and need neither program. Checkpoints have
the layout of Lightning's, without what training alone needs; packages have the layout of ``nequip-package`` without the
source code. Both leave out constants of nequip-allegro that would be most of the file.
"""

import copy
import json
import sys
import warnings
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from allegro.model import AllegroModel
from ase import Atoms
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
from nequip.model import NequIPGNNModel
from nequip.utils.global_state import set_global_state

VERSIONS = {name: version(name) for name in ("nequip", "nequip-allegro", "e3nn", "torch")}
try:
    from nequip.integrations.ase import NequIPCalculator
except ImportError:  # of nequip 0.12
    from nequip.ase import NequIPCalculator

FOLDER = Path(__file__).parent / "nequip"
ELEMENTS = ["O", "H", "Cu"]  # not in order of atomic number
COMMON = {
    "seed": 1, "model_dtype": "float64", "type_names": ELEMENTS, "r_max": 3.5, "avg_num_neighbors": 9.5,
    "per_type_energy_scales": {"O": 1.9, "H": 0.7, "Cu": 1.2},
    "per_type_energy_shifts": {"O": -43.1, "H": -1.3, "Cu": -5.5},
}  # fmt: skip
NEQUIP = COMMON | {
    "_target_": "nequip.model.NequIPGNNModel", "num_layers": 3, "l_max": 2, "parity": False, "num_features": [5, 4, 3],
    "type_embed_num_features": 3, "radial_mlp_depth": 2, "radial_mlp_width": 6, "num_bessels": 5,
}  # fmt: skip
BESSEL = {
    "_target_": "allegro.nn.TwoBodyBesselScalarEmbed",
    "num_bessels": 5,
    "bessel_trainable": False,
    "polynomial_cutoff_p": 6,
}
ALLEGRO = COMMON | {
    "_target_": "allegro.model.AllegroModel", "l_max": 2, "parity": True, "num_layers": 2,
    "radial_chemical_embed": BESSEL, "radial_chemical_embed_dim": 6, "scalar_embed_mlp_hidden_layers_depth": 2,
    "scalar_embed_mlp_hidden_layers_width": 7, "num_scalar_features": 5, "num_tensor_features": 3,
    "allegro_mlp_hidden_layers_depth": 1, "allegro_mlp_hidden_layers_width": 8, "readout_mlp_hidden_layers_depth": 1,
    "readout_mlp_hidden_layers_width": 6,
}  # fmt: skip
PAIRS = {"per_edge_type_cutoff": {"H": {"H": 2.5, "O": 2.2}, "O": 3.0}}
ZBL = {"_target_": "nequip.nn.pair_potential.ZBL", "units": "metal", "chemical_species": ELEMENTS}
BY_TYPE = {"avg_num_neighbors": {"O": 12.0, "H": 6.5, "Cu": 20.0}}
TRAINED = {"per_type_energy_scales_trainable": True, "per_type_energy_shifts_trainable": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "nequip-l2.ckpt": NEQUIP,
    "nequip-parity.ckpt": NEQUIP | {"parity": True, "num_layers": 4, "radial_mlp_depth": 1},
    "nequip-l3.ckpt": NEQUIP | {"l_max": 3, "num_features": [4, 3, 2, 2], "parity": True},
    "nequip-l1-pairs-zbl.ckpt": NEQUIP
    | PAIRS
    | {"l_max": 1, "num_features": 4, "pair_potential": ZBL | {"polynomial_cutoff_p": 4}},
    "nequip-by-type.ckpt": NEQUIP | BY_TYPE | {"l_max": 1, "num_features": [4, 3], "learnable_shift": True},
    "nequip-ema.ckpt": NEQUIP
    | TRAINED
    | {"bessel_trainable": True, "polynomial_cutoff_p": 4, "readout_mlp_hidden_layers_depth": 1},
    "nequip-0.12.ckpt": {name: value for name, value in NEQUIP.items() if name != "type_embed_num_features"}
    | {"parity": True, "num_layers": 4, "num_features": 3, "radial_mlp_depth": 1},
    "nequip-0.12-no-parity.ckpt": {name: value for name, value in NEQUIP.items() if name != "type_embed_num_features"}
    | {"num_layers": 4, "num_features": 4, "radial_mlp_depth": 1},
    "nequip-scalars.ckpt": NEQUIP
    | {"num_layers": 1, "per_type_energy_scales": 1.3, "per_type_energy_shifts": None, "radial_mlp_depth": 0},
    "nequip.nequip.zip": NEQUIP | {"l_max": 1, "num_features": [4, 3], "num_layers": 2, "pair_potential": ZBL},
    "allegro-l2.ckpt": ALLEGRO,
    "allegro-l3.ckpt": ALLEGRO | {"l_max": 3, "num_tensor_features": 2, "num_layers": 3},
    "allegro-no-parity.ckpt": ALLEGRO | {"parity": False, "num_layers": 3, "tp_path_channel_coupling": False},
    "allegro-one-layer.ckpt": ALLEGRO
    | {"num_layers": 1, "l_max": 1, "readout_mlp_hidden_layers_depth": 0, "scalar_embed_mlp_hidden_layers_depth": 1},
    "allegro-pairs-zbl.ckpt": ALLEGRO | PAIRS | {"l_max": 1, "pair_potential": ZBL | {"polynomial_cutoff_p": 4}},
    "allegro-ema.ckpt": ALLEGRO
    | TRAINED
    | {
        "l_max": 1,
        "allegro_mlp_hidden_layers_depth": 2,
        "radial_chemical_embed": BESSEL | {"bessel_trainable": True, "polynomial_cutoff_p": 4},
    },
    "allegro.nequip.zip": ALLEGRO | {"l_max": 1},
}


def structures() -> list[Atoms]:
    """A molecule without a cell, a skewed crystal that is smaller than the cutoff, a mixture, and an atom."""
    rng = np.random.default_rng(0)
    molecule = Atoms("OHHCu", positions=[[0, 0, 0], [0.96, 0.1, 0], [-0.2, 0.9, 0.3], [0.4, -0.3, 2.0]])
    cell = [[2.6, 0.3, 0.0], [0.0, 2.9, 0.4], [0.2, 0.0, 3.1]]
    crystal = Atoms("CuO", scaled_positions=[[0, 0, 0], [0.45, 0.52, 0.55]], cell=cell, pbc=True)
    mixed = Atoms(numbers=rng.permutation([29, 29, 8, 8, 1, 1, 1]), cell=[5.5] * 3, pbc=True)
    mixed.set_scaled_positions([[0, 0, 0], [0.5, 0, 0], [0, 0.4, 0], [0, 0, 0.6], [0.5, 0.5, 0.1], [0.4, 0, 0.5],
                                [0.1, 0.5, 0.5]])  # fmt: skip
    return [molecule, crystal, mixed, Atoms("O", positions=[[0, 0, 0]], cell=[9.0] * 3, pbc=True)]


def made(options: dict[str, Any]) -> torch.nn.Module:
    """The model of some options, whose trainable numbers all differ from what they began with."""
    values = copy.deepcopy(options)
    build = AllegroModel if values.pop("_target_").startswith("allegro") else NequIPGNNModel
    model = build(**values).eval()
    size = 1.5 if build is NequIPGNNModel else 1.15
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.02 * noise)
        for name, parameter in model.named_parameters():
            if name.endswith("weight"):
                parameter.mul_(size)  # forces are then of the size of real ones
    return model


def rows(model: torch.nn.Module, cutoff: float) -> list[dict[str, Any]]:
    """What the source program computes for each structure."""
    transforms = [ChemicalSpeciesToAtomTypeMapper(ELEMENTS), NeighborListTransform(r_max=cutoff)]
    calculator, found = NequIPCalculator(model, device="cpu", transforms=transforms), []
    for atoms in structures():
        calculator.calculate(atoms)
        results = calculator.results
        row = {"numbers": atoms.numbers.tolist(), "positions": atoms.positions.tolist()}
        row |= {"cell": atoms.cell.array.tolist(), "pbc": atoms.pbc.tolist(), "energy": float(results["energy"])}
        stress = results["stress"].tolist() if atoms.pbc.all() else None
        found.append(row | {"forces": results["forces"].tolist(), "stress": stress})
    return found


def checkpoint(path: Path, model: torch.nn.Module, options: dict[str, Any]) -> None:
    """Write a checkpoint; with averaged weights, of which the trained ones differ."""
    state = {
        f"model.sole_model.{name}": value.clone()
        for name, value in model.state_dict().items()
        if not name.endswith("w3j") and not name.endswith("output_mask")
    }
    if "ema" in path.name:
        averaged = {name for name, _ in model.named_parameters()}
        state |= {f"ema.ema_weight_{k}": value.detach().clone() for k, value in enumerate(model.parameters())}
        for name in averaged:
            state[f"model.sole_model.{name}"] += 0.5
    parameters = {"model": options, "info_dict": {"versions": VERSIONS}}
    torch.save({"epoch": 1, "state_dict": state, "hyper_parameters": parameters}, path)


def package(path: Path, model: torch.nn.Module, options: dict[str, Any]) -> None:
    """Write a package whose pickles are compressed."""
    whole = path.with_suffix(".whole")
    with torch.package.PackageExporter(whole) as exporter:
        modules = torch.nn.ModuleDict({"sole_model": model})
        exporter.save_pickle("model", "eager_model.pkl", modules, dependencies=False)
        config = yaml.safe_dump({"training_module": {"model": options}})
        exporter.save_text("model", "config.yaml", config)
        exporter.save_text("model", "package_metadata.txt", yaml.safe_dump({"versions": VERSIONS}))
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
        root = source.namelist()[0].split("/")[0]
        for name in source.namelist():
            kind = zipfile.ZIP_STORED if name.endswith(".storage") else zipfile.ZIP_DEFLATED
            renamed = name.replace(root, path.name.removesuffix(".zip"), 1)
            target.writestr(zipfile.ZipInfo(renamed), source.read(name), kind)
    whole.unlink()


def main() -> None:
    """Write the files."""
    warnings.filterwarnings("ignore")
    set_global_state()
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or [name for name in VARIANTS if "0.12" not in name]:
        options = VARIANTS[name]
        model = made(options)
        results = rows(model, options["r_max"])
        (package if name.endswith(".zip") else checkpoint)(FOLDER / name, model, options)
        (FOLDER / f"{name}.json").write_text(json.dumps(results) + "\n", encoding="utf-8")
        print(name, (FOLDER / name).stat().st_size)


if __name__ == "__main__":
    main()
