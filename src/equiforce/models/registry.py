"""The models by name: how a model makes itself known, and how it is found."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from torch import nn

from equiforce.errors import InputError
from equiforce.models.base import Model, ModelConfig
from equiforce.options import default_of

GROUP = "equiforce.models"  # of entry points, by which an installed package makes its models known
STANDARD = "standard"  # the preset that stands for the defaults
RESERVED = ("kind", "preset")  # what a configuration says beside a model's own options
METADATA = {"reason", "unit", "bounds", "only_if"}  # of a field made by option
CALLS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("__init__", ("config", "species"), ()),
    ("forward", ("topology", "vectors"), ()),
    ("footprint", (), ("training",)),
    ("needed_kernels", ("dtype",), ("training",)),
)  # methods of a model with their positional and their named arguments

Class = TypeVar("Class", bound=type)


@dataclass(frozen=True, kw_only=True)
class ModelKind:
    """A model as the rest of the package knows it."""

    name: str
    reason: str  # when to choose it, in a line
    config_class: type[ModelConfig]
    model_class: type[nn.Module]
    presets: Mapping[str, Mapping[str, Any]]  # options for a start, by name

    def build(self, config: ModelConfig, species: Sequence[str]) -> Model:
        """The network with random weights."""
        model = self.model_class(config, species)
        if not isinstance(model, Model):
            raise InputError(f"the model {self.name!r} keeps no options: write self.config = config in its __init__")
        return model


class Registry(Mapping[str, ModelKind]):
    """The models by name: those that are registered, and those of installed packages.

    A package names its models in the entry points of the group ``equiforce.models``. It is imported when one of them is
    asked for, and not before.
    """

    def __init__(self) -> None:
        self._kinds: dict[str, ModelKind] = {}

    def __getitem__(self, name: str) -> ModelKind:
        if name not in self._kinds:
            for entry in entry_points(group=GROUP, name=name):
                self._load(entry)
        return self._kinds[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._kinds, *(entry.name for entry in entry_points(group=GROUP))]))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def find(self, name: str) -> ModelKind:
        """The model of this name; raises InputError where there is none."""
        if name not in self:
            raise InputError(
                f"there is no model of kind {name!r}: choose one of {', '.join(self)}, or install the package that "
                "has it"
            )
        return self[name]

    def kind_of(self, model: Model) -> str:
        """The name of the class of a model; raises InputError where it is not registered."""
        cls: type = type(model)
        for name, kind in self._kinds.items():
            if kind.model_class is cls:
                return name
        raise InputError(f"the class {cls.__name__} is no registered model: decorate it with @register")

    def add(self, kind: ModelKind) -> None:
        """Makes a model known; raises InputError where its name is taken.

        The same class may come again, as it does when a notebook runs a cell twice; the newest one counts.
        """
        old = self._kinds.get(kind.name)
        origins = [_origin(known.model_class) for known in (old, kind) if known is not None]
        if len(set(origins)) > 1:
            raise InputError(
                f"two models are called {kind.name!r}, {' and '.join(origins)}: give one of them another name"
            )
        self._kinds[kind.name] = kind

    def _load(self, entry: EntryPoint) -> None:
        package = entry.dist.name if entry.dist is not None else entry.value
        try:
            entry.load()
        except Exception as error:
            raise InputError(
                f"the model {entry.name!r} of the package {package} cannot be loaded "
                f"({type(error).__name__}: {error}): mend that package, or uninstall it"
            ) from error
        if entry.name not in self._kinds:
            raise InputError(
                f"the package {package} has an entry point for a model {entry.name!r}, but {entry.value} registers "
                "none of this name: make the two names the same"
            )


REGISTRY = Registry()


def register(
    name: str,
    config_class: type,
    *,
    reason: str,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
) -> Callable[[Class], Class]:
    """Makes a model known to the whole package: a decorator of its class.

    Args:
        name: the value of ``model.kind`` that chooses it.
        config_class: the dataclass of its options.
        reason: when to choose it, in a line; printed beside its name.
        presets: options for a start by name, among them ``standard`` without any; that one alone if None.

    Raises:
        InputError: the class or its options lack something, which the message names.
    """

    def registered(model_class: Class) -> Class:
        known = {STANDARD: {}} if presets is None else presets
        faults = [*_faults_of_class(model_class), *_faults_of_options(config_class)]
        faults = faults or [*_faults_of_presets(config_class, known), *_faults_of_reason(reason)]
        if faults:
            raise InputError(
                f"the model {name!r} cannot be registered, for {' and '.join(faults)}: docs/models.md shows a complete "
                "model"
            )
        REGISTRY.add(
            ModelKind(name=name, reason=reason, config_class=config_class, model_class=model_class, presets=known)
        )
        return model_class

    return registered


def _faults_of_class(cls: type) -> Iterator[str]:
    """What a model's class lacks, each in a clause."""
    name = cls.__name__
    if not issubclass(cls, nn.Module):
        yield f"{name} is no torch.nn.Module"
    for method, positional, named in CALLS:
        call = ", ".join([*positional, *(f"{argument}=..." for argument in named)])
        found = inspect.getattr_static(cls, method, None)
        if found is None or found in (inspect.getattr_static(nn.Module, method, None), object.__init__):
            yield f"{name} has no {method}({call})"
        elif not _can_be_called(found, positional, named):
            yield f"{name}.{method} cannot be called as {method}({call})"
    if inspect.getattr_static(cls, "n_hops", None) is None:
        yield f"{name} has no n_hops, as a number of the class or as a property"


def _can_be_called(method: Callable[..., Any], positional: Iterable[str], named: Iterable[str]) -> bool:
    try:
        inspect.signature(method).bind("self", *positional, **dict.fromkeys(named))
    except TypeError:
        return False
    return True


def _faults_of_options(cls: type) -> Iterator[str]:
    name = cls.__name__
    if not issubclass(cls, ModelConfig) or cls is ModelConfig or "__dataclass_fields__" not in vars(cls):
        yield f"{name} is no dataclass that derives from ModelConfig"
        return
    for entry in fields(cls):
        if not set(entry.metadata) >= METADATA:
            yield f"{name}.{entry.name} is not made by option(default, reason)"
        elif default_of(entry) is MISSING:
            yield f"{name}.{entry.name} has no default"
        elif entry.name in RESERVED:
            yield f"{name}.{entry.name} has a name that means something else in a configuration"


def _faults_of_reason(reason: str) -> Iterator[str]:
    if not reason.strip() or "\n" in reason:
        yield "its reason is not a line of text"


def _faults_of_presets(cls: type, presets: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if presets.get(STANDARD) != {}:
        yield f"its presets have no '{STANDARD}': {{}}, which stands for the defaults"
    for name, options in presets.items():
        try:
            cls(**options)
        except (TypeError, ValueError) as error:
            yield f"its preset {name} does not fit its options ({error})"


def _origin(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
