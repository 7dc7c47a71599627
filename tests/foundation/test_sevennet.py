"""Models of SevenNet with random weights give what SevenNet computes with them; ``make_sevennet.py`` wrote both."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

import equiforce
from equiforce.errors import InputError
from equiforce.foundation import import_potential, sevennet
from equiforce.foundation.e3nn import sorted_paths
from equiforce.geometry.wigner_3j import wigner_3j

FOLDER = Path(__file__).parent / "sevennet"
CASES = [
    (path.stem, modal)
    for path in sorted(FOLDER.glob("*.json"))
    for modal in json.loads(path.read_text(encoding="utf-8"))
]


def results(potential, row):
    atoms = Atoms(numbers=row["numbers"], positions=row["positions"], cell=row["cell"], pbc=row["pbc"])
    atoms.calc = equiforce.Calculator(potential)
    stress = atoms.get_stress() if row["stress"] is not None else None
    return atoms.get_potential_energy(), atoms.get_forces(), stress


def rows_of(name, modal=""):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))[modal]


def same(potential, rows, tolerance):
    for row in rows:
        energy, forces, stress = results(potential, row)
        assert energy == pytest.approx(row["energy"], abs=tolerance)
        np.testing.assert_allclose(forces, row["forces"], rtol=0, atol=10 * tolerance)
        if stress is not None:
            np.testing.assert_allclose(stress, row["stress"], rtol=0, atol=tolerance)


@pytest.mark.parametrize(("name", "modal"), CASES)
@pytest.mark.parametrize(("n_knots", "tolerance"), [(None, 1e-8), (1024, 3e-6)])
def test_it_gives_what_sevennet_gives(name, modal, n_knots, tolerance):
    potential = import_potential(FOLDER / f"{name}.pth", n_knots=n_knots, modal=modal or None).potential
    same(potential, rows_of(name, modal), tolerance)


def test_every_variant_is_there():
    assert CASES == [("modals", "R2SCAN"), ("modals", "PBE"), ("natural", ""), ("parity", ""), ("xplor", "")]


@pytest.mark.parametrize("name", ["xplor", "parity"])  # with one self-connection for all species, and with one for each
def test_fewer_elements_change_nothing(name):
    few = import_potential(FOLDER / f"{name}.pth", ["Cu", "O"], n_knots=None).potential
    assert few.species == ["O", "Cu"]
    same(few, rows_of(name)[1:2], 1e-8)


def values_of(name):
    return torch.load(FOLDER / f"{name}.pth", weights_only=True)


def written(folder, values):
    path = folder / "changed.pth"
    torch.save(values, path)
    return path


def test_old_checkpoints_have_another_order_and_other_signs(tmp_path):
    values = values_of("xplor")
    network, weights = sevennet.read(FOLDER / "xplor.pth").network, values["model_state_dict"]
    for number in range(3):
        last = number == 2
        lmax = network.irreps[number + 1].lmax
        products = network.products_of(network.irreps[number], lmax, even_only=last)
        paths = sorted_paths(network.irreps[number], network.harmonics, products)
        name = f"{number}_convolution.weight_nn.layer2.weight"
        by_place = sorted(paths, key=lambda path: path.place)
        sizes = [path.channels for path in by_place]
        block_of = dict(zip(by_place, weights[name].split(sizes, 1), strict=True))
        blocks = []
        for path in paths:
            l1, l2, l3 = path.source.l, path.l2, path.target.l
            sign = -1 if (l1, l2, l3) == (1, 2, 2) else 1
            key = f"{number}_convolution.convolution._compiled_main_left_right._w3j_{l1}_{l2}_{l3}"
            weights[key] = sign * wigner_3j(l1, l2, l3).float()
            blocks.append(sign * block_of[path])
        weights[name] = torch.cat(blocks, 1)
    path = written(tmp_path, values | {"config": values["config"] | {"version": "0.9.1"}})
    same(import_potential(path, n_knots=None).potential, rows_of("xplor"), 1e-8)
    weights[key] *= 1.1
    with pytest.raises(InputError, match="the coupling 2, 2, 0 of layer 2 is another one"):
        import_potential(written(tmp_path, values), n_knots=None)


@pytest.mark.parametrize(
    ("name", "modal", "words"),
    [
        ("modals", None, "has several levels of theory: choose one with --modal: R2SCAN, PBE"),
        ("modals", "SCAN", "has no level of theory SCAN: choose one with --modal: R2SCAN, PBE"),
        ("xplor", "PBE", "has no level of theory PBE: leave --modal out"),
    ],
)
def test_the_level_of_theory_must_be_known(name, modal, words):
    with pytest.raises(InputError, match=words):
        import_potential(FOLDER / f"{name}.pth", modal=modal)


def without(name):
    return lambda weights: {key: weight for key, weight in weights.items() if key != name}


def replaced(name, value):
    return lambda weights: {**weights, name: value}


DENOMINATOR, SHIFT = "1_convolution.denominator", "rescale_atomic_energy.shift"
WRONG_WEIGHTS = {
    "missing": (
        without("onehot_to_feature_x.linear.weight"),
        "the weight onehot_to_feature_x.linear.weight is missing",
    ),
    "more": (
        replaced("extra.weight", torch.ones(3)),
        "the weights extra.weight belong to nothing that equiforce knows",
    ),
    "shape": (replaced("0_convolution.weight_nn.layer0.weight", torch.ones(5, 9)), "is 5 x 9 instead of 5 x 8"),
    "size": (replaced("onehot_to_feature_x.linear.weight", torch.ones(16)), "16 weights instead of 15"),
    "bias": (replaced("1_self_interaction_1.linear.bias", torch.ones(6)), "has a bias, which equiforce cannot have"),
    "nan": (replaced(SHIFT, torch.full((3,), torch.nan)), "has a number that is not finite"),
    "denominator": (replaced(DENOMINATOR, torch.zeros(1)), "the denominator of layer 1 is not one number above 0"),
    "species": (replaced(SHIFT, torch.ones(4)), "rescale_atomic_energy.shift has 4 numbers"),
    "value": (replaced("more", torch.ones(3, dtype=torch.int64)), "a value that is not a weight"),
    "none": (lambda _: {}, "has fewer weights than the network"),
}


@pytest.mark.parametrize("name", WRONG_WEIGHTS)
def test_weights_that_do_not_fit_are_refused(name, tmp_path):
    change, words = WRONG_WEIGHTS[name]
    values = values_of("xplor")
    path = written(tmp_path, values | {"model_state_dict": change(values["model_state_dict"])})
    with pytest.raises(InputError, match=words):
        import_potential(path)


class Hostile:
    """An object that would make a file if it were loaded."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return (open, (str(self.place), "w"))


def test_nothing_is_executed(tmp_path):
    place = tmp_path / "made"
    values = values_of("xplor")
    hidden = written(tmp_path, values | {"epoch": Hostile(place)})
    same(import_potential(hidden, n_knots=None).potential, rows_of("xplor")[1:2], 1e-8)
    for name in ("version", "cutoff", "_type_map"):
        path = written(tmp_path, values | {"config": values["config"] | {name: Hostile(place)}})
        with pytest.raises(InputError, match=f"the option {name} is"):
            import_potential(path)
    assert not place.exists()


@pytest.mark.parametrize("values", [{"weights": torch.ones(3)}, [1, 2], {"config": {}, "model_state_dict": {"a": 3}}])
def test_a_checkpoint_of_another_program_is_refused(values, tmp_path):
    with pytest.raises(InputError, match="is not a checkpoint of SevenNet, or is damaged: download it again"):
        import_potential(written(tmp_path, values))
