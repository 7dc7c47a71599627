"""The program and its commands as typer runs them.

A flag that does not exist is answered with the option that was meant, and a signal with a sentence.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from equiforce.cli.arguments import INTERRUPTED
from equiforce.cli.output import print_interruption
from equiforce.errors import InputError
from equiforce.signals import ToldInterrupt, deferred
from equiforce.unknown_options import CLOSE

EVALUATE, DATA = "evaluate", "data."  # a command that has the options of one section only


class Program(TyperGroup):
    """All commands: each says that a signal has stopped it, also while it loads and has nothing to save."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """As in the base class, which imports packages; a signal ends it with a sentence."""
        with _stoppable():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """As in the base class; a signal ends it with a sentence unless the command has said one."""
        with _stoppable():
            return super().invoke(ctx)


@contextmanager
def _stoppable() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as interruption:
        if not isinstance(interruption, ToldInterrupt):
            print_interruption()
        raise typer.Exit(INTERRUPTED) from None


class Command(TyperCommand):
    """A command that knows what options are called in sections and in other programs."""

    def invoke(self, ctx: Any) -> Any:
        """As in the base class, after torch was loaded as a whole: a signal in between would abort the process."""
        with deferred():
            import torch  # noqa: F401
        return super().invoke(ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As in the base class; raises InputError for a flag that is an option of another name."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # NoSuchOption, which has another home in each version of typer
            flag = getattr(error, "option_name", "")
            if getattr(error, "possibilities", None):
                error.possibilities = get_close_matches(flag, error.possibilities, cutoff=CLOSE)  # type: ignore[attr-defined]
            settable = any("--set" in parameter.opts for parameter in self.params)
            meant = _meant(flag.removeprefix("--").replace("-", "_"), self.name or "") if flag and settable else ""
            if not meant:
                raise
            raise InputError(f"there is no flag {flag}: {meant}{self._way(meant)}") from None

    def _way(self, meant: str) -> str:
        """How the option is given: by its own flag where the command has one."""
        own = {flag for parameter in self.params for flag in parameter.opts}
        for name in re.findall(r"\bmd\.(\w+)", meant):
            if (flag := f"--{name.replace('_', '-')}") in own:
                return f": write {flag}"
        return ", and options are given as --set OPTION=VALUE"


def _meant(name: str, command: str) -> str:
    """Say which option is meant by a name; empty if none has a different name that means the same."""
    from equiforce.calculators.md import MDOptions
    from equiforce.calculators.relax_options import RelaxOptions
    from equiforce.config import configured
    from equiforce.option_values import read_options

    options = {"md": MDOptions, "lammps": MDOptions, "relax": RelaxOptions}.get(command)
    if options is not None and name in {entry.name for entry in fields(options)}:
        return f"{name} is an option"
    try:
        if options is not None:
            read_options(options, {name: None}, command)
        else:
            configured({}, {name: None})
    except InputError as error:
        meant = str(error).partition(": ")[2]
        if command == EVALUATE and DATA not in meant:
            return ""
        return meant if meant.startswith(("write ", "it is ")) or " here" in meant else ""
    return ""
