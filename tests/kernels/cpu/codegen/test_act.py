from equiforce.kernels.cpu.codegen.act import ActKernel
from equiforce.kernels.cpu.targets import TARGETS
from tests.kernels.cpu.test_local import COUPLINGS


def test_tails_are_written_where_channels_do_not_fill_vectors():
    table = COUPLINGS["l1"]  # 20 channels
    texts = {name: ActKernel(table, "float", "result").source(target) for name, target in TARGETS.items()}
    assert "LD4(" in texts["avx512"]
    assert "LD4(" in texts["avx2"]
    assert "LD4(" not in texts["portable"]
