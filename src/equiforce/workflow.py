"""From a file of reference data to a model: the whole of ``equiforce train``, step by step."""

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console

from equiforce import model_file
from equiforce.config import RunConfig, configured, load_config, to_dict, to_yaml
from equiforce.data import statistics
from equiforce.data.dataset import PARTS, Batches, Split, split
from equiforce.data.read import ReadOptions, read_with_report
from equiforce.data.statistics import Statistics
from equiforce.data.write import write_structures
from equiforce.elements import symbols_by_number
from equiforce.errors import InputError
from equiforce.evaluate import Errors, errors, predict
from equiforce.graph import Structure
from equiforce.kernels import describe
from equiforce.memory import require_room
from equiforce.potential import Potential
from equiforce.report import parity_plot, training_plot
from equiforce.threads import fastest_threads
from equiforce.training.display import Display
from equiforce.training.loop import Outcome, RunSetup, backward, fit, new_state
from equiforce.training.loss import DEFAULT_ENERGY, DEFAULT_FORCES, DEFAULT_STRESS, highest
from equiforce.training.processes import Fabric, make_fabric
from equiforce.training.stopping import DEFAULT_BATCH
from equiforce.training.trackers import CsvLog, TensorBoardLog, Tracker, WandbLog, check_installed

EVALUATION_EDGES = 20_000  # pairs in a validation batch: bounds the memory


class Trained(NamedTuple):
    """What a training run leaves."""

    folder: Path
    model: Path | None  # None where it was interrupted before the first validation
    test: Errors | None  # None without test structures, or where it was interrupted
    outcome: Outcome
    n_weights: int  # that are trained
    n_train: int  # structures


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything that is known before the first step."""

    config: RunConfig
    parts: Split
    statistics: Statistics
    potential: Potential


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
    """Trains a potential on a file of reference data.

    Args:
        data: one file or several, of any kind that ASE reads, or MD17-like ``.npz``; may be in the config instead.
        output: the run folder, which must not exist yet; ``runs/`` and the name of the data if None.
        config: a YAML file, nested values, or a finished configuration.
        options: such as ``{"model.l_max": 1, "training.time": "10m"}``, over the config.
        resume: a run folder to continue; nothing else is needed.
        console: where progress is shown; nowhere if None.
        plots: draw the course of training and the test's errors, and write the predictions.

    Returns:
        The run folder, the model file in it, the errors on the test structures, and why training ended.

    Raises:
        InputError: what is wrong with the data or the options, in a sentence.
        DivergedError: the loss is no longer finite; the best model so far is in the run folder.
    """
    console = console or Console(quiet=True)
    if resume is not None:
        folder = Path(resume)
        if data is not None or output is not None or config is not None:
            raise InputError("--resume needs nothing else: data and configuration are in the run folder")
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
    potential, portions = prepared.potential.to(fabric.device), prepared.config.training
    limits = {"batch_size": portions.batch_size, "max_edges": portions.max_edges, "seed": portions.seed}
    batches = _batches(prepared.parts.train, potential, fabric, **limits)
    console.print(f"kernels: {describe(fabric.device)}", highlight=False)
    console.print(f"memory: {require_room(potential, *batches.largest())}", highlight=False, soft_wrap=True)
    with fastest_threads(_first_step(prepared, fabric)):
        return _run(prepared, batches, folder, fabric, console, plots=plots)


def _batches(structures: Sequence[Structure], potential: Potential, fabric: Fabric, **limits: int | None) -> Batches:
    """This process's share of the batches of some structures."""
    ranks = {"rank": fabric.global_rank, "n_ranks": fabric.world_size}
    return Batches(structures, potential.species, potential.cutoff, **ranks, **limits)


def _first_step(prepared: Prepared, fabric: Fabric) -> Callable[[], object] | None:
    """What to time threads with; None where they are torch's own choice, or must be the same every time."""
    if fabric.world_size > 1 or fabric.device.type != "cpu" or prepared.config.training.deterministic:
        return None
    settings, potential = prepared.config, prepared.potential
    n_structures = settings.training.batch_size or DEFAULT_BATCH
    first = Batches(prepared.parts.train[:n_structures], potential.species, potential.cutoff, batch_size=n_structures)
    return lambda: backward(potential, *next(first.epoch(0)), 0.0, settings.loss, fabric)


