"""Writes small Nequix models with random weights, and what Nequix computes with them; needs ``pip install nequix``.

    python tests/foundation/make_nequix.py

The tests compare equiforce with these files in ``tests/foundation/nequix/``, and do not need Nequix.
"""

import json
from pathlib import Path

import jax
from nequix.calculator import NequixCalculator
from nequix.model import Nequix, save_model
from structures import structures

FOLDER = Path(__file__).parent / "nequix"
NUMBERS = [8, 1, 29]  # not in order
OPTIONS = {
    "cutoff": 4.0, "hidden_irreps": "6x0e + 4x1o + 3x2e", "lmax": 2, "n_layers": 3, "radial_basis_size": 5,
    "radial_mlp_size": 8, "radial_mlp_layers": 2, "radial_polynomial_p": 6.0, "mlp_init_scale": 4.0, "shift": -0.3,
    "scale": 1.7, "avg_n_neighbors": 9.5,
}  # fmt: skip
VARIANTS = {
    "published": {"layer_norm": True, "index_weights": False},
    "by-species": {"layer_norm": True, "index_weights": True},
    "without-norm": {"layer_norm": False, "index_weights": False},
    "l3": {"layer_norm": True, "index_weights": False, "lmax": 3, "hidden_irreps": "5x0e + 2x1o + 3x2e + 2x3o"},
}


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    for number, (name, changed) in enumerate(VARIANTS.items()):
        options, energies = OPTIONS | changed, [-2.0, -1.0, -0.5]
        model = Nequix(jax.random.key(number), n_species=len(NUMBERS), atom_energies=energies, **options)
        path = FOLDER / f"{name}.nqx"
        save_model(path, model, {"atomic_numbers": NUMBERS, **options})
        calculator, rows = NequixCalculator(model_path=path, use_kernel=False), []
        for atoms in structures():
            calculator.calculate(atoms, system_changes=["numbers"])
            found = calculator.results
            row = {"numbers": atoms.numbers.tolist(), "positions": atoms.positions.tolist()}
            row |= {"cell": atoms.cell.array.tolist(), "pbc": atoms.pbc.tolist(), "energy": found["energy"]}
            stress = found["stress"].tolist() if atoms.pbc.all() else None
            rows.append(row | {"forces": found["forces"].tolist(), "stress": stress})
        path.with_suffix(".json").write_text(json.dumps(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
