"""Which implementation computes an operation: plain torch, generated C or generated Triton."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor

from equiforce.errors import InputError
from equiforce.kernels.cache import tell_once
from equiforce.kernels.cpu import build
from equiforce.kernels.cpu import convolution as cpu_convolution

Backend = Literal["auto", "reference", "cpu", "gpu"]
Chosen = Literal["reference", "cpu", "gpu"]
_preferred: ContextVar[Backend] = ContextVar("preferred", default="auto")


@contextmanager
def using(backend: Backend) -> Iterator[None]:
    """Within this context ``auto`` means the given backend.

    Tests compare backends with it; users can work around a kernel that they suspect.
    """
    token = _preferred.set(backend)
    try:
        yield
    finally:
        _preferred.reset(token)


def choose(backend: Backend, example: Tensor, ready: Callable[[], bool], *, in_triton: bool = False) -> Chosen:
    """The implementation that computes with tensors like an example.

    Args:
        backend: what the caller asks for.
        example: a tensor with the dtype and device of the operation.
        ready: whether the C kernels of the operation can be used.
        in_triton: whether the operation has kernels in Triton; those that have none are computed by plain torch where
            Triton is asked for.

    Raises:
        InputError: the backend was asked for by name and cannot compute with these tensors here.
    """
    wanted = _preferred.get() if backend == "auto" else backend
    if wanted == "reference":
        return "reference"
    if wanted in ("auto", "cpu") and example.is_cpu and ready():
        return "cpu"
    if wanted in ("auto", "gpu") and in_triton and gpu_usable(example, by_name=wanted == "gpu"):
        return "gpu"
    if wanted != "auto" and in_triton:
        raise InputError(
            f"the kernels of backend {wanted!r} cannot compute {example.dtype} on {example.device} here: choose auto"
        )
    return "reference"


def gpu_usable(example: Tensor, *, by_name: bool) -> bool:
    """Whether the Triton kernels can compute with such tensors; on the CPU only by name, in Triton's interpreter."""
    if not (example.is_cuda or by_name):
        return False
    from equiforce.kernels.gpu import launch  # noqa: PLC0415 - an optional backend

    usable = example.dtype in launch.DTYPES and launch.available() and (example.is_cuda or launch.interpreted())
    if not usable and example.is_cuda:
        tell_once("equiforce computes with plain torch on the GPU, many times slower: pip install triton")
    return usable


def gpu_convolution() -> ModuleType:
    """The convolution in Triton, imported when it is first used."""
    from equiforce.kernels.gpu import convolution  # noqa: PLC0415 - an optional backend

    return convolution


def gpu_local() -> ModuleType:
    """The operations of strictly local models in Triton, imported when they are first used."""
    from equiforce.kernels.gpu import local  # noqa: PLC0415 - an optional backend

    return local


def describe(device: torch.device | str) -> str:
    """The name of the implementation that computes on a device, in words."""
    device = torch.device(device)
    if not fused(device):
        return "plain torch"
    return f"generated C, {build.target().name}" if device.type == "cpu" else "generated Triton"


def fused(device: torch.device | str) -> bool:
    """Whether convolutions on a device write nothing of the size of edges times channels."""
    device, wanted = torch.device(device), _preferred.get()
    if wanted == "reference":
        return False
    if device.type == "cpu":
        return cpu_convolution.edges_ready(0, torch.float32)
    return device.type == "cuda" and gpu_usable(torch.zeros(1, device=device), by_name=wanted == "gpu")
