"""Model files: safetensors weights with a JSON header that describes the potential. Reading one never executes code."""

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from equiforce.elements import atomic_number
from equiforce.errors import InputError, MissingPackageError
from equiforce.models import REGISTRY
from equiforce.neighbors import build_graph
from equiforce.nn.pair import ZBL
from equiforce.potential import Potential, evaluating
from equiforce.quantities import ENERGY, FORCES, QUANTITIES, STRESS, Quantity, requested
from equiforce.structure import Structure

FORMAT = 2
# the names of format 1 -> the names of format 2
RENAMED = {"shift": "atomic_energies", "shift_trainable": "atomic_energies_trainable"}
DTYPES = {"float32": torch.float32, "float64": torch.float64}
TOLERANCE = {torch.float32: 2e-4, torch.float64: 1e-8}  # of the reference values, by dtype of the weights; see verify
TOLERANCE_OF_FORMAT_1 = 1e-6  # in this format, knots of float64 models were rounded to float32
HEADER = {"format": int, "potential": dict, "units": dict, "references": list, "about": dict}
DESCRIPTION = {
    "kind": str,
    "config": dict,
    "species": list,
    "dtype": str,
    "zbl": bool,
    "atomic_energies_trainable": bool,
    "scale_trainable": bool,
    "atomic_energies": list,
    "scale": list,
}
REFERENCE_ATOMS = 12  # in each reference structure: enough to use every path, and computed in milliseconds
MARGIN = 2.5  # Å of vacuum around the atoms of a periodic reference structure


def build_potential(description: dict[str, Any]) -> Potential:
    """Build the potential of a description (see :func:`describe`) with random weights.

    Raises:
        InputError: the kind of the model, an element or the dtype is unknown.
        TypeError: the model has no such option.
        ValueError: an option has a wrong value.
    """
    kind = REGISTRY.find(description["kind"])
    species = description["species"]
    if description["dtype"] not in DTYPES:
        raise InputError(f"weights cannot be of dtype {description['dtype']!r}: choose {' or '.join(DTYPES)}")
    config = kind.config_class(**description["config"])
    zbl = ZBL([atomic_number(symbol) for symbol in species], config.cutoff) if description["zbl"] else None
    return Potential(
        kind.build(config, species).to(DTYPES[description["dtype"]]),
        species=species,
        cutoff=config.cutoff,
        atomic_energies=description.get("atomic_energies", [0.0] * len(species)),
        scale=description.get("scale", [1.0] * len(species)),
        atomic_energies_trainable=description["atomic_energies_trainable"],
        scale_trainable=description["scale_trainable"],
        zbl=zbl,
    )


def describe(potential: Potential) -> dict[str, Any]:
    """The description from which :func:`build_potential` builds the potential again, without its weights."""
    return {
        "kind": REGISTRY.kind_of(potential.model),
        "config": asdict(potential.model.config),
        "species": potential.species,
        "dtype": str(potential.dtype).removeprefix("torch."),
        "zbl": potential.zbl is not None,
        "atomic_energies_trainable": potential.atomic_energies.requires_grad,
        "scale_trainable": potential.scale.requires_grad,
        "atomic_energies": potential.atomic_energies.tolist(),
        "scale": potential.scale.tolist(),
    }


def save(
    path: Path | str, potential: Potential, references: Sequence[Structure], about: dict[str, Any] | None = None
) -> None:
    """Write a model file atomically: a simultaneous reader of ``path`` gets either the old file or the new one.

    Args:
        path: the file to write; its name usually ends in ``.eqf``.
        potential: the potential to save.
        references: real structures. Small pieces of them are stored together with their predictions, which
            :func:`load` computes again to check the potential.
        about: statistics, training and errors, which ``equiforce info`` shows.

    Raises:
        InputError: a structure contains an element that the potential does not know, or the weights are neither float32
            nor float64.
    """
    if potential.dtype not in DTYPES.values():
        raise InputError(f"{path}: weights of {potential.dtype} cannot be stored: convert them with potential.float()")
    target = Path(path)
    header = {
        "format": FORMAT,
        "potential": describe(potential),
        "units": stored_units(),
        "references": [as_reference(potential, s) for s in small_pieces(references)],
        "about": about or {},
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in potential.state_dict().items()}
    unfinished = target.with_name(target.name + ".part")
    # safetensors' own save_file makes files that only their owner may read
    unfinished.write_bytes(to_bytes(weights, metadata={"equiforce": json.dumps(header)}))
    unfinished.replace(target)


def stored_units() -> dict[str, str]:
    """The units of energy, length and all quantities, in which the file stores reference values."""
    units = {q.name: f"{q.unit}, {q.sign}" if q.sign else q.unit for q in QUANTITIES}
    return {ENERGY.name: ENERGY.unit, "length": "Å", **units}


