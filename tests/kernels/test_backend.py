"""The modules that the table in backend.py lists have the functions of their Protocols, with the same parameters."""

import inspect

import pytest

from equiforce.kernels import backend
from equiforce.kernels.cpu import convolution, local, nodes, pairs

IMPLEMENTATIONS = [
    (backend.ConvolutionBackend, convolution),
    (backend.EdgeBackend, convolution),
    (backend.NodeBackend, nodes),
    (backend.PairBackend, pairs),
    (backend.LocalBackend, local),
    (backend.HarmonicsBackend, local),
]


def gpu_implementations():
    pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
    from equiforce.kernels.gpu import convolution as gpu_convolution
    from equiforce.kernels.gpu import local as gpu_local

    return [(backend.ConvolutionBackend, gpu_convolution), (backend.LocalBackend, gpu_local)]


def check(protocol, module):
    wanted = {name: member for name, member in inspect.getmembers(protocol, inspect.isfunction) if name[0] != "_"}
    assert wanted
    for name, member in wanted.items():
        expected = [parameter for parameter in inspect.signature(member).parameters if parameter != "self"]
        assert list(inspect.signature(getattr(module, name)).parameters) == expected, (module.__name__, name)


@pytest.mark.parametrize(("protocol", "module"), IMPLEMENTATIONS, ids=lambda x: x.__name__)
def test_cpu(protocol, module):
    check(protocol, module)


def test_gpu():
    for protocol, module in gpu_implementations():
        check(protocol, module)
