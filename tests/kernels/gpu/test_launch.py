"""What a Triton kernel would misread is refused; no GPU is needed for that."""

import inspect
import linecache

import pytest
import torch

from equiforce.errors import InputError
from equiforce.kernels.gpu import convolution, local
from equiforce.kernels.gpu.launch import MOST_ROWS, check_indices, check_size, checked, load
from equiforce.kernels.gpu.programs import WARP

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
        (torch.zeros(2, 3).double(), "act: x is float64, but has to be float32: convert it with"),
        (torch.zeros(3, 2), r"act: x has the shape \[3, 2\], but has to have \[2, 3\]"),
        (torch.zeros(2, 3, device="meta"), "act: x is on meta, but other tensors are on cpu: move all"),
    ],
)
def test_what_cannot_be_read_is_refused(tensor, message):
    with pytest.raises(InputError, match=message):
        checked("act", LIKE, x=(tensor, (2, 3)))


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (torch.zeros(2, dtype=torch.int32), "act: kinds is int32, but has to be int64: convert it with"),
        (torch.zeros(3, dtype=torch.int64), r"act: kinds has the shape \[3\], but has to have \[2\]"),
        (torch.zeros(2, dtype=torch.int64, device="meta"), "act: kinds is on meta, but other tensors are on cpu: move"),
    ],
)
def test_an_index_that_cannot_be_read_is_refused(index, message):
    right = torch.zeros(2, dtype=torch.int64)
    check_indices("act", LIKE, 2, centers=right, kinds=right)
    with pytest.raises(InputError, match=message):
        check_indices("act", LIKE, 2, centers=right, kinds=index)


def test_more_rows_than_int32_counts_are_refused():
    check_size("act", MOST_ROWS)
    with pytest.raises(InputError, match="2,147,352,576 rows are more than the 2,147,352,575 that"):
        check_size("act", MOST_ROWS + 1)


def test_the_last_step_of_a_loop_and_the_tile_after_it_stay_within_int32():
    tile = WARP * max(convolution.WARPS_OF_FEW, convolution.WARPS_OF_MANY)  # of one channel
    step = tile * max(local.MOST_COPIES, convolution.MOST_SLICES)
    assert MOST_ROWS + step + tile <= torch.iinfo(torch.int32).max


def test_a_module_has_no_file_and_its_text_is_found_as_triton_finds_it():
    """A file could be damaged or changed by others, and so could what Python keeps of it in ``__pycache__``."""
    text = "FACTOR = 2\n\n\ndef double(x):\n    return FACTOR * x\n"
    module = load(text, False)
    linecache.checkcache()
    assert load(text, False) is module
    assert load(text, True) is not module
    assert module.double(3) == 6
    assert inspect.getsourcelines(module.double) == (["def double(x):\n", "    return FACTOR * x\n"], 4)
