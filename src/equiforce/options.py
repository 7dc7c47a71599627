"""An option: a dataclass field that carries its unit, its bounds and the reason for its default."""

from dataclasses import MISSING, Field, field
from typing import Any


def option(default: Any = MISSING, reason: str = "", *, unit: str = "", factory: Any = MISSING, **bounds: Any) -> Any:
    """A dataclass field whose default is explained.

    Args:
        default: the value used where the user says nothing.
        reason: why this default; printed beside it.
        unit: the physical unit, empty for pure numbers.
        factory: makes the default where it is mutable.
        bounds: any of ``gt``, ``ge``, ``lt``, ``le``; checked where the configuration is read.
    """
    metadata = {"reason": reason, "unit": unit, "bounds": bounds}
    if factory is not MISSING:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def default_of(entry: Field) -> Any:
    """The default of a field made by :func:`option`."""
    return entry.default_factory() if entry.default_factory is not MISSING else entry.default
