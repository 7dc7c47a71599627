"""Every option is explained, checked, and survives its own YAML."""

import json
from dataclasses import fields

import pytest
import yaml

from equiforce.config import (
    SECTIONS,
    RunConfig,
    _refuse_absent_elements,
    configured,
    json_schema,
    load_config,
    to_dict,
    to_yaml,
)
from equiforce.errors import InputError
from equiforce.models import REGISTRY
from equiforce.option_values import schema_of

CHANGED = {
    "model.l_max": 1,
    "model.n_layers": 4,
    "model.parity": True,
    "model.channels": [8, 4],
    "model.mean_neighbors": 12.345678901234567,
    "data.energy_key": "dft: energy # 'quoted'",
    "data.energy_unit": "kcal/mol",
    "split.train_file": ["a b.xyz@0:10", "ö/c.xyz"],
    "split.train": 0.5,
    "split.validation": 3,
    "potential.reference_energies": {"H": -13.6, "O": -2041.0},
    "potential.scale": {"H": 1.0, "O": 2.5e-7},
    "loss.forces": [(0.0, 1.0), (0.5, 1e-5)],
    "loss.kind": "huber",
    "loss.huber_delta": 0.02,
    "optimizer.name": "adamw",
    "optimizer.weight_decay": 1e-6,
    "optimizer.clip_gradient": None,
    "training.time": "1h30m",
    "training.wandb": "no",
}


@pytest.mark.parametrize("options", [{}, CHANGED], ids=["defaults", "changed"])
def test_yaml_comes_back_as_it_was(tmp_path, options):
    config = configured({}, options)
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "config.yaml") == config
    assert configured(to_dict(config)) == config
    assert configured(config) == config
    for key, value in options.items():
        section, _, name = key.partition(".")
        assert getattr(getattr(config, section), name) == value


def test_a_preset_gives_what_is_not_given_itself():
    config = configured({}, {"model.kind": "allegro", "model.preset": "small", "model.l_max": 2})
    assert config.model.l_max == 2
    assert config.model.tensor_channels == REGISTRY["allegro"].presets["small"]["tensor_channels"]
    assert "\n  preset" not in to_yaml(config)  # what it stood for is written out
    for kind in ("nequip", "allegro"):
        assert list(REGISTRY[kind].presets) == ["small", "standard", "accurate"]
        assert configured({}, {"model.kind": kind, "model.preset": "standard"}) == configured({}, {"model.kind": kind})


def test_numbers_may_be_written_as_people_write_them(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "optimizer:\n  learning_rate: 1e-3\nloss:\n  energy: 1e2\nsplit:\n  train_file: a.xyz\n"
    )
    config = load_config(tmp_path / "c.yaml")
    assert (config.optimizer.learning_rate, config.loss.energy) == (0.001, 100.0)
    assert config.split.train_file == ["a.xyz"]


