"""A third model, in a file of its own, goes through the whole package, which knows nothing of it."""

import shutil
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule

import equiforce
from equiforce import model_file
from equiforce.calculators.ase import Calculator
from equiforce.chunks import ChunkedPotential
from equiforce.config import configured, json_schema, load_config, to_yaml
from equiforce.errors import InputError
from equiforce.evaluate import errors, predict
from equiforce.memory import ALLOCATOR, OF_EVERY_WEIGHT, step_memory
from equiforce.models import REGISTRY, Model, ModelConfig
from equiforce.models.allegro_config import AllegroConfig
from equiforce.models.registry import GROUP
from equiforce.potential import EDGES_AT_ONCE
from tests.calculators.lammps.runs import needs_lammps
from tests.calculators.lammps.simulations import ran, save_model, waters, write_data
from tests.systems import CUTOFF, SPECIES, ethanol, graph_of, potential_of, structure_of, tensors_of
from tests.test_memory import peak, step

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).with_name("third_model.py")
ETHANOL = ROOT / "examples" / "ethanol"
OPTIONS = {
    "model.kind": "pair",
    "split.test_file": [str(ETHANOL / "test_300K.xyz")],
    "training.max_steps": 150,
    "training.validate_every": 50,
    "training.deterministic": True,
}


def blocks(language: str) -> list[str]:
    """The blocks of code of a language in docs/models.md."""
    parts = (ROOT / "docs" / "models.md").read_text(encoding="utf-8").split("```")[1::2]
    return [part.removeprefix(f"{language}\n") for part in parts if part.startswith(f"{language}\n")]


