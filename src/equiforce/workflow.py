"""``equiforce train``: reads reference data, trains a potential, tests it and writes the run folder."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from equiforce import model_file
from equiforce.assessment import finish
from equiforce.conclusion import command, conclude, told_how_to_go_on
from equiforce.config import RunConfig, configured, load_config, to_dict
from equiforce.data.dataset import Batches
from equiforce.data.write import refuse_file
from equiforce.errors import InputError
from equiforce.evaluate import Errors, predict
from equiforce.finetuning.comparison import UNIMPROVED, Comparison
from equiforce.finetuning.replay import ReplayBatches
from equiforce.finetuning.start import Start
from equiforce.kernels import describe
from equiforce.machine import describe_device
from equiforce.memory import require_room
from equiforce.potential import Potential
from equiforce.preparation import SPLIT, Prepared, describe_run, n_weights_of, prepare, print_notes, write_preparations
from equiforce.quantities import QUANTITIES
from equiforce.resume import Resumption, given_options, origin_of, resumption
from equiforce.run_folder import MODEL, Place, has_state, keep_as_last
from equiforce.starting import compared, of_scratch, with_start
from equiforce.storage.whole import write_text
from equiforce.structure import Structure
from equiforce.terminal import Console, note, own_console, say, show
from equiforce.threads import fastest_threads
from equiforce.training.display import Display
from equiforce.training.loop import Outcome, RunSetup, backward, fit, new_state
from equiforce.training.processes import Processes, make_fabric, on_first_process
from equiforce.training.state import TrainingState
from equiforce.training.stopping import DEFAULT_BATCH, counted, in_passes, planned
from equiforce.training.trackers import LOG, CsvLog, TensorBoardLog, Tracker, WandbLog, check_installed
from equiforce.training.verdict import Verdict, read_log, verdict
from equiforce.worst_frames import print_worst_frames

SCRATCH, COMPARISON = "scratch", "fine-tuning.json"  # in the run folder
EVALUATION_EDGES = 20_000  # the largest number of edges in a validation batch, which limits the memory


class Trained(NamedTuple):
    """The results of a training run."""

    folder: Path
    model: Path | None  # None if the run was interrupted before its first validation
    test: Errors | None  # None without test structures, after an interruption, and on all processes but one
    outcome: Outcome
    n_weights: int  # the number of trainable weights
    n_train: int  # the number of training structures
    verdict: Verdict | None = None  # whether the run was long enough; None after an interruption
    comparison: Comparison | None = None  # errors before and after; None unless it started from a model

    def as_dict(self) -> dict[str, Any]:
        """The results as nested plain values for a JSON file."""
        return {
            "folder": str(self.folder),
            "model": None if self.model is None else str(self.model),
            "ended": self.outcome.why,
            "interrupted": self.outcome.interrupted,
            "n_weights": self.n_weights,
            "n_train": self.n_train,
            "verdict": None if self.verdict is None else self.verdict._asdict(),
            "test": None if self.test is None else self.test.as_dict(),
            "fine_tuning": None if self.comparison is None else self.comparison.as_dict(),
        }


def train(
    data: str | Path | Sequence[str | Path] | None = None,
    output: str | Path | None = None,
    *,
    config: str | Path | Mapping[str, Mapping[str, Any]] | RunConfig | None = None,
    options: Mapping[str, Any] | None = None,
    resume: str | Path | None = None,
    resume_if_there: bool = False,
    console: Console | None = None,
    quiet: bool = False,
    plots: bool = True,
    names_resume: bool = True,
) -> Trained:
    """Train a potential on a file of reference data.

    Args:
        data: one or more files in any format that ASE reads, or MD17-like ``.npz`` files. None takes
            ``split.train_file`` of the config.
        output: the run folder, which must be new or empty. None chooses ``runs/`` followed by the name of the data.
        config: the path of a YAML file, nested values, or a :class:`equiforce.RunConfig`.
        options: values that override the config, such as ``{"model.l_max": 1, "training.time": "10m"}``.
        resume: the folder of a run to continue. ``output`` and ``config`` must then be None; ``data`` is the new place
            of the same data if it has moved. ``options`` may change the length of the run, but not what its weights
            mean.
        resume_if_there: whether to continue the run in ``output`` if there is one, and to start it otherwise. The data
            and the options must be the same each time.
        console: prints the progress; None prints it in a terminal and in a notebook.
        quiet: whether to print nothing. It has no effect on a ``console`` that is given.
        plots: whether to draw the training curves and the test parity plot, and to write the test predictions.
        names_resume: whether messages name ``equiforce train --resume``; a study goes on by a command of its own.

    Returns:
        The run folder, the model file in it, the errors on the test structures, and why training ended.

    Raises:
        InputError: the data or the options are wrong.
        DivergedError: the loss is no longer finite. The best model so far stays in the run folder.
    """
    console = console or _default_console(quiet=quiet)
    files = [] if data is None else [str(data)] if isinstance(data, str | Path) else [str(file) for file in data]
    if files and "split.train_file" in (options or {}):
        raise InputError(f"both {files[0]} and split.train_file name the training data: leave one of them out")
    given = {**({"split.train_file": files} if files else {}), **(options or {})}
    if resume is not None and (output is not None or config is not None or resume_if_there):
        raise InputError(
            "--resume takes the configuration from the run folder: leave out -o, --config and --resume-if-there"
        )
    if resume is not None:
        place, settings = Place(folder=Path(resume), resumes=True), resumption(Path(resume), given).settings
    else:
        goes_on = resume_if_there and output is not None and has_state(Path(output))
        settings = _configured(config, given)
        if settings.start.model is not None and not goes_on:
            settings = _configured(config, with_start(config, given))
        place = _place(output, settings, resume_if_there=resume_if_there)
        if place.resumes:
            settings = resumption(place.folder, given_options(config, given)).settings
    check_installed(tensorboard=settings.training.tensorboard, wandb=settings.training.wandb is not None)
    fabric = make_fabric(settings.training)
    console = console if fabric.is_global_zero else own_console(quiet=True)
    with place.used(fabric) as (folder, resumes), told_how_to_go_on(folder, console, names_resume=names_resume):
        resumed = None
        if resumes:  # read again, because another process may have used the folder until now
            resumed = resumption(folder, given if resume is not None else given_options(config, given))
        return _train(resumed.settings if resumed else settings, folder, fabric, console, resumed, plots=plots)


def _train(
    settings: RunConfig,
    folder: Path,
    fabric: Processes,
    console: Console,
    resumed: Resumption | None,
    *,
    plots: bool,
) -> Trained:
    prepared = prepare(
        settings,
        folder,
        resumed=resumed is not None,
        console=console,
        device=fabric.device,
        n_ranks=fabric.world_size,
    )
    potential, training = prepared.potential.to(fabric.device), prepared.config.training
    batches = _training_batches(prepared, potential, fabric)
    length = planned(training, batches.count(), len(prepared.parts.train))
    say(console, f"length: {length}")
    say(console, f"memory: {require_room(potential, *batches.largest())}")
    with fastest_threads(_first_step(prepared, fabric)):
        device = f"{describe_device(fabric.device)}; kernels: {describe(fabric.device)}"
        say(console, f"device: {device}")
        return _run(prepared, batches, folder, fabric, console, resumed, plots=plots)


def _default_console(*, quiet: bool) -> Console:
    """A console that prints in a terminal and in a notebook only."""
    console = own_console()
    return own_console(quiet=True) if quiet or not (console.is_terminal or console.is_jupyter) else console


def _configured(
    config: str | Path | Mapping[str, Mapping[str, Any]] | RunConfig | None, given: Mapping[str, Any]
) -> RunConfig:
    return load_config(config, given) if isinstance(config, str | Path) else configured(config or {}, given)


def _batches(
    structures: Sequence[Structure],
    potential: Potential,
    fabric: Processes,
    *,
    batch_size: int | None = None,
    max_edges: int | None = None,
    seed: int | None = None,
) -> Batches:
    """The batches of this process: its share of every batch of ``structures``."""
    return Batches(
        structures,
        potential.species,
        potential.cutoff,
        batch_size=batch_size,
        max_edges=max_edges,
        seed=seed,
        rank=fabric.global_rank,
        n_ranks=fabric.world_size,
    )


def _training_batches(prepared: Prepared, potential: Potential, fabric: Processes) -> Batches:
    """The batches of this process, with replayed structures among the new ones if there are any."""
    training, start = prepared.config.training, prepared.start
    size = {"batch_size": training.batch_size, "max_edges": training.max_edges}
    if start is None or not start.replay.train:
        return _batches(prepared.parts.train, potential, fabric, **size, seed=training.seed)
    return ReplayBatches(
        prepared.parts.train,
        start.replay.train,
        prepared.config.start.replay_share,
        potential.species,
        potential.cutoff,
        **size,
        seed=training.seed,
        rank=fabric.global_rank,
        n_ranks=fabric.world_size,
    )


def _first_step(prepared: Prepared, fabric: Processes) -> Callable[[], object] | None:
    """A training step, with which different numbers of threads are timed; None keeps torch's number of threads."""
    if fabric.world_size > 1 or fabric.device.type != "cpu" or prepared.config.training.deterministic:
        return None
    settings, potential = prepared.config, prepared.potential
    n_structures = settings.training.batch_size or DEFAULT_BATCH
    first = Batches(prepared.parts.train[:n_structures], potential.species, potential.cutoff, batch_size=n_structures)
    return lambda: backward(potential, *next(first.epoch(0)), 0.0, settings.loss, fabric)


