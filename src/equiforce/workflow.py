"""``equiforce train``: reads reference data, trains a potential, tests it and writes the run folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from equiforce import model_file
from equiforce.assessment import finish
from equiforce.config import RunConfig, configured, load_config, to_dict
from equiforce.data.dataset import Batches
from equiforce.errors import InputError
from equiforce.evaluate import Errors
from equiforce.kernels import describe
from equiforce.memory import require_room
from equiforce.potential import Potential
from equiforce.preparation import Prepared, describe_run, n_weights_of, prepare, write_preparations
from equiforce.structure import Structure
from equiforce.threads import fastest_threads
from equiforce.training.display import Display
from equiforce.training.loop import Outcome, RunSetup, backward, fit, new_state
from equiforce.training.processes import Fabric, make_fabric
from equiforce.training.stopping import DEFAULT_BATCH
from equiforce.training.trackers import CsvLog, TensorBoardLog, Tracker, WandbLog, check_installed

EVALUATION_EDGES = 20_000  # the largest number of edges in a validation batch, which limits the memory


class Trained(NamedTuple):
    """The results of a training run."""

    folder: Path
    model: Path | None  # None if the run was interrupted before its first validation
    test: Errors | None  # None without test structures, after an interruption, and on all processes but one
    outcome: Outcome
    n_weights: int  # the number of trainable weights
    n_train: int  # the number of training structures


def train(
    data: str | Path | Sequence[str | Path] | None = None,
    output: str | Path | None = None,
    *,
    config: str | Path | Mapping[str, Mapping[str, Any]] | RunConfig | None = None,
    options: Mapping[str, Any] | None = None,
    resume: str | Path | None = None,
    console: Console | None = None,
    plots: bool = True,
) -> Trained:
    """Train a potential on a file of reference data.

    Args:
        data: one or more files in any format that ASE reads, or MD17-like ``.npz`` files. None takes
            ``split.train_file`` of the config.
        output: the run folder, which must be new or empty. None chooses ``runs/`` followed by the name of the data.
        config: the path of a YAML file, nested values, or a :class:`equiforce.RunConfig`.
        options: values that override the config, such as ``{"model.l_max": 1, "training.time": "10m"}``.
        resume: the folder of a run to continue. ``data``, ``output`` and ``config`` must then be None.
        console: prints the progress; None prints nothing.
        plots: whether to draw the training curves and the test parity plot, and to write the test predictions.

    Returns:
        The run folder, the model file in it, the errors on the test structures, and why training ended.

    Raises:
        InputError: the data or the options are wrong.
        DivergedError: the loss is no longer finite. The best model so far stays in the run folder.
    """
    console = console or Console(quiet=True)
    if resume is not None:
        folder = Path(resume)
        if data is not None or output is not None or config is not None:
            raise InputError(
                "--resume takes data and configuration from the run folder: leave out data, -o and --config"
            )
        settings = load_config(_existing(folder / "config.yaml", folder), options)
    else:
        settings = load_config(config, options) if isinstance(config, str | Path) else configured(config or {}, options)
        if data is not None:
            files = [data] if isinstance(data, str | Path) else list(data)
            settings = replace(settings, split=replace(settings.split, train_file=[str(f) for f in files]))
        folder = _new_folder(output, settings)
    check_installed(tensorboard=settings.training.tensorboard, wandb=settings.training.wandb is not None)
    fabric = make_fabric(settings.training)
    console = console if fabric.is_global_zero else Console(quiet=True)
    prepared = prepare(settings, folder, resumed=resume is not None, console=console)
    potential, training = prepared.potential.to(fabric.device), prepared.config.training
    batches = _batches(
        prepared.parts.train,
        potential,
        fabric,
        batch_size=training.batch_size,
        max_edges=training.max_edges,
        seed=training.seed,
    )
    console.print(f"kernels: {describe(fabric.device)}", highlight=False)
    console.print(f"memory: {require_room(potential, *batches.largest())}", highlight=False, soft_wrap=True)
    with fastest_threads(_first_step(prepared, fabric)):
        return _run(prepared, batches, folder, fabric, console, plots=plots)


def _batches(
    structures: Sequence[Structure],
    potential: Potential,
    fabric: Fabric,
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


def _first_step(prepared: Prepared, fabric: Fabric) -> Callable[[], object] | None:
    """A training step, with which different numbers of threads are timed; None keeps torch's number of threads."""
    if fabric.world_size > 1 or fabric.device.type != "cpu" or prepared.config.training.deterministic:
        return None
    settings, potential = prepared.config, prepared.potential
    n_structures = settings.training.batch_size or DEFAULT_BATCH
    first = Batches(prepared.parts.train[:n_structures], potential.species, potential.cutoff, batch_size=n_structures)
    return lambda: backward(potential, *next(first.epoch(0)), 0.0, settings.loss, fabric)


