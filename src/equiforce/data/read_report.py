"""What was read from files, for the user: which labels from which keys and units, and what was left out."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

FEW = 3  # a larger number of similar files in a folder share one line of the report

NOTE = "note: "
MANY = 20  # further names of unused values are counted


def is_note(line: str) -> bool:
    """Whether a line of the report is a note, which the user should check and which is printed in another colour."""
    return line.lstrip().startswith(NOTE)


class FileReport(NamedTuple):
    """What was read from one file."""

    path: str
    n_frames: int
    keys: dict[str, tuple[tuple[str, int], ...]]  # label -> its keys, each with the number of frames that have it there
    converted: str  # the units of the file in words; empty if they are eV and Å
    notes: tuple[str, ...] = ()  # what was changed or left out
    remarks: tuple[str, ...] = ()  # how the labels were understood
    unused: tuple[str, ...] = ()  # the other values of the file

    def lines(self) -> list[str]:
        """The line of the file, and its notes."""
        found = [
            f"{label} from {' and '.join(f'{key!r} ({n} of {self.n_frames})' for key, n in keys)}"
            for label, keys in self.keys.items()
        ]
        parts = [
            f"{self.n_frames} structure{'' if self.n_frames == 1 else 's'}",
            ", ".join(found) or "no labels",
            *self.remarks,
        ]
        if self.converted:
            parts.append(f"converted from {self.converted}")
        if self.unused:
            more = f" and {len(self.unused) - MANY} more" if len(self.unused) > MANY else ""
            parts.append(f"not used: {', '.join(self.unused[:MANY])}{more}")
        return [f"{self.path}: {'; '.join(parts)}", *(f"  {NOTE}{note}" for note in self.notes)]

    def __str__(self) -> str:
        return "\n".join(self.lines())


class ReadReport(NamedTuple):
    """What was read from several files; ``print`` shows it."""

    files: tuple[FileReport, ...]
    skipped: tuple[str, ...]  # clauses that name the files that were left out, with the reason
    notes: tuple[str, ...] = ()  # about all files together

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The notes about all files; then the lines of each file, or of more than three similar files of a folder."""
        alike: dict[tuple[object, ...], list[FileReport]] = {}
        for report in self.files:
            keys = tuple((label, tuple(key for key, _ in found)) for label, found in report.keys.items())
            kind = (Path(report.path).parent, keys, report.converted, report.notes, report.remarks, report.unused)
            alike.setdefault(kind, []).append(report)
        lines = [NOTE + note for note in self.notes]
        for group in alike.values():
            lines += [
                line for report in (group if len(group) <= FEW else [_together(group)]) for line in report.lines()
            ]
        if self.skipped:
            lines.append(f"skipped: {', '.join(self.skipped)}")
        return lines


def _together(group: Sequence[FileReport]) -> FileReport:
    first = group[0]
    keys = {
        label: tuple((key, sum(report.keys[label][i][1] for report in group)) for i, (key, _) in enumerate(found))
        for label, found in first.keys.items()
    }
    name = f"{len(group)} files, {first.path} to {group[-1].path}"
    return first._replace(path=name, n_frames=sum(report.n_frames for report in group), keys=keys)
