"""The table of quantities: what potentials are trained on, predict and are measured by, described once for all modules.

A quantity is an attribute of :class:`equiforce.graph.Structure` and of :class:`equiforce.graph.Prediction`, and an
option of :class:`equiforce.training.loss.LossConfig`, all of its name. Everything else that is said of it, in loss,
evaluation, logs, figures, reports and files, follows from its entry in ``QUANTITIES``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

MEV = 1e3  # eV -> meV
GPA = 160.21766208  # eV/Å³ -> GPa


class Residual(Enum):
    """How the loss and the validation compare a prediction with its label."""

    DIFFERENCE = "prediction − label"
    PER_ATOM = "(prediction − label) / number of atoms"
    FROM_VIRIAL = "−virial / volume − label"  # a batch with molecules has no stress, but it has a virial


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A unit in which errors of a quantity are given."""

    key: str  # in JSON files, and as an attribute of Metrics
    title: str  # in tables
    unit: str
    factor: float  # from the unit of the quantity
    per_atom: bool = False  # whether the value is divided by the number of atoms
    column: str = ""  # the unit in names of columns, such as meV_per_atom; empty where no table has such a column
    printed: bool = True  # whether the literature prints errors in this unit, so that benchmarks may ask for it


@dataclass(frozen=True, kw_only=True)
class ParityPanel:
    """The panel of a quantity in a figure of prediction against reference."""

    title: str
    unit: str  # of both axes
    factor: float  # from the unit of the quantity
    measure: Measure  # of the errors in the title; says whether values are per atom
    from_mean: bool = False  # whether the mean of the labels is subtracted


