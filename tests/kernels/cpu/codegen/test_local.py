from equiforce.kernels.cpu.codegen.local import ActKernel, CoupleKernel, EnvironmentKernel
from equiforce.kernels.cpu.targets import TARGETS
from tests.kernels.cpu.test_local import COUPLINGS


def test_tails_are_written_where_channels_do_not_fill_vectors():
    table = COUPLINGS["l1"]  # 20 channels
    texts = {name: ActKernel(table, "float", "result").source(target) for name, target in TARGETS.items()}
    assert "LD4(" in texts["avx512"]
    assert "LD4(" in texts["avx2"]
    assert "LD4(" not in texts["portable"]


def test_source_depends_on_all_that_names_a_kernel():
    table = COUPLINGS["scalars"]
    kernels = [CoupleKernel(table, "float", r) for r in ("operator", "environment", "weights")]
    kernels += [ActKernel(table, "double", r) for r in ("result", "operator", "features")]
    kernels += [ActKernel(table, "double", r, True) for r in ("result", "operator", "weights", "harmonics")]
    kernels += [EnvironmentKernel(1, 5, "float", r) for r in ("environment", "weights", "harmonics")]
    assert len({k.source(TARGETS["avx2"]) for k in kernels}) == len(kernels)