def _place(output: str | Path | None, settings: RunConfig, *, resume_if_there: bool) -> Place:
    """Choose the folder of a new run, or of the run to continue if there is one."""
    if not settings.split.train_file:
        raise InputError("there is no training data: give a file, as in equiforce train DATA.xyz")
    stem = Path(settings.split.train_file[0].partition("@")[0]).stem
    folder = Path("runs") / stem if output is None else Path(output)
    refuse_file(folder.parent)
    if output is None and not resume_if_there:
        return Place(folder=folder, drawn=True)
    place = Place(folder=folder, resumes=resume_if_there and has_state(folder), known=resume_if_there)
    place.require_free()
    return place


def _run(
    prepared: Prepared,
    batches: Batches,
    folder: Path,
    fabric: Processes,
    console: Console,
    resumed: Resumption | None,
    *,
    plots: bool,
) -> Trained:
    settings, parts, potential = prepared.config, prepared.parts, prepared.potential
    state = new_state(potential, settings.optimizer)
    if resumed and resumed.checkpoint:
        resumed.restore(state, parts, prepared.start)
        print_notes(resumed.notes(), console)
        say(console, _where(state, batches, folder))
    state.origin = origin_of(settings, parts, prepared.start)
    fabric.barrier()  # the first process overwrites these files, so every process has to read them before
    on_first_process(partial(write_preparations, prepared, folder), fabric)
    if resumed and resumed.checkpoint:
        on_first_process(partial(keep_as_last, resumed.checkpoint), fabric)
    references = model_file.reference_structures(prepared.learned)

    def save_model(best: Potential, test: Errors | None = None) -> None:
        about = describe_run(prepared, state.step, state.seconds, state.best_step, test)
        model_file.save(folder / MODEL, best, references, about)

    trackers: list[Tracker] = []
    on_first_process(lambda: trackers.extend(_trackers(settings, folder, state, console)), fabric)
    labelled = [q for q in QUANTITIES if any(s.label(q) is not None for s in parts.validation)]
    with ExitStack() as stack:
        for tracker in trackers:
            stack.callback(tracker.close)
        display = stack.enter_context(Display(console, labelled))
        outcome = fit(
            state,
            RunSetup(
                training=batches,
                validation=_batches(parts.validation, potential, fabric, max_edges=EVALUATION_EDGES),
                config=settings.training,
                loss=settings.loss,
                optimizer=settings.optimizer,
                fabric=fabric,
                folder=folder,
                trackers=trackers,
                on_best=save_model,
                on_step=display,
                keeps_start=settings.start.model is not None,
            ),
        )
    model = folder / MODEL
    trained = Trained(
        folder, model if model.exists() else None, None, outcome, n_weights_of(potential), len(parts.train)
    )
    if outcome.interrupted:
        again = command("train", "--resume", folder)
        say(console, f"interrupted and saved; continue with: {again}")
    if not fabric.is_global_zero or outcome.interrupted:
        return trained
    return _finish(trained, prepared, state, batches, console, save_model, plots=plots)


