from equiforce.kernels.cpu.codegen.act import ActKernel
from equiforce.kernels.cpu.codegen.local import CoupleKernel, EnvironmentKernel
from equiforce.kernels.cpu.targets import TARGETS
from tests.kernels.cpu.test_local import COUPLINGS


def test_source_depends_on_all_that_names_a_kernel():
    table = COUPLINGS["scalars"]
    kernels = [CoupleKernel(table, "float", r) for r in ("operator", "environment", "weights")]
    kernels += [ActKernel(table, "double", r) for r in ("result", "operator", "features")]
    kernels += [ActKernel(table, "double", r, True) for r in ("result", "operator", "weights", "harmonics")]
    kernels += [EnvironmentKernel(1, 5, "float", r) for r in ("environment", "weights", "harmonics")]
    assert len({k.source(TARGETS["avx2"]) for k in kernels}) == len(kernels)
