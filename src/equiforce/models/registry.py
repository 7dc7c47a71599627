"""The registry of models: how a model is registered, and how it is found by its name."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from torch import nn

from equiforce.errors import InputError
from equiforce.models.base import Model, ModelConfig
from equiforce.options import default_of

GROUP = "equiforce.models"  # the group of entry points in which a package lists its models
STANDARD = "standard"  # the preset that changes no default
RESERVED = ("kind", "preset")  # keys of the section ``model`` that are not options of a model
METADATA = {"reason", "unit", "bounds", "only_if"}  # of a field that ``option`` makes
CALLS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("__init__", ("config", "species"), ()),
    ("forward", ("topology", "vectors"), ()),
    ("footprint", (), ("training",)),
    ("needed_kernels", ("dtype",), ("training",)),
)  # the methods of a model, with their positional and their named arguments

Class = TypeVar("Class", bound=type)


@dataclass(frozen=True, kw_only=True)
class ModelKind:
    """What the package knows about a registered model."""

    name: str
    reason: str  # one line: when to choose this model
    config_class: type[ModelConfig]
    model_class: type[nn.Module]
    presets: Mapping[str, Mapping[str, Any]]  # changed options of each preset

    def build(self, config: ModelConfig, species: Sequence[str]) -> Model:
        """Make the network with random weights; raises InputError if it has no ``config`` or no hop."""
        model = self.model_class(config, species)
        if not isinstance(model, Model):
            raise InputError(
                f"the model {self.name!r} has no attribute config: write self.config = config in its __init__"
            )
        if model.n_hops < 1:
            raise InputError(f"the model {self.name!r} has n_hops={model.n_hops}: energies depend on 1 edge at least")
        return model


class Registry(Mapping[str, ModelKind]):
    """The models by name: the registered ones, and those of installed packages.

    A package lists its models as entry points of the group ``equiforce.models``. The package is imported when one of
    its models is first requested.
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

    @property
    def registered(self) -> list[str]:
        """The names of the models whose packages are imported already."""
        return list(self._kinds)

    def find(self, name: str) -> ModelKind:
        """Return the model of this name; raises InputError if there is none."""
        if name not in self:
            raise InputError(
                f"there is no model of kind {name!r}: choose one of {', '.join(self)}, or install the package that "
                "contains it"
            )
        return self[name]

    def kind_of(self, model: Model) -> str:
        """Return the name of a model's class; raises InputError if the class is not registered."""
        cls: type = type(model)
        for name, kind in self._kinds.items():
            if kind.model_class is cls:
                return name
        raise InputError(f"the class {cls.__name__} is not a registered model: decorate it with @register")

    def add(self, kind: ModelKind) -> None:
        """Register a model; raises InputError if another class has its name.

        The same class may be registered again, as when a notebook runs a cell twice. The newest one counts.
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
                f"({type(error).__name__}: {error}): repair or uninstall that package"
            ) from error
        if entry.name not in self._kinds:
            raise InputError(
                f"the package {package} has an entry point for the model {entry.name!r}, but {entry.value} registers "
                "no model of this name: give both the same name"
            )


REGISTRY = Registry()


def register(
    name: str,
    config_class: type,
    *,
    reason: str,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
) -> Callable[[Class], Class]:
    """Return a class decorator that registers a model.

    Args:
        name: the value of ``model.kind`` that selects the model.
        config_class: the dataclass of its options.
        reason: one line that says when to choose the model; it is printed beside the name.
        presets: the changed options of each preset; ``standard`` must be among them and change nothing. None means
            ``standard`` alone.

    Raises:
        InputError: the class, its options, its presets or its reason are wrong, or another class has this name.
    """

    def registered(model_class: Class) -> Class:
        known = {STANDARD: {}} if presets is None else presets
        faults = [*_faults_of_class(model_class), *_faults_of_options(config_class)]
        faults = faults or [*_faults_of_presets(config_class, known), *_faults_of_reason(reason)]
        if faults:
            raise InputError(
                f"the model {name!r} cannot be registered because {' and '.join(faults)}: docs/models.md shows a "
                "complete model"
            )
        REGISTRY.add(
            ModelKind(name=name, reason=reason, config_class=config_class, model_class=model_class, presets=known)
        )
        return model_class

    return registered


def _faults_of_class(cls: type) -> Iterator[str]:
    """List what a model's class lacks, each as a clause of a sentence."""
    name = cls.__name__
    if not issubclass(cls, nn.Module):
        yield f"{name} is not a torch.nn.Module"
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
        yield f"{name} is not a dataclass that derives from ModelConfig"
        return
    for entry in fields(cls):
        if not set(entry.metadata) >= METADATA:
            yield f"{name}.{entry.name} is not made by option(default, reason)"
        elif default_of(entry) is MISSING:
            yield f"{name}.{entry.name} has no default"
        elif entry.name in RESERVED:
            yield f"{name}.{entry.name} has a name that is reserved in a configuration"


def _faults_of_reason(reason: str) -> Iterator[str]:
    if not reason.strip() or "\n" in reason:
        yield "its reason is not a line of text"


def _faults_of_presets(cls: type, presets: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if presets.get(STANDARD) != {}:
        yield f"its presets lack '{STANDARD}': {{}}, which changes no default"
    for name, options in presets.items():
        try:
            cls(**options)
        except (TypeError, ValueError) as error:
            yield f"its preset {name} does not fit its options ({error})"


def _origin(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
