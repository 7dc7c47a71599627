"""Training on several processes: starts them and sums values and gradients over them."""

import os
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor, nn

from equiforce.errors import InputError
from equiforce.training.stopping import TrainingConfig

T = TypeVar("T")


@runtime_checkable
class Processes(Protocol):
    """What training needs of the processes that share it: a part of Lightning's Fabric, which takes 1.4 s to import."""

    @property
    def device(self) -> torch.device: ...
    @property
    def world_size(self) -> int: ...
    @property
    def global_rank(self) -> int: ...
    @property
    def is_global_zero(self) -> bool: ...
    def barrier(self) -> None: ...
    def broadcast(self, obj: Any) -> Any: ...
    def all_reduce(self, data: Tensor, *, reduce_op: str) -> Any: ...


def make_fabric(config: TrainingConfig) -> Processes:
    """Set up this process, alone or together with the others that torchrun started.

    Args:
        config: device, precision and number of machines.

    Returns:
        Lightning's Fabric, launched.

    Raises:
        InputError: there is no GPU, an option changes nothing on the device, the number of processes is not a multiple
            of ``n_nodes``, or srun started several tasks that would each train separately.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment

    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("training.device=cuda, but torch finds no GPU: leave the option out to train on the CPU")
    cuda = config.device != "cpu" and torch.cuda.is_available()
    if config.tf32 and not cuda:
        raise InputError("training.tf32 changes nothing on a CPU: leave it out, or train on a GPU")
    # Fabric's own choice would take all tasks of a SLURM allocation for its processes, and start MPI to find more.
    started_by_torchrun = TorchElasticEnvironment.detect()
    environment = TorchElasticEnvironment() if started_by_torchrun else LightningEnvironment()
    n_tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))  # noqa: TID251 (srun sets it)
    if n_tasks > 1 and not started_by_torchrun:
        raise InputError(
            f"srun started {n_tasks} tasks, and each would train its own model: start the processes with torchrun "
            f"--nproc-per-node={n_tasks}, or a single task with srun -n 1"
        )
    world_size = environment.world_size() if started_by_torchrun else 1
    if world_size % config.n_nodes:
        raise InputError(
            f"{world_size} processes are not a multiple of training.n_nodes={config.n_nodes} machines: correct n_nodes"
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
    return cast("Processes", fabric)  # its methods have more options


def on_first_process(work: Callable[[], T], fabric: Processes) -> T:
    """Let the first process do something, and return the result on all of them.

    Args:
        work: what it does; the result is sent to the others.
        fabric: the processes, all of which call this.

    Raises:
        InputError: the work raised one, or an OSError; on all processes, so that none waits for the others.
    """
    done: tuple[T | None, str | None] = (None, None)
    problem: Exception | None = None
    if fabric.is_global_zero:
        try:
            done = work(), None
        except (InputError, OSError) as error:
            done, problem = (None, str(error)), error
    result, said = fabric.broadcast(done)
    if problem is not None:
        raise problem
    if said is not None:
        raise InputError(said)
    return cast("T", result)


def total_over_processes(value: Tensor, fabric: Processes) -> Tensor:
    """The sum of ``value`` over all processes; every process gets it."""
    if fabric.world_size == 1:
        return value
    return cast("Tensor", fabric.all_reduce(value, reduce_op="sum"))  # its type allows collections too


def add_gradients(module: nn.Module, fabric: Processes) -> None:
    """Sum the gradients over processes, with one message for each dtype.

    Lightning's own wrapper is not used because it averages gradients, and the mean of means is wrong if processes have
    shares of different size.
    """
    if fabric.world_size == 1:
        return
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    for dtype in sorted({g.dtype for g in gradients}, key=str):
        own = [g for g in gradients if g.dtype == dtype]
        flat = total_over_processes(torch.cat([g.flatten() for g in own]), fabric)
        for gradient, part in zip(own, flat.split([g.numel() for g in own]), strict=True):
            gradient.copy_(part.view_as(gradient))
