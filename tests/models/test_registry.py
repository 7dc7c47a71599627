"""A model that lacks something is refused in one sentence that names it, and names are never taken twice."""

import sys
from dataclasses import dataclass

import pytest
from torch import nn

from equiforce.errors import InputError
from equiforce.models import REGISTRY, Footprint, ModelConfig, Peak, register
from equiforce.models.registry import GROUP
from equiforce.options import option
from tests.systems import potential_of


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(REGISTRY, "_kinds", dict(REGISTRY._kinds))


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    width: int = option(4, "enough here", ge=1)
    mean_neighbors: float | None = option(None, "measured on the data", gt=0)


class Complete(nn.Module):
    n_hops = 1

    def __init__(self, config, species):
        super().__init__()
        self.config = config
        self.weight = nn.Linear(1, 1)

    def forward(self, topology, vectors):
        return self.weight(vectors.new_zeros(topology.n_centers, 1)).squeeze(1)

    def footprint(self, *, training):
        return Footprint((Peak(0.0, 0.0),))

    def needed_kernels(self, dtype, *, training):
        return []


def registered(model=Complete, config=Config, name="other", reason="for tests", presets=None):
    return register(name, config, reason=reason, presets=presets)(model)


def without(*names):
    """The class without some of what it has."""
    members = {name: value for name, value in vars(Complete).items() if name not in ("__dict__", "__weakref__", *names)}
    return type("Incomplete", (nn.Module,), members)


def with_members(**members):
    return type("Odd", (Complete,), members)


class NotAModule:
    n_hops, footprint, needed_kernels = 1, Complete.footprint, Complete.needed_kernels

    def __init__(self, config, species):
        pass

    def forward(self, topology, vectors):
        pass


class NotADataclass(ModelConfig):
    width: int = option(4, "lost because the class is not decorated")


@dataclass(frozen=True, kw_only=True)
class WithoutReason(ModelConfig):
    width: int = 4


@dataclass(frozen=True, kw_only=True)
class WithoutDefault(ModelConfig):
    width: int = option(reason="there is no default")


@dataclass(frozen=True, kw_only=True)
class Reserved(ModelConfig):
    kind: str = option("x", "a name that is taken")


FAULTS = {
    "forward": ({"model": without("forward")}, "Incomplete has no forward(topology, vectors)"),
    "footprint": ({"model": without("footprint")}, "Incomplete has no footprint(training=...)"),
    "kernels": ({"model": without("needed_kernels")}, "Incomplete has no needed_kernels(dtype, training=...)"),
    "init": ({"model": without("__init__")}, "Incomplete has no __init__(config, species)"),
    "hops": ({"model": without("n_hops")}, "Incomplete has no n_hops, as a number of the class or as a property"),
    "two": ({"model": without("n_hops", "footprint")}, "no footprint(training=...) and Incomplete has no n_hops"),
    "module": ({"model": NotAModule}, "NotAModule is not a torch.nn.Module"),
    "arguments": (
        {"model": with_members(forward=lambda self, graph: graph)},
        "Odd.forward cannot be called as forward(topology, vectors)",
    ),
    "named": (
        {"model": with_members(footprint=lambda self: None)},
        "Odd.footprint cannot be called as footprint(training=...)",
    ),
    "not-derived": ({"config": dict}, "dict is not a dataclass that derives from ModelConfig"),
    "base": ({"config": ModelConfig}, "ModelConfig is not a dataclass that derives from ModelConfig"),
    "not-decorated": ({"config": NotADataclass}, "NotADataclass is not a dataclass that derives from ModelConfig"),
    "no-reason": ({"config": WithoutReason}, "WithoutReason.width is not made by option(default, reason)"),
    "no-default": ({"config": WithoutDefault}, "WithoutDefault.width has no default"),
    "reserved": ({"config": Reserved}, "Reserved.kind has a name that is reserved in a configuration"),
    "standard": ({"presets": {"small": {"width": 1}}}, "its presets lack 'standard': {}"),
    "not-standard": ({"presets": {"standard": {"width": 1}}}, "its presets lack 'standard': {}"),
    "preset": ({"presets": {"standard": {}, "small": {"depth": 1}}}, "its preset small does not fit its options ("),
    "reason": ({"reason": " "}, "its reason is not a line of text"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_what_a_model_lacks_is_named(name):
    given, clause = FAULTS[name]
    with pytest.raises(InputError) as caught:
        registered(**given)
    said = str(caught.value)
    assert said.startswith("the model 'other' cannot be registered because ")
    assert clause in said
    assert "\n" not in said
    assert "other" not in REGISTRY


def test_a_complete_model_is_found():
    assert registered() is Complete
    kind = REGISTRY.find("other")
    assert (kind.name, kind.reason, kind.presets) == ("other", "for tests", {"standard": {}})
    assert potential_of("other").model.config.width == 4
    assert REGISTRY.kind_of(potential_of("other").model) == "other"


def test_a_model_without_hops_is_refused_when_it_is_made():
    registered(with_members(n_hops=0))
    with pytest.raises(InputError, match="the model 'other' has n_hops=0: energies depend on 1 edge at least"):
        potential_of("other")


def test_a_model_that_keeps_no_options_is_refused_when_it_is_made():
    def forgets(self, config, species):
        nn.Module.__init__(self)

    registered(with_members(__init__=forgets))
    with pytest.raises(InputError, match=r"the model 'other' has no attribute config: write self\.config = config"):
        potential_of("other")


def test_a_name_is_given_once_but_a_class_may_come_again():
    registered()
    newer = type("Complete", (Complete,), {"__module__": __name__})
    assert REGISTRY.find(registered(newer) and "other").model_class is newer
    with pytest.raises(InputError, match=r"two models are called 'other', .*Complete and .*Odd: give one"):
        registered(with_members())
    with pytest.raises(InputError, match="two models are called 'nequip'"):
        registered(name="nequip")


def test_a_class_that_nobody_registered_has_no_name():
    with pytest.raises(InputError, match="the class Complete is not a registered model: decorate it with @register"):
        REGISTRY.kind_of(Complete(Config(), ["H"]))


def test_an_unknown_name_is_refused_with_those_that_exist():
    with pytest.raises(InputError, match="there is no model of kind 'mace': choose one of nequip, allegro, or install"):
        REGISTRY.find("mace")
    assert len(REGISTRY) == len(list(REGISTRY)) >= 2


@pytest.mark.parametrize(
    ("module", "text", "sentence"),
    [
        ("broken_model", "import nothing_like_this", "cannot be loaded (ModuleNotFoundError: No module named"),
        ("empty_model", "", "but empty_model registers no model of this name: give both the same name"),
    ],
)
def test_an_entry_point_that_gives_no_model_is_named(module, text, sentence, tmp_path, monkeypatch):
    (tmp_path / f"{module}.py").write_text(text)
    about = tmp_path / "odd_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{GROUP}]\nodd = {module}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "odd" in list(REGISTRY)
    with pytest.raises(InputError) as caught:
        REGISTRY.find("odd")
    assert sentence in str(caught.value)
    assert "odd-package" in str(caught.value)
    assert REGISTRY.find("nequip").name == "nequip"
    sys.modules.pop(module, None)
