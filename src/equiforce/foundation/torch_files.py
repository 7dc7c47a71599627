"""Reads files that torch.save wrote, without executing anything in them."""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from equiforce.errors import InputError

# What rebuilds arrays and numbers of numpy; it calls nothing that a file could choose.
REBUILD = np.core.multiarray if np.__version__ < "2" else np._core.multiarray  # type: ignore[attr-defined]
ALLOWED: list[Any] = [
    *((REBUILD._reconstruct, f"{place}._reconstruct") for place in ("numpy.core.multiarray", "numpy._core.multiarray")),
    *((REBUILD.scalar, f"{place}.scalar") for place in ("numpy.core.multiarray", "numpy._core.multiarray")),
    np.ndarray,
    np.dtype,
    *(getattr(np.dtypes, name) for name in ("Float64DType", "Float32DType", "Int64DType", "Int32DType", "BoolDType")),
]


def read_values(path: Path) -> tuple[dict[Any, Any], str]:
    """Read the values of a file that torch.save wrote.

    Returns:
        The values by name, and the sha256 of the file.

    Raises:
        InputError: the file is damaged, or has something else than values.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            records = archive.infolist()
            if any(record.compress_type != zipfile.ZIP_STORED for record in records):
                raise ValueError("a part of it is compressed")  # torch does not compress, and zip bombs do
            if sum(record.file_size for record in records) > len(content):
                raise ValueError("its parts are larger than the file")
            if archive.testzip() is not None:
                raise ValueError("the checksum of one of its parts is wrong")
        with torch.serialization.safe_globals(ALLOWED):
            values = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise InputError(f"{path} needs more memory than this machine has: use a larger one") from error
    except Exception as error:  # zipfile and torch raise errors of many kinds
        raise InputError(
            f"{path} is damaged, or has something else than weights and options, which is not loaded for safety: "
            "download it again"
        ) from error
    if not isinstance(values, dict):
        raise InputError(f"{path} has no named values: it is no checkpoint of a potential")
    return values, hashlib.sha256(content).hexdigest()
