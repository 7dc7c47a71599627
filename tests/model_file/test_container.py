"""The bytes of a model file: damage anywhere is refused, and nothing in a file is believed."""

import json
import os
import pickle
import random

import pytest
import torch
from safetensors.torch import save_file

from equiforce.errors import InputError
from equiforce.model_file import container, load, read_header, with_checksum
from equiforce.model_file.container import MOST_HEADER, packed, read, strict_json
from tests.model_file.files import joined, parts

NO_MODEL = r"model\.eqf is not an equiforce model file, or is damaged"
CHECKSUM = r"model\.eqf is damaged: its checksum does not fit its content: copy or train it again"


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("truncated", lambda whole: whole[: len(whole) // 2]),
        ("stub", lambda whole: whole[:20]),
        ("empty", lambda whole: b""),
        ("text", lambda whole: b"3\n\nH 0 0 0\n"),
        ("longer", lambda whole: whole + b"x"),
        ("pickle", lambda whole: pickle.dumps({"potential": 1})),
        ("a header of 2**64 bytes", lambda whole: b"\xff" * 8 + whole[8:]),
    ],
)
def test_other_files_are_no_model_files(file, tmp_path, name, make):
    path = tmp_path / "model.eqf"
    path.write_bytes(make(file.read_bytes()))
    for opened in (load, read_header):
        with pytest.raises(InputError, match=NO_MODEL):
            opened(path)


def test_a_pickle_is_not_executed(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    (tmp_path / "model.eqf").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(InputError, match="is not an equiforce model file"):
        load(tmp_path / "model.eqf")
    torch.save({"model": Payload()}, tmp_path / "model.pt")
    with pytest.raises(InputError, match="is not an equiforce model file"):
        load(tmp_path / "model.pt")
    assert not (tmp_path / "harm").exists()


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(InputError, match=r"there is no model file .*: give the \.eqf file"):
        load(tmp_path / "none.eqf")


def test_pipes_and_devices_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.eqf")
    for path in (tmp_path / "pipe.eqf", "/dev/zero"):
        with pytest.raises(InputError, match="there is no model file"):
            read_header(path)


def test_a_name_that_no_file_can_have_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read \(File name too long\)"):
        read_header(tmp_path / ("x" * 300))


def test_a_file_of_safetensors_from_elsewhere_is_no_model(tmp_path):
    save_file({"w": torch.ones(1)}, tmp_path / "other.safetensors")
    save_file({"w": torch.ones(1)}, tmp_path / "list.safetensors", metadata={"equiforce": "[1]"})
    for name in ("other", "list"):
        with pytest.raises(InputError, match="is not an equiforce model file"):
            load(tmp_path / f"{name}.safetensors")


def test_any_flipped_bit_is_refused(file, tmp_path):
    data, path, rng = file.read_bytes(), tmp_path / "model.eqf", random.Random(1)
    places = [*range(0, 300, 5), *(rng.randrange(len(data)) for _ in range(60))]
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(InputError):
            read(path, weights=False)


def test_a_checksum_is_needed_and_has_to_fit(file, tmp_path):
    path, (outer, inner, body) = tmp_path / "model.eqf", parts(file.read_bytes())
    weights = bytearray(body)
    weights[100] ^= 1
    lacking = {name: value for name, value in inner.items() if name != "checksum"}
    bare = {**outer, "__metadata__": {"equiforce": json.dumps(lacking)}}
    elsewhere = {**inner, "about": {"checksum": inner["checksum"]}, "checksum": 1}
    for data in (
        file.read_bytes()[: -len(body)] + weights,
        joined(bare, None, body),
        joined(outer, {**inner, "checksum": "x"}, body),
        joined(outer, elsewhere, body),
    ):
        path.write_bytes(data)
        for opened in (load, read_header):
            with pytest.raises(InputError, match=CHECKSUM):
                opened(path)


def test_the_checksum_is_that_of_the_file_with_zeros_in_its_place(file):
    data = file.read_bytes()
    assert with_checksum(data) == data
    assert with_checksum(b"no model") == b"no model"


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        '{"a": 1, "a": 1}',
        '{"a": {"b": 1, "b": 2}}',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": 10000000000000000000}',
        '{"a": ' + "9" * 5000 + "}",
        '{"a": ' + 30 * "[" + 30 * "]" + "}",
        '{"a": ' + 10**5 * "[" + 10**5 * "]" + "}",
        '{"a": 1} x',
    ],
)
def test_json_is_read_strictly(text):
    assert strict_json('{"a": [{"b": [1, 2.5e3, null, true]}]}') == {"a": [{"b": [1, 2500.0, None, True]}]}
    with pytest.raises((ValueError, RecursionError)):
        strict_json(text)


def test_json_has_a_bounded_number_of_values(monkeypatch):
    monkeypatch.setattr(container, "MOST_VALUES", 10)
    assert strict_json('{"a": [1, 2, 3, {"b": [4, 5]}]}') == {"a": [1, 2, 3, {"b": [4, 5]}]}
    with pytest.raises(ValueError, match="too many values"):
        strict_json('{"a": [1, 2, 3, {"b": [4, 5, 6]}], "c": 7, "d": 8}')


def test_a_file_with_json_that_is_not_strict_is_refused(file, tmp_path):
    path, (outer, inner, body) = tmp_path / "model.eqf", parts(file.read_bytes())
    twice = json.dumps(inner)[:-1] + ', "format": 3}'
    for data in (
        joined(outer, twice, body),
        joined(outer, {**inner, "about": {"x": float("nan")}}, body),
        joined(json.dumps(outer)[:-1] + f', "scale": {json.dumps(outer["scale"])}}}', None, body),
    ):
        path.write_bytes(data)
        with pytest.raises(InputError, match=NO_MODEL):
            load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"data_offsets": [0, 8]},
        {"data_offsets": [-8, 16]},
        {"data_offsets": [0, 2**62]},
        {"data_offsets": [0.0, 24.0]},
        {"data_offsets": [0, 24, 24]},
        {"shape": [3, 1 << 62]},
        {"shape": [True] * 3},
        {"shape": [-1, -3]},
        {"shape": [1] * 100 + [3]},
        {"shape": "3"},
        {"shape": None},
        {"dtype": "F8"},
        {"dtype": "I32"},
        {"dtype": ["F64"]},
    ],
)
def test_tensors_fill_the_file_exactly(file, tmp_path, change):
    path, (outer, inner, body) = tmp_path / "model.eqf", parts(file.read_bytes())
    outer["scale"] = {**outer["scale"], **change}
    path.write_bytes(joined(outer, inner, body))
    with pytest.raises(InputError, match=NO_MODEL):
        read(path, weights=False)


def test_a_header_that_no_one_could_read_is_not_written():
    with pytest.raises(InputError, match=f"would have more than {MOST_HEADER:,} bytes"):
        packed({"about": "x" * MOST_HEADER}, {})
    with pytest.raises(InputError, match="or 250,000 values: save the model with less"):
        packed({"about": [1] * 250_001}, {})
