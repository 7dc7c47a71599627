"""What is to be distilled, and the labelled frames from which a student learns."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from equiforce.config import RunConfig
from equiforce.data.dataset import PARTS
from equiforce.distillation.options import DistillOptions
from equiforce.distillation.selection import Selection, is_gentle
from equiforce.storage.whole import write_text
from equiforce.structure import Structure


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be distilled into what."""

    teacher: Path
    structures: Sequence[str]
    output: Path
    folder: Path
    options: DistillOptions
    settings: RunConfig  # of the training of the student; its section data is that of the start structures
    device: str


@dataclass(frozen=True, kw_only=True)
class LabelledFrames:
    """The frames that the teacher has labelled: their files, and which of them are for what."""

    files: tuple[Path, ...] = ()
    n_in_files: int = 0
    indices: Mapping[str, Sequence[int]]  # of each part, counted through all files
    parts: Selection

    @classmethod
    def none(cls) -> "LabelledFrames":
        """No frames at all."""
        return cls(indices={part: [] for part in PARTS}, parts=Selection([], [], []))

    def with_file(
        self, file: Path, frames: Sequence[Structure], chosen: Selection, options: DistillOptions
    ) -> "LabelledFrames":
        """These frames and those of one more file.

        Args:
            file: the file.
            frames: all frames in it: first those that were chosen for training, then for validation, then for the test.
            chosen: the frames of each part before they were labelled.
            options: frames whose labels have a larger force than these allow are in the file, and in no part.
        """
        indices = {part: list(numbers) for part, numbers in self.indices.items()}
        parts, place = Selection(*(list(part) for part in self.parts)), 0
        for name, part, wanted in zip(PARTS, parts, chosen, strict=True):
            for frame in frames[place : place + len(wanted)]:
                if is_gentle(frame, options):
                    indices[name].append(self.n_in_files + place)
                    part.append(frame)
                place += 1
        files = (*self.files, file) if frames else self.files
        return LabelledFrames(files=files, n_in_files=self.n_in_files + len(frames), indices=indices, parts=parts)

    def n_of(self) -> dict[str, int]:
        """The number of frames of each part."""
        return {name: len(part) for name, part in zip(PARTS, self.parts, strict=True)}

    def write_split(self, file: Path) -> None:
        """Write which frames are for what, as the option ``split.split_file`` of a training reads it."""
        write_text(file, json.dumps(self.indices) + "\n")
