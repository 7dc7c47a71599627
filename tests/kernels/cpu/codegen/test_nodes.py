from equiforce.kernels.cpu.codegen.nodes import NodeKernel
from equiforce.kernels.cpu.targets import TARGETS


def test_constants_come_first():
    lines = NodeKernel("double", "linear").source(TARGETS["avx2"]).splitlines()
    assert lines[:5] == ["#define S double", "#define DOUBLE 1", "#define W 4", "#define R 4", "#define linear run"]
