"""Fine-tuning from a model to a model: what is taken over, what is refused, and that nothing depends on a restart."""

import json
import shutil
from io import StringIO

import ase.io
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console
from typer.testing import CliRunner

import equiforce
from equiforce import model_file
from equiforce.cli import app
from equiforce.config import RunConfig, configured
from equiforce.errors import InputError
from equiforce.finetuning.options import DEFAULTS
from equiforce.preparation import prepare
from equiforce.resume import resumption
from equiforce.starting import with_start
from tests.data_sets import TINY, crystals, molecules, write

pytestmark = pytest.mark.usefixtures("without_plots")
MODEL = {f"model.{name}": value for name, value in TINY.items()}
LENGTH = {"training.max_steps": 6, "training.validate_every": 3, "training.deterministic": True}
MOVED = 7.5  # eV an atom, of the new level of theory


def moved(frames, softer=0.7):
    """The same frames at another level of theory: energies have another reference, and all is softer."""
    found = []
    for atoms in frames:
        new, old = atoms.copy(), atoms.calc.results
        energy = softer * old["energy"] + MOVED * len(atoms)
        labels = {"energy": energy, "forces": softer * old["forces"]}
        new.calc = SinglePointCalculator(new, **labels)
        found.append(new)
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """New data, old data, and a model of the old data in the folder ``old``."""
    folder = tmp_path_factory.mktemp("fine-tuning")
    write(folder / "old.xyz", crystals(20))
    write(folder / "new.xyz", moved(crystals(12, seed=5)))
    write(folder / "water.xyz", molecules(8))
    bare = [atoms.copy() for atoms in crystals(6, seed=9)]
    ase.io.write(folder / "bare.xyz", bare)
    length = {"training.max_steps": 100, "training.validate_every": 50}
    equiforce.train(folder / "old.xyz", folder / "old", options=MODEL | length, quiet=True)
    return folder


def options(place, **others):
    return LENGTH | {"start.model": str(place / "old")} | {name.replace("_", ".", 1): v for name, v in others.items()}


@pytest.fixture(scope="module")
def run(place):
    """A finished fine-tuning with replay and a model from scratch."""
    output = StringIO()
    chosen = options(place, start_replay=str(place / "bare.xyz"), start_from_scratch=True)
    trained = equiforce.train(
        place / "new.xyz",
        place / "run",
        options=chosen | {"training.max_steps": 40, "training.validate_every": 20, "training.deterministic": False},
        console=Console(file=output, width=250),
    )
    return trained, output.getvalue()


def test_fine_tuning_lowers_the_errors_and_says_what_is_forgotten(run):
    trained, output = run
    found = trained.comparison
    before, after = (found.of("test", model).total for model in ("start model", "fine-tuned"))
    assert after.forces.rmse < before.forces.rmse
    assert trained.test.total.forces == after.forces
    assert found.of("old domain", "start model").total.forces.rmse == pytest.approx(0, abs=0.1)  # of its own labels
    assert found.of("old domain", "fine-tuned").total.forces.rmse > 0.1
    assert found.of("test", "from scratch").total.forces.rmse > 0
    for text in (
        "training starts from old/model.eqf, model file with sha256",
        "replay: 6 structures, 6 labelled by the start model; 5 for training (25 % of a batch on average), 1 held out",
        "before and after: MAE / RMSE",
        "training from random weights for the same",
        "fine-tuning.json",
        "start.eqf",
    ):
        assert text in output


def test_results_are_written(run, place):
    trained, _ = run
    written = json.loads((trained.folder / "fine-tuning.json").read_text())
    plain = json.loads(json.dumps(trained.as_dict()))
    assert plain["fine_tuning"] == written
    assert written["old domain"].keys() == {"start model", "fine-tuned"}
    assert (trained.folder / "start.eqf").read_bytes() == (place / "old" / "model.eqf").read_bytes()
    about = model_file.read_header(trained.folder)["about"]
    assert about["start"]["name"] == "old/model.eqf"
    shown = CliRunner().invoke(app, ["info", str(trained.folder)], env={"COLUMNS": "300"}).output
    assert f"old/model.eqf, by its model file with sha256 {about['start']['sha256']}" in shown


