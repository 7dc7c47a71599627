"""Chooses the fastest number of threads, and lets a process with threads be forked."""

import ctypes
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from statistics import median

import torch

REPEATS = 3
OPENMP_RUNTIMES = re.compile(r"/lib(?:g|i)?omp5?[^/]*\.so[^/]*$")
OMP_PAUSE_SOFT = 1  # ends the threads and keeps the settings, such as the number of threads


@contextmanager
def fastest_threads(work: Callable[[], object] | None) -> Iterator[None]:
    """Times ``work`` with one, half and all of torch's threads, and uses the fastest number within the context.

    Threads of a small task mostly wait for one another, especially if other programs run. The previous number of
    threads is restored at the end.

    Args:
        work: the work to time; None keeps the number of threads.
    """
    before = torch.get_num_threads()
    if work is None or before == 1:
        yield
        return
    seconds = {}
    try:
        for n_threads in sorted({1, before // 2, before}):
            torch.set_num_threads(n_threads)
            seconds[n_threads] = _median_time(work)
        torch.set_num_threads(min(seconds, key=seconds.__getitem__))
        yield
    finally:
        torch.set_num_threads(before)


def _median_time(work: Callable[[], object]) -> float:
    """The median time of ``work`` in seconds over ``REPEATS`` runs, after a first run that does not count."""
    work()
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return median(times)


@cache
def openmp_runtime() -> str | None:
    """The path of the OpenMP runtime that torch has loaded; the kernels use its threads."""
    try:
        mapped = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    found = sorted({line.split(maxsplit=5)[-1] for line in mapped if OPENMP_RUNTIMES.search(line)})
    # other packages may have loaded their own runtime
    return next((path for path in found if "/torch/" in path), found[0] if found else None)


class _Fork:
    """Ends the idle threads of the OpenMP runtime before a fork.

    A child has no copy of these threads, but the runtime's copy in the child would wait for them for ever. Both
    processes start new threads when they next compute.
    """

    def __init__(self) -> None:
        self.threads_ended = False
        os.register_at_fork(before=self.before, after_in_child=self.in_child)

    def before(self) -> None:
        path = openmp_runtime()
        pause = getattr(ctypes.CDLL(path), "omp_pause_resource_all", None) if path else None
        self.threads_ended = pause is not None and pause(OMP_PAUSE_SOFT) == 0

    def in_child(self) -> None:
        if not self.threads_ended:  # an OpenMP before 5.0: one thread needs no others
            torch.set_num_threads(1)


_fork = _Fork()
