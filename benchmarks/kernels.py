"""Measures which share of the processor's peak the fused kernels reach on one thread.

    python benchmarks/kernels.py [--degrees 1 2 3] [--channels 32]

The peak is measured by a loop that only multiplies and adds in registers, and by a loop that only loads from the cache
that holds the kernels' tables. It is compared with the multiply-adds that the algorithm needs, counted from the path
table, and with the bytes that an edge reads: four rows of the table and the features of an atom. Writes
``results/*-kernels.json`` and a table in docs/benchmarks.md.
"""

import argparse
import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from machine import commit, machine, slug, today
from report import RESULTS, replace_between, save
from structures import water

from equiforce.geometry.irreps import hidden_irreps
from equiforce.graph import AtomicGraph
from equiforce.kernels.backend import NeedsGrad, Tangents
from equiforce.kernels.cpu import build, convolution
from equiforce.kernels.cpu.targets import Target
from equiforce.kernels.spec.paths import PathTable, combination
from equiforce.neighbors import build_graph
from equiforce.structure import Structure

N_KNOTS = 64
REPEATS = 50
SUMS = 24  # independent sums, enough to hide the latency of a multiply-add
CACHED = 256 * 1024  # bytes of a table for l = 2, which fits into the second level of cache but not into the first


@dataclass(frozen=True)
class Peak:
    """A loop of one kind of instruction that runs at the peak of the processor."""

    kind: str  # "multiply_adds" or "loads"
    n: int

    def source(self, target: Target) -> str:
        """Return the C source, whose function ``run`` takes a pointer to the memory that it reads and writes."""
        sums = range(SUMS)
        step = [f"s{k} = s{k}*x + y;" for k in sums]
        head, body = f"for (long i = 0; i < {self.n}; i++)", " ".join(step)
        if self.kind == "loads":
            width = target.vector_bytes // 4
            head = f"for (long i = 0; i < {self.n}; i++) for (long j = 0; j < {CACHED // 4}; j += {8 * width})"
            body = " ".join(f"s{k} += *(const V *)(p + j + {k * width});" for k in range(8))
        return "\n".join([
            f"typedef float V __attribute__((vector_size({target.vector_bytes}), aligned(4), may_alias));",
            "void run(float *p) {",
            "  V x = {0}, y = {0}; x += p[0]; y += p[1];",
            f"  V {', '.join(f's{k} = y + {k}' for k in sums)};",
            f"  {head} {{ {body} }}",
            f"  *(V *)p = {' + '.join(f's{k}' for k in sums)};",
            "}",
        ])  # fmt: skip