def test_reference_energies_take_the_other_level_of_theory(run, place):
    trained, _ = run
    old, new = (model_file.load(folder).atomic_energies.item() for folder in (place / "old", trained.folder))
    assert new - old == pytest.approx(MOVED, abs=2)
    assert torch.equal(model_file.load(place / "old").scale, model_file.load(trained.folder).scale)


def prepared(place, tmp_path, data, **others):
    given = options(place, training_dtype="float64", **others) | {"split.train_file": [str(place / data)]}
    settings = configured({}, with_start({}, given))
    return prepare(settings, tmp_path, resumed=False, console=Console(file=StringIO()))


def test_the_first_energies_are_those_of_the_start_model(place, tmp_path):
    found = prepared(place, tmp_path, "new.xyz")
    start = model_file.load(place / "old", dtype="float64")
    for structure in found.parts.train:
        old, new = (equiforce.predict(potential, structure).energy for potential in (start, found.potential))
        references = (found.potential.atomic_energies.item() - start.atomic_energies.item()) * len(structure)
        assert new.item() - old.item() == pytest.approx(references, abs=1e-10)
    assert found.config.optimizer.learning_rate == DEFAULTS["optimizer.learning_rate"]
    assert found.config.model == model_file.load(place / "old").model.config
    assert found.potential.training or any(p.requires_grad for p in found.potential.parameters())


def test_new_elements_are_told(place, tmp_path):
    output = StringIO()
    given = options(place) | {"split.train_file": [str(place / "water.xyz")]}
    settings = configured({}, with_start({}, given))
    found = prepare(settings, tmp_path, resumed=False, console=Console(file=output, width=250))
    assert found.potential.species == ["H", "O"]
    assert "the start model does not know H: its weights, scale and reference energy start as those of Cu" in (
        output.getvalue()
    )
    assert "elements of the start model that do not occur here are left out: Cu" in output.getvalue()


def test_a_training_that_goes_astray_gives_back_the_start_model(place, tmp_path):
    output = StringIO()
    harm = options(place, optimizer_learning_rate=3.0, optimizer_warmup_steps=0)
    console = Console(file=output, width=250)
    trained = equiforce.train(place / "new.xyz", tmp_path / "run", options=harm, console=console)
    new = trained.comparison.rows
    assert new[1].errors.total["forces"].mae == pytest.approx(new[0].errors.total["forces"].mae, rel=1e-3)
    assert "the model file has the weights of the start model" in output.getvalue()


def test_frozen_weights_do_not_change(place, tmp_path):
    trained = equiforce.train(
        place / "new.xyz", tmp_path / "run", options=options(place, start_freeze=["radial", "embedding"]), quiet=True
    )
    before, after = model_file.load(place / "old").state_dict(), model_file.load(trained.folder).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(".radial." in name or "embed" in name for name in changed)
    assert {"model.layers.0.convolution.linear_in.weights", "model.readout.weights.0"} <= changed
    assert trained.n_weights < sum(value.numel() for name, value in before.items() if name.startswith("model."))


def weights(folder):
    return model_file.load(folder).state_dict()


def test_a_run_that_stops_continues_bit_for_bit_without_the_original(place, tmp_path):
    chosen = options(place, start_replay=str(place / "bare.xyz"), start_freeze=["radial"])
    shutil.copytree(place / "old", tmp_path / "old")
    here = {"start.model": str(tmp_path / "old")}
    whole = equiforce.train(place / "new.xyz", tmp_path / "whole", options=chosen | here, quiet=True)

    def stop(report):
        if report.state.step == 3:
            raise RuntimeError("stopped by the test")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("equiforce.workflow.Display.__call__", lambda _, report: stop(report))
        with pytest.raises(RuntimeError, match="stopped by the test"):
            equiforce.train(place / "new.xyz", tmp_path / "part", options=chosen | here, quiet=True)
    shutil.rmtree(tmp_path / "old")
    resumed = equiforce.train(resume=tmp_path / "part", quiet=True)
    assert resumed.outcome.why == whole.outcome.why
    one, other = weights(whole.folder), weights(resumed.folder)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert resumed.comparison.as_dict()["test"] == whole.comparison.as_dict()["test"]
    assert resumed.comparison.as_dict()["old domain"] == whole.comparison.as_dict()["old domain"]


