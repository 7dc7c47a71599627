"""The common base class of path tables, coupling tables and plans."""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

from equiforce.geometry.irreps import Irreps


@dataclass(frozen=True)
class Layout:
    """A frozen dataclass with ``irreps_in`` and ``irreps_out``; it is a key of caches that are read at every call.

    A dataclass generates its own hash, so each subclass must contain the line ``__hash__ = Layout.__hash__``.
    """

    if TYPE_CHECKING:  # at run time a dataclass would take these properties for the default values of its fields

        @property
        def irreps_in(self) -> Irreps: ...

        @property
        def irreps_out(self) -> Irreps: ...

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(tuple(vars(self)[field.name] for field in fields(self)))  # cached because irreps hash slowly

    @cached_property
    def dims(self) -> tuple[int, int]:
        """The number of features of an atom before and after the operation."""
        return self.irreps_in.dim, self.irreps_out.dim
