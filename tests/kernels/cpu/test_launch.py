"""The struct that C is given and the bytes that are passed come from one description, and inputs are checked."""

import ctypes
import subprocess

import numpy as np
import pytest
import torch

from equiforce.errors import InputError
from equiforce.kernels.cpu import build
from equiforce.kernels.cpu.launch import Arguments, Array, Record

DESCRIPTION = Arguments(
    name="scaled",
    rows="n",
    rows_per_thread=2,
    sizes=("n", "width"),
    doubles=("factor",),
    records=(("steps", "Step"),),
    arrays=(
        Array("index", ("n",), "index"),
        Array("x", ("n", "width")),
        Array("y", ("n", "width"), result=True),
        Array("sums", ("width",), result=True, copies=True),
    ),
)
STEP = Record("Step", ("shift",), ("weight",))
# y = factor weight x[index + shift], and the sums of y over the rows of each part
SOURCE = """
void run(const Arguments *a) {
  for (long p = 0; p < a->n_parts; p++)
    for (long i = a->n*p/a->n_parts; i < a->n*(p + 1)/a->n_parts; i++)
      for (long c = 0; c < a->width; c++) {
        const double y = a->factor*a->steps[1].weight*a->x[(a->index[i] + a->steps[1].shift)*a->width + c];
        a->y[i*a->width + c] = y;
        a->sums[p*a->width + c] += y;
      }
}
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("c")
    text = "typedef double S;\n" + STEP.c_struct() + DESCRIPTION.c_struct() + SOURCE
    (folder / "scaled.c").write_text(text)
    command = [*build.compiler(), "-shared", "-fPIC", "-o", str(folder / "scaled.so"), str(folder / "scaled.c")]
    subprocess.run(command, check=True)
    run = ctypes.CDLL(str(folder / "scaled.so")).run
    run.argtypes, run.restype = [ctypes.c_void_p], None
    return run


def call(kernel, **changes):
    x = torch.arange(15, dtype=torch.float64).view(5, 3)
    given = {"index": torch.tensor([0, 3, 1, 2, 0]), "x": x, **changes}
    made = {"y": torch.Tensor.new_empty, "sums": torch.Tensor.new_zeros}
    steps = STEP.array([(0, 1.0), (1, 0.5)])
    return DESCRIPTION.call(
        kernel, torch.zeros(0, dtype=torch.float64), {"n": 5, "width": 3}, given, made, (4.0,), (steps,)
    )


def test_c_reads_what_python_describes(kernel):
    y, sums = call(kernel)
    assert torch.equal(y, 2 * torch.arange(15.0).double().view(5, 3)[[1, 4, 2, 3, 1]])
    torch.testing.assert_close(sums.sum(0), y.sum(0))


def test_threads_have_copies_of_their_own(kernel):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(8)
        y, sums = call(kernel)
    finally:
        torch.set_num_threads(before)
    assert sums.shape == (2, 3)  # five rows, two at least for each thread
    assert torch.equal(sums[0], y[:2].sum(0))


def test_inputs_may_have_any_strides(kernel):
    plain, _ = call(kernel)
    columns = torch.arange(15, dtype=torch.float64).view(5, 3).T.contiguous().T
    strided = torch.tensor([[0, 7], [3, 7], [1, 7], [2, 7], [0, 7]])[:, 0]
    assert not columns.is_contiguous()
    assert not strided.is_contiguous()
    assert torch.equal(call(kernel, x=columns, index=strided)[0], plain)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("x", lambda t: t.float(), "scaled: x is float32, but has to be float64: convert it with"),
        ("index", lambda t: t.int(), "scaled: index is int32, but has to be int64"),
        ("x", lambda t: t[:, :2], r"scaled: x has the shape \[5, 2\], but has to have \[5, 3\]"),
        ("index", lambda t: t[:4], r"scaled: index has the shape \[4\], but has to have \[5\]"),
        ("x", lambda t: t.to("meta"), "scaled: x is on meta, but other tensors are on cpu: move all"),
    ],
)
def test_what_c_would_misread_is_refused(kernel, name, change, message):
    given = {"index": torch.zeros(5, dtype=torch.int64), "x": torch.zeros(5, 3, dtype=torch.float64)}
    with pytest.raises(InputError, match=message):
        call(kernel, **{name: change(given[name])})


def test_no_rows_call_nothing():
    made = {"y": torch.Tensor.new_empty, "sums": torch.Tensor.new_zeros}
    given = {"index": torch.zeros(0, dtype=torch.int64), "x": torch.zeros(0, 3)}
    y, sums = DESCRIPTION.call(pytest.fail, torch.zeros(0), {"n": 0, "width": 3}, given, made, (1.0,), ())
    assert y.shape == (0, 3)
    assert torch.equal(sums, torch.zeros(1, 3))


def test_records_lie_as_c_declares_them():
    found = STEP.array([(7, 0.25)])
    assert np.frombuffer(found.memory.tobytes(), np.int64)[0] == 7
    assert np.frombuffer(found.memory.tobytes(), np.float64)[1] == 0.25
    assert found.address == found.memory.ctypes.data
