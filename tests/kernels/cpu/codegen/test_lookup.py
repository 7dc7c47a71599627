from equiforce.kernels.cpu.codegen.lookup import LookupKernel
from equiforce.kernels.cpu.targets import TARGETS


def test_constants_come_before_the_text():
    text = LookupKernel("double").source(TARGETS["avx512"])
    assert text.startswith("#define S double\n#define W 8\n")
    assert "long run(const Lookup *a)" in text
