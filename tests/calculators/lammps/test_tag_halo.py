import numpy as np
import pytest
import torch

from equiforce.calculators.lammps.tag_halo import TagHalo

MPI = pytest.importorskip("mpi4py.MPI", reason="mpi4py is not installed: pip install mpi4py")


def test_ghosts_are_rows_of_the_atoms_with_the_same_tag():
    """Several ranks are tested by the simulations of test_external.py."""
    halo = TagHalo(MPI.COMM_SELF, np.array([7, 3, 9]), np.array([9, 7, 9]))
    rows = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    whole = halo.forward_comm(rows)
    assert whole.tolist() == [*rows.tolist(), [3.0, 30.0], [1.0, 10.0], [3.0, 30.0]]
    assert halo.reverse_comm(whole).tolist() == [[2.0, 20.0], [2.0, 20.0], [9.0, 90.0]]