def test_options_win_over_the_file_and_empty_sections_are_defaults(tmp_path):
    (tmp_path / "c.yaml").write_text("model:\n  l_max: 3\n  channels: 8\ntraining:\n")
    config = load_config(tmp_path / "c.yaml", {"model.l_max": 1, "training.seed": 5})
    assert (config.model.l_max, config.model.channels, config.training.seed) == (1, 8, 5)
    assert load_config() == RunConfig()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"modle.l_max": 1}, "there is no option modle.l_max: it is model.l_max"),
        ({"model.lmax": 1}, "there is no option model.lmax: did you mean model.l_max?"),
        ({"training.": 1}, "there is no option training."),
        ({"l_max": 1}, "there is no option l_max: write model.l_max"),
        ({"model.r_max": 5.0}, "there is no option model.r_max: nequip's and MACE's r_max is model.cutoff here"),
        ({"model.learning_rate": 1}, "there is no option model.learning_rate: it is optimizer.learning_rate"),
        (
            {"model": "allegro"},
            "model is a section: write 'cutoff: ...' indented below 'model:', or --set model.cutoff=...; MACE's",
        ),
        ({"split.nothing": 1}, "there is no option split.nothing: equiforce config lists all options"),
        ({"model.kind": "nequipp"}, "model.kind='nequipp' does not exist: choose one of"),
        (
            {"model.kind": "allegro", "model.channels": 4},
            "there is no option model.channels: did you mean model.scalar_channels or model.tensor_channels?",
        ),
        ({"model.kind": "allegro", "model.radial_basis": "sine"}, "it should be 'bessel' or 'spline'"),
        (
            {"model.kind": "allegro", "model.pair_cutoffs": {"H-O": 6.0}},
            "model.pair_cutoffs has 6.0 Å for H-O: give a length above 0 and at most model.cutoff=5.0",
        ),
        ({"model.preset": "tiny"}, "model.preset='tiny' does not exist for nequip: choose one of"),
        ({"model.kind": ["nequip"]}, "model.kind=['nequip'] does not exist"),
        ({"model.l_max": "two"}, "model.l_max='two' is not allowed: it should be a whole number"),
        ({"model.l_max": None}, "model.l_max=None is not allowed: it should be a whole number"),
        (
            {"model.channels": "two"},
            "model.channels='two' is not allowed: it should be a whole number or a list",
        ),
        ({"model.channels": [4, 2, "x"]}, "a whole number as entry 2"),
        ({"model.channels": [4, 2]}, "model.channels lists 2 numbers, but l_max=2 has 3 degrees"),
        ({"model.cutoff": float("nan")}, "model.cutoff=nan is not allowed: it should be a finite number"),
        ({"model.cutoff": 1e9}, "model.cutoff=1000000000.0 is not allowed: it should be less than or equal to 50"),
        ({"model.cutoff": 0}, "model.cutoff=0 is not allowed: it should be greater than 0"),
        ({"model.embedding_channels": 0}, "model.embedding_channels=0 is not allowed"),
        ({"data.energy_unit": "parsec"}, "data.energy_unit: 'parsec' is not a unit of energy"),
        ({"data.stress_positive_under": "sun"}, "data.stress_positive_under is 'sun'"),
        ({"split.train_file": 3}, "split.train_file=3 is not allowed: it should be a list"),
        ({"split.validation": -0.1}, "split.validation=-0.1 is not allowed"),
        ({"potential.scale": 0}, "potential.scale=0.0 is not above 0 and at most 1e+06: give positive scales in eV"),
        ({"potential.scale": {"H": -1.0}}, "potential.scale={'H': -1.0} is not above 0"),
        ({"potential.scale": {"H": "x"}}, "potential.scale={'H': 'x'} is not allowed"),
        ({"loss.forces": []}, "loss.forces=[] is not a loss weight"),
        ({"loss.forces": -1}, "loss.forces=-1.0 is not a loss weight"),
        ({"loss.stress": [[0, 1], [1, -2]]}, "loss.stress=[(0.0, 1.0), (1.0, -2.0)] is not a loss weight"),
        ({"loss.forces": [[0, 1], [1]]}, "loss.forces=[[0, 1], [1]] is not allowed"),
        ({"loss.kind": "l2"}, "loss.kind='l2' is not allowed: it should be 'mse', 'mae' or 'huber'"),
        ({"optimizer.beta2": 1}, "optimizer.beta2=1 is not allowed: it should be less than 1"),
        ({"training.time": "5x"}, "training.time='5x' is not a duration: write it as 90s"),
        ({"training.time": "0s"}, "training.time='0s' is not a duration"),
        ({"training.device": "gpu"}, "training.device='gpu' is not allowed: it should be 'auto', 'cpu' or 'cuda'"),
        ({"model.l_max": 2.5}, "model.l_max=2.5 is not allowed: it should be a whole number"),
        ({"model.parity": "perhaps"}, "model.parity='perhaps' is not allowed: it should be true or false"),
        ({"model.mean_neighbors": "auto"}, "model.mean_neighbors='auto' is not allowed: it should be a number or null"),
        (
            {"potential.reference_energies": "average"},
            "it should be names with values or null, as in {H: -13.6, O: -430.1}",
        ),
        (
            {"potential.reference_energies": {1: -13.6}},
            "it should be a text (in quotes if it looks like a number) as entry",
        ),
        (
            {"potential.reference_energies": {"H:-13.6": None}},
            "it should be a number as entry H:-13.6 or null, with a space b",
        ),
        ({"training.time": 10}, "training.time=10 is not allowed: it should be a text (in quotes if it looks like a"),
        ({"loss.forces": [1, 10]}, "it should be a number or a pair of numbers as entry 0 or a pair"),
        ({"split.validation": "10%"}, "split.validation='10%' is not allowed: it should be a number"),
        ({"training.batch_size": 0}, "training.batch_size=0 is not allowed"),
        ({"training.batch_size": 5, "training.max_edges": 9}, "training.batch_size and training.max_edges exclude"),
        ({"training.time": "5m", "training.deterministic": True}, "training.time makes results depend on"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_will_not_do_is_named(options, sentence):
    with pytest.raises(InputError) as caught:
        configured({}, options)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"model.parity": True, "model.n_layers": 3},
        {"model.parity": True, "model.l_max": 0},
        {"model.radial_width": 32, "model.radial_depth": 0},
        {"model.readout_width": 32},
        {"model.self_connection": False, "model.n_layers": 1, "model.l_max": 0},
        {"model.first_self_connection": True, "model.self_connection": False},
        {"model.n_layers": 1},
        {"model.kind": "allegro", "model.parity": True},
        {"model.kind": "allegro", "model.radial_basis": "spline", "model.bessel_trainable": True},
        {"model.kind": "allegro", "model.latent_depth": 0, "model.latent_width": 32},
        {"training.bf16": True, "training.dtype": "float64"},
        {"split.seed": 3, "split.split_file": "split.json"},
        {"split.test": 3, "split.test_file": ["test.xyz"]},
        {"loss.huber_delta": 0.1},
        {"optimizer.weight_decay": 0.1},
        {"optimizer.final_fraction": 0.1, "optimizer.schedule": "constant"},
        {"optimizer.plateau_factor": 0.5},
    ],
    ids=lambda options: next(iter(options)),
)
def test_an_option_without_effect_is_an_error(options):
    with pytest.raises(InputError, match="changes nothing"):
        configured({}, options)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("model:\n  l_max: [1\n", "c.yaml, line 3 is not valid YAML"),
        ("model:\n\tl_max: 1\n", "c.yaml, line 2 is not valid YAML (found character"),
        (
            "model:\n  l_max: 1\ntraining:\nmodel:\n  channels: 4\n",
            "c.yaml, line 4 is not valid YAML ('model' occurs twice)",
        ),
        ("model:\n  l_max: 1\n  l_max: 2\n", "c.yaml, line 3 is not valid YAML ('l_max' occurs twice)"),
        ("- model\n", "c.yaml must consist of sections"),
        ("model: 3\n", "c.yaml: model is a section: write 'cutoff: ...' indented below 'model:', or"),
        ("l_max: 1\n", "c.yaml: there is no option l_max: write model.l_max"),
        ("model.l_max: 1\n", "c.yaml: model.l_max must be two lines: 'model:', and indented below it 'l_max: ...'"),
        (
            "lr: 1\nl_max: 1\n",
            "c.yaml: there are no such options: write optimizer.learning_rate for lr, model.l_max for",
        ),
        ("nonsense\n", "c.yaml must consist of sections"),
        ("model:\n  l_max = 1\n", "c.yaml: model is a section: write 'cutoff: ...' indented below 'model:'"),
        ("model:\n  l_max:1\n", "c.yaml: model is a section: write 'cutoff: ...' indented below 'model:'"),
        ("model:\nl_max: 1\n", "c.yaml: there is no option l_max: write model.l_max"),
        ("loss:\n  - energy: 1\n", "c.yaml: loss is a section: write 'energy: ...' indented below 'loss:'"),
        ("Model:\n  l_max: 1\n", "c.yaml: there is no section Model: did you mean model?"),
        ("model:\n  1: 2\n", "c.yaml: there is no option model.1"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(tmp_path, content, sentence):
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(InputError) as caught:
        load_config(tmp_path / "c.yaml")
    assert sentence in str(caught.value)


def test_files_that_are_no_text_or_not_there_are_refused(tmp_path):
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"c\.yaml is not valid YAML"):
        load_config(tmp_path / "c.yaml")
    with pytest.raises(InputError, match=r"there is no configuration file .*no\.yaml"):
        load_config(tmp_path / "no.yaml")
    with pytest.raises(InputError, match="there is no configuration file"):
        load_config(tmp_path)


