import pickle
import zipfile

import numpy as np
import pytest
import torch

from equiforce.errors import InputError
from equiforce.foundation.torch_files import read_values


def test_arrays_of_numpy_are_values(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"a": np.arange(3.0), "b": np.float32(2), "c": torch.ones(2)}, path)
    values, sha256 = read_values(path)
    assert values["a"].tolist() == [0, 1, 2]
    assert values["b"] == 2
    assert len(sha256) == 64


class Hostile:
    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return (open, (str(self.place), "w"))


def test_nothing_is_executed(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"a": Hostile(tmp_path / "made")}, path)
    with pytest.raises(InputError, match="has something else than weights and options, which is not loaded for safety"):
        read_values(path)
    assert not (tmp_path / "made").exists()


def test_compressed_files_are_refused(tmp_path):
    plain, path = tmp_path / "plain.pth", tmp_path / "a.pth"
    torch.save({"a": torch.zeros(10**6)}, plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for record in old.infolist():
            new.writestr(record.filename, old.read(record))
    assert path.stat().st_size < 10**5
    with pytest.raises(InputError, match="is damaged"):
        read_values(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", pickle.dumps({"a": 1}), b"x" * 1000])
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.pth is damaged"):
        read_values(path)


def test_values_need_names(tmp_path):
    path = tmp_path / "a.pth"
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="has no named values"):
        read_values(path)
