import torch
from e3nn import o3

from equiforce.kernels import edge_geometry


def test_harmonics_are_those_of_e3nn_and_positions_are_scaled_lengths():
    torch.manual_seed(0)
    vectors = torch.randn(21, 3, dtype=torch.float64)
    harmonics, knot_coordinates = edge_geometry(vectors, 4, 3.0, "cpu")
    expected = o3.spherical_harmonics(list(range(5)), vectors, normalize=True, normalization="component")
    torch.testing.assert_close(harmonics, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(knot_coordinates, 3 * vectors.norm(dim=1))


def test_hessian_of_edges():
    """The curvature, against a finite difference of the transpose."""
    from equiforce.kernels.cpu import convolution as cpu

    torch.manual_seed(0)
    v, dv = torch.randn(2, 19, 3, dtype=torch.float64)
    gy, gt = torch.randn(19, 16, dtype=torch.float64), torch.randn(19, dtype=torch.float64)
    step = 1e-6
    plus, minus = (cpu.edge_geometry_backward(v + s * dv, gy, gt, 3, 2.0) for s in (step, -step))
    exact = cpu.edge_geometry_backward_jvp(v, dv, gy, gt, 3, 2.0)
    torch.testing.assert_close(exact, (plus - minus) / (2 * step), rtol=1e-6, atol=1e-6)
