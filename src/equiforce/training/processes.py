"""Several processes that train as one: how they find each other and add up what they computed."""

import os

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from torch import Tensor, nn

from equiforce.errors import InputError
from equiforce.training.stopping import TrainingConfig


def make_fabric(config: TrainingConfig) -> Fabric:
    """This process alone, or as one of those that torchrun started; ready for work.

    Raises:
        InputError: an option that changes nothing on this device, a GPU that is not there, or tasks of srun that would
            each train by themselves.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("training.device=cuda, but torch finds no GPU here: leave the option out to train on the CPU")
    cuda = config.device != "cpu" and torch.cuda.is_available()
    if config.tf32 and not cuda:
        raise InputError("training.tf32 changes nothing on a CPU: leave it out, or train on a GPU")
    # chosen here, for Fabric would take the tasks of an allocation of SLURM for its own, and start MPI to look for more
    started_by_torchrun = TorchElasticEnvironment.detect()
    environment = TorchElasticEnvironment() if started_by_torchrun else LightningEnvironment()
    n_tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))  # noqa: TID251 (how srun says it)
    if n_tasks > 1 and not started_by_torchrun:
        raise InputError(
            f"srun started this {n_tasks} times, and each would train by itself: start the processes with torchrun "
            f"--nproc-per-node={n_tasks}, or one task with srun -n 1"
        )
    world_size = environment.world_size() if started_by_torchrun else 1
    if world_size % config.n_nodes:
        raise InputError(
            f"{world_size} processes on training.n_nodes={config.n_nodes} do not divide evenly: correct n_nodes"
        )
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=world_size // config.n_nodes,
        num_nodes=config.n_nodes,
        strategy="ddp" if world_size > 1 else "auto",
        plugins=environment,
    )
    fabric.launch()
    torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
    torch.use_deterministic_algorithms(config.deterministic)
    return fabric


def total_over_processes(value: Tensor, fabric: Fabric) -> Tensor:
    """The sum of ``value`` over all processes, on each of them."""
    return value if fabric.world_size == 1 else fabric.all_reduce(value, reduce_op="sum")


def add_gradients(module: nn.Module, fabric: Fabric) -> None:
    """Sums the gradients over processes, in one message for each precision.

    This is all that training on several processes needs: Lightning's wrapper would average gradients, and the mean
    of means is wrong where processes hold batches of different size.
    """
    if fabric.world_size == 1:
        return
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    for dtype in sorted({g.dtype for g in gradients}, key=str):
        own = [g for g in gradients if g.dtype == dtype]
        flat = total_over_processes(torch.cat([g.flatten() for g in own]), fabric)
        for gradient, part in zip(own, flat.split([g.numel() for g in own]), strict=True):
            gradient.copy_(part.view_as(gradient))
