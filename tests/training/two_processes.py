"""What test_processes.py runs in each of two processes: the gradients of two batches, and a whole training run."""

import sys

import torch

from equiforce.cli import main
from equiforce.data.dataset import Batches
from equiforce.errors import InputError
from equiforce.training.loop import backward, on_any_process
from equiforce.training.processes import make_fabric, on_first_process
from equiforce.training.stopping import TrainingConfig
from tests.training.setups import LOSS, SPECIES, mixed, tiny_potential


def gradients(structures, fabric) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of one batch of all structures, of which this process has a share."""
    potential = tiny_potential("float64")
    batches = Batches(
        structures, SPECIES, 3.5, batch_size=len(structures), rank=fabric.global_rank, n_ranks=fabric.world_size
    )
    value = backward(potential, *next(batches.epoch(0)), 0.3, LOSS, fabric)
    return value, {name: p.grad for name, p in potential.named_parameters() if p.requires_grad}


def cases():
    """Three structures of different sizes and labels; and one alone, which leaves a process without a share."""
    return {"uneven": mixed(1, 2), "alone": mixed(1, 0)}


def refuse() -> None:
    raise InputError("the disk is full")


if __name__ == "__main__":
    fabric = make_fabric(TrainingConfig(device="cpu"))
    found = {name: gradients(structures, fabric) for name, structures in cases().items()}
    # a flag that is raised on the second process is raised on all
    flags = on_any_process([fabric.global_rank == 1, False], fabric)
    told = on_first_process(lambda: fabric.global_rank, fabric)
    try:
        on_first_process(refuse, fabric)
    except InputError as error:
        refusal = str(error)
    if fabric.global_rank == 1:
        others = {"flags": flags, "told": told, "refusal": refusal, "world_size": fabric.world_size}
        torch.save({"gradients": found, **others}, "found.pt")
    sys.argv[0] = "equiforce"
    main()
