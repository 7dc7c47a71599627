"""Writes small SevenNet models with random weights, and what SevenNet computes with them; needs ``pip install sevenn``.

    python tests/foundation/make_sevennet.py

The tests compare equiforce with these files in ``tests/foundation/sevennet/``, and do not need SevenNet.
"""

import json
from copy import deepcopy
from pathlib import Path

import sevenn.util
import torch
from sevenn import __version__, _const, model_build
from sevenn.calculator import SevenNetCalculator
from structures import structures

FOLDER = Path(__file__).parent / "sevennet"
SPECIES = {29: 0, 8: 1, 1: 2}  # not in order
OPTIONS = {
    "version": __version__, "_model_type": "E3_equivariant_model", "_type_map": SPECIES, "_number_of_species": 3,
    "chemical_species": ["Cu", "O", "H"], "cutoff": 4.0, "channel": 6, "lmax": 2, "num_convolution_layer": 3,
    "irreps_manual": ["5x0e", "6x0e+4x1e+3x2e", "6x0e+4x1e+3x2e", "6x0e"], "is_parity": False,
    "self_connection_type": "linear", "weight_nn_hidden_neurons": [8, 8], "conv_denominator": 9.5,
    "radial_basis": {"radial_basis_name": "bessel", "bessel_basis_num": 5},
    "cutoff_function": {"cutoff_function_name": "XPLOR", "cutoff_on": 3.4},
    "shift": [-2.0, -1.0, -0.5], "scale": 1.7, "use_modality": False, "use_modal_wise_shift": False,
    "use_modal_wise_scale": False,
}  # fmt: skip
POLYNOMIAL = {"cutoff_function": {"cutoff_function_name": "poly_cut", "poly_cut_p_value": 5}}
VARIANTS = {
    "xplor": {},
    "parity": {
        **POLYNOMIAL, "is_parity": True, "irreps_manual": False, "self_connection_type": "nequip", "channel": 3,
        "num_convolution_layer": 4, "act_gate": {"e": "silu", "o": "tanh"},
    },
    "natural": {
        **POLYNOMIAL, "is_parity": True, "lmax": 1, "scale": [1.5, 1.2, 0.8],
        "irreps_manual": ["5x0e", "6x0e+4x1o", "6x0e+4x1o", "6x0e"],
    },
    "modals": {
        "use_modality": True, "_number_of_modalities": 2, "_modal_map": {"R2SCAN": 0, "PBE": 1}, "lmax": 1,
        "use_modal_self_inter_intro": True, "use_modal_self_inter_outro": True, "use_modal_output_block": True,
        "use_modal_wise_shift": True, "shift": [[-2.0, -1.0, -0.5], [-3.0, -1.5, -0.2]], "scale": [1.5, 1.2, 0.8],
        "irreps_manual": ["5x0e", "6x0e+4x1e", "6x0e+4x1e", "6x0e"],
    },
}  # fmt: skip


def in_double() -> None:
    """Let SevenNet compute in double precision: it converts inputs to single precision in some places."""
    correct = sevenn.util.dtype_correct
    correct.__defaults__ = tuple(torch.float64 if d is torch.float32 else d for d in correct.__defaults__)
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    in_double()
    for number, (name, changed) in enumerate(VARIANTS.items()):
        torch.manual_seed(number)
        config = {**deepcopy(_const.DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG), **OPTIONS, **changed}
        config["conv_denominator"] = [config["conv_denominator"]] * config["num_convolution_layer"]
        model = model_build.build_E3_equivariant_model(deepcopy(config))
        path = FOLDER / f"{name}.pth"
        weights = {key: weight.float().to(torch.float32) for key, weight in model.state_dict().items()}
        torch.save({"config": config, "model_state_dict": weights}, path)
        results = {}
        for modal in config.get("_modal_map") or {"": 0}:
            calculator, rows = SevenNetCalculator(path, device="cpu", **({"modal": modal} if modal else {})), []
            calculator.model.double()
            for atoms in structures():
                calculator.calculate(atoms)
                found = calculator.results
                row = {"numbers": atoms.numbers.tolist(), "positions": atoms.positions.tolist()}
                row |= {"cell": atoms.cell.array.tolist(), "pbc": atoms.pbc.tolist(), "energy": float(found["energy"])}
                stress = found["stress"].tolist() if atoms.pbc.all() else None
                rows.append(row | {"forces": found["forces"].tolist(), "stress": stress})
            results[modal] = rows
        path.with_suffix(".json").write_text(json.dumps(results) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
