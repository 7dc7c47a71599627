"""The folder of compiled and generated kernels, and log messages that appear once in a process."""

import logging
import tempfile
from functools import cache
from pathlib import Path

import platformdirs

log = logging.getLogger("equiforce")


@cache
def cache_folder() -> Path:
    """The folder of compiled kernels in the user's cache, or a temporary folder if that cannot be written to."""
    folder = Path(platformdirs.user_cache_dir("equiforce")) / "kernels"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="equiforce-kernels-"))


@cache
def tell_once(message: str) -> None:
    """Write a warning to the log, once in a process."""
    log.warning(message)
