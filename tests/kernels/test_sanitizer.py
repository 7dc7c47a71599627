"""With ``--sanitize`` a kernel that leaves its arrays ends the process: without this test the run could not fail."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from pathlib import Path
import torch
from equiforce.kernels.cpu import build
from equiforce.kernels.cpu.codegen.pairs import ARGUMENTS
from equiforce.kernels.cpu.pairs import _kernel
flags = ("-fsanitize=address", "-g")
build.FLAGS, build.LINKING = (*build.FLAGS, *flags), (*build.LINKING, *flags)
build.PREBUILT, build.cache_folder = Path("none"), lambda: Path(sys.argv[1])
n_edges = 100
neighbors = torch.full((n_edges,), int(sys.argv[2]))
centers, gradient = torch.zeros_like(neighbors), torch.zeros(5, 3, dtype=torch.float64)
given = {"gradient": gradient, "neighbors": neighbors, "centers": centers}
sizes = {"n_edges": n_edges, "n_atoms": 5, "n_structures": 1, "three": 3}
ARGUMENTS.call(_kernel("differences"), gradient, sizes, given, {"vectors": torch.Tensor.new_empty})
print("computed")
"""


@pytest.mark.parametrize(("neighbor", "found"), [(4, "computed"), (5, "heap-buffer-overflow")])
def test_an_index_beyond_the_end_is_found(neighbor, found, tmp_path, request):
    if not request.config.getoption("--sanitize"):
        pytest.skip("only with --sanitize: make test-sanitized")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(neighbor)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert found in result.stdout + result.stderr
    assert (result.returncode == 0) == (found == "computed")
