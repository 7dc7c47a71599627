"""What every worker does alike: one JSON line in, one out, and time and memory measured the same way for all.

A worker reads a case, answers ``{"ready": {...}}``, answers ``{"ms": ...}`` to every line ``go``, and ends with
``{"done": {...}}`` when it reads ``end``. Answers go to the file descriptor that is its only argument.
"""

import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ase.io import read

PROCESS = Path("/proc/self")
ENOUGH = 10_000  # ms of warming up
BRIEF = 100  # ms; calls that take less are repeated for about as long


class Work(NamedTuple):
    """What is timed, and how large it is."""

    call: Callable[[], Any]
    n_edges: int
    n_weights: int


def serve(inputs: Callable[[dict, list], Any], build: Callable[[dict, Any], Work], packages: Iterable[str]) -> None:
    """Speaks the protocol until ``end`` or the end of input.

    Args:
        inputs: from a case and its frames, everything that a simulation would have before the call: neighbour lists.
        build: from a case and these inputs, the untrained model and the call that is timed.
        packages: whose versions are reported.
    """
    answers = os.fdopen(int(sys.argv[1]), "w", buffering=1)
    yield_memory_first()
    case = json.loads(sys.stdin.readline())
    torch.set_num_threads(case["threads"])
    frames = read(case["structure"], ":")
    prepared = inputs(case, frames)
    before = resident_mb()
    forget_peak()
    work = build(case, prepared)
    on_gpu = case["device"] != "cpu"
    warm_up: list[float] = []
    while len(warm_up) < case["warm_up"] and sum(warm_up) < ENOUGH:
        warm_up.append(timed(work.call, on_gpu))
    ready = {"atoms": sum(map(len, frames)), "edges": work.n_edges, "weights": work.n_weights, "warm_up_ms": warm_up}
    print(json.dumps({"ready": ready}), file=answers)
    for line in sys.stdin:
        if line.strip() == "end":
            break
        print(json.dumps({"ms": turn(work.call, on_gpu, case["calls"])}), file=answers)
    done = {"peak_mb": peak_mb(), "over_mb": peak_mb() - before, "versions": versions(packages)}
    if on_gpu:
        done["gpu_mb"] = torch.cuda.max_memory_allocated() / 2**20
    print(json.dumps({"done": done}), file=answers)


def turn(call: Callable[[], Any], on_gpu: bool, n_calls: int) -> float:
    """The median time in ms of some calls one after another, as simulations and training make them.

    The first of brief calls is left out: other programs have had the caches since this one's last turn, and its threads
    have gone to sleep.
    """
    first = timed(call, on_gpu)
    if first > BRIEF:
        return statistics.median([first, *(timed(call, on_gpu) for _ in range(n_calls - 1))])
    return statistics.median(timed(call, on_gpu) for _ in range(max(n_calls, int(BRIEF / first))))


def timed(call: Callable[[], Any], on_gpu: bool) -> float:
    """The time of one call in ms: on the wall, or between two events of the GPU."""
    if not on_gpu:
        began = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - began)
    torch.cuda.synchronize()
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop)


def random_labels(frames: list) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies and forces to train on, the same for every package."""
    generator = torch.Generator().manual_seed(0)
    energies = torch.randn(len(frames), generator=generator, dtype=torch.float64)
    forces = torch.randn(sum(map(len, frames)), 3, generator=generator, dtype=torch.float64)
    return energies, forces


def count_weights(model: torch.nn.Module) -> int:
    """The number of trainable weights."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def training_step(model: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """Gradient of a loss and a step of Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=False)
        loss().backward()
        optimizer.step()

    return step


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Python's version and those of the packages that are installed here."""
    found = {"python": platform.python_version()}
    for name in ("torch", *packages):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def yield_memory_first() -> None:
    """Where memory runs out, the kernel shall end this process before anything that someone works with."""
    if (PROCESS / "oom_score_adj").exists():
        (PROCESS / "oom_score_adj").write_text("1000")


def resident_mb() -> float:
    """The resident memory now; on a machine without /proc the peak so far."""
    return status_mb("VmRSS") or peak_mb()


def peak_mb() -> float:
    """The largest resident memory since it was last forgotten."""
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return status_mb("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def status_mb(name: str) -> float | None:
    """A line of the kernel's status of this process."""
    if not (PROCESS / "status").exists():
        return None
    lines = dict(line.split(":", 1) for line in (PROCESS / "status").read_text().splitlines())
    return int(lines[name].split()[0]) / 2**10


def forget_peak() -> None:
    """Lets the peak count from here, so that reading files and searching neighbours is not in it."""
    if (PROCESS / "clear_refs").exists():
        (PROCESS / "clear_refs").write_text("5")