def options_of():
    classes = {**SECTIONS, **{f"model ({name})": kind.config_class for name, kind in REGISTRY.items()}}
    return [(name, entry) for name, cls in classes.items() for entry in fields(cls)]


@pytest.mark.parametrize(("section", "entry"), options_of(), ids=lambda v: v if isinstance(v, str) else v.name)
def test_every_option_has_a_reason(section, entry):
    reason = entry.metadata["reason"]
    kind = section.partition("(")[2].rstrip(")") or "nequip"
    written = to_yaml(configured({}, {"model.kind": kind}))
    assert len(reason.split()) >= 2
    assert f"  {entry.name}: " in written
    assert reason in written


def test_the_schema_knows_every_option_with_its_description():
    schema = json_schema()
    json.dumps(schema)
    assert schema["additionalProperties"] is False
    assert list(schema["properties"]) == ["model", *SECTIONS]
    parts = [(schema["properties"][name], cls, set()) for name, cls in SECTIONS.items()]
    models = zip(schema["properties"]["model"]["anyOf"], REGISTRY.values(), strict=True)
    parts += [(part, kind.config_class, {"kind", "preset"}) for part, kind in models]
    for part, cls, known in parts:
        assert part["additionalProperties"] is False
        assert set(part["properties"]) == known | {f.name for f in fields(cls)}
        assert all(len(value["description"]) > 5 for value in part["properties"].values())
        assert all("default" in value for value in part["properties"].values())


