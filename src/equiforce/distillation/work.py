"""``equiforce distill``: lets a large potential teach a small one, from start structures to a compared model file."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from equiforce import model_file
from equiforce.config import RunConfig, configured, load_config
from equiforce.data.dataset import SplitOptions
from equiforce.data.write import refuse_file
from equiforce.distillation import comparison
from equiforce.distillation.labelling import labelled
from equiforce.distillation.options import DistillOptions
from equiforce.distillation.origin import origin_of
from equiforce.distillation.report import Report
from equiforce.distillation.rounds import Taught, teach
from equiforce.distillation.selection import Selection, divided, select
from equiforce.distillation.starts import disturbed, read_starts, time_step
from equiforce.distillation.task import LabelledFrames, Task
from equiforce.distillation.training import STUDENT
from equiforce.distillation.trajectories import FOLDER as MD
from equiforce.distillation.trajectories import Interrupted, Played, check_pressures, planned, play_all
from equiforce.errors import InputError
from equiforce.evaluate import errors, predict
from equiforce.machine import describe_device
from equiforce.potential import Potential
from equiforce.quantities import QUANTITIES
from equiforce.signals import ToldInterrupt
from equiforce.storage.folders import used
from equiforce.storage.whole import write_text
from equiforce.structure import Structure
from equiforce.terminal import Console, note, own_console, say, show
from equiforce.threads import fastest_threads

IDENTITY, REPORT, PAGE = "distill.json", "report.json", "README.md"
COPIES, FRAMES = "copies.xyz", "frames.xyz"
PRESET = "small"
STARTED = ("start", "source")  # what a header says of the model from which training started


def distill(
    teacher: str | Path,
    structures: str | Path | Sequence[str | Path],
    output: str | Path,
    options: DistillOptions | None = None,
    *,
    folder: str | Path | None = None,
    config: str | Path | None = None,
    training: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    device: str = "cpu",
    console: Console | None = None,
) -> Report | None:
    """Teach a small potential what a large one says about structures, and compare the two.

    The teacher's dynamics from each start structure and disturbed copies give candidates; the most different ones train
    the student, which then moves the atoms itself and learns from what it visits. All of it is kept in a folder, and
    the same call goes on after an interruption.

    Args:
        teacher: a model file, or the folder of a run.
        structures: a file of start structures, or several; reference labels that they have are compared with.
        output: the model file of the student to write.
        options: of the sampling and of the comparison.
        folder: the folder of the distillation; None takes ``distill-`` and the name of the output.
        config: a YAML file of options of the training.
        training: options of the training that override it, such as ``{"training.time": "10m", "model.l_max": 0}``. The
            preset is ``small`` unless it is given.
        overwrite: whether to replace the output.
        device: computes teacher and student, ``cpu`` or ``cuda``.
        console: prints the progress; None prints nothing.

    Returns:
        The results, or None if a signal asked to stop.

    Raises:
        InputError: a file cannot be read or written, the output exists, the teacher does not know an element, the
            folder has another distillation, or the teacher gave too few frames.
        DivergedError: the training of the student diverged.
    """
    console, output = console or own_console(quiet=True), Path(output)
    files = [str(structures)] if isinstance(structures, str | Path) else [str(file) for file in structures]
    refuse_file(output.parent)
    if output.is_dir():
        raise InputError(f"{output} is a folder: name the model file to write, such as {output / 'small.eqf'}")
    if output.exists() and not overwrite:
        raise InputError(f"{output} exists already: choose another name, or replace it with --overwrite")
    task = Task(
        teacher=model_file.path_of(teacher),
        structures=files,
        output=output,
        folder=Path(f"distill-{output.stem}") if folder is None else Path(folder),
        options=options or DistillOptions(),
        settings=_settings(config, training or {}),
        device=device,
    )
    if output.exists() and output.samefile(task.teacher):
        raise InputError(f"{output} is the teacher: name another file for the student")
    return _distilled(task, console)


def _settings(config: str | Path | None, given: Mapping[str, Any]) -> RunConfig:
    """The options of the training; raises InputError if one is wrong, before the teacher computes anything."""
    if own := [name for name in given if name.startswith("split.")]:
        raise InputError(f"{own[0]} changes nothing, because a distillation divides its frames itself: leave it out")
    values = _with_preset(config, given)
    settings = load_config(config, values) if config is not None else configured({}, values)
    if settings.split != SplitOptions():
        raise InputError(
            f"{config}: the section split changes nothing, because a distillation divides its frames itself: leave it "
            "out"
        )
    return settings


def _with_preset(config: str | Path | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given options with the small preset, unless they or the file describe the student otherwise."""
    return dict(given) if config is not None or "model.preset" in given else {"model.preset": PRESET, **given}


