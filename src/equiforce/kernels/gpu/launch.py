"""What all Triton kernels share: where they can run, how they are loaded, and the check of what they are given."""

import hashlib
import tempfile
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from equiforce.errors import InputError
from equiforce.kernels.cache import cache_folder

try:
    from triton import knobs
except ImportError:  # torch for CUDA brings Triton along, with knobs since torch 2.8
    knobs = None

DTYPES = (torch.float32, torch.float64)
MOST_ROWS = 2**31 - 1  # of an index in int32


def available() -> bool:
    """Whether these kernels can run here: on a GPU, or in Triton's interpreter (``TRITON_INTERPRET=1``), for tests."""
    return knobs is not None and (torch.cuda.is_available() or interpreted())


def interpreted() -> bool:
    """Whether Triton does not compile, but interprets, slowly and on any tensor."""
    return knobs is not None and bool(knobs.runtime.interpret)


def checked(operation: str, like: Tensor, **tensors: tuple[Tensor | None, tuple[int, ...]]) -> list[Tensor | None]:
    """The tensors, contiguous, once they are what a kernel reads: pointers carry neither dtype nor shape.

    Args:
        operation: its name, for messages.
        like: a tensor with the dtype and device that all have to have.
        tensors: by name, each with the shape that it has to have; None stays None.

    Raises:
        InputError: a tensor has another dtype, shape or device.
    """
    result: list[Tensor | None] = []
    for name, (tensor, shape) in tensors.items():
        if tensor is None:
            result.append(None)
            continue
        if tensor.dtype != like.dtype:
            raise InputError(f"{operation}: {name} is {tensor.dtype}, and the rest {like.dtype}: convert it")
        if tensor.shape != shape:
            raise InputError(f"{operation}: {name} has the shape {list(tensor.shape)}, and has to have {list(shape)}")
        if tensor.device != like.device:
            raise InputError(f"{operation}: {name} is on {tensor.device}, and the rest on {like.device}: move it")
        result.append(tensor.contiguous())
    return result


def check_size(operation: str, n_rows: int) -> None:
    """Raises InputError where there are more rows than the int32 indices of the kernels can count."""
    if n_rows > MOST_ROWS:
        raise InputError(f"{operation}: {n_rows:,} rows are more than the {MOST_ROWS:,} that GPU kernels can count")


@cache
def load(text: str, interpret: bool, folder: Path | None = None) -> ModuleType:
    """The module with this text; Triton compiles its kernels when they are first launched, and keeps them.

    Args:
        text: written to a file, which Triton needs.
        interpret: tells modules loaded for the interpreter from others.
        folder: where the file is kept; the user's cache unless said otherwise.
    """
    name = f"triton_{hashlib.sha256(text.encode()).hexdigest()[:20]}"
    path = (folder or cache_folder()) / f"{name}.py"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=path.parent) as workshop:  # other processes may do the same right now
            draft = Path(workshop) / path.name
            draft.write_text(text)
            draft.replace(path)
    spec = spec_from_file_location(f"{name}_{interpret}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