@pytest.fixture(scope="module", autouse=True)
def package(tmp_path_factory):
    """The folder of the installed package that docs/models.md describes; other processes of these tests have it too."""
    folder = tmp_path_factory.mktemp("site-packages")
    project = tomllib.loads(blocks("toml")[0])["project"]
    name, version = project["name"].replace("-", "_"), project["version"]
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version}\n")
    lines = [f"{kind} = {module}" for kind, module in project["entry-points"][GROUP].items()]
    (about / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))
    shutil.copy(FILE, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(REGISTRY, "_kinds", dict(REGISTRY._kinds))
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", str(folder), prepend=":")
        yield folder
    sys.modules.pop(FILE.stem, None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return equiforce.train(
        ETHANOL / "train.xyz", tmp_path_factory.mktemp("training") / "run", options=OPTIONS, plots=False
    )


def test_the_documentation_shows_the_model_that_is_tested():
    assert FILE.read_text(encoding="utf-8") in blocks("python")


def test_a_model_is_imported_when_it_is_asked_for_and_not_before(monkeypatch):
    monkeypatch.setattr(REGISTRY, "_kinds", {name: REGISTRY[name] for name in ("nequip", "allegro")})
    monkeypatch.setitem(sys.modules, FILE.stem, None)  # which is undone whether it was there or not
    del sys.modules[FILE.stem]
    assert list(REGISTRY) == ["nequip", "allegro", "pair"]
    assert REGISTRY["nequip"].name == "nequip"
    assert FILE.stem not in sys.modules
    assert REGISTRY.find("pair").model_class.__name__ == "Pair"
    assert FILE.stem in sys.modules


def test_its_options_are_written_read_and_explained(tmp_path):
    config = configured({}, {"model.kind": "pair", "model.width": 7})
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "config.yaml") == config
    text = to_yaml(config)
    assert "  kind: pair  # pairs alone: to see what angles and many-body terms bring\n" in text
    assert "  # preset: standard | small  # " in text
    assert "  n_basis: 8  # cosines of the distance, enough for one well\n" in text
    assert configured({}, {"model.kind": "pair", "model.preset": "small", "model.width": 3}).model.n_basis == 4
    with pytest.raises(
        InputError, match=r"there is no option model\.n_layers: it exists only as model\.n_layers with model\.kind="
    ):
        configured({}, {"model.kind": "pair", "model.n_layers": 2})
    with pytest.raises(InputError, match=r"model\.width=0 is not allowed: it should be greater than or equal to 1"):
        configured({}, {"model.kind": "pair", "model.width": 0})


def test_the_schema_has_it():
    (schema,) = (s for s in json_schema()["properties"]["model"]["anyOf"] if s["properties"]["kind"]["const"] == "pair")
    assert set(schema["properties"]) == {"kind", "preset", "cutoff", "n_basis", "width", "mean_neighbors"}
    assert schema["properties"]["preset"]["enum"] == ["standard", "small"]


def test_it_learns(trained):
    """Forces that are off by less than two thirds of themselves, after seconds; zero forces are off by all."""
    structures = equiforce.read([str(ETHANOL / "test_300K.xyz")])
    zero = np.sqrt(np.mean([np.square(s.forces).mean() for s in structures])) * 1000
    assert trained.test.total.forces.rmse < zero * 2 / 3
    assert trained.outcome[:2] == ("150 steps are done", False)


def test_what_is_measured_on_the_data_is_filled_in(trained):
    model = equiforce.load(trained.model).model
    assert 4 < model.config.mean_neighbors < 8
    assert load_config(trained.folder / "config.yaml").model == model.config


def test_a_model_file_gives_the_numbers_of_the_training_again(trained):
    structures = equiforce.read([str(ETHANOL / "test_300K.xyz")])
    again = errors(structures, predict(equiforce.load(trained.model), structures))
    assert again.total.forces.rmse == pytest.approx(trained.test.total.forces.rmse, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_file_keeps_every_number(dtype, tmp_path):
    potential, graph = potential_of("pair", dtype=dtype, zbl=True), graph_of(ethanol())
    save_model(tmp_path / "pair.eqf", potential)
    kept = model_file.load(tmp_path / "pair.eqf")
    assert kept.model.config == potential.model.config
    for one, other in zip(tensors_of(kept(graph)), tensors_of(potential(graph)), strict=True):
        assert torch.equal(one, other)


def test_its_file_is_refused_where_it_is_not_installed(tmp_path, monkeypatch, package):
    save_model(tmp_path / "pair.eqf", potential_of("pair"))
    monkeypatch.setattr(REGISTRY, "_kinds", {name: REGISTRY[name] for name in ("nequip", "allegro")})
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(package)])
    with pytest.raises(InputError, match="there is no model of kind 'pair': choose one of nequip, allegro, or install"):
        model_file.load(tmp_path / "pair.eqf")


def test_forces_are_the_slopes_of_the_energy():
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.1, seed=0)
    atoms.calc = Calculator(potential_of("pair"))
    forces, found = atoms.get_forces(), np.zeros((len(atoms), 3))
    for index in np.ndindex(found.shape):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[index] += sign * 1e-4
            moved.calc = atoms.calc
            energies.append(moved.get_potential_energy())
        found[index] = (energies[1] - energies[0]) / 2e-4
    assert np.abs(forces).max() > 0.1
    np.testing.assert_allclose(found, forces, atol=1e-6)


def test_random_weights_make_a_calculator():
    atoms = molecule("H2O")
    atoms.calc = equiforce.untrained(["H", "O"], kind="pair", width=8)
    assert np.isfinite(atoms.get_forces()).all()
    typical = 0.1 * 4 / 3 * np.pi * 4.0**3
    assert atoms.calc.potential.model.config.mean_neighbors == pytest.approx(typical)


@pytest.fixture(scope="module")
def water():
    return graph_of(structure_of(waters(4)))


@pytest.mark.parametrize("training", [False, True])
def test_the_memory_that_it_predicts_is_measured(training, water):
    potential = potential_of("pair", dtype="float32")
    measured = peak(step(potential, water, training))
    tensors = step_memory(potential, training=training).bytes(water.n_atoms, water.n_edges) / ALLOCATOR
    if training:  # whose gradients were there before, and no optimiser is
        tensors -= OF_EVERY_WEIGHT * sum(p.numel() * p.itemsize for p in potential.parameters())
    assert 0.85 < tensors / measured < 1.3