def test_another_start_model_is_refused_when_a_run_continues(place, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(place / "old", tmp_path / "mine")
    given = options(place) | {"start.model": str(tmp_path / "mine")}
    equiforce.train(place / "new.xyz", folder, options=given, quiet=True)
    with pytest.raises(InputError, match=r"start\.model was .*mine and is now .*other"):
        resumption(folder, {"start.model": str(tmp_path / "other")})
    shutil.copy(place / "run" / "model.eqf", tmp_path / "mine" / "model.eqf")
    with pytest.raises(InputError, match="the start model is another one than that of the run in"):
        resumption(folder, {"start.model": str(tmp_path / "mine")})
    assert resumption(folder, {}).settings.start.model == str(tmp_path / "mine")
    shutil.copy(place / "run" / "model.eqf", folder / "start.eqf")
    with pytest.raises(InputError, match="the start model is another one than that of the run in"):
        equiforce.train(resume=folder, options={"training.max_steps": 8}, quiet=True)
    (folder / "start.eqf").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"start\.eqf is not an equiforce model file, or is damaged"):
        equiforce.train(resume=folder, options={"training.max_steps": 8}, quiet=True)


def test_other_replay_is_refused_when_a_run_continues(place, tmp_path):
    bare = tmp_path / "bare.xyz"
    shutil.copy(place / "bare.xyz", bare)
    folder = tmp_path / "run"
    equiforce.train(place / "new.xyz", folder, options=options(place, start_replay=str(bare)), quiet=True)
    bare.unlink()
    with pytest.raises(InputError, match=r"which has replayed structures of the run .* give its new place with"):
        equiforce.train(resume=folder, quiet=True)
    equiforce.train(resume=folder, options={"start.replay": str(place / "bare.xyz")}, quiet=True)
    ase.io.write(bare, [atoms.copy() for atoms in crystals(6, seed=10)])
    with pytest.raises(InputError, match="the replayed structures or their labels differ"):
        equiforce.train(resume=folder, options={"start.replay": str(bare)}, quiet=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"start.model": "none.eqf"}, "there is no model file none.eqf"),
        ({"model.cutoff": 4.0}, r"model\.cutoff=4\.0 is given, but the start model .* has model\.cutoff=3\.5"),
        ({"model.kind": "allegro"}, r"model\.kind='allegro' is given, but the start model .* has model\.kind='nequip'"),
        ({"model.preset": "small"}, r"model\.\w+=\d+ is given, but the start model"),
        ({"model.n_basis": 4}, r"model\.n_basis"),
        ({"potential.zbl": True}, r"potential\.zbl=True is given, but the start model .* has potential\.zbl=False"),
        ({"potential.scale": 2.0}, r"potential\.scale is that of the start model"),
    ],
)
def test_what_contradicts_the_start_model_is_refused(place, given, message):
    with pytest.raises(InputError, match=message) as error:
        with_start({}, options(place) | given)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=message):
        equiforce.train(place / "new.xyz", place / "refused", options=options(place) | given, quiet=True)
    assert not (place / "refused").exists()


