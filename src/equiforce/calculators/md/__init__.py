"""Molecular dynamics in one call; each name is imported when it is first used, so that options are read quickly."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from equiforce.calculators.md.options import MDOptions
    from equiforce.calculators.md.run import resume_md, run_md
    from equiforce.calculators.md.start import read_start, refuse_unfit
    from equiforce.calculators.md.summary import MDSummary

_HOMES = {
    "MDOptions": "options",
    "MDSummary": "summary",
    "read_start": "start",
    "refuse_unfit": "start",
    "resume_md": "run",
    "run_md": "run",
}

__all__ = ["MDOptions", "MDSummary", "read_start", "refuse_unfit", "resume_md", "run_md"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"equiforce.calculators.md has no {name!r}; it has {', '.join(_HOMES)}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
