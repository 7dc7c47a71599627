"""All options of a training run: reads them from YAML and --set, checks, explains and writes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from equiforce.data.dataset import PARTS, Split, SplitOptions
from equiforce.data.read import ReadOptions
from equiforce.data.statistics import Statistics
from equiforce.errors import InputError
from equiforce.finetuning.options import StartConfig
from equiforce.models import REGISTRY, RESERVED, STANDARD, ModelConfig
from equiforce.option_values import LONGEST, quoted, read_options, schema_of, start_of
from equiforce.options import explain
from equiforce.potential import PotentialConfig
from equiforce.quantities import QUANTITIES
from equiforce.terminal import shortened
from equiforce.training.loss import LossConfig, highest
from equiforce.training.optimizer import OptimizerConfig
from equiforce.training.stopping import DEFAULT_BATCH, TrainingConfig
from equiforce.unknown_options import Vocabulary, refusal, wrong_names
from equiforce.yaml_files import load_yaml, one_line_yaml

SECTIONS: dict[str, type] = {
    "data": ReadOptions,
    "split": SplitOptions,
    "potential": PotentialConfig,
    "loss": LossConfig,
    "optimizer": OptimizerConfig,
    "training": TrainingConfig,
    "start": StartConfig,
}
DEFAULT_KIND = "nequip"
LISTING = "equiforce config lists all options"
RENAMED = {"potential.shift_trainable": "potential.atomic_energies_trainable"}  # the old name is still read
PRESET_REASON = "sets several options of the model at once; docs/accuracy.md compares the presets"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All options of a run. Each section is a dataclass of the module that it configures.

    ``equiforce config`` prints every option with its default, its unit and its reason.

    Args:
        kind: the kind of the model, such as ``nequip`` or ``allegro``.
        model: the options of a model of that kind.
        data: the keys and units of the labels in the files.
        split: which structures are for training, validation and testing.
        potential: reference energies, scale, and repulsion at short range.
        loss: the weights of energies, forces and stress.
        optimizer: the optimizer and its learning rate.
        training: the length of the run, the batches, validation, precision and device.
        start: the model from which training starts, replay, and weights that do not change.
    """

    kind: str = DEFAULT_KIND
    model: ModelConfig = field(default_factory=REGISTRY[DEFAULT_KIND].config_class)
    data: ReadOptions = field(default_factory=ReadOptions)
    split: SplitOptions = field(default_factory=SplitOptions)
    potential: PotentialConfig = field(default_factory=PotentialConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    start: StartConfig = field(default_factory=StartConfig)


def load_config(file: Path | str | None = None, options: Mapping[str, Any] | None = None) -> RunConfig:
    """Read the configuration from a YAML file and override single options.

    Args:
        file: a YAML file of sections such as ``model:`` with indented lines ``option: value``; None takes the defaults.
        options: values that replace those of the file, such as ``{"model.l_max": 1}``.

    Returns:
        The checked configuration.

    Raises:
        InputError: a section or an option does not exist, a value is wrong, or an option would change nothing.
    """
    return configured(read_yaml(Path(file)) if file is not None else {}, options, str(file or ""))


def configured(values: Any, options: Any = None, origin: str = "") -> RunConfig:
    """Like :func:`load_config`, from nested plain values or from another configuration instead of a file.

    Args:
        values: a mapping of sections to mappings of options, or a :class:`RunConfig`.
        options: a mapping of single options to the values that replace those, or None.
        origin: the file of the values, for messages.
    """
    for what, plain in (("the configuration", values), ("options", {} if options is None else options)):
        if not isinstance(plain, Mapping | RunConfig):
            raise InputError(f"{what} {quoted(plain)} is not a mapping: give names with values")
    base = _renamed(to_dict(values) if isinstance(values, RunConfig) else values)
    given = {RENAMED.get(str(key), str(key)): value for key, value in (options or {}).items()}
    model = base.get("model")
    kind = given.get("model.kind", model.get("kind", DEFAULT_KIND) if isinstance(model, Mapping) else DEFAULT_KIND)
    _refuse_unknown(base, given, kind, origin)
    merged = {name: dict(section or {}) for name, section in base.items()}
    for key, value in given.items():
        name, _, option = key.partition(".")
        merged.setdefault(name, {})[option] = value
    return from_dict(merged, origin)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the sections of a YAML file.

    Raises:
        InputError: the file does not consist of sections, or has an option under its old and its new name.
    """
    content = "sections such as 'model:' with indented 'option: value' lines below them"
    values = load_yaml(path, content)
    sections = {
        name: {str(option): v for option, v in section.items()} if isinstance(section, dict) else section
        for name, section in values.items()
    }
    for old, new in RENAMED.items():
        section, _, option = old.partition(".")
        given = sections.get(section)
        if isinstance(given, dict) and {option, new.partition(".")[2]} <= given.keys():
            raise InputError(f"{path}: {old} is the old name of {new}: remove one of the two lines")
    return sections


def from_dict(values: Mapping[str, Mapping[str, Any]], origin: str = "") -> RunConfig:
    """Check nested plain values and return them as a configuration; see :func:`load_config`."""
    model = dict(values.get("model", {}))
    kind = model.pop("kind", DEFAULT_KIND)
    if not isinstance(kind, str) or kind not in REGISTRY:
        raise InputError(
            f"{start_of(origin)}model.kind={quoted(kind)} does not exist: choose one of {', '.join(REGISTRY)}"
        )
    presets = REGISTRY[kind].presets
    preset = model.pop("preset", STANDARD)
    if not isinstance(preset, str) or preset not in presets:
        choice = ", ".join(presets)
        raise InputError(
            f"{start_of(origin)}model.preset={quoted(preset)} does not exist for {kind}: choose one of {choice}"
        )
    model = {**presets[preset], **model}
    sections = {name: read_options(cls, values.get(name, {}), name, origin) for name, cls in SECTIONS.items()}
    return RunConfig(kind=kind, model=read_options(REGISTRY[kind].config_class, model, "model", origin), **sections)


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values under the new names of options."""
    return {
        str(name): {RENAMED.get(f"{name}.{o}", f"{name}.{o}").partition(".")[2]: value for o, value in section.items()}
        if isinstance(section, Mapping)
        else section
        for name, section in values.items()
    }


def _refuse_unknown(values: Mapping[str, Any], options: Mapping[str, Any], kind: Any, origin: str) -> None:
    """Raise InputError if a name in the nested ``values`` or a key of ``options`` is not an option."""
    kind = kind if isinstance(kind, str) and kind in REGISTRY else DEFAULT_KIND
    sections = {"model": REGISTRY[kind].config_class, **SECTIONS}
    known = {f"{name}.{entry.name}": "" for name, cls in sections.items() for entry in fields(cls)}
    known |= {f"model.{name}": "" for name in RESERVED}
    for name in REGISTRY.registered:
        conditional = f"with model.kind={name}"
        known = {f"model.{entry.name}": conditional for entry in fields(REGISTRY[name].config_class)} | known
    vocabulary = Vocabulary(options=known, listing=LISTING)
    if wrong := wrong_names(values, vocabulary):
        raise InputError(f"{start_of(origin)}{refusal([shortened(name, LONGEST) for name in wrong], vocabulary)}")
    if wrong := [key for key in options if not vocabulary.has(key)]:
        raise InputError(refusal([shortened(name, LONGEST) for name in wrong], vocabulary))


def json_schema() -> dict[str, Any]:
    """The JSON schema of the YAML file, with which editors complete and check options."""
    sections = {name: schema_of(cls).model_json_schema() for name, cls in SECTIONS.items()}
    kinds = []
    for name, kind in REGISTRY.items():
        config_class: type = kind.config_class
        schema = schema_of(config_class).model_json_schema()
        schema["properties"] |= {
            "kind": {"const": name, "default": DEFAULT_KIND, "description": kind.reason},
            "preset": {"enum": list(kind.presets), "default": STANDARD, "description": PRESET_REASON},
        }
        if name != DEFAULT_KIND:
            schema["required"] = ["kind"]
        kinds.append(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "equiforce",
        "type": "object",
        "additionalProperties": False,
        "properties": {"model": {"anyOf": kinds}, **sections},
    }


def resolve_defaults(settings: RunConfig, parts: Split, found_statistics: Statistics) -> RunConfig:
    """Replace the options that the user did not set by values that follow from the data.

    Raises:
        InputError: a loss weight or a stopping criterion needs labels or validation structures that are missing.
    """
    loss, training = settings.loss, settings.training
    weights: dict[str, Any] = {}
    for quantity in QUANTITIES:
        weight, n_labels = loss.weight(quantity), found_statistics.n_labels[quantity]
        if highest(weight) > 0 and n_labels == 0:
            raise InputError(
                f"loss.{quantity.name} is above 0, but no training structure has {quantity.some}: set it to 0, "
                "or correct the keys of the labels in the files"
            )
        default = quantity.weight if n_labels else 0.0
        weights[quantity.name] = default if weight is None else weight
    if not any(highest(weight) > 0 for weight in weights.values()):
        raise InputError(
            "no quantity has both labels and a loss weight above 0, so there is nothing to learn from: raise one of "
            + ", ".join(f"loss.{quantity.name}" for quantity in QUANTITIES)
        )
    if not parts.validation and (training.early_stopping or settings.optimizer.schedule == "plateau"):
        raise InputError(
            "training.early_stopping and optimizer.schedule=plateau need validation structures: "
            "set split.validation or split.validation_file"
        )
    _refuse_absent_elements(settings, found_statistics.species)
    neither_limit = training.max_edges is None and training.batch_size is None
    return replace(
        settings,
        loss=replace(loss, **weights),
        model=settings.model.with_mean_neighbors(found_statistics.mean_neighbors),
        training=replace(training, batch_size=min(DEFAULT_BATCH, len(parts.train))) if neither_limit else training,
        split=with_absolute_files(settings.split),
        start=with_absolute_start(settings.start),
    )


def _refuse_absent_elements(settings: RunConfig, species: Sequence[str]) -> None:
    """Raise InputError if an option has a value for an element that no training structure contains."""
    potential, pairs = settings.potential, settings.model.pair_cutoffs or {}
    scales = potential.scale if isinstance(potential.scale, Mapping) else {}
    for option, names, known in (
        ("potential.reference_energies", potential.reference_energies or {}, species),
        ("potential.scale", scales, species),
        ("model.pair_cutoffs", pairs, [f"{center}-{neighbor}" for center in species for neighbor in species]),
    ):
        if absent := [name for name in names if name not in known]:
            pair = f"; a pair is written as {species[0]}-{species[-1]}, centre first" if known is not species else ""
            raise InputError(
                f"{option} has {', '.join(absent)}, but the elements of the training structures are "
                f"{', '.join(species)}: leave out the others{pair}"
            )


def with_absolute_files(options: SplitOptions) -> SplitOptions:
    """The same options with absolute paths, which another working directory does not change."""
    files: dict[str, Any] = {f"{part}_file": [_absolute(f) for f in getattr(options, f"{part}_file")] for part in PARTS}
    if options.split_file is not None:
        files["split_file"] = _absolute(options.split_file)
    return replace(options, **files)


def with_absolute_start(options: StartConfig) -> StartConfig:
    """The same options with absolute paths."""
    model = None if options.model is None else str(Path(options.model).resolve())
    return replace(options, model=model, replay=[_absolute(file) for file in options.replay])


def _absolute(file: str) -> str:
    path, at, index = file.partition("@")
    return str(Path(path).resolve()) + at + index


def to_dict(config: RunConfig) -> dict[str, dict[str, Any]]:
    """The configuration as nested plain values, as in the YAML file."""
    sections = {
        name: {f.name: getattr(section, f.name) for f in fields(section)} for name, section in _sections(config)
    }
    sections["model"] = {"kind": config.kind, **sections["model"]}
    return sections


def to_yaml(config: RunConfig) -> str:
    """The text of the complete YAML file: each option with its value, unit and explanation."""
    lines = ["# equiforce: all options of a run. You may delete lines; the deleted options then have their defaults."]
    for name, section in _sections(config):
        lines += ["", f"{name}:"]
        if name == "model":
            kind = REGISTRY[config.kind]
            lines.append(f"  kind: {_scalar(kind.name)}  # {kind.reason}")
            lines.append(f"  # preset: {' | '.join(kind.presets)}  # {PRESET_REASON}")
        lines += [f"  {f.name}: {_scalar(getattr(section, f.name))}  # {explain(f)}" for f in fields(section)]
    return "\n".join(lines) + "\n"


def _sections(config: RunConfig) -> list[tuple[str, Any]]:
    return [(name, getattr(config, name)) for name in ("model", *SECTIONS)]


def _scalar(value: Any) -> str:
    plain = (
        [list(item) for item in value] if isinstance(value, list) and value and isinstance(value[0], tuple) else value
    )
    return one_line_yaml(plain)
