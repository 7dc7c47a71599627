"""What descriptions of an operation on features have in common."""

from dataclasses import fields
from functools import cached_property

from equiforce.geometry.irreps import Irreps


class Layout:
    """A frozen dataclass with ``irreps_in`` and ``irreps_out``, which is looked up by its value at every call.

    A dataclass makes a hash of its own: one that inherits from this says ``__hash__ = Layout.__hash__``.
    """

    irreps_in: Irreps
    irreps_out: Irreps

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(tuple(vars(self)[field.name] for field in fields(self)))  # once: irreps take long to hash

    @cached_property
    def dims(self) -> tuple[int, int]:
        """Numbers of an atom, in and out."""
        return self.irreps_in.dim, self.irreps_out.dim
