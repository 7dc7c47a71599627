"""Words and tables of the pages that studies write."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from equiforce.studies.power_law import number


def listed(items: Iterable[object], separator: str = ", ") -> str:
    """One after another."""
    return separator.join(f"{item:g}" if isinstance(item, float) else str(item) for item in items)


def counted(n: int, word: str) -> str:
    """As in ``1 run``, ``2 runs``."""
    return f"{n} {word}{'' if n == 1 else 's'}"


def assigned(options: Mapping[str, object]) -> str:
    """Options and their values."""
    return ", ".join(f"`{name}={value}`" for name, value in options.items())


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is the header."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    head, *body = (f"| {' | '.join(row)} |" for row in escaped)
    return "\n".join([head, f"|{'---|' * len(rows[0])}", *body])


def first_place(value: float) -> int:
    """Of the first digit: 2 of hundreds, -1 of tenths."""
    return int(np.floor(np.log10(value)))


def short(value: float) -> str:
    """Three digits."""
    return f"{value:#.3g}".rstrip(".") if value < 1000 else f"{value:,.0f}"


def percent(share: float) -> str:
    """A change with its sign."""
    return f"{number(100 * share, 0)} %" if share < 0 else f"+{100 * share:.0f} %"