def test_the_schema_accepts_and_refuses_what_is_right_and_wrong():
    """Through pydantic, which writes the schema: what a model's own validation takes, and its default."""
    assert schema_of(SECTIONS["training"]).model_json_schema()["properties"]["seed"]["minimum"] == 0
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.check_schema(json_schema())
    assert validator.is_valid(yaml.safe_load(to_yaml(RunConfig())))
    assert validator.is_valid(yaml.safe_load(to_yaml(configured({}, CHANGED))))
    assert validator.is_valid(yaml.safe_load(to_yaml(configured({}, {"model.kind": "allegro"}))))
    assert validator.is_valid({"model": {"kind": "allegro", "preset": "small", "tensor_channels": 4}})
    for wrong in ({"modle": {}}, {"model": {"lmax": 1}}, {"model": {"l_max": -1}}, {"training": {"device": "gpu"}}):
        assert not validator.is_valid(wrong)


def test_an_old_name_of_an_option_is_still_read():
    """So that runs of earlier versions can be resumed."""
    assert configured({"potential": {"shift_trainable": True}}).potential.atomic_energies_trainable
    assert "atomic_energies_trainable: true" in to_yaml(configured({}, {"potential.shift_trainable": True}))


def test_a_file_with_the_old_and_the_new_name_of_an_option_is_refused(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "potential:\n  shift_trainable: true\n  atomic_energies_trainable: false\n", encoding="utf-8"
    )
    sentence = (
        r"c\.yaml: potential\.shift_trainable is the old name of potential\.atomic_energies_trainable: remove one"
    )
    with pytest.raises(InputError, match=sentence):
        load_config(tmp_path / "c.yaml")


def test_the_old_name_in_a_file_gives_way_to_the_new_name_on_the_command_line(tmp_path):
    (tmp_path / "c.yaml").write_text("potential:\n  shift_trainable: true\n", encoding="utf-8")
    options = {"potential.atomic_energies_trainable": False}
    assert not load_config(tmp_path / "c.yaml", options).potential.atomic_energies_trainable


@pytest.mark.parametrize(
    ("options", "absent"),
    [
        (
            {"potential.reference_energies": {"Cu": -1.0, "Xx": 0.0, "H": -13.6}},
            "potential.reference_energies has Xx, H",
        ),
        ({"potential.scale": {"Cu": 1.0, "O": 1.0}}, "potential.scale has O"),
        ({"model.kind": "allegro", "model.pair_cutoffs": {"Cu-H": 3.0, "Cu-Cu": 3.0}}, "model.pair_cutoffs has Cu-H"),
        ({"model.kind": "allegro", "model.pair_cutoffs": {"CuCu": 3.0}}, "model.pair_cutoffs has CuCu"),
    ],
)
def test_options_for_elements_that_are_not_there_are_refused(options, absent):
    with pytest.raises(InputError, match=f"{absent}, but the elements of the training structures are Cu: leave out"):
        _refuse_absent_elements(configured({}, options), ["Cu"])
    _refuse_absent_elements(configured({}, {"potential.reference_energies": {"Cu": -1.0}}), ["Cu", "H"])
