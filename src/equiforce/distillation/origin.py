"""Where a student comes from: its teacher with checksum, licence and citation, which a model file keeps."""

import hashlib
from pathlib import Path
from typing import Any

from equiforce import model_file

LABELS = ("licence", "data", "citation")


def origin_of(teacher: Path) -> dict[str, Any]:
    """Describe a teacher for the header of its student.

    Args:
        teacher: the model file.

    Returns:
        Its ``name``, the ``sha256`` of its file, and its ``program``, ``licence``, ``data`` and ``citation`` as far as
        the file has them: those of an imported potential, or of the teacher from which it was itself distilled.

    Raises:
        InputError: the file cannot be read.
    """
    about = model_file.read_header(teacher)["about"]
    known = about.get("source") or about.get("distilled_from") or {}
    with teacher.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    found = {"name": _name_of(teacher, known if about.get("source") else {}), "sha256": sha256}
    if "source" in about:
        found["program"] = known["program"]
    return found | {key: known[key] for key in LABELS if key in known} | _chain(about)


def _name_of(teacher: Path, source: dict[str, Any]) -> str:
    """The name of an imported potential, or of the file; that of a run's folder if the file is called as in every."""
    if source:
        return str(source["name"])
    return teacher.resolve().parent.name if teacher.name == model_file.NAME else teacher.stem


def _chain(about: dict[str, Any]) -> dict[str, Any]:
    if (source := about.get("source")) is not None:
        return {"source_sha256": source["sha256"]}
    if (own := about.get("distilled_from")) is not None:
        return {"distilled_from": own}
    return {}


def of_file(sha256: str) -> str:
    """The checksum of the file of another program that was imported, in words."""
    return f"whose file has sha256 {sha256}"


def of_model_file(sha256: str) -> str:
    """The checksum of the model file of equiforce from which another model was made, in words.

    An imported potential has two files, so the words differ from those of :func:`of_file`.
    """
    return f"by its model file with sha256 {sha256}"


def in_words(origin: dict[str, Any]) -> str:
    """A teacher in words, with its own teacher if it had one."""
    program = f" of {origin['program']}" if "program" in origin else ""
    words = f"{origin['name']}{program}, {of_model_file(origin['sha256'])}"
    if (own := origin.get("distilled_from")) is not None:
        words += f"; that was distilled from {in_words(own)}"
    return words


def rows(origin: dict[str, Any]) -> list[tuple[str, str]]:
    """The names and values that ``equiforce info`` shows of a student's origin."""
    return [
        ("distilled from", in_words(origin)),
        *((f"{key} of the teacher", str(origin[key])) for key in LABELS if key in origin),
    ]
