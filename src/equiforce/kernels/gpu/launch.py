"""The common parts of all Triton kernels: where they can run, how they are loaded, and the check of their arguments."""

import hashlib
import linecache
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from equiforce.checks import check_tensor
from equiforce.errors import InputError

try:
    from triton import knobs
except ImportError:  # torch for CUDA installs Triton, which has knobs since torch 2.8
    knobs = None

DTYPES = (torch.float32, torch.float64)
# The kernels count rows in int32, also beyond the last row: the last tile may not be full, and after its last step a
# loop has advanced by up to 512 tiles of up to 128 rows. All this is less than MOST_BEYOND.
MOST_BEYOND = 2**17
MOST_ROWS = 2**31 - 1 - MOST_BEYOND


def available() -> bool:
    """Whether Triton kernels can run: on a GPU, or, for tests, in Triton's interpreter (``TRITON_INTERPRET=1``)."""
    return knobs is not None and (torch.cuda.is_available() or interpreted())


def interpreted() -> bool:
    """Whether Triton interprets kernels instead of compiling them, which is slow but works on CPU tensors."""
    return knobs is not None and bool(knobs.runtime.interpret)


def checked(operation: str, like: Tensor, **tensors: tuple[Tensor | None, tuple[int, ...]]) -> list[Tensor | None]:
    """Check several tensors as in :func:`checked_tensor`.

    Args:
        operation: name of the operation, for messages.
        like: a tensor with the required dtype and device.
        tensors: tensors by name, each with its required shape; None stays None.
    """
    return [
        None if tensor is None else checked_tensor(operation, like, name, tensor, shape)
        for name, (tensor, shape) in tensors.items()
    ]


def checked_tensor(operation: str, like: Tensor, name: str, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Check a tensor before a kernel takes its pointer, which has neither dtype nor shape, and return it contiguous.

    Args:
        operation, name: names of the operation and of the tensor, for messages.
        like: a tensor with the required dtype and device.
        tensor: the tensor to check.
        shape: the required shape.

    Raises:
        InputError: the tensor has another dtype, shape or device.
    """
    check_tensor(tensor, f"{operation}: {name}", like.dtype, shape, like.device)
    return tensor.resolve_neg().contiguous()  # torch may keep a sign beside the memory


def check_indices(operation: str, like: Tensor, n_rows: int, **indices: Tensor) -> None:
    """Raise InputError if an index is not int64, does not have ``n_rows`` rows, or is not on the device of ``like``."""
    for name, index in indices.items():
        check_tensor(index, f"{operation}: {name}", torch.int64, (n_rows,), like.device)


def check_size(operation: str, n_rows: int) -> None:
    """Raise InputError if there are more rows than the int32 indices of the kernels can count."""
    if n_rows > MOST_ROWS:
        raise InputError(f"{operation}: {n_rows:,} rows are more than the {MOST_ROWS:,} that GPU kernels can count")


@cache
def load(text: str, interpret: bool) -> ModuleType:
    """Load the module with this text; Triton compiles a kernel when it is first launched, and caches it.

    Triton reads the text where Python looks up the lines of a traceback, so that there is no file that could be
    damaged, or changed by others.

    Args:
        text: source of the module.
        interpret: whether the module is for the interpreter, whose modules have another name.
    """
    module = ModuleType(f"triton_{hashlib.sha256(text.encode()).hexdigest()[:20]}_{interpret}", "Generated kernels.")
    file = f"<{module.__name__}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)  # None: there is no file
    exec(compile(text, file, "exec"), vars(module))
    return module
