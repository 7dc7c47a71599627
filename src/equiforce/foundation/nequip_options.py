"""What models of nequip and of nequip-allegro have in common: options, weights, perceptrons, cutoffs and energies."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from equiforce.elements import SYMBOLS, atomic_number
from equiforce.errors import InputError
from equiforce.foundation.weights import UNKNOWN, Weights
from equiforce.models.pair_cutoffs import PairCutoffs
from equiforce.nn.pair import ZBL

MISSING: Any = object()
MOST_LAYERS = 64  # of a perceptron
# options that change nothing of a trained model: its weights hold what they began with
WITHOUT_EFFECT = (
    "_target_", "seed", "model_dtype", "compile_mode", "do_derivatives", "per_type_energy_scales",
    "per_type_energy_shifts", "per_type_energy_scales_trainable", "per_type_energy_shifts_trainable",
)  # fmt: skip
NO_COUNTERPART = "equiforce has nothing that corresponds to it"
MLP = "{}.mlp.{}.weight"


class Options:
    """The options of a model, which are taken by name; what is left over is refused.

    Args:
        values: the options.
        within: the name of the option that holds them, for messages.
    """

    def __init__(self, values: Mapping[str, Any], within: str = "") -> None:
        self._left = dict(values)
        self._within = f"{within}." if within else ""

    def take(self, name: str, kind: type, default: Any = MISSING) -> Any:
        """The value of an option; float takes whole numbers too.

        Raises:
            InputError: it is missing or of another kind.
        """
        value: Any = self._left.pop(name, default)
        if value is MISSING:
            raise InputError(f"the option {self._within}{name} is missing: {UNKNOWN}")
        if value is default:
            return value
        if kind is float and type(value) is int and abs(value) < 2**53:
            value = float(value)
        if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
            raise InputError(f"the option {self._within}{name} is no {kind.__name__}: {NO_COUNTERPART}")
        return value

    def take_any(self, name: str, default: Any = None) -> Any:
        """The value of an option of any kind."""
        return self._left.pop(name, default)

    def take_whole(self, name: str, default: int) -> int:
        """The value of an option that is a whole number, even if it is written as 6.0.

        Raises:
            InputError: it is no whole number.
        """
        value = self.take(name, float, float(default))
        if value != int(value):
            raise InputError(f"the option {self._within}{name} is no whole number: {NO_COUNTERPART}")
        return int(value)

    def require(self, name: str, *allowed: Any) -> None:
        """Raise InputError if an option has another value than those that are allowed; the first is its default."""
        value = self._left.pop(name, allowed[0])
        if not any(type(value) is type(one) and value == one for one in allowed):
            raise InputError(f"the option {self._within}{name} is {_shown(value)}, and {NO_COUNTERPART}")

    def require_end(self) -> None:
        """Raise InputError if an option is left over that can change something."""
        if left := [name for name in self._left if name not in WITHOUT_EFFECT or self._within]:
            raise InputError(f"the option {self._within}{left[0][:100]} is not known: {NO_COUNTERPART}")


def _shown(value: Any) -> str:
    return repr(value)[:60] if isinstance(value, str | int | float | bool) else "of another kind"


class NequipWeights(Weights):
    """The weights of a file of nequip or nequip-allegro, with their perceptrons."""

    def perceptron(self, name: str) -> list[Tensor]:
        """The matrices of a perceptron with plain SiLU between them, with nequip's factors inside.

        Raises:
            InputError: there are none.
        """
        names = [MLP.format(name, 2 * number) for number in range(MOST_LAYERS)]
        matrices = [self.take(one) for one in names if one in self]
        if not matrices or any(matrix.dim() != 2 for matrix in matrices):
            raise InputError(f"the weight {names[0]} is missing: {UNKNOWN}")
        gains = [1.0] + [math.sqrt(2)] * (len(matrices) - 1)
        return [gain / math.sqrt(max(len(m), 1)) * m for gain, m in zip(gains, matrices, strict=True)]

    def one_matrix(self, name: str) -> Tensor:
        """The matrix of a perceptron without hidden layers; raises InputError if there are more."""
        (matrix, *others) = self.perceptron(name)
        if others:
            raise InputError(f"{name} has several matrices instead of one: {UNKNOWN}")
        return matrix


def elements_of(options: Mapping[str, Any]) -> list[str]:
    """The chemical symbols of a model in its order.

    Raises:
        InputError: a type has another name than an element.
    """
    names = options.get("type_names")
    if not isinstance(names, list) or not names:
        raise InputError(f"the option type_names is no list of elements: {UNKNOWN}")
    if strange := [name for name in names if not isinstance(name, str) or name not in SYMBOLS[1:]]:
        raise InputError(f"the option type_names has {_shown(strange[0])}, which is no element: {NO_COUNTERPART}")
    if len(set(names)) < len(names):
        raise InputError(f"the option type_names has an element twice: {NO_COUNTERPART}")
    return list(names)


def pair_cutoffs(options: Options, known: Sequence[str], cutoff: float) -> dict[str, float] | None:
    """The cutoff in Å of each ordered pair of elements; None if all have the same.

    Raises:
        InputError: the option is not understood.
    """
    given = options.take("per_edge_type_cutoff", dict, None)
    if given is None:
        return None
    found = {}
    for center in known:
        entry = given.get(center, cutoff)
        entry = entry if isinstance(entry, dict) else dict.fromkeys(known, entry)
        for neighbor in known:
            value = entry.get(neighbor, cutoff)
            if type(value) not in (int, float) or not 0 < value <= cutoff:
                raise InputError(
                    f"the option per_edge_type_cutoff has no length up to r_max for {center}-{neighbor}: the model is "
                    "damaged"
                )
            found[f"{center}-{neighbor}"] = float(value)
    return found


def by_species(options: Options, name: str, known: Sequence[str]) -> list[float]:
    """The positive value of an option for each element, or a single one for all; 1 if the option is not set.

    Raises:
        InputError: the option is not understood.
    """
    value = options.take_any(name)
    value = 1.0 if value is None else value
    values: list[Any] = [value.get(symbol) for symbol in known] if isinstance(value, dict) else [value]
    if not all(type(one) in (int, float) and 0 < one < math.inf for one in values):
        raise InputError(f"the option {name} has no positive number for each element: {NO_COUNTERPART}")
    return [float(one) for one in values]


def energies(weights: Weights, values: Mapping[str, Any], index: Sequence[int], n_known: int) -> tuple[Tensor, Tensor]:
    """The scale and the shift of each element that is kept, in eV.

    Args:
        weights: of the model.
        values: the options, which say whether the model has scales and shifts.
        index: the elements of the model that are kept.
        n_known: the number of elements of the model.

    Raises:
        InputError: the weights are missing or do not fit.
    """
    found = []
    for name, default in (("scales", 1.0), ("shifts", 0.0)):
        weight = f"per_type_energy_scale_shift.{name}"
        numbers = weights.take_if_there(weight)
        if numbers is None:
            if values.get(f"per_type_energy_{name}") is not None:
                raise InputError(f"the weight {weight} is missing: {UNKNOWN}")
            numbers = torch.tensor([default], dtype=torch.float64)
        if numbers.numel() not in (1, n_known):
            raise InputError(f"the weight {name} has {numbers.numel()} numbers for {n_known} elements: {UNKNOWN}")
        found.append(numbers.flatten().expand(n_known)[index])
    scale, shift = found
    return scale, shift


def zbl_of(
    options: Options,
    constants: Mapping[str, Tensor],
    known: Sequence[str],
    species: Sequence[str],
    cutoff: float,
    pairs: PairCutoffs | None,
) -> ZBL | None:
    """The repulsion of nuclei of a model, or None.

    Args:
        options: of the model.
        constants: that the model stores.
        known: its elements.
        species: the elements that are kept.
        cutoff: in Å.
        pairs: the pair cutoffs of the elements that are kept.

    Raises:
        InputError: the model has another pair potential, or units other than eV and Å.
    """
    given = options.take("pair_potential", dict, None)
    if (given is not None) != any(name.startswith("pair_potential.") for name in constants):
        raise InputError(f"the model has a pair potential, or its options have one, but not both: {UNKNOWN}")
    if given is None:
        return None
    inner = Options(given, "pair_potential")
    target = inner.take("_target_", str)
    if not target.startswith("nequip.") or target.rpartition(".")[2] != "ZBL":
        raise InputError(f"the option pair_potential is {_shown(target)}, and {NO_COUNTERPART}")
    inner.require("units", "metal")
    if inner.take("chemical_species", list) != list(known):
        raise InputError(f"the option pair_potential.chemical_species differs from type_names: {NO_COUNTERPART}")
    p = inner.take_whole("polynomial_cutoff_p", 6)
    inner.require_end()
    stretch = None if pairs is None else pairs.stretch
    return ZBL([atomic_number(symbol) for symbol in species], cutoff, p, stretch)


def require_constants(constants: Mapping[str, Tensor], cutoff: float, pairs: Mapping[str, float] | None) -> None:
    """Compare the cutoffs that a model stores with those of its options.

    Raises:
        InputError: they differ, so that the options are not those of the weights.
    """
    stored = constants.get("edge_norm._rmax_recip")
    if stored is None:
        raise InputError(f"the model stores no edge_norm._rmax_recip: {UNKNOWN}")
    expected = [1 / value for value in (pairs.values() if pairs else [cutoff])]
    if stored.numel() != len(expected) or not torch.allclose(
        stored.double().flatten(), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=0
    ):
        raise InputError(f"the cutoffs of the model are not those of its options: {UNKNOWN}")
