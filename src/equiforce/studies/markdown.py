"""Formats numbers, names, lists and tables for the pages of studies."""

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from equiforce.studies.power_law import number
from equiforce.terminal import one_line

MARKUP = re.compile(r"[\\`*\[\]<>|~&$]|(?<!\w)_|_(?!\w)|^[-+#=]|:(?=//|\w+:)|@")
NUMBERED = re.compile(r"^(\d+)(?=[.)](\s|$))")


def plain(text: object) -> str:
    """The text of a user, such as the name of a model, in which nothing is Markdown or HTML."""
    return NUMBERED.sub(r"\1\\", MARKUP.sub(r"\\\g<0>", one_line(text).strip()))


def code(text: object) -> str:
    """The text of a user as code."""
    shown = one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    space = " " if shown[:1] == "`" or shown[-1:] == "`" else ""
    return f"{fence}{space}{shown}{space}{fence}"


def listed(items: Iterable[object], separator: str = ", ") -> str:
    """Join items into a list."""
    return separator.join(f"{item:g}" if isinstance(item, float) else str(item) for item in items)


def counted(n: int, word: str) -> str:
    """Write a number and a noun, as in ``1 run`` and ``2 runs``."""
    return f"{n} {word}{'' if n == 1 else 's'}"


def assigned(options: Mapping[str, object]) -> str:
    """Write options and their values as code."""
    return ", ".join(code(f"{name}={value}") for name, value in options.items())


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table of Markdown; the first row is the header."""
    escaped = [[re.sub(r"(?<!\\)\|", r"\|", cell) for cell in row] for row in rows]
    head, *body = (f"| {' | '.join(row)} |" for row in escaped)
    return "\n".join([head, f"|{'---|' * len(rows[0])}", *body])


def exponent_of_ten(value: float) -> int:
    """Return the power of ten of the first digit: 2 for hundreds, -1 for tenths."""
    return int(np.floor(np.log10(value)))


def short(value: float) -> str:
    """Write a number with three digits."""
    return f"{value:#.3g}".rstrip(".") if value < 1000 else f"{value:,.0f}"


def percent(share: float) -> str:
    """Write a relative change in percent, with its sign."""
    return f"{number(100 * share, 0)} %" if share < 0 else f"+{100 * share:.0f} %"
