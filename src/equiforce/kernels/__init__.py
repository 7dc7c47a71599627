"""One operation, several implementations, one signature."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from equiforce.graph import AtomicGraph
from equiforce.kernels import reference
from equiforce.kernels.paths import PathTable, Radial

Backend = Literal["auto", "reference"]


def convolve(
    x: Float[Tensor, "atoms features"],
    harmonics: Float[Tensor, "edges harmonics"],
    radial: Radial,
    graph: AtomicGraph,
    table: PathTable,
    backend: Backend = "auto",
) -> Float[Tensor, "atoms messages"]:
    """m_i = sum_j R(r_ij) (Y(r_ij) x x_j), the convolution of NequIP (arXiv 2101.03164, equation 7).

    Args:
        x: features of each atom, irreps ``table.irreps_in``.
        harmonics: Y_lm of each edge, (l_max+1)² columns.
        radial: R of each edge, ``table.n_weights`` columns.
        graph: says which edges end at which centre.
        table: the paths of the product.
        backend: ``auto`` takes the fastest that serves these tensors.

    Returns:
        The sum over the neighbours of each atom, irreps ``table.irreps_out``.
    """
    return IMPLEMENTATIONS[backend](x, harmonics, radial, graph, table)


IMPLEMENTATIONS = {"auto": reference.convolve, "reference": reference.convolve}

__all__ = ["Backend", "PathTable", "Radial", "convolve"]
