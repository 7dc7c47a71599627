"""What a Triton kernel would misread is refused; no GPU is needed for that."""

import pytest
import torch

from equiforce.errors import InputError
from equiforce.kernels.gpu.launch import MOST_ROWS, check_size, checked

LIKE = torch.zeros(0)


def test_tensors_come_back_contiguous_and_none_stays_none():
    columns = torch.arange(6.0).view(3, 2).T
    found, nothing = checked("act", LIKE, x=(columns, (2, 3)), y=(None, (1,)))
    assert found.is_contiguous()
    assert torch.equal(found, columns)
    assert nothing is None


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(2, 3).double(), "act: x is torch.float64, but the rest is torch.float32: convert it"),
        (torch.zeros(3, 2), r"act: x has the shape \[3, 2\], but has to have \[2, 3\]"),
        (torch.zeros(2, 3, device="meta"), "act: x is on meta, but the rest is on cpu: move it"),
    ],
)
def test_what_cannot_be_read_is_refused(tensor, message):
    with pytest.raises(InputError, match=message):
        checked("act", LIKE, x=(tensor, (2, 3)))


def test_more_rows_than_int32_counts_are_refused():
    check_size("act", MOST_ROWS)
    with pytest.raises(InputError, match="2,147,483,648 rows are more than"):
        check_size("act", MOST_ROWS + 1)
