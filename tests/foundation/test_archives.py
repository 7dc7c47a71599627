import io
import zipfile

import pytest

from equiforce.foundation.archives import Archive
from equiforce.foundation.pickles import TensorRecord, Thing


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (10**6,), (0,)), (0, (2**20, 2**20), (0, 0)), (10**9, (1,), (1,)), (0, (3, 3), (1, 10**9)),
        (-1, (1,), (1,)), (0, (-1,), (1,)), (0, (2,), (-1,)), (0, (1,), (1, 1)), (0, ("1",), (1,)),
        (0, (1,) * 60, (1,) * 60), (0, (2**62, 2**62), (1, 1)), ("0", (1,), (1,)), (0, (0, 2**40), (1, 1)),
    ],
)  # fmt: skip
def test_tensors_that_are_larger_than_their_numbers_are_refused(offset, shape, strides):
    identifier = ("storage", Thing("torch.FloatStorage"), "0", "cpu", 4)
    record = TensorRecord(identifier, offset, shape, strides)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("archive/data/0", bytes(16))
    content = Archive(zipfile.ZipFile(written), 1000)
    if shape == (0, 2**40):
        assert content.tensor(record).numel() == 0
        return
    with pytest.raises((ValueError, TypeError)):
        content.tensor(record)


@pytest.mark.parametrize("key", ["../../secret", "/etc/passwd", "0/../1", "", "1" * 20, None, -1])
def test_numbers_are_read_from_the_file_alone(key):
    identifier = ("storage", Thing("torch.FloatStorage"), key, "cpu", 4)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("archive/data/0", bytes(16))
    content = Archive(zipfile.ZipFile(written), 1000)
    with pytest.raises((ValueError, KeyError)):
        content.tensor(TensorRecord(identifier, 0, (4,), (1,)))


def test_members_are_read_in_limited_memory():
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(10**6))
        archive.writestr("archive/data/1", bytes(16))
    content = Archive(zipfile.ZipFile(written), 5000)
    assert content.read("data/1", 16) == bytes(16)
    with pytest.raises(ValueError, match="data/0 is too large"):
        content.read("data/0", 10**5)
    identifier = ("storage", Thing("torch.FloatStorage"), "0", "cpu", 250_000)
    with pytest.raises(ValueError, match="is too large"):  # than the whole file
        content.tensor(TensorRecord(identifier, 0, (250_000,), (1,)))