def _distilled(task: Task, console: Console) -> Report | None:
    teacher = model_file.load(task.teacher, task.device)
    say(console, f"teacher: {task.teacher}; {teacher.model.config}; {describe_device(teacher.device)}")
    starts = read_starts(task.structures, teacher.species, teacher.cutoff, task.settings.data, console)
    for remark in check_pressures(starts, task.options):
        note(console, remark)
    refuse_file(task.folder)
    with _told_how_to_go_on(task, console), used(task.folder):
        _identify(task, starts)
        try:
            return _all_stages(task, teacher, starts, console)
        except Interrupted:
            return None


def _all_stages(task: Task, teacher: Potential, starts: Sequence[Structure], console: Console) -> Report | None:
    options, folder = task.options, task.folder
    timestep = time_step(starts, options)
    plan = planned(starts, timestep, options)
    say(
        console,
        f"sampling: {len(plan)} trajectories of {options.steps} steps of {timestep:g} fs from {len(starts)} start "
        f"structures, and {options.copies * len(starts)} disturbed copies",
    )
    played = play_all(teacher, plan, folder / MD, console)
    frames, n_violent = _selected(task, teacher, starts, played, console)
    taught = teach(task, teacher, starts, timestep, frames, console)
    distilled_from = origin_of(task.teacher)
    _write_student(task, taught.model, taught.frames.parts, distilled_from)
    say(console, "comparing the student with its teacher ...")
    report = _compared(task, teacher, starts, played, taught, n_violent, distilled_from, timestep, console)
    write_text(folder / REPORT, json.dumps(report.as_dict(), indent=1) + "\n")
    write_text(folder / PAGE, report.page())
    for table in report.tables():
        show(console, table)
    for warning in report.warnings():
        note(console, warning)
    say(console, f"written: {task.output}, {folder / REPORT}, {folder / PAGE}")
    return report


def _identify(task: Task, starts: Sequence[Structure]) -> None:
    """Write what is distilled from what, or raise InputError if the folder has another distillation."""
    with task.teacher.open("rb") as file:
        teacher = hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for start in starts:
        for values in (start.atomic_numbers, start.positions, start.cell, start.pbc):
            digest.update(values.tobytes())
    identity: dict[str, Any] = {
        "teacher": teacher,
        "structures": digest.hexdigest(),
        # what comes after the sampling and the training may change
        "options": {name: value for name, value in asdict(task.options).items() if name != "check_steps"},
    }
    path = task.folder / IDENTITY
    if not path.exists():
        others = sorted(p.name for p in task.folder.iterdir() if not p.name.startswith("."))
        if others:
            raise InputError(f"{task.folder} has other files, such as {others[0]}: name another folder with --folder")
        write_text(path, json.dumps(identity, indent=1) + "\n")
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        different = [name for name in ("teacher", "structures") if before[name] != identity[name]]
        old, new = before["options"], identity["options"]
        # a folder of an earlier version lacks the options that came later
        different += [f"{name} (not there)" for name in new if name not in old]
        different += [f"{name} ({old[name]})" for name in new if name in old and old[name] != new[name]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path} is damaged: name another folder with --folder") from error
    if different:
        raise InputError(
            f"{task.folder} has a distillation that differs in {', '.join(different)}: give the same again to go on "
            "with it, or name another folder with --folder"
        )


