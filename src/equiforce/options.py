"""An option is a dataclass field with a unit, bounds and an explanation of its meaning and default."""

import json
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, field, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from equiforce.errors import InputError

COMPARISONS = {"gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le}
LONGEST_VALUE = 60  # characters of a value in a message


def option(
    default: Any = MISSING,
    reason: str = "",
    *,
    unit: str = "",
    factory: Any = MISSING,
    only_if: tuple[str, Callable[[Any], bool]] | None = None,
    example: str = "",
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
        example: a value as it is written in YAML, which the refusal of a wrong one shows.
        bounds: any of ``gt``, ``ge``, ``lt``, ``le``, which are checked when the configuration is read.
    """
    metadata = {"reason": reason, "unit": unit, "bounds": bounds, "only_if": only_if, "example": example}
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


def in_section(values: Mapping[str, Any], section: str) -> dict[str, Any]:
    """The values by the names of their options, which may be given with the name of the section, as in ``md.steps``.

    Raises:
        InputError: an option is given with it and without it.
    """
    found = {str(name).removeprefix(f"{section}."): value for name, value in values.items()}
    if len(found) < len(values):
        names = [str(name) for name in values]
        twice = next(name for name in names if f"{section}.{name}" in names)
        raise InputError(f"{twice} and {section}.{twice} are both given: leave one of them out")
    return found


def without_effect(options: Any) -> Iterator[tuple[str, str]]:
    """The options of :func:`switched_off` whose values differ from their defaults."""
    defaults = {entry.name: default_of(entry) for entry in fields(options)}
    for name, condition in switched_off(options).items():
        if getattr(options, name) != defaults[name]:
            yield name, condition


def check_values(cls: type, values: Mapping[str, Any]) -> None:
    """Check the types and the bounds of options that come from a file, before a dataclass of options is made of them.

    Names of options are not checked: the dataclass refuses those that it does not know.

    Args:
        cls: the dataclass of options.
        values: plain values by the names of the options.

    Raises:
        ValueError: a value has another type than the option, is not finite, or is out of bounds.
    """
    kinds = get_type_hints(cls)
    for entry in fields(cls):
        if entry.name not in values:
            continue
        value = values[entry.name]
        if not _is_a(value, kinds[entry.name]):
            raise ValueError(f"{entry.name}={_short(value)} is not of the kind {kinds[entry.name]}")
        for name, bound in entry.metadata.get("bounds", {}).items():
            if isinstance(value, int | float) and not COMPARISONS[name](value, bound):
                raise ValueError(f"{entry.name}={_short(value)} is not allowed: its bound {name} is {bound}")


def _is_a(value: Any, kind: Any) -> bool:
    """Whether a plain value is of a kind that an annotation names; an annotation that is not known here allows all."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_is_a(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if origin in (list, tuple):
        return isinstance(value, list | tuple) and all(_is_a(v, parts[0]) for v in value)
    if origin is dict:
        return isinstance(value, dict) and all(_is_a(k, parts[0]) and _is_a(v, parts[1]) for k, v in value.items())
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is kind if kind in (int, str, bool, NoneType) else True


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "..."
