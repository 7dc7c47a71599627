"""All options of a training run: reads them from YAML and --set, checks, explains and writes them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from equiforce.data.dataset import PARTS, Split, SplitOptions
from equiforce.data.read import ReadOptions
from equiforce.data.statistics import Statistics
from equiforce.errors import InputError
from equiforce.models import REGISTRY, RESERVED, STANDARD, ModelConfig
from equiforce.options import default_of, explain, without_effect
from equiforce.potential import PotentialConfig
from equiforce.quantities import QUANTITIES
from equiforce.training.loss import LossConfig, highest
from equiforce.training.optimizer import OptimizerConfig
from equiforce.training.stopping import DEFAULT_BATCH, TrainingConfig
from equiforce.unknown_options import Vocabulary, refusal, wrong_names

SECTIONS: dict[str, type] = {
    "data": ReadOptions,
    "split": SplitOptions,
    "potential": PotentialConfig,
    "loss": LossConfig,
    "optimizer": OptimizerConfig,
    "training": TrainingConfig,
}
DEFAULT_KIND = "nequip"
LISTING = "equiforce config lists all options"
RENAMED = {"potential.shift_trainable": "potential.atomic_energies_trainable"}  # the old name is still read
KINDS = {  # of values, in pydantic's words and in those of a user
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "a text (in quotes if it looks like a number)",
    "a valid boolean": "true or false",
    "a valid list": "a list",
    "a valid tuple": "a pair of numbers",
    "a valid dictionary": "names with values, as in {H: 1.0, O: 2.0}",
}
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
    """

    kind: str = DEFAULT_KIND
    model: ModelConfig = field(default_factory=REGISTRY[DEFAULT_KIND].config_class)
    data: ReadOptions = field(default_factory=ReadOptions)
    split: SplitOptions = field(default_factory=SplitOptions)
    potential: PotentialConfig = field(default_factory=PotentialConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


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


def configured(
    values: Mapping[str, Any] | RunConfig,
    options: Mapping[str, Any] | None = None,
    origin: str = "",
) -> RunConfig:
    """Like :func:`load_config`, from nested plain values or from another configuration instead of a file."""
    base = _renamed(to_dict(values) if isinstance(values, RunConfig) else values)
    given = {RENAMED.get(key, key): value for key, value in (options or {}).items()}
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


def load_yaml(path: Path, content: str = "lines of the form 'name: value'") -> dict[str, Any]:
    """Read a YAML file of names and values; raise InputError if it is missing, not YAML or has other content."""
    if not path.is_file():
        raise InputError(f"there is no configuration file {path}: correct the path")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise InputError(
            f"{path}{where} is not valid YAML ({getattr(error, 'problem', None) or 'it is not a text file'}): "
            f"write {content}"
        ) from None
    if not isinstance(values, dict):
        raise InputError(f"{path} must consist of {content}")
    return {str(name): value for name, value in values.items()}


class _Loader(yaml.SafeLoader):
    """Loads plain YAML, and refuses a key that occurs twice instead of silently taking its last value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} occurs twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_tuple(self, node: yaml.SequenceNode) -> list[Any]:
        return self.construct_sequence(node)


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _Loader.construct_tuple)  # as in files of nequip


def from_dict(values: Mapping[str, Mapping[str, Any]], origin: str = "") -> RunConfig:
    """Check nested plain values and return them as a configuration; see :func:`load_config`."""
    model = dict(values.get("model", {}))
    kind = model.pop("kind", DEFAULT_KIND)
    if not isinstance(kind, str) or kind not in REGISTRY:
        raise InputError(f"{_start(origin)}model.kind={kind!r} does not exist: choose one of {', '.join(REGISTRY)}")
    presets = REGISTRY[kind].presets
    preset = model.pop("preset", STANDARD)
    if not isinstance(preset, str) or preset not in presets:
        choice = ", ".join(presets)
        raise InputError(f"{_start(origin)}model.preset={preset!r} does not exist for {kind}: choose one of {choice}")
    model = {**presets[preset], **model}
    sections = {name: read_options(cls, values.get(name, {}), name, origin) for name, cls in SECTIONS.items()}
    return RunConfig(kind=kind, model=read_options(REGISTRY[kind].config_class, model, "model", origin), **sections)


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values under the new names of options."""
    return {
        name: {RENAMED.get(f"{name}.{o}", f"{name}.{o}").partition(".")[2]: value for o, value in section.items()}
        if isinstance(section, Mapping)
        else section
        for name, section in values.items()
    }


def _start(origin: str) -> str:
    return f"{origin}: " if origin else ""


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
        raise InputError(f"{_start(origin)}{refusal(wrong, vocabulary)}")
    if wrong := [key for key in options if not vocabulary.has(key)]:
        raise InputError(refusal(wrong, vocabulary))


def read_options(cls: type, values: Mapping[str, Any], name: str, origin: str = "") -> Any:
    """Check plain values and return them as the dataclass ``cls``; messages use ``name`` for the section."""
    values = {option.removeprefix(f"{name}."): value for option, value in values.items()}
    known = [entry.name for entry in fields(cls)]
    if wrong := [f"{name}.{option}" for option in values if option not in known]:
        listing = f"the options are {', '.join(known)}"
        vocabulary = Vocabulary(options={f"{name}.{option}": "" for option in known}, listing=listing)
        raise InputError(f"{_start(origin)}{refusal(wrong, vocabulary)}")
    hints = get_type_hints(cls)
    # the user may write a single file without a list
    values = {k: [v] if hints[k] == list[str] and isinstance(v, str) else v for k, v in values.items()}
    try:
        checked = schema_of(cls).model_validate(values)
        options = cls(**{key: getattr(checked, key) for key in type(checked).model_fields})
    except ValidationError as error:
        may_be_null = type(None) in get_args(hints[str(error.errors()[0]["loc"][0])])
        raise InputError(f"{_start(origin)}{_refusal(error, name, values, may_be_null)}") from None
    except ValueError as error:
        raise InputError(f"{_start(origin)}{error}") from None
    for key, condition in without_effect(options):
        raise InputError(
            f"{_start(origin)}{name}.{key} changes nothing unless {condition}: leave it out, or change the other option"
        )
    return options


def _refusal(error: ValidationError, section: str, values: Mapping[str, Any], may_be_null: bool) -> str:
    """Describe the first wrong option and the kinds of values that are allowed."""
    name = str(error.errors()[0]["loc"][0])
    wanted = []
    for fault in (e for e in error.errors() if e["loc"][0] == name):
        entry = [str(part) for part in fault["loc"][1:] if not re.match(r"(int|float|str)$|(list|dict)\[", str(part))]
        kind = re.split(", unable|, got", fault["msg"].removeprefix("Input should be "))[0]
        kind = KINDS.get(kind, kind)
        wanted.append(f"{kind} as entry {entry[0]}" if entry else kind)
    kinds = dict.fromkeys([*wanted, *(["null"] if may_be_null else [])])
    if KINDS["a valid number"] in kinds:
        kinds.pop(KINDS["a valid integer"], None)
    given = values[name]
    together = isinstance(given, Mapping) and any(":" in str(key) for key in given)
    hint = ", with a space behind each colon" if together else ""
    return f"{section}.{name}={given!r} is not allowed: it should be {' or '.join(kinds)}{hint}"


@cache
def schema_of(cls: type) -> type[BaseModel]:
    """Build the pydantic model that checks the values of a dataclass of options."""
    hints = get_type_hints(cls)
    columns = {
        f.name: (hints[f.name], Field(default_of(f), description=explain(f), **f.metadata["bounds"]))
        for f in fields(cls)
    }
    strict = ConfigDict(extra="forbid", allow_inf_nan=False)
    # pydantic's overloads take the names of fields for the names of its own keywords
    return create_model(cls.__name__, __config__=strict, **columns)  # type: ignore[call-overload]


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
    neither_limit = training.max_edges is None and training.batch_size is None
    return replace(
        settings,
        loss=replace(loss, **weights),
        model=settings.model.with_mean_neighbors(found_statistics.mean_neighbors),
        training=replace(training, batch_size=min(DEFAULT_BATCH, len(parts.train))) if neither_limit else training,
        split=with_absolute_files(settings.split),
    )


def with_absolute_files(options: SplitOptions) -> SplitOptions:
    """The same options with absolute paths, which another working directory does not change."""
    files: dict[str, Any] = {f"{part}_file": [_absolute(f) for f in getattr(options, f"{part}_file")] for part in PARTS}
    if options.split_file is not None:
        files["split_file"] = _absolute(options.split_file)
    return replace(options, **files)


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
    return yaml.safe_dump(plain, default_flow_style=True, width=10**6, allow_unicode=True).splitlines()[0]
