"""From files to an untrained potential: reads and splits the data, decides on defaults, and says what was decided."""

import json
import math
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import torch

from equiforce import model_file
from equiforce.config import RunConfig, resolve_defaults, to_dict
from equiforce.coverage import Ranges, ranges_of
from equiforce.data import plausible, statistics
from equiforce.data.dataset import Split, split
from equiforce.data.read import ReadOptions, read_with_report
from equiforce.data.read_report import is_note
from equiforce.data.statistics import Statistics
from equiforce.elements import symbols_by_number
from equiforce.errors import InputError
from equiforce.evaluate import Errors
from equiforce.finetuning.start import FILE, Start
from equiforce.memory import require_room_to_build
from equiforce.potential import Potential
from equiforce.quantities import QUANTITIES
from equiforce.run_folder import OPTIONS, options_text
from equiforce.starting import begin, start_of_run, statistics_with
from equiforce.storage.whole import write_bytes, write_text
from equiforce.structure import Structure
from equiforce.terminal import NOTE, BarColumn, Console, TextColumn, TimeElapsedColumn, bar, note, say
from equiforce.training.loss import highest
from equiforce.training.stopping import TrainingConfig

SHOWN_EVERY = 100  # frames
SPLIT = "split.json"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The inputs of the first training step: resolved options, structures, what they cover, and the potential."""

    config: RunConfig
    parts: Split
    statistics: Statistics
    ranges: Ranges
    potential: Potential
    start: Start | None = None  # the model from which training starts; None: from random weights

    @property
    def learned(self) -> tuple[Structure, ...]:
        """All structures from which the potential learns."""
        return self.parts.train if self.start is None else (*self.parts.train, *self.start.replay.train)


def prepare(
    settings: RunConfig,
    folder: Path,
    *,
    resumed: bool,
    console: Console,
    device: torch.device | str = "cpu",
    n_ranks: int = 1,
) -> Prepared:
    """Read and split the data, compute statistics, resolve default options and build the untrained potential.

    Args:
        settings: the options that the user gave.
        folder: the run folder.
        resumed: whether the run continues.
        console: prints what was found and decided.
        device: the device of the training, whose memory has to suffice.
        n_ranks: the number of processes that share each batch.
    """
    with _stages(console) as stage:
        place = torch.device(device), n_ranks
        return _prepare(settings, folder, resumed=resumed, console=console, stage=stage, place=place)


@contextmanager
def _stages(console: Console) -> Iterator[Callable[[str], None]]:
    """Show a bar with the name of the present stage, because large data take minutes; only where a person sees it."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    visible = console.is_terminal or console.is_jupyter
    with bar(console, *columns, transient=True, visible=visible) as progress:
        task = progress.add_task("", total=None)
        yield lambda name: progress.update(task, description=name)


def _counting(stage: Callable[[str], None]) -> Callable[[], None]:
    """A function that counts the frames that were read, and shows their number."""
    frames = count(1)

    def on_frame() -> None:
        if (n := next(frames)) % SHOWN_EVERY == 0:
            stage(f"reading the data: {n:,} frames")

    return on_frame