def _selected(
    task: Task, teacher: Potential, starts: Sequence[Structure], played: Sequence[Played], console: Console
) -> tuple[LabelledFrames, int]:
    """The labelled frames of each part, in one file: a fit of few test frames alone would seem to contradict them."""
    n_starts, folder = len(starts), task.folder
    plain = [replace(start, extra={}, of_atoms=frozenset(), group="start") for start in starts]
    asked = [*plain, *disturbed(starts, task.options)]
    with fastest_threads(lambda: predict(teacher, starts[0])):
        answered = labelled(teacher, asked, folder / COPIES, "the teacher labels copies", console)
        candidates = divided(answered[:n_starts], played, answered[n_starts:], task.options)
        chosen = select(candidates, task.options, task.settings.model.cutoff)
        every = [*chosen.train, *chosen.validation, *chosen.test]
        frames = labelled(teacher, every, folder / FRAMES, "the teacher labels frames", console)
    selection = LabelledFrames.none().with_file(folder / FRAMES, frames, chosen, task.options)
    n_of = selection.n_of()
    say(
        console,
        f"frames: {n_of['train']} for training, {n_of['validation']} for validation, {n_of['test']} for the test, "
        f"chosen among {len(candidates.train) + len(candidates.validation) + len(candidates.test)}; "
        f"{candidates.n_violent} with forces above {task.options.largest_force:g} eV/Å were left out",
    )
    return selection, candidates.n_violent


def _write_student(task: Task, model: Path, frames: Selection, distilled_from: Mapping[str, Any]) -> None:
    """Write the student with the name, the licence and the citation of its teacher."""
    about = model_file.read_header(model)["about"]
    if task.options.rounds:  # a later training starts from the student itself, and the first one from what it was given
        first = model_file.read_header(task.folder / STUDENT / model_file.NAME)["about"]
        about = {key: value for key, value in about.items() if key not in STARTED}
        about |= {key: first[key] for key in STARTED if key in first}
    references = model_file.reference_structures(frames.train)
    model_file.save(task.output, model_file.load(model), references, about | {"distilled_from": dict(distilled_from)})


def _compared(
    task: Task,
    teacher: Potential,
    starts: Sequence[Structure],
    played: Sequence[Played],
    taught: Taught,
    n_violent: int,
    distilled_from: Mapping[str, Any],
    timestep: float,
    console: Console,
) -> Report:
    """Measure the student beside its teacher."""
    student = model_file.load(task.output, task.device)
    ranges = model_file.ranges_of(model_file.read_header(task.output), task.output)
    assert ranges is not None  # every training writes them
    speeds = comparison.speeds(teacher, student, starts)
    with fastest_threads(lambda: predict(teacher, starts[0])):
        with_labels = [s for s in starts if any(s.label(quantity) is not None for quantity in QUANTITIES)]
        references = {
            name: errors(with_labels, predict(potential, with_labels))
            for name, potential in (("teacher", teacher), ("student", student))
            if with_labels
        }
        test = taught.frames.parts.test
        held_out = errors(test, predict(student, test))
    return Report(
        folder=task.folder,
        model=task.output,
        teacher=distilled_from,
        options=task.options,
        timestep=timestep,
        n_frames=taught.frames.n_of(),
        rounds=taught.rounds,
        n_violent=n_violent,
        stopped=[f"{p.trajectory.name}: {p.stopped}" for p in played if p.stopped],
        speeds=speeds,
        held_out=held_out,
        references=references,
        ranges=ranges,
        simulated=comparison.simulate(task.output, played, task.options.check_steps, task.folder, console),
        verdict=taught.trained.verdict,
        training={name: value for name, value in taught.trained.as_dict().items() if name != "test"},
    )


@contextmanager
def _told_how_to_go_on(task: Task, console: Console) -> Iterator[None]:
    """Say after an interruption that the same command goes on."""
    try:
        yield
    except KeyboardInterrupt:
        say(console, f"interrupted; the same command goes on in {task.folder}")
        raise ToldInterrupt from None
