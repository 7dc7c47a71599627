"""A wrong name of an option is answered with the right one, wherever it stands."""

import pytest

from equiforce.calculators.md import MDOptions
from equiforce.config import configured, load_config
from equiforce.errors import InputError
from equiforce.option_values import read_options
from equiforce.unknown_options import Vocabulary, refusal, wrong_names

# what users of nequip, nequip-allegro, MACE, SevenNet and DeePMD-kit write, and what it is here
NAMES = {
    "r_max": "model.cutoff",
    "rcut": "model.cutoff",
    "num_features": "model.channels",
    "hidden_irreps": "model.channels",
    "num_channels": "model.channels",
    "num_layers": "model.n_layers",
    "num_interactions": "model.n_layers",
    "num_convolution_layer": "model.n_layers",
    "l_max": "model.l_max",
    "lmax": "model.l_max",
    "max_ell": "model.l_max",
    "max_L": "model.l_max",
    "is_parity": "model.parity",
    "num_bessels": "model.n_bessel",
    "polynomial_cutoff_p": "model.envelope_p",
    "PolynomialCutoff_p": "model.envelope_p",
    "invariant_layers": "model.radial_depth",
    "invariant_neurons": "model.radial_width",
    "avg_num_neighbors": "model.mean_neighbors",
    "num_scalar_features": "model.scalar_channels with model.kind=allegro",
    "E0s": "potential.reference_energies",
    "per_type_energy_shifts": "potential.reference_energies",
    "per_species_rescale_scales": "potential.scale",
    "pair_repulsion": "potential.zbl",
    "lr": "optimizer.learning_rate",
    "learning_rate": "optimizer.learning_rate",
    "ema": "optimizer.ema_decay",
    "clip_grad": "optimizer.clip_gradient",
    "seed": "split.seed or training.seed",
    "dataset_seed": "split.seed",
    "batch_size": "training.batch_size",
    "max_epochs": "training.max_epochs",
    "max_num_epochs": "training.max_epochs",
    "patience": "training.early_stopping",
    "model_dtype": "training.dtype",
    "default_dtype": "training.dtype",
    "energy_key": "data.energy_key",
    "virials_key": "data.virial_key",
    "forces_weight": "loss.forces",
    "swa_forces_weight": "loss.forces",
    "train_file": "split.train_file",
    "valid_file": "split.validation_file",
    "valid_fraction": "split.validation",
    "n_train": "split.train",
    "n_val": "split.validation",
    "correlation": "no counterpart here; equiforce's models correlate more atoms with more layers",
    "chemical_symbols": "no counterpart here; the elements are those of the training data",
}
MACE = """
name: water
model: MACE
num_channels: 64
r_max: 5.0
correlation: 3
train_file: water.xyz
E0s: {1: -13.6, 8: -430.1}
max_num_epochs: 200
loss: weighted
"""
NEQUIP = """
run: [train, test]
cutoff_radius: 5.0
data:
  _target_: nequip.data.datamodule.ASEDataModule
  split_dataset: {file_path: water.xyz, train: 0.8, val: 0.1}
trainer:
  _target_: lightning.Trainer
  max_epochs: 1000
  callbacks:
    - _target_: lightning.pytorch.callbacks.EarlyStopping
      patience: 20
training_module:
  optimizer: {_target_: torch.optim.Adam, lr: 0.01}
  model:
    num_layers: 4
    num_features: 32
    nobody_knows: 1
"""


