"""A calculator with random weights, for timings and for tests that do not need accuracy."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from equiforce import model_file
from equiforce.calculators.ase import Calculator
from equiforce.models import REGISTRY

TYPICAL_DENSITY = 0.1  # atoms/Å³, of liquids and soft solids


def untrained(
    species: Sequence[str],
    *,
    kind: str = "nequip",
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
    zbl: bool = False,
    **options: Any,
) -> Calculator:
    """Make a calculator whose weights are random.

    Args:
        species: chemical symbols.
        kind: name of the model, such as ``nequip`` or ``allegro``.
        seed: random seed of the weights.
        dtype: precision of the weights, ``float32`` or ``float64``.
        device: the device that computes.
        zbl: whether to add the ZBL repulsion of nuclei at short range.
        options: options of the model, such as ``l_max=2, channels=32, n_layers=4, cutoff=5.0`` (Å).

    Returns:
        A calculator for ASE; its attribute ``potential`` is the torch module.

    Raises:
        InputError: there is no such model or precision.
        TypeError: the model has no such option.
        ValueError: the options contradict one another.
    """
    config = REGISTRY.find(kind).config_class(**options)
    config = config.with_mean_neighbors(TYPICAL_DENSITY * 4 / 3 * math.pi * config.cutoff**3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        potential = model_file.build_potential(
            {
                "kind": kind,
                "config": vars(config),
                "species": list(species),
                "dtype": dtype,
                "zbl": zbl,
                "atomic_energies_trainable": False,
                "scale_trainable": False,
            }
        )
    return Calculator(potential.to(device).eval().requires_grad_(False))
