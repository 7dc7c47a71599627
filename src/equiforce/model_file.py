"""One file for a model: safetensors weights, and JSON that says what they are. Reading one never executes code."""

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
from equiforce.graph import Structure
from equiforce.models import REGISTRY
from equiforce.neighbors import build_graph
from equiforce.nn.pair import ZBL
from equiforce.potential import Potential, evaluating

FORMAT = 2
RENAMED = {"shift": "atomic_energies", "shift_trainable": "atomic_energies_trainable"}  # since format 1
UNITS = {"energy": "eV", "length": "Å", "forces": "eV/Å", "stress": "eV/Å³, positive under tension"}
DTYPES = {"float32": torch.float32, "float64": torch.float64}
TOLERANCE = {torch.float32: 2e-4, torch.float64: 1e-8}
TOLERANCE_OF_FORMAT_1 = 1e-6  # its float64 models had knots that were rounded to float32
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
REFERENCE_ATOMS = 12  # of each stored piece: enough for every path, few enough for milliseconds
MARGIN = 2.5  # Å of vacuum around a piece that is given a periodic cell


def build_potential(description: dict[str, Any]) -> Potential:
    """The potential of a description (:func:`describe`), with random weights."""
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
    """Everything but the weights that :func:`build_potential` needs to make this potential again."""
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
    """Writes a model file in one piece: whoever reads ``path`` meanwhile finds the old file or the new one.

    Args:
        path: where to; by custom it ends in ``.eqf``.
        potential: what to save.
        references: real structures; small pieces of them are stored with their energies, forces and stress, and every
            loader computes them again.
        about: what ``equiforce info`` shows: statistics, training, errors.

    Raises:
        InputError: a structure holds an element that the potential does not know.
    """
    target = Path(path)
    header = {
        "format": FORMAT,
        "potential": describe(potential),
        "units": UNITS,
        "references": [as_reference(potential, s) for s in small_pieces(references)],
        "about": about or {},
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in potential.state_dict().items()}
    unfinished = target.with_name(target.name + ".part")
    # not safetensors' own save_file, whose files nobody but their owner may read
    unfinished.write_bytes(to_bytes(weights, metadata={"equiforce": json.dumps(header)}))
    unfinished.replace(target)


def read_header(path: Path | str) -> dict[str, Any]:
    """The JSON of a model file, in the words of today's format.

    Raises:
        InputError: there is no such file, it is no model file, or a newer equiforce wrote it.
    """
    header = read_stored_header(path)
    if header["format"] > FORMAT:
        raise InputError(f"{path} was written by a newer equiforce (file format {header['format']}): upgrade equiforce")
    if isinstance(header.get("potential"), dict):
        header["potential"] = {RENAMED.get(name, name): value for name, value in header["potential"].items()}
    for part, kinds in ((header, HEADER), (header.get("potential"), DESCRIPTION)):
        if wrong := [name for name, kind in kinds.items() if not isinstance(part.get(name), kind)]:
            raise InputError(f"{path} is damaged, for its header has no proper {wrong[0]}: train or copy it again")
    return header


def read_stored_header(path: Path | str) -> dict[str, Any]:
    """The JSON of a model file as it was written; its ``format`` is an integer, and nothing else is checked.

    Raises:
        InputError: there is no such file, or it is no model file.
    """
    if not Path(path).is_file():
        raise InputError(
            f"there is no model file {path}: give the .eqf file that equiforce train left in its run folder"
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["equiforce"])
        header["format"] = int(header["format"])
    except (SafetensorError, LookupError, ValueError, TypeError, RecursionError, OSError):
        raise InputError(f"{path} is not an equiforce model file, or is damaged: train or copy it again") from None
    return header


def summary(header: dict[str, Any]) -> list[tuple[str, str]]:
    """What a person wants to know of a model file, from its header: names and values."""
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
    return [*rows, ("reference structures", f"{len(header['references'])}, computed again at every load")]


