"""Checks plain values, as from a YAML file or from Python, and returns them as a dataclass of options.

A value must be of the kind that an option has: true is not 1, and the text "3" is not 3.
"""

import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from functools import cache
from itertools import count
from pathlib import PurePath
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, create_model

from equiforce.errors import InputError
from equiforce.options import default_of, explain, in_section, without_effect
from equiforce.terminal import shortened
from equiforce.unknown_options import Vocabulary, refusal
from equiforce.yaml_files import DEEPEST, MOST_VALUES

KINDS = {  # of values, in pydantic's words and in those of a user
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "a text (in quotes if it looks like a number)",
    "a valid boolean": "true or false",
    "a valid list": "a list",
    "a valid tuple": "a pair of numbers",
    "a valid dictionary": "names with values",
}
LONGEST_MESSAGE = 1000  # characters; only a value of many makes one longer
LONGEST = 80  # characters of the name of an option in a message
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist, _SHORT.maxtuple = 4, 10, 10, 10
_SHORT.maxstring, _SHORT.maxlong, _SHORT.maxother = 100, 40, 100


def start_of(origin: str) -> str:
    """The start of a message about a file; empty without one."""
    return f"{origin}: " if origin else ""


def quoted(value: object) -> str:
    """The value for a message, shortened if it is long."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python refuses to write numbers with thousands of digits
        return "a number with thousands of digits"


def check_names(names: Iterable[str], where: str) -> None:
    """Raise ValueError if a name cannot stand on one line of a table, a page and a terminal."""
    for name in names:
        if not name.strip() or not name.isprintable():
            raise ValueError(
                f"{where} has the name {quoted(name)}: give a name without line breaks and other characters that "
                "cannot be seen"
            )


def read_options(cls: type, values: Mapping[str, Any], name: str, origin: str = "") -> Any:
    """Check plain values and return them as the dataclass ``cls``; messages use ``name`` for the section."""
    values = in_section(values, name)
    known = [entry.name for entry in fields(cls)]
    if wrong := [f"{name}.{option}" for option in values if option not in known]:
        listing = f"the options are {', '.join(known)}"
        vocabulary = Vocabulary(options={f"{name}.{option}": "" for option in known}, listing=listing)
        raise InputError(f"{start_of(origin)}{refusal([shortened(name, LONGEST) for name in wrong], vocabulary)}")
    hints = get_type_hints(cls)
    try:
        plain = {option: _plain(value, hints[option]) for option, value in values.items()}
        checked = schema_of(cls).model_validate(plain)
        options = cls(**{key: getattr(checked, key) for key in type(checked).model_fields})
    except ValidationError as error:
        wrong_one = next(entry for entry in fields(cls) if entry.name == error.errors(include_input=False)[0]["loc"][0])
        may_be_null = type(None) in get_args(hints[wrong_one.name])
        refused = _refusal(error, name, values, may_be_null, wrong_one.metadata.get("example", ""))
        raise InputError(f"{start_of(origin)}{refused}") from None
    except ValueError as error:
        raise InputError(f"{start_of(origin)}{shortened(error, LONGEST_MESSAGE)}") from None
    for key, condition in without_effect(options):
        raise InputError(
            f"{start_of(origin)}{name}.{key} changes nothing unless {condition}: leave it out, or change the other "
            "option"
        )
    return options


def _refusal(error: ValidationError, section: str, values: Mapping[str, Any], may_be_null: bool, example: str) -> str:
    """Describe the first wrong option and the kinds of values that are allowed, with an example if there is one."""
    faults = error.errors(include_input=False, include_url=False)
    name = str(faults[0]["loc"][0])
    wanted = []
    for fault in (e for e in faults if e["loc"][0] == name):
        entry = [str(part) for part in fault["loc"][1:] if not re.match(r"(int|float|str)$|(list|dict)\[", str(part))]
        kind = re.split(", unable|, got", fault["msg"].removeprefix("Input should be "))[0]
        kind = KINDS.get(kind, kind)
        wanted.append(f"{kind} as entry {_SHORT.repr(entry[0])[1:-1]}" if entry else kind)
    kinds = dict.fromkeys([*wanted, *(["null"] if may_be_null else [])])
    if KINDS["a valid number"] in kinds:
        kinds.pop(KINDS["a valid integer"], None)
    given = values[name]
    together = isinstance(given, Mapping) and any(":" in str(key) for key in given)
    hint = (", with a space behind each colon" if together else "") + (f", as in {example}" if example else "")
    return f"{section}.{name}={quoted(given)} is not allowed: it should be {' or '.join(kinds)}{hint}"


def _plain(value: Any, hint: Any) -> Any:
    """A value of Python or numpy as YAML would give it; a single text becomes a list where only lists are allowed.

    Raises:
        ValueError: the value is nested too deeply, or has too many parts.
    """
    converted = _converted(value, _leaves(hint), 0, count())
    return [converted] if hint == list[str] and isinstance(converted, str) else converted


def _converted(part: Any, leaves: set[Any], depth: int, parts: Iterator[int]) -> Any:
    if depth > DEEPEST or next(parts) > MOST_VALUES:
        raise ValueError(f"a value is nested more than {DEEPEST} times, or has more than {MOST_VALUES:,} parts")
    if isinstance(part, np.generic | np.ndarray):
        part = part.tolist()
    if isinstance(part, PurePath):
        return str(part)
    if isinstance(part, list | tuple):
        return [_converted(one, leaves, depth + 1, parts) for one in part]
    if isinstance(part, Mapping):
        return {key: _converted(one, leaves, depth + 1, parts) for key, one in part.items()}
    if isinstance(part, float) and int in leaves and float not in leaves and part.is_integer():
        return int(part)  # 1e4 steps
    return part


def _leaves(hint: Any) -> set[Any]:
    """The types without parts of their own in a type, as int and float in ``int | list[float]``."""
    parts = get_args(hint)
    return {leaf for part in parts for leaf in _leaves(part)} if parts else {hint}


@cache
def schema_of(cls: type) -> type[BaseModel]:
    """Build the pydantic model that checks the values of a dataclass of options."""
    hints = get_type_hints(cls)
    columns = {
        f.name: (
            _with_lists(hints[f.name]),
            Field(default_of(f), description=explain(f), **f.metadata["bounds"]),
        )
        for f in fields(cls)
    }
    strict = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)
    # pydantic's overloads take the names of fields for the names of its own keywords
    return create_model(cls.__name__, __config__=strict, **columns)  # type: ignore[call-overload]


def _with_lists(hint: Any) -> Any:
    """The same type with lists in the place of tuples, which YAML does not have."""
    parts, kind = tuple(map(_with_lists, get_args(hint))), get_origin(hint)
    if kind is tuple:
        return Annotated[hint, Strict(False)]
    if kind in (Union, UnionType):
        return Union[parts]  # noqa: UP007 (its members are not known before)
    return kind[parts] if kind in (list, dict) else hint
