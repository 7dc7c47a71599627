"""How many threads to compute with: as many as make the work at hand fastest, which for small systems is often one."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import torch

REPEATS = 3


@contextmanager
def fastest_threads(work: Callable[[], object] | None) -> Iterator[None]:
    """Times ``work`` with one thread, half of torch's threads and all of them, and keeps the fastest for a while.

    Threads of a small task spend their time waiting for one another, the more so where other programs run. The number
    before is restored at the end. ``work`` is None where threads do not matter, and nothing is done.
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
    work()
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return median(times)