def load(path: Path | str, device: str | torch.device = "cpu", dtype: str | None = None) -> Potential:
    """The potential in a model file, after it has reproduced the file's reference values.

    Args:
        path: the ``.eqf`` file.
        device: where it shall compute.
        dtype: ``float32`` or ``float64`` for the weights; as they were saved if None.

    Returns:
        The potential in evaluation mode. Its weights do not require grad: ``potential.train().requires_grad_()``
        makes all of them trainable.

    Raises:
        InputError: if the file cannot be read, or this machine computes other numbers than the one that saved it.
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
        raise InputError(f"{path}: the weights do not fit the model that it describes, so it is damaged") from error
    saved = potential.dtype
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"weights cannot be of dtype {dtype!r}: choose {' or '.join(DTYPES)}")
    potential.model.to(DTYPES.get(dtype, saved))
    potential.to(device).eval().requires_grad_(False)
    try:
        tolerance = max(TOLERANCE[saved], TOLERANCE[potential.dtype])
        if header["format"] == 1:
            tolerance = max(tolerance, TOLERANCE_OF_FORMAT_1)
        verify(potential, header["references"], tolerance, str(path))
    except InputError:
        raise
    except (TypeError, ValueError, LookupError) as error:
        raise InputError(f"{path} is damaged, for its reference structures are none: train or copy it again") from error
    return potential


def load_or_take(model: Path | str | Potential, device: str | torch.device | None = None) -> Potential:
    """The potential of a model file, or a potential that a caller has, for an engine that computes on a device.

    Args:
        model: the path of a model file, or a potential.
        device: None leaves a potential where it is, and loads a file onto the CPU.

    Returns:
        The given potential itself where it is on the device, and a copy of it otherwise: the caller's does not move.

    Raises:
        InputError: as :func:`load`, or torch cannot compute on the device.
    """
    if not isinstance(model, Potential):
        return load(model, "cpu" if device is None else device)
    if device is None or (place := _usable(device)) == model.device:
        return model
    return copy.deepcopy(model).to(place)


def _usable(device: str | torch.device) -> torch.device:
    """A device on which this machine's torch can compute."""
    try:
        return torch.zeros(1, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"torch cannot compute on '{device}' here: say cpu, or cuda where there is a GPU") from error


def verify(potential: Potential, references: list[dict[str, Any]], tolerance: float, path: str) -> None:
    """Computes the reference structures again and refuses to go on with other numbers."""
    for number, reference in enumerate(references):
        now = as_reference(potential, structure_of(reference))
        size = max(1.0, np.abs(reference["forces"]).max(), potential.scale.max().item())
        for quantity, per in (("energy", len(reference["atomic_numbers"])), ("forces", 1), ("stress", 1)):
            if reference[quantity] is None:
                continue
            difference = np.abs(np.subtract(now[quantity], reference[quantity])).max() / per
            if not difference <= tolerance * size:
                raise InputError(
                    f"{path}: this machine gives another {quantity} for reference structure {number} than the one that "
                    f"saved the model (by {difference:.1e} {UNITS[quantity].split(',')[0]}): do not use it here, "
                    "and report this with the versions of torch and equiforce"
                )


def as_reference(potential: Potential, structure: Structure) -> dict[str, Any]:
    """The structure with the energy, forces and stress of ``potential``, ready for JSON."""
    graph = build_graph(structure, potential.species, potential.cutoff).to(potential.device)
    with evaluating(potential):
        prediction = potential(graph, stress=True)
    return {
        "atomic_numbers": structure.atomic_numbers.tolist(),
        "positions": structure.positions.tolist(),
        "cell": structure.cell.tolist(),
        "pbc": structure.pbc.tolist(),
        "energy": prediction.energy.item(),
        "forces": prediction.forces.tolist(),
        "stress": None if prediction.stress is None else prediction.stress[0].tolist(),
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
    """A few structures that together hold every element."""
    chosen: list[Structure] = []
    missing = {int(z) for s in structures for z in s.atomic_numbers}
    for structure in structures:
        found = missing & set(structure.atomic_numbers.tolist())
        if found:
            chosen.append(structure)
            missing -= found
    return chosen


def small_pieces(structures: Sequence[Structure]) -> list[Structure]:
    """The surroundings of an atom of each element, once alone and once in a small periodic cell."""
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
