"""Reads the options of a SevenNet checkpoint, and finds the network here that computes the same."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from equiforce.elements import SYMBOLS
from equiforce.errors import InputError
from equiforce.foundation.e3nn import in_order
from equiforce.foundation.network_options import checked
from equiforce.foundation.weights import UNKNOWN
from equiforce.geometry.irreps import Irrep, Irreps
from equiforce.models.base import HIGHEST_DEGREE
from equiforce.models.nequip_config import NequIPConfig

MANY = 32  # more layers than any network has
# The options that decide what the network computes, with their defaults where old or new versions lack them.
REQUIRED = ("version", "cutoff", "channel", "lmax", "is_parity", "num_convolution_layer", "_type_map")
DEFAULTS: Mapping[str, Any] = {
    "irreps_manual": False, "radial_basis": {}, "cutoff_function": {}, "weight_nn_hidden_neurons": [64, 64],
    "lmax_edge": -1, "lmax_node": -1, "self_connection_type": "nequip", "use_modality": False, "_modal_map": {},
    "use_modal_self_inter_intro": False, "use_modal_self_inter_outro": False, "use_modal_output_block": False,
    "use_modal_wise_shift": False, "use_modal_wise_scale": False,
}  # fmt: skip
# Options that can have one value only; networks with another one have no counterpart here.
ONLY: Mapping[str, tuple[Any, ...]] = {
    "_model_type": ("E3_equivariant_model",), "interaction_type": ("nequip",), "act_radial": ("silu",),
    "act_scalar": ({"e": "silu", "o": "tanh"},), "use_bias_in_linear": (False,), "readout_as_fcn": (False,),
    "use_modal_node_embedding": (False,), "_normalize_sph": (True,), "optimize_by_reduce": (True,),
}  # fmt: skip
# Options that do not change what a trained network computes.
OF_TRAINING = (
    "chemical_species _number_of_species _chemical_species_by_atomic_number _number_of_modalities modal_list "
    "default_modal avg_num_neigh conv_denominator shift scale train_shift_scale train_denominator train_avg_num_neigh "
    "readout_fcn_hidden_neurons readout_fcn_activation device optimizer optim_param scheduler scheduler_param loss "
    "loss_param continue random_seed epoch force_loss_weight stress_loss_weight use_testset _num_workers num_workers "
    "per_epoch _is_trace_stress is_train_stress train_shuffle error_record best_metric csv_log is_ddp ddp_backend "
    "local_rank rank world_size load_dataset_path load_trainset_path load_validset_path load_testset_path "
    "load_memory_path save_dataset_path dtype data_format data_format_args format_outputs_for_ase save_by_label "
    "save_by_train_valid data_divide_ratio batch_size preprocess_num_cores use_species_wise_shift_scale data_shuffle "
    "compute_statistics dataset_type use_weight rehearsal mem_batch_size mem_ratio use_flash_tp "
    "cuequivariance_config use_oeq opt_params fisher_information ewc_lambda wandb log_level"
)
IGNORED = frozenset(OF_TRAINING.split())
BEFORE_ITS_OPTION = (0, 9)  # versions up to here did not write _normalize_sph when it was false


@dataclass(frozen=True, kw_only=True)
class Network:
    """The network of a checkpoint."""

    atomic_numbers: tuple[int, ...]  # in the order of the species
    modals: tuple[str, ...]  # the levels of theory in their order; none if there is one only
    cutoff: float
    l_max: int
    reflections: bool  # whether features have a parity
    irreps: tuple[Irreps, ...]  # of the embedding, and of the result of each layer
    n_bessel: int
    envelope_p: int
    xplor_on: float | None
    hidden: tuple[int, ...]  # widths of the radial network
    shared: bool  # one self-connection for all species
    constants_of_intro: bool  # whether the levels of theory differ by constants before each convolution,
    constants_of_outro: bool  # after it,
    constants_of_output: bool  # and in the read-out
    modal_wise_shift: bool
    modal_wise_scale: bool
    sorts_paths: bool  # whether the weights of paths are sorted as their results are

    @property
    def n_layers(self) -> int:
        return len(self.irreps) - 1

    @property
    def harmonics(self) -> Irreps:
        return Irreps.spherical_harmonics(self.l_max, reflections=self.reflections)

    def products_of(self, features: Irreps, l_max: int, *, even_only: bool) -> Irreps:
        """The irreps up to ``l_max`` in products of features with harmonics; see :func:`products`."""
        return products(features, self.harmonics, l_max, even_only=even_only)

    def config(self, n_knots: int | None, constants: bool, denominator: float = 1.0) -> NequIPConfig:
        """The options of the same network here.

        Args:
            n_knots: the number of knots of the splines; None computes the radial networks on every edge.
            constants: whether a level of theory was chosen, whose constants are added.
            denominator: by which messages are divided, so that weights keep the size that training expects.

        Raises:
            InputError: the network has something that this one cannot have.
        """
        channels = _channels(self.irreps, self.l_max, reflections=self.reflections)
        deep = self.n_layers > 1
        values: dict[str, Any] = {
            "cutoff": self.cutoff,
            "n_layers": self.n_layers,
            "l_max": self.l_max if deep else 0,
            "parity": self.reflections and any(ir == (0, -1) for features in self.irreps for _, ir in features),
            "reflections": self.reflections or not deep,
            "channels": channels if deep else channels[:1],
            "embedding_channels": self.irreps[0].dim,
            "n_bessel": self.n_bessel,
            "envelope_p": self.envelope_p,
            "xplor_on": self.xplor_on,
            "radial_depth": len(self.hidden),
            "radial_width": self.hidden[0],
            "radial_knots": n_knots,
            "first_self_connection": deep,
            "self_connection": deep,
            "shared_self_connection": self.shared and deep,
            "scalar_constants": constants and deep,
            "mean_neighbors": denominator**2,
        }
        return checked(NequIPConfig, values)


def products(features: Irreps, harmonics: Irreps, l_max: int, *, even_only: bool) -> Irreps:
    """The irreps up to ``l_max`` in products of features with harmonics, in the order of e3nn; with all channels.

    Args:
        features: irreps of the features.
        harmonics: irreps of the harmonics.
        l_max: the highest degree to keep.
        even_only: whether to keep even irreps only.
    """
    found = [(mul, ir) for mul, a in features for _, b in harmonics for ir in a * b]
    return in_order(Irreps([(mul, ir) for mul, ir in found if ir.l <= l_max and (ir.p > 0 or not even_only)]))


def network_of(options: Mapping[Any, Any]) -> Network:
    """Read the options of a checkpoint.

    Raises:
        InputError: an option is missing, is wrong or unknown, or has a value that has no counterpart here.
    """
    _refuse_others(options)
    given = {**DEFAULTS, **options}
    version = re.match(r"(\d+)\.(\d+)", str(given["version"]))
    if version is None:
        raise _wrong("version", given)
    numbers = int(version[1]), int(version[2])
    if "_normalize_sph" not in given and numbers <= BEFORE_ITS_OPTION:
        raise InputError(
            "the option _normalize_sph is missing, as in the SevenNet-0 of May 2024, whose harmonics grow with the "
            "distance: equiforce has no such network, take a newer checkpoint"
        )
    n_layers, l_max = _whole("num_convolution_layer", given, 1, MANY), _whole("lmax", given, 0, HIGHEST_DEGREE)
    if given["lmax_edge"] not in (-1, l_max) or given["lmax_node"] not in (-1, l_max):
        raise InputError("the options lmax_edge and lmax_node differ from lmax: equiforce has one highest degree")
    shared = given["self_connection_type"]
    kinds = {*shared} if isinstance(shared, list) and all(isinstance(s, str) for s in shared) else {shared}
    if kinds not in ({"linear"}, {"nequip"}):
        raise _wrong("self_connection_type", given)
    modals = _modals(given)
    basis, envelope = _options_of("radial_basis", given, "bessel"), _options_of("cutoff_function", given, "poly_cut")
    xplor = envelope.get("cutoff_function_name") == "XPLOR"
    hidden = given["weight_nn_hidden_neurons"]
    if not isinstance(hidden, list) or not hidden or any(type(n) is not int or n != hidden[0] for n in hidden):
        raise InputError(f"the option weight_nn_hidden_neurons is {hidden}: equiforce has equal widths, at least one")
    reflections = _flag("is_parity", given)
    return Network(
        atomic_numbers=_atomic_numbers(given),
        modals=modals,
        cutoff=_length("cutoff", given),
        l_max=l_max,
        reflections=reflections,
        irreps=_irreps(given, n_layers, l_max, reflections=reflections),
        n_bessel=_whole("bessel_basis_num", {"bessel_basis_num": 8, **basis}, 1, 256),
        envelope_p=6 if xplor else _whole("poly_cut_p_value", {"poly_cut_p_value": 6, **envelope}, 2, 100),
        xplor_on=_length("cutoff_on", envelope) if xplor else None,
        hidden=tuple(hidden),
        shared=kinds == {"linear"},
        constants_of_intro=bool(modals) and _flag("use_modal_self_inter_intro", given),
        constants_of_outro=bool(modals) and _flag("use_modal_self_inter_outro", given),
        constants_of_output=bool(modals) and _flag("use_modal_output_block", given),
        modal_wise_shift=bool(modals) and _flag("use_modal_wise_shift", given),
        modal_wise_scale=bool(modals) and _flag("use_modal_wise_scale", given),
        sorts_paths=numbers >= (0, 11),
    )


def _refuse_others(options: Mapping[Any, Any]) -> None:
    """Raise InputError for a missing or unknown option, and for a value that has no counterpart."""
    if missing := [name for name in REQUIRED if name not in options]:
        raise InputError(f"the options lack {', '.join(missing)}: {UNKNOWN}")
    known = {*REQUIRED, *DEFAULTS, *ONLY, *IGNORED, "act_gate"}
    if wrong := [str(name)[:60] for name in options if name not in known and not str(name).endswith("_cp")]:
        raise InputError(f"equiforce does not know the option {wrong[0]}: {UNKNOWN}")
    for name, values in ONLY.items():
        if name in options and options[name] not in values:
            raise InputError(f"the option {name} is {str(options[name])[:60]}: equiforce has no such network")
    gates = options.get("act_gate", {"e": "silu"})
    if not isinstance(gates, dict) or gates.get("e") != "silu":  # odd gates do not occur beside even scalars
        raise _wrong("act_gate", options)


def _wrong(name: str, options: Mapping[Any, Any]) -> InputError:
    return InputError(f"the option {name} is {str(options.get(name))[:60]}, which equiforce does not know")


def _flag(name: str, options: Mapping[Any, Any]) -> bool:
    value = options[name]
    if type(value) is not bool:
        raise _wrong(name, options)
    return value


def _whole(name: str, options: Mapping[Any, Any], least: int, most: int) -> int:
    value = options[name]
    if type(value) is not int or not least <= value <= most:
        raise InputError(f"the option {name} is {str(value)[:60]}, and equiforce has {least} to {most}")
    return value


def _length(name: str, options: Mapping[Any, Any]) -> float:
    value = options.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise _wrong(name, options)
    return float(value)


def _options_of(name: str, options: Mapping[Any, Any], default: str) -> dict[str, Any]:
    """The options of the radial basis or of the envelope, whose kind must be known."""
    kinds = {"radial_basis": ("bessel",), "cutoff_function": ("poly_cut", "XPLOR")}[name]
    known = {f"{name}_name", "bessel_basis_num", "trainable_coeff", "poly_cut_p_value", "cutoff_on"}
    given = options[name]
    if not isinstance(given, dict) or given.get(f"{name}_name", default) not in kinds or not given.keys() <= known:
        raise _wrong(name, options)
    return given


def _atomic_numbers(options: Mapping[Any, Any]) -> tuple[int, ...]:
    """The atomic numbers in the order of the species."""
    species = options["_type_map"]
    if not isinstance(species, dict) or sorted(map(str, species.values())) != sorted(map(str, range(len(species)))):
        raise _wrong("_type_map", options)
    numbers = tuple(sorted(species, key=lambda z: int(species[z])))
    if not numbers or not all(type(z) is int and 0 < z < len(SYMBOLS) for z in numbers):
        raise _wrong("_type_map", options)
    return numbers


def _modals(options: Mapping[Any, Any]) -> tuple[str, ...]:
    """The names of the levels of theory in their order; none if there is one only."""
    if not _flag("use_modality", options):
        return ()
    modals = options["_modal_map"]
    if not isinstance(modals, dict) or not all(isinstance(name, str) for name in modals):
        raise _wrong("_modal_map", options)
    if sorted(map(str, modals.values())) != sorted(map(str, range(len(modals)))) or not modals:
        raise _wrong("_modal_map", options)
    return tuple(sorted(modals, key=lambda name: int(modals[name])))


def _irreps(options: Mapping[Any, Any], n_layers: int, l_max: int, *, reflections: bool) -> tuple[Irreps, ...]:
    """The irreps of the embedding and of the result of each layer."""
    channels, manual = _whole("channel", options, 1, 1024), options["irreps_manual"]
    if manual is not False:
        if not isinstance(manual, list) or len(manual) != n_layers + 1:
            raise _wrong("irreps_manual", options)
        try:
            found = [Irreps(str(irreps)) for irreps in manual]
        except ValueError as error:
            raise InputError(f"the option irreps_manual: {error}") from None
    else:
        harmonics = Irreps.spherical_harmonics(l_max, reflections=reflections)
        found = [Irreps([(channels, "0e")])]
        for number in range(n_layers):
            last = number == n_layers - 1
            made = products(found[-1], harmonics, 0 if last else l_max, even_only=last)
            found.append(Irreps([(channels, ir) for _, ir in made]))
    if any(len(irreps) != 1 or irreps[0].ir != Irrep(0, 1) for irreps in (found[0], found[-1])):
        raise InputError("the option irreps_manual does not begin and end with even scalars, as networks here do")
    return tuple(found)


def _channels(irreps: tuple[Irreps, ...], l_max: int, *, reflections: bool) -> list[int]:
    """The number of channels of each degree, which must be the same in all layers, and for both parities."""
    channels: dict[int, int] = {}
    for features in irreps[1:]:
        for mul, ir in features:
            if channels.setdefault(ir.l, mul) != mul or (ir.p < 0 and not reflections) or ir.l > l_max or mul < 1:
                raise InputError(
                    f"the features {features} have another number of channels than those of other layers, or have no "
                    "counterpart: equiforce has one number of channels for each degree"
                )
    return [channels.get(l, 0) for l in range(l_max + 1)]
