"""Where a potential that others trained comes from: its program, licence, data and citation."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Source:
    """The origin of an imported potential; every text is shown by ``equiforce info``."""

    name: str  # of the model, such as nequix-mp-1; that of its file if it is not a published one
    program: str  # that made it
    sha256: str  # of the file
    licence: str
    data: str  # on which it was trained, with their level of theory
    citation: str

    def as_dict(self) -> dict[str, Any]:
        """The texts by name, for the header of a model file."""
        return asdict(self)
