"""The halo exchange between the ranks of a LAMMPS that Python drives."""

import math
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from equiforce.graph import HaloExchange

with suppress(ImportError, RuntimeError):  # not installed, or without an MPI library: external.py says so
    from mpi4py import MPI


class TagHalo(HaloExchange):
    """The halo exchange between LAMMPS' ghosts and the atoms with the same IDs (tags), of which they are images.

    All ranks must create it together. A rank receives each atom once, even if it has several ghosts of this atom.

    Args:
        ranks: the MPI communicator.
        owned: tags of the atoms of this rank.
        ghosts: tags of the ghosts of this rank.
    """

    def __init__(self, ranks: Any, owned: Int[np.ndarray, " owned"], ghosts: Int[np.ndarray, " ghosts"]):
        self.ranks, self.n_owned = ranks, len(owned)
        wanted, image_of = np.unique(ghosts, return_inverse=True)
        owners = _owners(ranks, owned, wanted)
        order = np.argsort(owners, kind="stable")
        row = np.empty_like(order)
        row[order] = np.arange(len(order))
        self.n_received = np.bincount(owners, minlength=ranks.size)
        self.n_sent = _counts_of_others(ranks, self.n_received)
        asked_for = _deal(ranks, wanted[order], self.n_received, self.n_sent)
        by_tag = np.argsort(owned)
        self.sent = torch.from_numpy(by_tag[np.searchsorted(owned, asked_for, sorter=by_tag)])
        self.row_of_ghost = torch.from_numpy(row[image_of])

    def forward_comm(self, x: Tensor) -> Tensor:
        received = _deal(self.ranks, x[self.sent].numpy(), self.n_sent, self.n_received)
        return torch.cat([x, torch.from_numpy(received)[self.row_of_ghost]])

    def reverse_comm(self, g: Tensor) -> Tensor:
        collected = g.new_zeros(int(self.n_received.sum()), g.shape[1])
        collected.index_add_(0, self.row_of_ghost, g[self.n_owned :])
        returned = _deal(self.ranks, collected.numpy(), self.n_received, self.n_sent)
        return g[: self.n_owned].index_add(0, self.sent, torch.from_numpy(returned))


def _owners(
    ranks: Any, owned: Int[np.ndarray, " owned"], wanted: Int[np.ndarray, " wanted"]
) -> Int[np.ndarray, " wanted"]:
    """Find the rank that owns each wanted tag: the rank tag % n_ranks keeps a list of owners and answers."""
    kept, n_kept, _ = _to_keepers(ranks, owned)
    owner_of_kept = np.repeat(np.arange(ranks.size), n_kept)
    by_tag = np.argsort(kept)
    asked, n_asked, order = _to_keepers(ranks, wanted)
    answers = owner_of_kept[by_tag[np.searchsorted(kept, asked, sorter=by_tag)]]
    owners = np.empty_like(wanted)
    owners[order] = _deal(ranks, answers, n_asked, np.bincount(wanted % ranks.size, minlength=ranks.size))
    return owners


def _to_keepers(
    ranks: Any, tags: Int[np.ndarray, " tags"]
) -> tuple[Int[np.ndarray, " received"], Int[np.ndarray, " ranks"], Int[np.ndarray, " tags"]]:
    """Send each tag to the rank tag % n_ranks.

    Returns:
        The tags that this rank received, their number from each rank, and the order in which its own tags were sent.
    """
    keepers = tags % ranks.size
    order, counts = np.argsort(keepers, kind="stable"), np.bincount(keepers, minlength=ranks.size)
    n_received = _counts_of_others(ranks, counts)
    return _deal(ranks, tags[order], counts, n_received), n_received, order


def _counts_of_others(ranks: Any, counts: Int[np.ndarray, " ranks"]) -> Int[np.ndarray, " ranks"]:
    """Return the number of rows that each rank sends to this one, which sends ``counts`` rows to them."""
    others = np.empty_like(counts)
    ranks.Alltoall(counts, others)
    return others


def _deal(
    ranks: Any, rows: np.ndarray, counts: Int[np.ndarray, " ranks"], counts_back: Int[np.ndarray, " ranks"]
) -> np.ndarray:
    """Send the first ``counts[0]`` rows to rank 0, the next to rank 1 and so on; return the received rows by rank."""
    rows = np.ascontiguousarray(rows)
    received = np.empty((int(counts_back.sum()), *rows.shape[1:]), dtype=rows.dtype)
    row = MPI.BYTE.Create_contiguous(rows.itemsize * math.prod(rows.shape[1:])).Commit()
    try:
        ranks.Alltoallv([rows, (counts, None), row], [received, (counts_back, None), row])
    finally:
        row.Free()
    return received