def _prepare(
    settings: RunConfig,
    folder: Path,
    *,
    resumed: bool,
    console: Console,
    stage: Callable[[str], None],
    place: tuple[torch.device, int],
) -> Prepared:
    files, (device, n_ranks) = settings.split, place
    stage("reading the data")
    on_frame = _counting(stage)
    structures = read_and_report(files.train_file, settings.data, console, on_frame=on_frame)
    validation, test = (
        read_and_report(paths, settings.data, console, on_frame=on_frame) if paths else None
        for paths in (files.validation_file, files.test_file)
    )
    if resumed and (own := folder / SPLIT).exists():
        files = replace(files, split_file=str(_require_json(own)))
    stage("checking the data")
    everything = [*structures, *(validation or ()), *(test or ())]
    print_notes(plausible.check(everything, settings.model.cutoff, refuse=settings.data.check), console)
    stage("splitting the data")
    parts = split(structures, files, validation, test, settings.model.cutoff)
    if settings.start.from_scratch and n_ranks > 1:
        raise InputError("start.from_scratch needs one process: leave it out, or train without torchrun")
    stage("counting neighbours")
    start = _start(settings, folder, parts, console, device)
    settings = settings if start is None else replace(settings, model=start.adapted.potential.model.config)
    found_statistics = _statistics(settings, parts, start)
    _check_elements(parts, found_statistics)
    resolved = resolve_defaults(settings, parts, found_statistics)
    stage("building the model")
    description = description_of(resolved, found_statistics)
    batch = size_of_batch(resolved.training, parts.train, found_statistics.mean_neighbors, n_ranks)
    require_room_to_build(lambda: model_file.build_potential(description), device, *batch)
    torch.manual_seed(resolved.training.seed)
    potential = model_file.build_potential(description)
    begin(start, potential, resolved)
    _print_decisions(parts, found_statistics, resolved, potential, console)
    if start is not None:
        say(console, *start.lines(resolved.start.replay_share))
        print_notes(start.notes(), console)
    prepared = Prepared(
        config=resolved,
        parts=parts,
        statistics=found_statistics,
        ranges=ranges_of(parts.train, settings.model.cutoff),
        potential=potential,
        start=start,
    )
    return replace(prepared, ranges=ranges_of(prepared.learned, settings.model.cutoff)) if start else prepared


def _start(settings: RunConfig, folder: Path, parts: Split, console: Console, device: torch.device) -> Start | None:
    def read(files: Sequence[str]) -> list[Structure]:
        found = _read_old(files, settings.data, console)
        print_notes(plausible.check(found, settings.model.cutoff, refuse=settings.data.check), console)
        return found

    return start_of_run(settings, folder, parts, read, device)


def _read_old(files: Sequence[str], options: ReadOptions, console: Console) -> list[Structure]:
    """Read replayed structures with the names and units of the new data if these occur, or else with the usual ones."""
    usual = ReadOptions(check=options.check)
    try:
        return read_and_report(files, options, console, labels_required=False)
    except InputError as error:
        if options == usual:
            raise
        try:
            return read_and_report(files, usual, console, labels_required=False)
        except InputError:
            raise error from None


def _statistics(settings: RunConfig, parts: Split, start: Start | None) -> Statistics:
    given = settings.potential.reference_energies
    if start is not None:
        given = dict(zip(start.species, start.refit.new.tolist(), strict=True))
    found = statistics.compute(parts.train, parts.isolated, settings.model.cutoff, given, settings.model.pair_cutoffs)
    return statistics_with(start, found)


def read_and_report(
    paths: Sequence[str],
    options: ReadOptions,
    console: Console,
    *,
    labels_required: bool = True,
    on_frame: Callable[[], None] | None = None,
) -> list[Structure]:
    """Read the structures of files and print which labels were taken from which keys and units."""
    structures, report = read_with_report(paths, options, labels_required=labels_required, on_frame=on_frame)
    for line in report.lines():
        say(console, line, style=NOTE if is_note(line) else "")
    return structures


def print_notes(notes: Iterable[str], console: Console) -> None:
    """Print remarks that the user should see, in yellow."""
    for sentence in notes:
        note(console, sentence)


def _check_elements(parts: Split, found_statistics: Statistics) -> None:
    for name in ("validation", "test"):
        for structure in getattr(parts, name):
            symbols = set(symbols_by_number(structure.atomic_numbers))
            if missing := symbols - set(found_statistics.species):
                raise InputError(
                    f"{structure.source} ({name}) contains {', '.join(sorted(missing))}, but no training structure "
                    "does: add structures with this element to the training data, or leave the frame out"
                )


def description_of(settings: RunConfig, found_statistics: Statistics) -> dict[str, Any]:
    """The description for :func:`equiforce.model_file.build_potential`; raises InputError if a scale is missing."""
    given, species = settings.potential.scale, found_statistics.species
    for_all = found_statistics.force_rms if given is None else given
    scale = given if isinstance(given, Mapping) else dict.fromkeys(species, for_all)
    if missing := [symbol for symbol in species if symbol not in scale]:
        raise InputError(
            f"potential.scale has no value for {', '.join(missing)}: give one number for each element, or one for all"
        )
    return {
        "kind": settings.kind,
        "config": asdict(settings.model),
        "species": list(species),
        "dtype": settings.training.dtype,
        "zbl": model_file.zbl_entry(
            settings.potential.zbl, settings.potential.zbl_envelope_p, settings.potential.zbl_pair_cutoffs
        ),
        "atomic_energies": list(found_statistics.reference_energies),
        "scale": [scale[symbol] for symbol in species],
        "atomic_energies_trainable": settings.potential.atomic_energies_trainable,
        "scale_trainable": settings.potential.scale_trainable,
    }