def _existing(path: Path, folder: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{folder} is not the folder of a training run, for it holds no {path.name}: correct --resume")
    return path


def _new_folder(output: str | Path | None, settings: RunConfig) -> Path:
    if not settings.split.train_file:
        raise InputError("there are no data to train on: give a file, as in equiforce train DATA.xyz")
    if output is not None:
        folder = Path(output)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(
                f"{folder} exists already: choose another folder with -o, or continue it with --resume {folder}"
            )
        return folder
    stem = Path(settings.split.train_file[0].partition("@")[0]).stem
    folders = (Path("runs") / (stem if n == 1 else f"{stem}-{n}") for n in range(1, 10_000))
    return next(folder for folder in folders if not folder.exists())


def prepare(settings: RunConfig, folder: Path, *, resumed: bool, console: Console) -> Prepared:
    """Reads the data, splits them, takes their statistics, settles every open option, and builds the potential."""
    files = settings.split
    structures, validation, test = (
        read_and_tell(paths, settings.data, console) if paths else None
        for paths in (files.train_file, files.validation_file, files.test_file)
    )
    own_split = folder / "split.json"
    again = replace(files, split_file=str(own_split)) if resumed and own_split.exists() else files
    parts = split(structures, again, validation, test)
    of_data = statistics.compute(
        parts.train,
        parts.isolated,
        settings.model.cutoff,
        settings.potential.reference_energies,
        settings.model.pair_cutoffs,
    )
    _check_elements(parts, of_data)
    resolved = resolve_defaults(settings, parts, of_data)
    torch.manual_seed(resolved.training.seed)
    potential = model_file.build_potential(description_of(resolved, of_data))
    _tell(parts, of_data, resolved, potential, console)
    return Prepared(config=resolved, parts=parts, statistics=of_data, potential=potential)


def read_and_tell(paths: Sequence[str], options: ReadOptions, console: Console) -> list[Structure]:
    """The structures of some files; says which labels were taken."""
    structures, report = read_with_report(paths, options)
    console.print(str(report), highlight=False, soft_wrap=True)
    return structures


def _check_elements(parts: Split, of_data: Statistics) -> None:
    for name in ("validation", "test"):
        for structure in getattr(parts, name):
            symbols = set(symbols_by_number(structure.atomic_numbers))
            if missing := symbols - set(of_data.species):
                raise InputError(
                    f"{structure.source} ({name}) holds {', '.join(sorted(missing))}, which no training structure "
                    "does: add some to the training data, or leave the frame out"
                )


def resolve_defaults(settings: RunConfig, parts: Split, of_data: Statistics) -> RunConfig:
    """The configuration with every open option decided from the data."""
    loss, training = settings.loss, settings.training
    for name, n_labels in (
        ("energy", of_data.n_energies),
        ("forces", of_data.n_forces),
        ("stress", of_data.n_stresses),
    ):
        if highest(getattr(loss, name)) > 0 and n_labels == 0:
            raise InputError(
                f"loss.{name} is set, but no training structure has {name}: set it to 0, or correct the keys"
            )
    defaults = {
        "energy": DEFAULT_ENERGY if of_data.n_energies else 0.0,
        "forces": DEFAULT_FORCES if of_data.n_forces else 0.0,
        "stress": DEFAULT_STRESS if of_data.n_stresses else 0.0,
    }
    weights = {
        name: default if getattr(loss, name) is None else getattr(loss, name) for name, default in defaults.items()
    }
    if not any(highest(weight) > 0 for weight in weights.values()):
        raise InputError("no term of the loss has both labels and a weight, so that there is nothing to learn from")
    if not parts.validation and (training.early_stopping or settings.optimizer.schedule == "plateau"):
        raise InputError(
            "training.early_stopping and optimizer.schedule=plateau need structures to validate with: "
            "give some by split.validation or split.validation_file"
        )
    by_number = training.max_edges is None and training.batch_size is None
    files = {f"{part}_file": [_absolute(f) for f in getattr(settings.split, f"{part}_file")] for part in PARTS}
    if settings.split.split_file is not None:
        files["split_file"] = _absolute(settings.split.split_file)
    return replace(
        settings,
        loss=replace(loss, **weights),
        model=settings.model.with_mean_neighbors(of_data.mean_neighbors),
        training=replace(training, batch_size=min(DEFAULT_BATCH, len(parts.train))) if by_number else training,
        split=replace(settings.split, **files),
    )


def _absolute(file: str) -> str:
    path, at, index = file.partition("@")
    return str(Path(path).resolve()) + at + index


def description_of(settings: RunConfig, of_data: Statistics) -> dict[str, Any]:
    """What :func:`equiforce.model_file.build_potential` needs."""
    given, species = settings.potential.scale, of_data.species
    single = of_data.force_rms if given is None else given
    scale = given if isinstance(given, Mapping) else dict.fromkeys(species, single)
    if missing := [symbol for symbol in species if symbol not in scale]:
        raise InputError(
            f"potential.scale has no value for {', '.join(missing)}: give one for each element, or a single one"
        )
    return {
        "kind": settings.kind,
        "config": asdict(settings.model),
        "species": list(species),
        "dtype": settings.training.dtype,
        "zbl": settings.potential.zbl,
        "atomic_energies": list(of_data.reference_energies),
        "scale": [scale[symbol] for symbol in species],
        "atomic_energies_trainable": settings.potential.atomic_energies_trainable,
        "scale_trainable": settings.potential.scale_trainable,
    }


def weights_of(potential: Potential) -> int:
    """How many numbers training moves."""
    return sum(p.numel() for p in potential.parameters() if p.requires_grad)


def _tell(parts: Split, of_data: Statistics, settings: RunConfig, potential: Potential, console: Console) -> None:
    """Says in words what was decided before training starts."""
    references = ", ".join(f"{s} {e:.4f}" for s, e in zip(of_data.species, of_data.reference_energies, strict=True))
    model, loss = settings.model, settings.loss
    console.print(
        f"train {len(parts.train)}, validate {len(parts.validation)}, test {len(parts.test)} structures; "
        f"elements {', '.join(of_data.species)}\n"
        f"reference energies from {of_data.reference_energies_from}: {references} eV\n"
        f"force RMS {of_data.force_rms:.3f} eV/Å; {of_data.mean_neighbors:.1f} neighbours within {model.cutoff:g} Å\n"
        f"{settings.kind}: {model}, {weights_of(potential):,} weights, {settings.training.dtype}\n"
        f"loss weights: energy {loss.energy} per (eV/atom)², forces {loss.forces} per (eV/Å)², "
        f"stress {loss.stress} per (eV/Å³)²",
        highlight=False,
        soft_wrap=True,
    )
    unjudged = () if parts.validation else ("without validation structures, the last weights are kept, not the best",)
    for note in (*parts.notes, *of_data.notes, *unjudged):
        console.print(f"note: {note}", highlight=False, soft_wrap=True, style="yellow")


def _write_preparations(prepared: Prepared, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(to_yaml(prepared.config))
    (folder / "statistics.json").write_text(json.dumps(prepared.statistics.to_dict(), indent=1) + "\n")
    prepared.parts.save(folder / "split.json")


def _run(
    prepared: Prepared, batches: Batches, folder: Path, fabric: Fabric, console: Console, *, plots: bool
) -> Trained:
    settings, parts, potential = prepared.config, prepared.parts, prepared.potential
    state = new_state(potential, settings.optimizer)
    if (folder / "last.pt").exists():
        state.restore(folder / "last.pt")
        console.print(f"continuing at step {state.step}, epoch {state.epoch}", highlight=False)
    fabric.barrier()  # every process has read what the first one writes now
    if fabric.is_global_zero:
        _write_preparations(prepared, folder)
    references = model_file.reference_structures(parts.train)

    def keep(best: Potential, test: Errors | None = None) -> None:
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
                on_best=keep,
                on_step=display,
            ),
        )
    for tracker in trackers:
        tracker.close()
    model, size = folder / "model.eqf", (weights_of(potential), len(parts.train))
    if outcome.interrupted:
        console.print(f"stopped and saved; continue with: equiforce train --resume {folder}", soft_wrap=True)
    if not fabric.is_global_zero or outcome.interrupted:
        return Trained(folder, model if model.exists() else None, None, outcome, *size)
    console.print(f"{outcome.why} after {state.seconds:.0f} s; best at step {state.best_step}", highlight=False)
    state.ema.potential.load_state_dict(state.best_weights)
    test = finish(state.ema.potential, parts.test, folder, console, plots=plots)
    keep(state.ema.potential, test)
    console.print(f"model: {model}", highlight=False, soft_wrap=True)
    return Trained(folder, model, test, outcome, *size)


