import pickle
import re
import zipfile

import pytest
import torch

from equiforce.errors import InputError
from equiforce.foundation import import_potential, nequip_files
from equiforce.foundation.nequip_files import read
from tests.foundation.nequip_models import FOLDER, results, rows_of, with_members, with_weights

CHECKPOINT, PACKAGE = "nequip-l2.ckpt", "nequip.nequip.zip"
NOTHING = "is not a checkpoint or a package of nequip"


def refused(path, words=NOTHING):
    with pytest.raises(InputError, match=words) as caught:
        import_potential(path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint():
    found, expected = read(FOLDER / CHECKPOINT), torch.load(FOLDER / CHECKPOINT, weights_only=True)
    assert found.options == expected["hyper_parameters"]["model"]
    assert found.version == (0, 19)
    prefix = "model.sole_model.model.func."
    for name, weight in found.weights.items():
        assert torch.equal(weight, expected["state_dict"][prefix + name])
    assert "edge_norm._rmax_recip" in found.constants
    assert len(found.sha256) == 64


def test_averaged_weights_are_taken():
    found, state = read(FOLDER / "nequip-ema.ckpt"), torch.load(FOLDER / "nequip-ema.ckpt", weights_only=True)
    averaged = [v for k, v in state["state_dict"].items() if k.startswith("ema.")]
    assert len(averaged) == len(found.weights)
    assert all(any(torch.equal(weight, one) for one in averaged) for weight in found.weights.values())


def test_a_package():
    found = read(FOLDER / PACKAGE)
    assert found.options["num_features"] == [4, 3]
    assert found.version == (0, 19)
    assert found.weights["type_embed.embed_module.weight"].shape == (3, 3)


def test_changes_of_a_trained_model_are_seen(tmp_path):
    def modified(*modifiers):
        checkpoint = torch.load(FOLDER / CHECKPOINT, weights_only=True)
        model = checkpoint["hyper_parameters"]["model"]
        checkpoint["hyper_parameters"]["model"] = {
            "_target_": "nequip.model.modify", "modifiers": [{"modifier": name} for name in modifiers], "model": model,
        }  # fmt: skip
        torch.save(checkpoint, tmp_path / "modified.ckpt")
        return tmp_path / "modified.ckpt"

    known = read(modified("modify_PerTypeScaleShift", "enable_OpenEquivariance"))
    assert known.options["_target_"] == "nequip.model.NequIPGNNModel"
    refused(modified("add_LoRA"), "the model was changed by add_LoRA")


def test_older_models_are_refused(tmp_path):
    def changed(version):
        checkpoint = torch.load(FOLDER / CHECKPOINT, weights_only=True)
        checkpoint["hyper_parameters"]["info_dict"]["versions"]["nequip"] = version
        torch.save(checkpoint, tmp_path / "changed.ckpt")
        return tmp_path / "changed.ckpt"

    refused(changed("0.6.1"), r"the model is of nequip 0\.6")
    refused(changed("none"))


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04" + b"\x00" * 100, b"\x80\x02}.", b"x" * 1000])
@pytest.mark.parametrize("name", ["other.ckpt", "other.nequip.zip"])
def test_other_files_are_refused(content, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name)


@pytest.mark.parametrize("name", [CHECKPOINT, PACKAGE])
def test_every_cut_is_refused(name, tmp_path):
    content, path = (FOLDER / name).read_bytes(), tmp_path / name
    for length in range(0, len(content), 331):
        path.write_bytes(content[:length])
        refused(path)


def test_a_checkpoint_of_another_program_is_refused(tmp_path):
    torch.save({"state_dict": {"a": torch.ones(2)}, "hyper_parameters": {"lr": 1}}, tmp_path / "other.ckpt")
    refused(tmp_path / "other.ckpt")
    torch.save([1, 2], tmp_path / "other.ckpt")
    refused(tmp_path / "other.ckpt")


def test_an_empty_zip_file_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "empty.ckpt", "w"):
        pass
    refused(tmp_path / "empty.ckpt")


def test_pickled_objects_are_not_made(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path / "evil").write_text, ("made",)

    def change(members):
        name = next(name for name in members if name.endswith("data.pkl"))
        return members | {name: pickle.dumps({"state_dict": Evil(), "hyper_parameters": Evil()}, 2)}

    refused(with_members(CHECKPOINT, tmp_path, change))
    assert not (tmp_path / "evil").exists()


def test_numbers_that_unpack_to_more_than_the_file_are_refused(tmp_path):
    """A zip bomb: a megabyte of zeros in a kilobyte."""
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(FOLDER / CHECKPOINT) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, bytes(2**20) if re.search(r"data/\d+$", name) else content)
    refused(path)


def test_texts_and_pickles_that_unpack_to_too_much_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(nequip_files, "MOST_TEXT", 100)
    refused(FOLDER / PACKAGE)


def test_a_view_of_numbers_is_read(tmp_path):
    """A weight that is a transposed view, as after some changes of a model."""

    def change(state):
        name = "model.sole_model.model.func.per_atom_energy_readout.mlp_module.mlp.0.weight"
        state[name] = torch.stack([torch.zeros(5), state[name].flatten()], 1).double()[:, 1:]

    path = with_weights(CHECKPOINT, tmp_path, change)
    row = rows_of(CHECKPOINT)[0]
    assert results(import_potential(path, n_knots=None).potential, row)[0] == pytest.approx(row["energy"], abs=1e-8)


def test_modules_without_end_are_refused():
    loop = nequip_files.Thing("torch.nn.Module")
    loop.state = {"_modules": {"a": loop, "b": loop}}
    with pytest.raises(ValueError, match="too many modules"):
        list(nequip_files._tensors_of(loop))
