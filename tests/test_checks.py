"""A tensor that cannot be used is named, with what it is and what it has to be."""

import pytest
import torch

from equiforce.checks import check_index, check_tensor
from equiforce.errors import InputError


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(3), "x is float32, but has to be float64"),
        (torch.zeros(2, dtype=torch.float64), r"x has the shape \[2\], but has to have \[3\]"),
        (torch.zeros(3, dtype=torch.float64, device="meta"), "x is on meta, but other tensors are on cpu"),
    ],
)
def test_a_wrong_tensor_is_named(tensor, message):
    with pytest.raises(InputError, match=message):
        check_tensor(tensor, "x", torch.float64, (3,), torch.device("cpu"))


def test_a_right_tensor_passes():
    check_tensor(torch.zeros(3, dtype=torch.float64), "x", torch.float64, (3,), torch.device("cpu"))


@pytest.mark.parametrize("index", [[0, 3], [-1, 2]])
def test_an_index_out_of_range_is_named(index):
    wrong = index[1] if index[0] == 0 else -1
    with pytest.raises(InputError, match=f"i holds {wrong}, but there are 3 rows"):
        check_index(torch.tensor(index), "i", 3, "rows")


def test_indices_in_range_and_empty_ones_pass():
    check_index(torch.tensor([0, 2]), "i", 3, "rows")
    check_index(torch.tensor([], dtype=torch.int64), "i", 0, "rows")