def test_it_is_computed_in_batches_of_centres_and_in_chunks(water, monkeypatch):
    potential = potential_of("pair")
    whole = potential(water, stress=True)
    monkeypatch.setitem(EDGES_AT_ONCE, "cpu", 300)
    need = step_memory(potential).bytes(water.n_atoms, water.n_edges)
    chunked = ChunkedPotential(potential, max_memory=0.6e-9 * need)
    assert len(chunked.plan(water).chunks) > 1
    for found in (potential(water, stress=True), chunked(water, stress=True)):
        torch.testing.assert_close(found.energies, whole.energies, rtol=0, atol=1e-10)
        torch.testing.assert_close(found.forces, whole.forces, rtol=0, atol=1e-10)
        torch.testing.assert_close(found.stress, whole.stress, rtol=0, atol=1e-10)


@needs_lammps
@pytest.mark.slow
def test_it_runs_in_lammps(tmp_path):
    potential = potential_of("pair")
    save_model(tmp_path / "pair.eqf", potential)
    atoms = write_data(tmp_path / "water.data", waters())
    script = f"""
units metal
read_data water.data
pair_style equiforce
pair_coeff * * pair.eqf {" ".join(SPECIES)}
run 0 post no
write_dump all custom water.dump id fx fy fz modify sort id format float %.16g
print "RESULT energy $(pe:%.16g)"
"""
    output = ran(tmp_path, script, 2)
    atoms.calc = Calculator(potential)
    (energy,) = (line.split()[2] for line in output.splitlines() if line.startswith("RESULT energy"))
    assert float(energy) == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
    rows = np.loadtxt(tmp_path / "water.dump", skiprows=9)
    np.testing.assert_allclose(rows[:, 1:], atoms.get_forces(), rtol=0, atol=1e-9)


@pytest.mark.slow
def test_the_command_line_knows_it():
    command = [sys.executable, "-c", "from equiforce.cli import main; main()", "config", "--set", "model.kind=pair"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "  kind: pair  # pairs alone" in said


def test_a_configuration_without_the_optional_options_has_their_defaults():
    class Plain(ModelConfig):
        """Nothing but a cutoff."""

    config = Plain(cutoff=3.0)
    assert (config.pair_cutoffs, config.mean_neighbors) == (None, None)
    assert config.with_mean_neighbors(5.0) == config
    assert [entry.name for entry in fields(config)] == ["cutoff"]


def test_a_mean_number_of_neighbours_that_is_given_stays():
    config_class = REGISTRY["pair"].config_class
    assert config_class().with_mean_neighbors(5.0).mean_neighbors == 5.0
    assert config_class(mean_neighbors=3.0).with_mean_neighbors(5.0).mean_neighbors == 3.0
    assert str(config_class(width=3)) == "n_basis 8, width 3, mean_neighbors None"


@pytest.mark.parametrize("kind", ["nequip", "allegro", "pair"])
def test_every_model_has_all_of_the_protocol(kind):
    model = potential_of(kind, cutoff=CUTOFF).model
    assert isinstance(model, Model)
    assert isinstance(model.config, ModelConfig)
    assert REGISTRY.kind_of(model) == kind
    assert not isinstance(torch.nn.Linear(1, 1), Model)


def test_pairs_have_the_cutoffs_of_the_pairs_from_which_they_come():
    config = AllegroConfig(cutoff=4.0, pair_cutoffs={"H-C": 2.0, "C-C": 3.0})
    chosen = config.with_elements({"H": "H", "Si": "C"})
    assert chosen.pair_cutoffs == {"H-Si": 2.0, "Si-Si": 3.0}
    assert config.with_elements({"H": "H"}).pair_cutoffs is None
    assert AllegroConfig().with_elements({"H": "H"}) == AllegroConfig()