def _existing(path: Path, folder: Path) -> Path:
    if not path.is_file():
        raise InputError(
            f"{folder} is not the folder of a training run because it has no {path.name}: correct --resume"
        )
    return path


def _new_folder(output: str | Path | None, settings: RunConfig) -> Path:
    if not settings.split.train_file:
        raise InputError("there is no training data: give a file, as in equiforce train DATA.xyz")
    if output is not None:
        folder = Path(output)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(
                f"{folder} already exists: choose another folder with -o, or continue its run with --resume {folder}"
            )
        return folder
    stem = Path(settings.split.train_file[0].partition("@")[0]).stem
    folders = (Path("runs") / (stem if n == 1 else f"{stem}-{n}") for n in range(1, 10_000))
    return next(folder for folder in folders if not folder.exists())


def _run(
    prepared: Prepared, batches: Batches, folder: Path, fabric: Fabric, console: Console, *, plots: bool
) -> Trained:
    settings, parts, potential = prepared.config, prepared.parts, prepared.potential
    state = new_state(potential, settings.optimizer)
    if (folder / "last.pt").exists():
        state.restore(folder / "last.pt")
        console.print(f"the run continues at step {state.step}, epoch {state.epoch}", highlight=False)
    fabric.barrier()  # the first process overwrites these files, so every process has to read them before
    if fabric.is_global_zero:
        write_preparations(prepared, folder)
    references = model_file.reference_structures(parts.train)

    def save_model(best: Potential, test: Errors | None = None) -> None:
        about = describe_run(prepared, state.step, state.seconds, state.best_step, test)
        model_file.save(folder / "model.eqf", best, references, about)

    trackers = _trackers(settings, folder, state.n_rows) if fabric.is_global_zero else []
    with Display(console) as display:
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
            ),
        )
    for tracker in trackers:
        tracker.close()
    model, size = folder / "model.eqf", (n_weights_of(potential), len(parts.train))
    if outcome.interrupted:
        console.print(f"interrupted and saved; continue with: equiforce train --resume {folder}", soft_wrap=True)
    if not fabric.is_global_zero or outcome.interrupted:
        return Trained(folder, model if model.exists() else None, None, outcome, *size)
    console.print(
        f"finished after {state.seconds:.0f} s: {outcome.why}; the model file has the best weights, of step "
        f"{state.best_step}",
        highlight=False,
        soft_wrap=True,
    )
    state.load_best()
    test = finish(state.ema.potential, parts.test, folder, console, plots=plots)
    save_model(state.ema.potential, test)
    console.print(f"model: {model}", highlight=False, soft_wrap=True)
    return Trained(folder, model, test, outcome, *size)


def _trackers(settings: RunConfig, folder: Path, n_rows: int) -> list[Tracker]:
    trackers: list[Tracker] = [CsvLog(folder / "log.csv", n_rows)]
    if settings.training.tensorboard:
        trackers.append(TensorBoardLog(folder))
    if settings.training.wandb:
        trackers.append(WandbLog(folder, settings.training.wandb, to_dict(settings)))
    return trackers