def _finish(
    trained: Trained,
    prepared: Prepared,
    state: TrainingState,
    batches: Batches,
    console: Console,
    save_model: Callable[[Potential, Errors | None], None],
    *,
    plots: bool,
) -> Trained:
    """Test the best weights of a run, and write what is written at its end."""
    folder, parts, settings = trained.folder, prepared.parts, prepared.config
    passes = in_passes(state.passes(batches.count(state.epoch)))
    say(
        console,
        f"finished after {state.seconds:.0f} s, {counted(state.step, 'step')} = {passes}: {trained.outcome.why}",
        f"the model file has the weights with the lowest validation loss, of step {state.best_step:,}",
    )
    state.load_best()
    test = finish(state.ema.potential, parts.test, folder, console, plots=plots)
    save_model(state.ema.potential, test)
    found = verdict(read_log(folder / LOG, settings.loss), settings.loss)
    if plots and not parts.test and parts.validation:
        print_worst_frames(parts.validation, predict(state.ema.potential, parts.validation), console)
    trained = trained._replace(model=folder / MODEL, test=test, verdict=found)
    if prepared.start is not None:
        trained = _compared(trained, prepared, prepared.start, state, console)
    if not trained.outcome.interrupted:
        conclude(folder, settings, found, console)
    return trained


