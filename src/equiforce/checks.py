"""Checks of tensors that callers give; every message names the tensor."""

import torch
from torch import Tensor

from equiforce.errors import InputError


def check_tensor(tensor: Tensor, name: str, dtype: torch.dtype, shape: tuple[int, ...], device: torch.device) -> None:
    """Raise InputError if a tensor does not have the given dtype, shape and device."""
    if tensor.dtype != dtype:
        have, want = (str(kind).removeprefix("torch.") for kind in (tensor.dtype, dtype))
        raise InputError(f"{name} is {have}, but has to be {want}: convert it with .to(torch.{want})")
    if tensor.shape != shape:
        raise InputError(f"{name} has the shape {list(tensor.shape)}, but has to have {list(shape)}")
    if tensor.device != device:
        raise InputError(f"{name} is on {tensor.device}, but other tensors are on {device}: move all to one device")


def version_of(tensor: Tensor) -> int:
    """The number of times that a tensor has been changed in place; 0 for an inference tensor, which has no count."""
    return 0 if tensor.is_inference() else tensor._version


def check_index(index: Tensor, name: str, n_rows: int, rows: str) -> None:
    """Raise InputError if an index is not between 0 and ``n_rows`` - 1."""
    if not index.shape[0]:
        return
    low, high = (bound.item() for bound in index.aminmax())
    if low < 0 or high >= n_rows:
        wrong = low if low < 0 else high
        raise InputError(f"{name} holds {wrong}, but there are {n_rows} {rows}, counted from 0")
