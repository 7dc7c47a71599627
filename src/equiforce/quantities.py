"""The table of quantities, which describes once for all modules what potentials predict: energy, forces, stress.

:class:`equiforce.structure.Structure` and :class:`equiforce.graph.Prediction` have an attribute with the name of each
quantity, and :class:`equiforce.training.loss.LossConfig` has an option with this name. Loss, evaluation, logs, figures,
reports and files take everything else from the entries of ``QUANTITIES``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

MEV = 1e3  # eV -> meV
GPA = 160.21766208  # eV/Å³ -> GPa
OLD_STRESS_COLUMN = "meV_per_A3"  # the unit of stresses in the columns of older tables


class Residual(Enum):
    """How the loss and the validation compare a prediction with its label."""

    DIFFERENCE = "prediction − label"
    PER_ATOM = "(prediction − label) / number of atoms"
    FROM_VIRIAL = "−virial / volume − label"  # because a batch with molecules has a virial but no stress


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A unit for the errors of a quantity."""

    key: str  # the key in JSON files, and the attribute of Metrics
    title: str  # the heading in tables
    unit: str
    factor: float  # converts from the unit of the quantity to this unit
    per_atom: bool = False  # whether the value is divided by the number of atoms
    column: str = ""  # the unit in names of columns, such as meV_per_atom; empty if no table has such a column


@dataclass(frozen=True, kw_only=True)
class ParityPanel:
    """The panel of a quantity in a figure that plots prediction against reference."""

    title: str
    unit: str  # the unit of both axes
    factor: float  # converts from the unit of the quantity to the unit of the axes
    measure: Measure  # the measure of the errors in the title; it also decides whether values are per atom
    from_mean: bool = False  # whether the mean of the labels is subtracted


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The short form of a quantity, for the progress bar and the pages of studies."""

    rank: int  # pages show the quantity with the lowest rank first
    symbol: str
    digits: int  # number of digits after the decimal point beside the progress bar
    error: str  # the mean absolute error in words


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A quantity that potentials predict and for which structures can have labels.

    Raises:
        ValueError: ``logged`` is not one of the measures, has no column, or does not fit the residual.
    """

    name: str  # the name of attributes and options, and the name in files
    plural: str
    keys: tuple[str, ...]  # the names in data files, which may have a prefix such as REF_
    unit: str
    dimension: tuple[int, int]  # the powers of energy and length in the unit
    sign: str = ""  # the sign convention, if there is one
    of_atoms: bool  # whether a row belongs to an atom; otherwise it belongs to a structure
    shape: tuple[int, ...]  # the shape of a row
    on_request: bool  # whether the potential computes it only if the keyword argument of this name is True
    residual: Residual
    weight: float  # the default weight in the loss, if the data have labels
    measures: tuple[Measure, ...]  # all units for errors
    logged: Measure  # the unit of validation errors, of logs and of groups
    panel: ParityPanel
    headline: Headline | None = None

    def __post_init__(self) -> None:
        if self.logged not in self.measures or not self.logged.column:
            raise ValueError(f"the errors of {self.name} cannot be logged in {self.logged.unit}")
        if self.logged.per_atom != (self.residual is Residual.PER_ATOM):
            raise ValueError(f"the residuals of {self.name} cannot be logged in {self.logged.unit}")

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def residual_unit(self) -> str:
        """The unit of residuals in the loss."""
        return f"{self.unit}/atom" if self.residual is Residual.PER_ATOM else self.unit

    @property
    def needs_volume(self) -> bool:
        """Whether the quantity exists only for structures with a volume."""
        return self.residual is Residual.FROM_VIRIAL

    @property
    def one(self) -> str:
        """The name of a single value."""
        return self.name.removesuffix("s") if self.of_atoms else self.name

    @property
    def some(self) -> str:
        """The name with its article, for messages: an energy, forces."""
        article = "an" if self.name[0] in "aeiou" else "a"
        return self.name if self.of_atoms else f"{article} {self.name}"

    def rows_of(self, n_atoms: int) -> tuple[int, ...]:
        """The shape of the label of a structure."""
        return (n_atoms, *self.shape) if self.of_atoms else self.shape

    def column(self, metric: str, measure: Measure | None = None) -> str:
        """The name of the column of an error, ``mae`` or ``rmse``, in the unit of ``measure`` (default: ``logged``)."""
        return f"{self.name}_{metric}_{(measure or self.logged).column}"


_TOTAL_ENERGY = Measure(key="energy", title="energy", unit="meV", factor=MEV, column="meV")
_ENERGY_PER_ATOM = Measure(
    key="energy_per_atom",
    title="energy per atom",
    unit="meV/atom",
    factor=MEV,
    per_atom=True,
    column="meV_per_atom",
)
_FORCE_COMPONENTS = Measure(key="forces", title="forces", unit="meV/Å", factor=MEV, column="meV_per_A")
_STRESS = Measure(key="stress", title="stress", unit="GPa", factor=GPA, column="GPa")

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
    measures=(_TOTAL_ENERGY, _ENERGY_PER_ATOM),
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
    measures=(_STRESS,),
    logged=_STRESS,
    panel=ParityPanel(title="Stress components", unit="GPa", factor=GPA, measure=_STRESS),
)
# Tables, logs and files list the quantities in this order. Modules read the list each time and keep no copy, so that a
# test can add a quantity.
QUANTITIES: list[Quantity] = [ENERGY, FORCES, STRESS]


def in_present_units(row: Mapping[str, str]) -> dict[str, str]:
    """Convert the errors of stresses in a row of a table that an older version wrote in meV/Å³ to GPa.

    Args:
        row: the texts of the cells by the names of their columns.

    Returns:
        The row with the present names of its columns.
    """
    return dict(_in_present_unit(name, text) for name, text in row.items())


def _in_present_unit(name: str, text: str) -> tuple[str, str]:
    if not name.endswith(OLD_STRESS_COLUMN):
        return name, text
    return name.removesuffix(OLD_STRESS_COLUMN) + _STRESS.column, f"{float(text) / MEV * GPA:.9g}" if text else ""


def by_rank() -> list[Quantity]:
    """List the quantities with a headline in the order of their ranks, and then the others."""
    return sorted(QUANTITIES, key=lambda q: (q.headline is None, q.headline.rank if q.headline else 0))


def requested(quantities: Iterable[Quantity]) -> dict[str, bool]:
    """The keyword arguments with which a potential computes these quantities and no others that are optional."""
    chosen = set(quantities)
    return {quantity.name: quantity in chosen for quantity in QUANTITIES if quantity.on_request}


def join_words(words: Iterable[str], last: str = "or") -> str:
    """Join words to an enumeration such as ``a, b or c``."""
    *first, end = words
    return f"{', '.join(first)} {last} {end}" if first else end