def refused(options, file=None):
    with pytest.raises(InputError) as caught:
        load_config(file, options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("place", ["", "model.", "training.", "trainer.", "training_module.model."])
@pytest.mark.parametrize("name", NAMES)
def test_names_of_other_programs_are_answered_anywhere(place, name):
    option = f"{place}{name}"
    if option not in NAMES[name]:  # it may stand in the right place by chance
        assert NAMES[name] in refused({option: 1})


@pytest.mark.parametrize("name", NAMES)
def test_names_of_other_programs_are_answered_in_a_file(tmp_path, name):
    (tmp_path / "c.yaml").write_text(f"{name}: 1\n", encoding="utf-8")
    assert NAMES[name] in refused({}, tmp_path / "c.yaml")


def test_a_file_of_mace_is_named_and_translated(tmp_path):
    (tmp_path / "mace.yaml").write_text(MACE, encoding="utf-8")
    sentence = refused({}, tmp_path / "mace.yaml")
    assert (
        "mace.yaml: this is a configuration of MACE: write model.kind for model, model.channels for num_chan"
        in sentence
    )
    assert "potential.reference_energies for E0s" in sentence
    assert (
        "loss.kind for loss; nothing corresponds to name, correlation; docs/coming-from-nequip-or-mace.md" in sentence
    )


def test_a_file_of_nequip_is_named_and_translated(tmp_path):
    (tmp_path / "nequip.yaml").write_text(NEQUIP, encoding="utf-8")
    sentence = refused({}, tmp_path / "nequip.yaml")
    assert "nequip.yaml: this is a configuration of nequip: write model.cutoff for cutoff_radius" in sentence
    for part in ("split.train for train", "training.early_stopping for patience", "optimizer.learning_rate for lr"):
        assert part in sentence
    assert "nothing corresponds to run, nobody_knows;" in sentence
    assert "_target_" not in sentence


def test_a_tuple_of_python_in_a_file_is_no_obstacle(tmp_path):
    (tmp_path / "nequip.yaml").write_text("optimizer_betas: !!python/tuple\n  - 0.9\n  - 0.999\n", encoding="utf-8")
    assert "nequip's optimizer_betas is optimizer.beta2 here" in refused({}, tmp_path / "nequip.yaml")


def test_the_file_is_not_blamed_for_an_option_beside_it(tmp_path):
    (tmp_path / "c.yaml").write_text("model:\n  l_max: 1\n", encoding="utf-8")
    assert refused({"r_max": 4}, tmp_path / "c.yaml").startswith("there is no option r_max")


@pytest.mark.parametrize(
    ("option", "answer"),
    [
        ("model.learning_rate", "it is optimizer.learning_rate"),
        ("training.zbl", "it is potential.zbl"),
        ("l_max", "write model.l_max"),
        ("L_MAX", "write model.l_max"),
        ("model.lmax", "did you mean model.l_max?"),
        ("model.nlayers", "did you mean model.n_layers?"),
        ("training.early_stop", "did you mean training.early_stopping?"),
        ("optimizer.learnign_rate", "did you mean optimizer.learning_rate?"),
        ("training.learnign_rate", "did you mean optimizer.learning_rate?"),
        ("model.knots", "did you mean model.radial_knots?"),
        ("model.tensor_channels", "it exists only as model.tensor_channels with model.kind=allegro"),
        ("timestep", "ASE's and LAMMPS's timestep is md.timestep, an option of equiforce md (in fs)"),
    ],
)
def test_our_own_options_are_found_in_all_sections(option, answer):
    assert refused({option: 1}) == f"there is no option {option}: {answer}"


@pytest.mark.parametrize("option", ["model.n_max", "model.q_max", "model.dropout", "momentum", "training.", "a.b.c"])
def test_nothing_is_suggested_that_is_not_similar(option):
    assert refused({option: 1}) == f"there is no option {option}: equiforce config lists all options"


@pytest.mark.parametrize(
    ("option", "answer"),
    [
        ("dt", "dt is md.timestep here (in fs)"),
        ("T", "T is md.temperature here (in K)"),
        ("temperature_K", "ASE's temperature_K is md.temperature here (in K)"),
        ("thermostat", "thermostat is md.ensemble here"),
        ("loginterval", "ASE's loginterval is md.trajectory_every here (it counts steps)"),
        ("tempreature", "did you mean md.temperature?"),
        ("r_max", "nequip's and MACE's r_max is model.cutoff, an option of equiforce train"),
    ],
)
def test_options_of_md_are_answered_with_those_of_md(option, answer):
    with pytest.raises(InputError) as caught:
        read_options(MDOptions, {option: 1}, "md")
    assert str(caught.value) == f"there is no option md.{option}: {answer}"
    with pytest.raises(InputError, match="there is no option lammps"):
        read_options(MDOptions, {option: 1}, "lammps")


def test_an_option_of_md_may_be_written_with_its_section():
    assert read_options(MDOptions, {"md.timestep": 2.0}, "md").timestep == 2.0


def test_without_a_likeness_all_options_are_listed():
    with pytest.raises(
        InputError, match=r"there is no option md\.foo: the options are ensemble, temperature, pressure"
    ):
        read_options(MDOptions, {"foo": 1}, "md")


def test_the_right_names_are_not_wrong():
    vocabulary = Vocabulary(options={"model.l_max": "", "loss.forces": ""}, listing="there are two")
    assert wrong_names({"model": {"l_max": 1}, "loss": None}, vocabulary) == []
    assert wrong_names({"model": {"l_max": {"a": 1}}, "loss": {"a": 1}}, vocabulary) == ["loss.a"]
    assert refusal(["a", "b"], vocabulary) == "there are no such options: nothing corresponds to a, b; there are two"
    assert configured({"potential": {"reference_energies": {"H": -13.6}}}).potential.reference_energies == {"H": -13.6}