def test_refusals_of_groups_and_replay_leave_no_run(place, tmp_path):
    for given, message in (
        ({"start.freeze": "everything"}, r"start\.freeze has everything: the groups of weights are embedding, radial"),
        ({"start.freeze": ["embedding", "radial", "layers", "readout"]}, "leaves no weight to train"),
        ({"start.replay": str(tmp_path / "no.xyz")}, "no.xyz"),
        ({"start.replay": f"{place / 'bare.xyz'}@:1"}, "has 1 usable structure, but at least 2 are needed"),
    ):
        with pytest.raises(InputError, match=message) as error:
            equiforce.train(place / "new.xyz", tmp_path / "run", options=options(place) | given, quiet=True)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run" / "config.yaml").exists()


def test_options_of_the_user_win_over_the_defaults_of_fine_tuning(place):
    given = options(place) | {"optimizer.learning_rate": 0.1}
    assert with_start({}, given)["optimizer.learning_rate"] == 0.1
    found = with_start({"optimizer": {"learning_rate": 0.5}}, options(place))
    assert "optimizer.learning_rate" not in found
    assert found["model.cutoff"] == 3.5
    assert with_start({}, {"training.seed": 1}) == {"training.seed": 1}
    config = configured({}, {"start.model": str(place / "old"), "training.seed": 3})
    assert isinstance(config, RunConfig)
    assert configured(config, with_start(config, {})).model == model_file.load(place / "old").model.config
    same = {"model.cutoff": 3.5, "model.l_max": 1}
    assert with_start({}, options(place) | same)["model.l_max"] == 1


def test_the_command_line_fine_tunes(place, tmp_path):
    words = [
        "train",
        str(place / "new.xyz"),
        "--from",
        str(place / "old"),
        "--replay",
        str(place / "old.xyz"),
        "--steps",
        "4",
    ]
    found = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "run"), "--json"])
    assert found.exit_code == 0, found.output
    result = json.loads(found.stdout)
    assert result["fine_tuning"]["old domain"]["fine-tuned"]["n_structures"] == 2
    refused = CliRunner().invoke(app, ["train", str(place / "new.xyz"), "--replay", str(place / "old.xyz")])
    assert refused.exit_code == 1
    assert "start.replay changes nothing unless start.model is given" in str(refused.exception)


def test_replay_may_have_other_names_than_the_new_data(place, tmp_path):
    named = (place / "new.xyz").read_text().replace("energy=", "dft=").replace("forces:R", "frc:R")
    (tmp_path / "named.xyz").write_text(named)
    keys = {"data.energy_key": "dft", "data.forces_key": "frc"}
    for name, sentence in (("bare.xyz", "6 labelled by the start model"), ("old.xyz", "all with labels of their own")):
        settings = configured({}, with_start({}, options(place, start_replay=str(place / name)) | keys))
        settings = configured(settings, {"split.train_file": [str(tmp_path / "named.xyz")]})
        output = StringIO()
        prepare(settings, tmp_path / "run", resumed=False, console=Console(file=output, width=250))
        assert sentence in output.getvalue()
    wrong = options(place, start_replay=str(tmp_path / "none.xyz")) | keys
    with pytest.raises(InputError, match=r"none\.xyz"):
        equiforce.train(tmp_path / "named.xyz", tmp_path / "run", options=wrong, quiet=True)


def test_allegro_is_fine_tuned_too(place, tmp_path):
    tiny = {"scalar_channels": 8, "tensor_channels": 4, "latent_width": 8, "l_max": 1, "cutoff": 3.5}
    chosen = {"model.kind": "allegro", **{f"model.{name}": value for name, value in tiny.items()}} | LENGTH
    first = equiforce.train(place / "water.xyz", tmp_path / "one", options=chosen, quiet=True)
    again = LENGTH | {"start.model": str(first.folder), "start.freeze": "layers"}
    second = equiforce.train(place / "water.xyz", tmp_path / "two", options=again, quiet=True)
    errors = [second.comparison.of("validation", model).total.forces.rmse for model in ("start model", "fine-tuned")]
    assert errors[1] < errors[0]
    before, after = weights(first.folder), weights(second.folder)
    assert all(torch.equal(before[name], after[name]) for name in before if ".layers." in name)
