"""The Triton source of splines, compiled for a GPU without one; ``test_gpu_local.py`` tests what it computes."""

import pytest

from equiforce.kernels.gpu.codegen.lookup import SOURCE
from tests.kernels.gpu.codegen.test_convolution import keeps_its_layout, resources
from tests.kernels.gpu.codegen.test_local import compiled


@pytest.mark.parametrize("scalar", ["fp32", "fp64"])
@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("name", ["lookup_rows", "lookup_strengths", "lookup_table"])
def test_every_kernel_compiles_and_keeps_its_layout(name, order, scalar, monkeypatch, tmp_path):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    constants = {"COLUMNS": 70, "WIDTH": 32, "ROWS": 4, "ORDER": order}
    if name != "lookup_strengths":
        constants["strengths"] = None
    kernel = compiled(SOURCE, name, constants, n_warps=4, scalar=scalar)
    assert resources(kernel, tmp_path)[1] == 0
    assert keeps_its_layout(kernel)
    assert name == "lookup_table" or "bar.sync" not in kernel.asm["ptx"]  # sums over edges meet once, at the end


def test_nothing_is_added_atomically():
    assert "atomic" not in SOURCE
