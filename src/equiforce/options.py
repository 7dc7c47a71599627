"""An option is a dataclass field with a unit, bounds and an explanation of its meaning and default."""

import json
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
    """Makes a dataclass field with an explanation that ``equiforce config`` prints.

    Args:
        default: the value if the user gives none.
        reason: what the option means and why it has this default; printed beside it.
        unit: the physical unit, empty for pure numbers.
        factory: makes the default if it is mutable.
        only_if: the condition under which the option has an effect, in words and as a predicate of the whole
            dataclass. Setting the option otherwise is an error.
        bounds: any of ``gt``, ``ge``, ``lt``, ``le``, which are checked when the configuration is read.
    """
    metadata = {"reason": reason, "unit": unit, "bounds": bounds, "only_if": only_if}
    if factory is not MISSING:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def default_of(entry: Field) -> Any:
    """The default of a field made by :func:`option`."""
    return entry.default_factory() if entry.default_factory is not MISSING else entry.default


def explain(entry: Field) -> str:
    """The unit and the reason of an option."""
    unit = f"{entry.metadata['unit']}; " if entry.metadata["unit"] else ""
    return unit + str(entry.metadata["reason"])


def to_lines(options: Any) -> str:
    """The text of a YAML file of one dataclass of options: each with its value, unit and reason."""
    # every JSON value is a YAML value
    lines = ((json.dumps(getattr(options, entry.name), ensure_ascii=False), entry) for entry in fields(options))
    return "".join(f"{entry.name}: {value}  # {explain(entry)}\n" for value, entry in lines)


def switched_off(options: Any) -> dict[str, str]:
    """The options that have no effect with these values of the others, each with its condition in words."""
    conditions = ((entry.name, entry.metadata["only_if"]) for entry in fields(options))
    return {name: condition[0] for name, condition in conditions if condition and not condition[1](options)}


def without_effect(options: Any) -> Iterator[tuple[str, str]]:
    """The options of :func:`switched_off` whose values differ from their defaults."""
    defaults = {entry.name: default_of(entry) for entry in fields(options)}
    for name, condition in switched_off(options).items():
        if getattr(options, name) != defaults[name]:
            yield name, condition
