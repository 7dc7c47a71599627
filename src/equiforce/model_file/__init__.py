"""Model files: safetensors weights with a JSON header that describes the potential. Reading one never executes code.

``container`` reads the bytes and their checksum, ``header`` checks what the header says, ``description`` builds the
potential that it describes, ``references`` has the structures that it must reproduce; ``loading`` and ``saving`` join
these.
"""

from equiforce.model_file.container import FORMAT, with_checksum
from equiforce.model_file.description import DTYPES, build_potential, cautions_of, describe, zbl_entry
from equiforce.model_file.header import (
    NAME,
    path_of,
    ranges_of,
    read_header,
    read_stored_header,
    reference_energies_from,
)
from equiforce.model_file.loading import load, load_or_take
from equiforce.model_file.references import (
    as_reference,
    reference_structures,
    small_pieces,
    stored_units,
    structure_of,
    verify,
)
from equiforce.model_file.saving import save

__all__ = [
    "DTYPES",
    "FORMAT",
    "NAME",
    "as_reference",
    "build_potential",
    "cautions_of",
    "describe",
    "load",
    "load_or_take",
    "path_of",
    "ranges_of",
    "read_header",
    "read_stored_header",
    "reference_energies_from",
    "reference_structures",
    "save",
    "small_pieces",
    "stored_units",
    "structure_of",
    "verify",
    "with_checksum",
    "zbl_entry",
]
