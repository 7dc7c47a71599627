"""A tiny training run, made of the real parts."""

from pathlib import Path

import torch
from ase import Atoms

from equiforce.data.dataset import Batches
from equiforce.model_file import build_potential
from equiforce.models.nequip import NequIPConfig
from equiforce.potential import Potential
from equiforce.structure import Structure
from equiforce.training.loop import RunSetup, new_state
from equiforce.training.loss import LossConfig
from equiforce.training.optimizer import OptimizerConfig
from equiforce.training.processes import make_fabric
from equiforce.training.state import TrainingState
from equiforce.training.stopping import TrainingConfig
from tests.data_sets import TINY, crystals, labelled, molecules

SPECIES = ["H", "O", "Cu"]
LOSS = LossConfig(energy=1.0, forces=1.0, stress=10.0)


def tiny_potential(dtype: str = "float32", seed: int = 0, **model) -> Potential:
    torch.manual_seed(seed)
    return build_potential(
        {
            "kind": "nequip",
            "config": vars(NequIPConfig(**{**TINY, "mean_neighbors": 8.0, **model})),
            "species": SPECIES,
            "dtype": dtype,
            "zbl": False,
            "atomic_energies": [1.0, 2.0, 0.2],
            "scale": [1.5, 1.5, 1.5],
            "atomic_energies_trainable": False,
            "scale_trainable": False,
        }
    )


def mixed(n_crystals: int = 2, n_molecules: int = 2, seed: int = 0, **absent: None) -> list[Structure]:
    """Crystals with stresses and molecules without."""
    atoms: list[Atoms] = [*crystals(n_crystals, seed), *molecules(n_molecules, seed)]
    return [labelled(a, **absent) for a in atoms]


def setup_of(
    folder: Path,
    training: list[Structure] | None = None,
    validation: list[Structure] | None = None,
    *,
    loss: LossConfig = LOSS,
    optimizer: dict | None = None,
    on_step=lambda report: None,
    on_best=lambda potential: None,
    trackers=(),
    **options,
) -> tuple[TrainingState, RunSetup]:
    """A new state and its setup; batches of two and ten steps, unless ``options`` say otherwise."""
    limited = options.keys() & {"max_steps", "max_epochs", "time"}
    config = TrainingConfig(**({} if limited else {"max_steps": 10}), device="cpu", **options)
    how = OptimizerConfig(**{"learning_rate": 0.03, "warmup_steps": 0, **(optimizer or {})})
    potential = tiny_potential(config.dtype, config.seed)
    common = {"species": SPECIES, "cutoff": potential.cutoff}
    chunk = {"max_edges": config.max_edges} if config.max_edges else {"batch_size": config.batch_size or 2}
    setup = RunSetup(
        training=Batches(training or mixed(), **common, **chunk, seed=config.seed),
        validation=Batches(mixed(seed=7) if validation is None else validation, **common, max_edges=1000),
        config=config,
        loss=loss,
        optimizer=how,
        fabric=make_fabric(config),
        folder=folder,
        trackers=list(trackers),
        on_best=on_best,
        on_step=on_step,
    )
    return new_state(potential, how), setup