def size_of_batch(
    training: TrainingConfig, train: Sequence[Structure], mean_neighbors: float, n_ranks: int
) -> tuple[float, float]:
    """About the largest numbers of atoms and of edges of a batch in one process, before neighbours are found."""
    sizes = sorted(map(len, train), reverse=True)
    if training.batch_size is not None:
        n_atoms = float(sum(sizes[: math.ceil(training.batch_size / n_ranks)]))
    else:
        n_atoms = min(max((training.max_edges or 0) / n_ranks / mean_neighbors, sizes[0]), float(sum(sizes)))
    return n_atoms, n_atoms * mean_neighbors


def n_weights_of(potential: Potential) -> int:
    """The number of trainable weights."""
    return sum(p.numel() for p in potential.parameters() if p.requires_grad)


def _print_decisions(
    parts: Split, found_statistics: Statistics, settings: RunConfig, potential: Potential, console: Console
) -> None:
    """Print what was decided from the data before training starts."""
    model, loss, species = settings.model, settings.loss, found_statistics.species
    references = ", ".join(f"{s} {e:.4f}" for s, e in zip(species, found_statistics.reference_energies, strict=True))
    power = "" if loss.kind == "mae" else "²"
    used = [q for q in QUANTITIES if highest(loss.weight(q)) > 0]
    weights = ", ".join(f"{q.name} {loss.weight(q)} per ({q.residual_unit}){power}" for q in used)
    say(
        console,
        f"structures: {len(parts.train)} for training, {len(parts.validation)} for validation, {len(parts.test)} for "
        f"testing; elements {', '.join(species)}",
        f"reference energies ({found_statistics.reference_energies_from}): {references} eV",
        f"root mean square force {found_statistics.force_rms:.3f} eV/Å; {found_statistics.mean_neighbors:.1f} "
        f"neighbours on average within {model.cutoff:g} Å",
        f"{settings.kind}: {model}, {n_weights_of(potential):,} weights, {settings.training.dtype}",
        f"loss weights: {weights}",
    )
    no_validation = "there are no validation structures: the model file gets the last weights, not the best ones"
    print_notes((*parts.notes, *found_statistics.notes, *(() if parts.validation else (no_validation,))), console)


def _require_json(path: Path) -> Path:
    """Raise InputError if the split of a run is damaged; its checkpoint says whether it is the right one."""
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is damaged ({error}): delete it, and --resume makes the split again from the options of the run"
        ) from error
    return path


def write_preparations(prepared: Prepared, folder: Path) -> None:
    """Write the options, the statistics and the split into the run folder, where they are not there already."""
    texts = {
        OPTIONS: options_text(prepared.config),
        "statistics.json": json.dumps(prepared.statistics.to_dict(), indent=1) + "\n",
        SPLIT: prepared.parts.to_json(),
    }
    for name, text in texts.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != text.encode():
            write_text(path, text)
    if prepared.start is not None and not (folder / FILE).is_file():
        write_bytes(folder / FILE, prepared.start.model.content)


def describe_run(prepared: Prepared, step: int, seconds: float, best_step: int, test: Errors | None) -> dict[str, Any]:
    """The origin of a model, which is stored in its file and shown by ``equiforce info``."""
    return {
        **({} if prepared.start is None else prepared.start.model.origin()),
        "statistics": prepared.statistics.to_dict(),
        "ranges": prepared.ranges.to_dict(),
        "config": to_dict(prepared.config),
        "training": {"steps": step, "best_step": best_step, "seconds": round(seconds, 1)},
        "test_errors": test.as_dict() if test else None,
        "made": {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "equiforce": version("equiforce"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