def _trackers(settings: RunConfig, folder: Path, n_rows: int) -> list[Tracker]:
    trackers: list[Tracker] = [CsvLog(folder / "log.csv", n_rows)]
    if settings.training.tensorboard:
        trackers.append(TensorBoardLog(folder))
    if settings.training.wandb:
        trackers.append(WandbLog(folder, settings.training.wandb, to_dict(settings)))
    return trackers


def describe_run(prepared: Prepared, step: int, seconds: float, best_step: int, test: Errors | None) -> dict[str, Any]:
    """What ``equiforce info`` tells of a model's origin."""
    return {
        "statistics": prepared.statistics.to_dict(),
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


def finish(
    potential: Potential, test: Sequence[Structure], folder: Path, console: Console, *, plots: bool
) -> Errors | None:
    """Measures the model on the test structures, and draws what people want to see."""
    if plots:
        training_plot(folder / "training.png", folder / "log.csv")
    if not test:
        return None
    return assess(potential, test, folder, "test", console) if plots else errors(test, predict(potential, test))


def assess(
    potential: Potential,
    structures: Sequence[Structure],
    folder: Path,
    name: str,
    console: Console,
    max_memory: float | None = None,
) -> Errors:
    """Errors as a table and JSON, predictions as extxyz, and a parity plot, all in ``folder``; ``max_memory`` in GB."""
    predictions = predict(potential, structures, max_memory=max_memory, console=console)
    result = errors(structures, predictions)
    console.print(result.table())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}_errors.json").write_text(json.dumps(result.as_dict(), indent=1) + "\n")
    write_structures(folder / f"{name}_predictions.xyz", structures, predictions)
    if any(result.total):
        parity_plot(folder / f"{name}_parity.png", structures, predictions)
    return result
