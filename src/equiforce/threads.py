"""Chooses the fastest number of threads, and keeps what each thread computes by itself."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import torch

REPEATS = 3


class OfThread(threading.local):
    """Values of which each thread has its own: ``__init__``, without arguments, gives each thread its first ones.

    A copy starts with those of the thread that makes it.
    """

    def __reduce__(self) -> tuple[type, tuple[()], dict[str, object]]:
        return type(self), (), self.__dict__


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
