import torch
from e3nn import o3

from equiforce.kernels import edges


def test_harmonics_are_those_of_e3nn_and_positions_are_scaled_lengths():
    torch.manual_seed(0)
    vectors = torch.randn(21, 3, dtype=torch.float64)
    harmonics, positions = edges(vectors, 4, 3.0, "cpu")
    expected = o3.spherical_harmonics(list(range(5)), vectors, normalize=True, normalization="component")
    torch.testing.assert_close(harmonics, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(positions, 3 * vectors.norm(dim=1))


def test_hessian_of_edges():
    """The curvature, against a finite difference of the transpose."""
    from equiforce.kernels import cpu

    torch.manual_seed(0)
    v, dv = torch.randn(2, 19, 3, dtype=torch.float64)
    gy, gt = torch.randn(19, 16, dtype=torch.float64), torch.randn(19, dtype=torch.float64)
    step = 1e-6
    plus, minus = (cpu.edges_transpose(v + s * dv, gy, gt, 3, 2.0) for s in (step, -step))
    exact = cpu.edges_curvature(v, dv, gy, gt, 3, 2.0)
    torch.testing.assert_close(exact, (plus - minus) / (2 * step), rtol=1e-6, atol=1e-6)
