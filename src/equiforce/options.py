"""An option: a dataclass field that carries its unit, its bounds and the reason for its default."""

from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, field, fields
from typing import Any


def option(
    default: Any = MISSING,
    reason: str = "",
    *,
    unit: str = "",
    factory: Any = MISSING,
    only_if: tuple[str, Callable[[Any], bool]] | None = None,
    **bounds: Any,
) -> Any:
    """A dataclass field whose default is explained.

    Args:
        default: the value used where the user says nothing.
        reason: why this default; printed beside it.
        unit: the physical unit, empty for pure numbers.
        factory: makes the default where it is mutable.
        only_if: when the option changes anything, in words and as a predicate of the whole dataclass; to set it
            otherwise is an error.
        bounds: any of ``gt``, ``ge``, ``lt``, ``le``; checked where the configuration is read.
    """
    metadata = {"reason": reason, "unit": unit, "bounds": bounds, "only_if": only_if}
    if factory is not MISSING:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def default_of(entry: Field) -> Any:
    """The default of a field made by :func:`option`."""
    return entry.default_factory() if entry.default_factory is not MISSING else entry.default


def switched_off(options: Any) -> dict[str, str]:
    """The options that change nothing beside the others, each with the condition under which they would."""
    conditions = ((entry.name, entry.metadata["only_if"]) for entry in fields(options))
    return {name: condition[0] for name, condition in conditions if condition and not condition[1](options)}


def without_effect(options: Any) -> Iterator[tuple[str, str]]:
    """Those of :func:`switched_off` that were changed."""
    defaults = {entry.name: default_of(entry) for entry in fields(options)}
    for name, condition in switched_off(options).items():
        if getattr(options, name) != defaults[name]:
            yield name, condition