def peaks() -> tuple[float, float]:
    """Measure the peak of multiply-adds and of loaded bytes per second, for float32 on one thread."""
    width = build.target().vector_bytes // 4
    buffer = torch.rand(CACHED // 4)
    pointer = ctypes.c_void_p(buffer.data_ptr())

    def rate(peak: Peak, work: float) -> float:
        run = build.function(peak)
        return work / seconds(lambda: run(pointer))

    flops, loads = Peak("multiply_adds", 2_000_000), Peak("loads", 400)
    return rate(flops, flops.n * SUMS * width), rate(loads, loads.n * CACHED)


def multiply_adds(table: PathTable, kernel: str) -> int:
    """Count the multiply-adds that the algorithm needs for an edge."""
    total = 0
    for group in table.groups:
        n1, n3 = 2 * group.l1 + 1, 2 * group.l3 + 1
        coupled = sum(combination(group, m1, m3) is not None for m1 in range(n1) for m3 in range(n3))
        pairs = len({(m1, m2) for m1, m2, *_ in group.coupling})
        each = {
            "forward": 4 + n1 + coupled,
            "backward to features and geometry": 8 + coupled + 2 * n1 + 1 + n1 + len(group.coupling) + pairs,
            "backward to features and table": 4 + coupled + 2 * n1 + 4,
            "forward, jvp": 8 + 3 * n1 + 2 * coupled,
            "backward to features and table, jvp": 8 + 2 * coupled + 5 * n1 + 8,
        }[kernel]
        total += each * group.channels * len(group.paths)
    return total


def seconds(function: Callable[[], object]) -> float:
    """Measure the median time of a call."""
    function()
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return median(times)


def measure(table: PathTable, graph: AtomicGraph) -> list[dict]:
    """Measure the rates of all kernels on a graph."""
    torch.manual_seed(0)
    x, g = (torch.randn(graph.n_atoms, irreps.dim) for irreps in (table.irreps_in, table.irreps_out))
    y, values = torch.randn(graph.n_edges, (table.l_max + 1) ** 2), torch.randn(N_KNOTS + 3, table.n_weights)
    t = (graph.edge_vectors().norm(dim=1) / 5.0 * N_KNOTS).float()
    along = Tangents(torch.randn_like(x), torch.randn_like(y), torch.randn_like(t))
    geometry, weights = NeedsGrad(True, True, False), NeedsGrad(True, False, True)
    features, messages = table.irreps_in.dim, table.irreps_out.dim
    calls = {
        "forward": (features, lambda: convolution.convolve_forward(x, y, values, t, graph, table)),
        "backward to features and geometry": (
            messages, lambda: convolution.convolve_backward(g, x, y, values, t, graph, table, geometry)
        ),
        "backward to features and table": (
            messages, lambda: convolution.convolve_backward(g, x, y, values, t, graph, table, weights)
        ),
        "forward, jvp": (2 * features, lambda: convolution.convolve_forward(x, y, values, t, graph, table, along)),
        "backward to features and table, jvp": (
            messages, lambda: convolution.convolve_backward(g, x, y, values, t, graph, table, weights, along)
        ),
    }  # fmt: skip
    rows = []
    for name, (numbers, call) in calls.items():
        took = seconds(call)
        rows.append({
            "kernel": name,
            "ms": 1e3 * took,
            "multiply_adds": graph.n_edges * multiply_adds(table, name) / took,
            "bytes": graph.n_edges * 4 * (4 * table.n_weights + numbers) / took,
        })  # fmt: skip
    return rows


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--degrees", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--parity", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    atoms = water(64)
    structure = Structure(atomic_numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell.array, pbc=atoms.pbc)
    graph = build_graph(structure, ["H", "O"], 5.0)
    fastest, loads = peaks()
    lines = [
        f"{machine()['cpu']}, {build.target().name}, equiforce at {commit()}, one thread, float32, 64 waters with "
        f"{graph.n_edges:,} pairs, {options.channels} channels. Measured peak: {fastest / 1e9:.0f} G multiply-adds/s, "
        f"{loads / 1e9:.0f} GB/s from the second level of cache.",
        "",
        "| l_max | kernel | ms | G multiply-adds/s | of the peak | GB/s read | of the peak |",
        "|---|---|---|---|---|---|---|",
    ]
    results = {"machine": machine(), "commit": commit(), "peak": {"multiply_adds": fastest, "bytes": loads}, "rows": []}
    for degree in options.degrees:
        irreps = hidden_irreps((options.channels,) * (degree + 1), odd=options.parity)
        for row in measure(PathTable(irreps, degree, irreps), graph):
            results["rows"].append({"l_max": degree, **row})
            lines.append(
                f"| {degree} | {row['kernel']} | {row['ms']:.2f} | {row['multiply_adds'] / 1e9:.1f} "
                f"| {row['multiply_adds'] / fastest:.0%} | {row['bytes'] / 1e9:.0f} | {row['bytes'] / loads:.0%} |"
            )
    print("\n".join(lines))
    save(RESULTS / f"{today()}-{slug(machine())}-kernels.json", results)
    replace_between("kernels", "\n".join(lines))


if __name__ == "__main__":
    main()
