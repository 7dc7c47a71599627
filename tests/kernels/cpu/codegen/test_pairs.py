from equiforce.kernels.cpu.codegen.pairs import PairKernel
from equiforce.kernels.cpu.targets import TARGETS


def test_each_kind_runs_its_own_function():
    for kind in ("vectors", "gradient", "differences"):
        assert PairKernel(kind).source(TARGETS["portable"]).rstrip().endswith(f"{{ {kind}(a); }}")
