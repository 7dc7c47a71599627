"""The protocol of all workers, which exchange JSON lines, and measure time and memory in the same way.

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
ENOUGH = 10_000  # ms after which warming up ends
BRIEF = 100  # ms; a shorter call is repeated for about this time


class Work(NamedTuple):
    """The call that is timed, and the size of its problem."""

    call: Callable[[], Any]
    n_edges: int
    n_weights: int


def serve(inputs: Callable[[dict, list], Any], build: Callable[[dict, Any], Work], packages: Iterable[str]) -> None:
    """Run the protocol until ``end`` or the end of input.

    Args:
        inputs: makes the inputs from a case and its frames, with all that a simulation has before the call, such as
            neighbour lists.
        build: makes the call that is timed from a case and these inputs.
        packages: names of the packages whose versions are reported.
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
    """Measure the median time in ms of successive calls, as in simulations and training.

    The first of several short calls is left out, because since the last turn other programs have filled the caches and
    the threads have gone to sleep.
    """
    first = timed(call, on_gpu)
    if first > BRIEF:
        return statistics.median([first, *(timed(call, on_gpu) for _ in range(n_calls - 1))])
    return statistics.median(timed(call, on_gpu) for _ in range(max(n_calls, int(BRIEF / first))))


def timed(call: Callable[[], Any], on_gpu: bool) -> float:
    """Measure the time of one call in ms: wall time, or the time between two events of the GPU."""
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
    """Return energies and forces for training steps, the same for every package."""
    generator = torch.Generator().manual_seed(0)
    energies = torch.randn(len(frames), generator=generator, dtype=torch.float64)
    forces = torch.randn(sum(map(len, frames)), 3, generator=generator, dtype=torch.float64)
    return energies, forces


def count_weights(model: torch.nn.Module) -> int:
    """Count the trainable weights."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def training_step(model: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """Return a function that computes the gradient of a loss and makes a step of Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=False)
        loss().backward()
        optimizer.step()

    return step


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in ("torch", *packages):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def yield_memory_first() -> None:
    """Make the system kill this process first when memory runs out, and not the programs of a user."""
    if (PROCESS / "oom_score_adj").exists():
        (PROCESS / "oom_score_adj").write_text("1000")


def resident_mb() -> float:
    """Return the present resident memory, or the peak so far on a machine without /proc."""
    return status_mb("VmRSS") or peak_mb()


def peak_mb() -> float:
    """Return the peak of the resident memory since ``forget_peak`` was called."""
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return status_mb("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def status_mb(name: str) -> float | None:
    """Return an entry of /proc/self/status in MB, or None without /proc."""
    if not (PROCESS / "status").exists():
        return None
    lines = dict(line.split(":", 1) for line in (PROCESS / "status").read_text().splitlines())
    return int(lines[name].split()[0]) / 2**10


def forget_peak() -> None:
    """Reset the peak memory, so that it does not include reading files and searching neighbours."""
    if (PROCESS / "clear_refs").exists():
        (PROCESS / "clear_refs").write_text("5")
