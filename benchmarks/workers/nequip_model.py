"""Builds untrained models of nequip and allegro, in the environment of either package."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_method
from nequip.utils.global_state import set_global_state

COMPILED = Path(__file__).parents[1] / ".peers" / "compiled"


def settings_of(case: dict) -> dict[str, Any]:
    """Return the options of a case's model with nequip's names."""
    model = case["model"]
    shared = {
        "seed": 0,
        "model_dtype": case["dtype"],
        "r_max": case["cutoff"],
        "type_names": case["species"],
        "avg_num_neighbors": case["mean_neighbors"],
        "per_type_energy_scales": 1.0,
        "per_type_energy_shifts": 0.0,
        "l_max": model["l_max"],
        "parity": model["parity"],
        "num_layers": model["n_layers"],
    }
    if case["kind"] == "nequip":
        return shared | {
            "_target_": "nequip.model.NequIPGNNModel",
            "num_features": model["channels"],
            "num_bessels": model["n_bessel"],
            "radial_mlp_depth": model["radial_depth"],
            "radial_mlp_width": model["radial_width"],
        }
    embedding = {"_target_": "allegro.nn.TwoBodyBesselScalarEmbed", "num_bessels": model["n_bessel"]}
    return shared | {
        "_target_": "allegro.model.AllegroModel",
        "radial_chemical_embed": embedding,
        "radial_chemical_embed_dim": model["scalars"],
        "num_scalar_features": model["scalars"],
        "num_tensor_features": model["tensors"],
        "scalar_embed_mlp_hidden_layers_depth": model["radial_depth"],
        "scalar_embed_mlp_hidden_layers_width": model["radial_width"],
        "allegro_mlp_hidden_layers_width": model["scalars"],
    }


def build_model(settings: dict[str, Any]) -> torch.nn.Module:
    """Build the eager model with nequip's own builder."""
    set_global_state(allow_tf32=False)
    settings = dict(settings)
    return get_method(settings.pop("_target_"))(**settings)


def compiled_file(case: dict) -> Path:
    """Return the file of a case's compiled model, which depends on settings, device and number of threads."""
    key = json.dumps([settings_of(case), case["device"], case["compile_threads"], torch.__version__], sort_keys=True)
    return COMPILED / f"{case['kind']}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.nequip.pt2"