def read_header(path: Path | str) -> dict[str, Any]:
    """Read and check the header of a model file; old names become the current ones, and ``format`` stays as written.

    Raises:
        InputError: there is no such file, it is not a model file, or a newer equiforce wrote it.
    """
    header = read_stored_header(path)
    if header["format"] > FORMAT:
        raise InputError(f"{path} was written by a newer equiforce (file format {header['format']}): upgrade equiforce")
    description = header.get("potential")
    if isinstance(description, dict):
        header["potential"] = description = {RENAMED.get(name, name): value for name, value in description.items()}
    for part, kinds in ((header, HEADER), (description or {}, DESCRIPTION)):
        if wrong := [name for name, kind in kinds.items() if not isinstance(part.get(name), kind)]:
            raise InputError(
                f"{path} is damaged because {wrong[0]!r} in its header is missing or wrong: train or copy it again"
            )
    return header


def read_stored_header(path: Path | str) -> dict[str, Any]:
    """Read the header of a model file as it was written, and check only that its ``format`` is an integer.

    Raises:
        InputError: there is no such file, or it is not a model file.
    """
    if not Path(path).is_file():
        raise InputError(
            f"there is no model file {path}: give the .eqf file that equiforce train wrote into its run folder"
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["equiforce"])
        header["format"] = int(header["format"])
    except (SafetensorError, LookupError, ValueError, TypeError, RecursionError, OSError):
        raise InputError(f"{path} is not an equiforce model file, or is damaged: train or copy it again") from None
    return header


def reference_energies_from(path: Path | str) -> str:
    """The origin in words of the reference energies of a model file; empty if it is not known."""
    found = read_header(path)["about"].get("statistics", {}).get("reference_energies_from", "")
    return str(found)


def summary(header: dict[str, Any]) -> list[tuple[str, str]]:
    """The names and values that ``equiforce info`` shows of a model file, from its header."""
    described, about = header["potential"], header["about"]
    species, config = described["species"], described["config"]
    energies = ", ".join(f"{s} {e:.6f}" for s, e in zip(species, described["atomic_energies"], strict=True))
    scales = ", ".join(f"{s} {e:.4f}" for s, e in zip(species, described["scale"], strict=True))
    rows = [
        ("model", f"{described['kind']}, {described['dtype']}, file format {header['format']}"),
        ("elements", ", ".join(species)),
        ("cutoff", f"{config.get('cutoff')} Å"),
        ("network", ", ".join(f"{name} {value}" for name, value in config.items() if name != "cutoff")),
        ("reference energies", f"{energies} eV"),
        ("scale", f"{scales} eV"),
        ("short-range repulsion", "ZBL" if described["zbl"] else "none"),
        ("units", "; ".join(f"{name} {unit}" for name, unit in header["units"].items())),
    ]
    if training := about.get("training"):
        took = f"{training['steps']} steps in {training['seconds']:.0f} s"
        rows.append(("training", f"{took}; best at step {training['best_step']}"))
    if test := about.get("test_errors"):
        units = test["units"]
        for name, metric in test["total"].items():
            rows.append((f"test, {name}", f"MAE {metric['mae']:.4g}, RMSE {metric['rmse']:.4g} {units[name]}"))
    if made := about.get("made"):
        rows.append(("made", ", ".join(f"{name} {value}" for name, value in made.items())))
    return [*rows, ("reference structures", f"{len(header['references'])}, computed again whenever the file is loaded")]


def load(path: Path | str, device: str | torch.device = "cpu", dtype: str | None = None) -> Potential:
    """Load the potential of a model file and check that it reproduces the reference values in the file.

    Args:
        path: the ``.eqf`` file.
        device: the device to load the potential onto.
        dtype: ``float32`` or ``float64`` for the weights; None keeps that of the file.

    Returns:
        The potential in evaluation mode. Its weights do not require grad; ``potential.train().requires_grad_()``
        makes all of them trainable.

    Raises:
        InputError: the file cannot be read, its model cannot be built, torch cannot compute on the device, there is no
            such dtype, or this machine computes other values than the one that saved the file.
    """
    header, device = read_header(path), _usable(device)
    try:
        potential = build_potential(header["potential"])
    except MissingPackageError as error:
        raise MissingPackageError(f"{path}: {error}") from error
    except (TypeError, ValueError, LookupError, RuntimeError) as error:
        raise InputError(
            f"{path} describes a model that this equiforce cannot build ({error}): upgrade equiforce, or train again"
        ) from error
    with safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    try:
        potential.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            f"{path} is damaged because its weights do not fit the model that it describes: train or copy it again"
        ) from error
    saved = potential.dtype
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"weights cannot be of dtype {dtype!r}: choose {' or '.join(DTYPES)}")
    potential.model.to(saved if dtype is None else DTYPES[dtype])
    potential.to(device).eval().requires_grad_(False)
    try:
        tolerance = max(TOLERANCE[saved], TOLERANCE[potential.dtype])
        if header["format"] == 1:
            tolerance = max(tolerance, TOLERANCE_OF_FORMAT_1)
        verify(potential, header, tolerance, str(path))
    except InputError:
        raise
    except (TypeError, ValueError, LookupError) as error:
        raise InputError(
            f"{path} is damaged because its reference structures are wrong: train or copy it again"
        ) from error
    return potential


