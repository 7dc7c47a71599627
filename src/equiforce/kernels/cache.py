"""The folder of compiled and generated kernels, and log messages that appear once in a process."""

import logging
from functools import cache
from pathlib import Path

from equiforce.cache import writable_folder

log = logging.getLogger("equiforce")


def cache_folder() -> Path:
    """The folder of compiled kernels in the user's cache, or a temporary folder if that cannot be written to."""
    return writable_folder("kernels")


@cache
def tell_once(message: str) -> None:
    """Write a warning to the log, once in a process."""
    log.warning(message)