@dataclass(frozen=True, kw_only=True)
class Headline:
    """How a quantity reads where there is room for few: beside the progress bar and on the pages of studies."""

    rank: int  # pages show the lowest one first
    symbol: str
    digits: int  # after the decimal point, beside the progress bar
    error: str  # its mean absolute error in words


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A quantity that structures have labels of and that potentials predict.

    Raises:
        ValueError: the measure of the log is not one of the measures, has no column, or is not of the residual.
    """

    name: str  # of attributes and options, and in files
    plural: str
    keys: tuple[str, ...]  # what files call it, after a prefix such as REF_
    unit: str
    dimension: tuple[int, int]  # powers of energy and length in the unit
    sign: str = ""  # when it is positive, where that is a convention
    of_atoms: bool  # a row is an atom; else a row is a structure
    shape: tuple[int, ...]  # of a row
    on_request: bool  # the potential computes it only where its keyword of this name is True
    residual: Residual
    weight: float  # in the loss, where the data have labels and the user says nothing
    measures: tuple[Measure, ...]  # all units in which errors are given
    logged: Measure  # the one of validation errors, of logs and of groups
    panel: ParityPanel
    headline: Headline | None = None

    def __post_init__(self) -> None:
        if self.logged not in self.measures or not self.logged.column:
            raise ValueError(f"the errors of {self.name} cannot be logged in {self.logged.unit}")
        if self.logged.per_atom != (self.residual is Residual.PER_ATOM):
            raise ValueError(f"the residuals of {self.name} are not those that are logged in {self.logged.unit}")

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def residual_unit(self) -> str:
        """The unit of residuals in the loss."""
        return f"{self.unit}/atom" if self.residual is Residual.PER_ATOM else self.unit

    @property
    def needs_volume(self) -> bool:
        """Whether only structures with a volume have it."""
        return self.residual is Residual.FROM_VIRIAL

    @property
    def one(self) -> str:
        """The name of a single value."""
        return self.name.removesuffix("s") if self.of_atoms else self.name

    @property
    def some(self) -> str:
        """What a structure has, in a sentence: an energy, forces."""
        article = "an" if self.name[0] in "aeiou" else "a"
        return self.name if self.of_atoms else f"{article} {self.name}"

    def rows_of(self, n_atoms: int) -> tuple[int, ...]:
        """The shape of the label of a structure."""
        return (n_atoms, *self.shape) if self.of_atoms else self.shape

    def column(self, metric: str, measure: Measure | None = None) -> str:
        """The column of an error: ``mae`` or ``rmse``, in the unit of ``measure`` or else of the log."""
        return f"{self.name}_{metric}_{(measure or self.logged).column}"


_ENERGY_OF_CELL = Measure(key="energy", title="energy", unit="meV", factor=MEV, column="meV")
_ENERGY_PER_ATOM = Measure(
    key="energy_per_atom",
    title="energy per atom",
    unit="meV/atom",
    factor=MEV,
    per_atom=True,
    column="meV_per_atom",
)
_FORCE_COMPONENTS = Measure(key="forces", title="forces", unit="meV/Å", factor=MEV, column="meV_per_A")
_STRESS = Measure(key="stress", title="stress", unit="meV/Å³", factor=MEV, column="meV_per_A3", printed=False)
_STRESS_IN_GPA = Measure(key="stress_GPa", title="stress", unit="GPa", factor=GPA)

ENERGY = Quantity(
    name="energy",
    plural="energies",
    keys=("energy",),
    unit="eV",
    dimension=(1, 0),
    of_atoms=False,
    shape=(),
    on_request=False,
    residual=Residual.PER_ATOM,
    weight=1.0,
    measures=(_ENERGY_OF_CELL, _ENERGY_PER_ATOM),
    logged=_ENERGY_PER_ATOM,
    panel=ParityPanel(
        title="Energy per atom, relative to the mean",
        unit="meV/atom",
        factor=MEV,
        measure=_ENERGY_PER_ATOM,
        from_mean=True,
    ),
    headline=Headline(rank=1, symbol="E", digits=2, error="MAE of the energy"),
)
FORCES = Quantity(
    name="forces",
    plural="forces",
    keys=("forces", "force"),
    unit="eV/Å",
    dimension=(1, -1),
    of_atoms=True,
    shape=(3,),
    on_request=True,
    residual=Residual.DIFFERENCE,
    weight=1.0,
    measures=(_FORCE_COMPONENTS,),
    logged=_FORCE_COMPONENTS,
    panel=ParityPanel(title="Force components", unit="eV/Å", factor=1.0, measure=_FORCE_COMPONENTS),
    headline=Headline(rank=0, symbol="F", digits=1, error="MAE of force components"),
)
STRESS = Quantity(
    name="stress",
    plural="stresses",
    keys=("stress",),
    unit="eV/Å³",
    dimension=(1, -3),
    sign="positive under tension",
    of_atoms=False,
    shape=(3, 3),
    on_request=True,
    residual=Residual.FROM_VIRIAL,
    weight=100.0,
    measures=(_STRESS, _STRESS_IN_GPA),
    logged=_STRESS,
    panel=ParityPanel(title="Stress components", unit="GPa", factor=GPA, measure=_STRESS_IN_GPA),
)
# Every table, log and file lists the quantities in this order. Modules read the list when they work and keep no copy,
# so that a test can add a quantity of its own.
QUANTITIES: list[Quantity] = [ENERGY, FORCES, STRESS]


def by_rank() -> list[Quantity]:
    """The quantities with a headline first, in the order of their ranks, and then the others."""
    return sorted(QUANTITIES, key=lambda q: (q.headline is None, q.headline.rank if q.headline else 0))


def requested(quantities: Iterable[Quantity]) -> dict[str, bool]:
    """The keywords of a potential's forward by which it computes these quantities, and no others on request."""
    wanted = set(quantities)
    return {quantity.name: quantity in wanted for quantity in QUANTITIES if quantity.on_request}


def in_words(words: Iterable[str], last: str = "or") -> str:
    """An enumeration: ``a, b or c``."""
    *first, end = words
    return f"{', '.join(first)} {last} {end}" if first else end