def load_or_take(model: Path | str | Potential, device: str | torch.device | None = None) -> Potential:
    """Return a potential on a device, from a model file or from a potential.

    Args:
        model: the path of a model file, or a potential.
        device: the device; None keeps the device of a potential, and loads a file onto the CPU.

    Returns:
        The given potential itself if it is on the device; otherwise a copy, so that the given one does not move.

    Raises:
        InputError: the file cannot be loaded (see :func:`load`), or torch cannot compute on the device.
    """
    if not isinstance(model, Potential):
        return load(model, "cpu" if device is None else device)
    if device is None or (place := _usable(device)) == model.device:
        return model
    return copy.deepcopy(model).to(place)


def _usable(device: str | torch.device) -> torch.device:
    """Check that torch can compute on a device of this machine; raises InputError otherwise."""
    try:
        return torch.zeros(1, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"torch cannot compute on '{device}' here: give cpu, or cuda if there is a GPU") from error


def verify(potential: Potential, header: dict[str, Any], tolerance: float, path: str) -> None:
    """Compute the reference structures again and compare the results with those in the file.

    Quantities that were added to equiforce after the file was written are not compared.

    Args:
        potential: the loaded potential.
        header: the header of the file.
        tolerance: the allowed difference, relative to the larger of 1 and the largest force or scale. Energies are
            compared per atom.
        path: the name of the file in messages.

    Raises:
        InputError: a result differs.
    """
    stored = [quantity for quantity in QUANTITIES if quantity.name in header["units"]]
    if missing := [quantity.name for quantity in (ENERGY, FORCES, STRESS) if quantity not in stored]:
        raise InputError(f"{path} is damaged because it lacks the unit of {missing[0]}: train or copy it again")
    for number, reference in enumerate(header["references"]):
        now = as_reference(potential, structure_of(reference))
        size = max(1.0, np.abs(reference[FORCES.name]).max(), potential.scale.max().item())
        for quantity in stored:
            if reference[quantity.name] is None:
                continue
            divisor = len(reference["atomic_numbers"]) if quantity.logged.per_atom else 1
            difference = np.abs(np.subtract(now[quantity.name], reference[quantity.name])).max() / divisor
            if not difference <= tolerance * size:
                raise InputError(
                    f"{path}: this machine gives another {quantity.name} for reference structure {number} than the "
                    f"machine that saved the model (difference {difference:.1e} {quantity.residual_unit}): do not use "
                    "the model here, and report this with the versions of torch and equiforce"
                )


def as_reference(potential: Potential, structure: Structure) -> dict[str, Any]:
    """A structure with all predictions of ``potential`` for it, as plain values for JSON."""
    graph = build_graph(structure, potential.species, potential.cutoff).to(potential.device)
    with evaluating(potential):
        prediction = potential(graph, **requested(QUANTITIES))

    def plain(quantity: Quantity) -> Any:
        values = prediction.of(quantity)
        if values is None:
            return None
        return values.tolist() if quantity.of_atoms else values[0].tolist()

    return {
        "atomic_numbers": structure.atomic_numbers.tolist(),
        "positions": structure.positions.tolist(),
        "cell": structure.cell.tolist(),
        "pbc": structure.pbc.tolist(),
        **{quantity.name: plain(quantity) for quantity in QUANTITIES},
    }


def structure_of(reference: dict[str, Any]) -> Structure:
    """The structure of a stored reference."""
    return Structure(
        atomic_numbers=np.array(reference["atomic_numbers"]),
        positions=np.array(reference["positions"]).reshape(-1, 3),
        cell=np.array(reference["cell"]),
        pbc=np.array(reference["pbc"]),
    )


def reference_structures(structures: Sequence[Structure]) -> list[Structure]:
    """A few of the structures that together contain all elements."""
    chosen: list[Structure] = []
    missing = {int(z) for s in structures for z in s.atomic_numbers}
    for structure in structures:
        found = missing & set(structure.atomic_numbers.tolist())
        if found:
            chosen.append(structure)
            missing -= found
    return chosen


def small_pieces(structures: Sequence[Structure]) -> list[Structure]:
    """Cut reference structures out of structures.

    Returns:
        For one atom of each element, its nearest atoms twice: without a cell, and in a small periodic cell.
    """
    pieces: list[Structure] = []
    found: set[int] = set()
    firsts = ((s, i, z) for s in structures for i, z in enumerate(s.atomic_numbers.tolist()))
    for structure, center, element in firsts:
        if element in found:
            continue
        away = np.linalg.norm(structure.positions - structure.positions[center], axis=1)
        nearest = np.sort(np.argsort(away, kind="stable")[:REFERENCE_ATOMS])
        numbers, positions = structure.atomic_numbers[nearest], structure.positions[nearest]
        found.update(numbers.tolist())
        box = np.diag(np.ptp(positions, axis=0) + MARGIN)
        for cell, periodic in ((np.zeros((3, 3)), False), (box, True)):
            pbc = np.full(3, periodic)
            pieces.append(Structure(atomic_numbers=numbers, positions=positions, cell=cell, pbc=pbc))
    return pieces