def _compared(trained: Trained, prepared: Prepared, start: Start, state: TrainingState, console: Console) -> Trained:
    """Print and write the errors before and after a fine-tuning, and first train from random weights if asked to."""
    scratch = None
    if state.best_step == 0:
        note(console, UNIMPROVED)
    if prepared.config.start.from_scratch:
        say(console, f"training from random weights for the same {state.seconds:.0f} s, in {trained.folder / SCRATCH}")
        options = of_scratch(prepared.config, prepared.parts.train, trained.folder / SPLIT, state.seconds)
        other = train(
            output=trained.folder / SCRATCH, options=options, resume_if_there=True, console=own_console(quiet=True),
            plots=False, names_resume=False,
        )  # fmt: skip
        if other.outcome.interrupted:
            say(console, f"interrupted; continue with: {command('train', '--resume', trained.folder)}")
            return trained._replace(outcome=other.outcome)
        scratch = model_file.load(other.folder / MODEL, state.potential.device)
    comparison = compared(start, state.ema.potential, prepared.parts, state.seconds, scratch)
    if comparison is not None:
        write_text(trained.folder / COMPARISON, json.dumps(comparison.as_dict(), indent=1) + "\n")
        show(console, comparison.table())
        print_notes(comparison.notes(comparison.rows[0].data), console)
    return trained._replace(comparison=comparison)


def _where(state: TrainingState, batches: Batches, folder: Path) -> str:
    """Say where a resumed run continues, or that it is finished."""
    if state.ended:
        return f"the run in {folder} is finished already: {state.ended}"
    return f"the run continues at step {state.step:,} ({state.passes(batches.count(state.epoch)):.3g} passes)"


def _trackers(settings: RunConfig, folder: Path, state: TrainingState, console: Console) -> list[Tracker]:
    log = CsvLog(folder / LOG, state.step)
    if log.n_rows < state.n_rows:
        print_notes([f"{log.path} has only {log.n_rows} of the {state.n_rows} validations so far"], console)
    trackers: list[Tracker] = [log]
    if settings.training.tensorboard:
        trackers.append(TensorBoardLog(folder))
    if settings.training.wandb:
        trackers.append(WandbLog(folder, settings.training.wandb, to_dict(settings)))
    return trackers
