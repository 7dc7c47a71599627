"""The choice of the implementation of an operation: plain torch, generated C or generated Triton."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor

from equiforce.cache import tell_once
from equiforce.errors import InputError
from equiforce.kernels.cpu import build
from equiforce.kernels.cpu import convolution as cpu_convolution

Backend = Literal["auto", "reference", "cpu", "gpu"]
Chosen = Literal["reference", "cpu", "gpu"]
_preferred: ContextVar[Backend] = ContextVar("preferred", default="auto")


@contextmanager
def using(backend: Backend) -> Iterator[None]:
    """A context in which ``auto`` means the given backend.

    Tests use it to compare backends. Users can use it to avoid a kernel that they suspect of an error.
    """
    token = _preferred.set(backend)
    try:
        yield
    finally:
        _preferred.reset(token)


def choose(backend: Backend, example: Tensor, ready: Callable[[], bool], *, in_triton: bool = False) -> Chosen:
    """Choose the implementation of an operation.

    Args:
        backend: the backend that the caller requests.
        example: a tensor with the dtype and device of the operation.
        ready: returns whether the C kernels of the operation can be used.
        in_triton: whether the operation has Triton kernels; if not, a backend that cannot compute means plain torch.

    Raises:
        InputError: the operation has Triton kernels, and the requested backend cannot compute with these tensors here.
    """
    requested = _preferred.get() if backend == "auto" else backend
    if requested == "reference":
        return "reference"
    if requested in ("auto", "cpu") and example.is_cpu and ready():
        return "cpu"
    if requested in ("auto", "gpu") and in_triton and gpu_usable(example, by_name=requested == "gpu"):
        return "gpu"
    if requested != "auto" and in_triton:
        raise InputError(
            f"the kernels of backend {requested!r} cannot compute {example.dtype} on {example.device} here: choose auto"
        )
    return "reference"


def gpu_usable(example: Tensor, *, by_name: bool) -> bool:
    """Whether Triton can compute with such tensors; on a CPU it needs its interpreter and a request ``by_name``."""
    if not (example.is_cuda or by_name):
        return False
    from equiforce.kernels.gpu import launch  # noqa: PLC0415 - an optional backend

    if example.is_cuda and not launch.available():
        tell_once("equiforce computes with plain torch on the GPU, many times slower: pip install triton")
        return False
    return example.dtype in launch.DTYPES and launch.available() and (example.is_cuda or launch.interpreted())


def gpu_convolution() -> ModuleType:
    """Import and return the Triton backend of convolutions."""
    from equiforce.kernels.gpu import convolution  # noqa: PLC0415 - an optional backend

    return convolution


def gpu_local() -> ModuleType:
    """Import and return the Triton backend of strictly local models."""
    from equiforce.kernels.gpu import local  # noqa: PLC0415 - an optional backend

    return local


def describe(device: torch.device | str) -> str:
    """Name the implementation that computes on a device."""
    device = torch.device(device)
    if not fused(device):
        return "plain torch"
    return f"generated C, {build.target().name}" if device.type == "cpu" else "generated Triton"


def fused(device: torch.device | str) -> bool:
    """Whether convolutions on a device store no array of size edges times channels."""
    device, requested = torch.device(device), _preferred.get()
    if requested == "reference":
        return False
    if device.type == "meta":  # shapes without numbers, from which the least possible memory is estimated
        return True
    if device.type == "cpu":
        return cpu_convolution.edges_ready(0, torch.float32)
    return device.type == "cuda" and gpu_usable(torch.zeros(1, device=device), by_name=requested == "gpu")
