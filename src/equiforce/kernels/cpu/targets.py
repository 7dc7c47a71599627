"""The families of processors for which C is compiled, and C text that several generators use."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch

Scalar = Literal["float", "double"]
SCALARS: dict[torch.dtype, Scalar] = {torch.float32: "float", torch.float64: "double"}


@dataclass(frozen=True)
class Target:
    """A family of processors: its vector registers and the compiler options for them."""

    name: str
    vector_bytes: int
    n_registers: int
    flags: tuple[str, ...]

    def width(self, scalar: Scalar) -> int:
        """The number of scalars in a vector."""
        return self.vector_bytes // (4 if scalar == "float" else 8)


TARGETS = {
    "avx512": Target("avx512", 64, 32, ("-march=x86-64-v4", "-mprefer-vector-width=512")),
    "avx2": Target("avx2", 32, 16, ("-march=x86-64-v3",)),
    "portable": Target("portable", 16, 16, ()),
}


PARALLEL = """\
#if defined(_OPENMP)
static void each_part(void (*body)(const void *, long), const void *a, long n_parts) {
  #pragma omp parallel for num_threads(n_parts) schedule(static, 1)
  for (long p = 0; p < n_parts; p++) body(a, p);
}
#else
#include <pthread.h>
typedef struct { void (*body)(const void *, long); const void *a; long p; } Job;
static void *run_job(void *job) { const Job *j = job; j->body(j->a, j->p); return 0; }
static void each_part(void (*body)(const void *, long), const void *a, long n_parts) {
  pthread_t threads[n_parts];
  Job jobs[n_parts];
  char started[n_parts];
  for (long p = 1; p < n_parts; p++) {
    jobs[p] = (Job){body, a, p};
    started[p] = !pthread_create(&threads[p], 0, run_job, &jobs[p]);
    if (!started[p]) body(a, p);
  }
  body(a, 0);
  for (long p = 1; p < n_parts; p++) if (started[p]) pthread_join(threads[p], 0);
}
#endif
"""  # C code that divides work between threads: torch's OpenMP threads, or POSIX threads if there is no OpenMP


def vector_types(width: int, tails: set[int]) -> Iterator[str]:
    """The C type ``V``, a vector of ``W`` scalars, with loads and stores of whole vectors and of ``tails`` scalars."""
    yield "#include <string.h>"
    yield f"#define W {width}"
    yield "typedef S V __attribute__((vector_size(W * sizeof(S)), aligned(sizeof(S)), may_alias));"
    yield "#define LD(p) (*(const V *)(p))"
    yield "#define ST(p, v) (*(V *)(p) = (v))"
    for tail in sorted(tails):
        size = f"{tail} * sizeof(S)"
        yield f"static inline V LD{tail}(const S *p) {{ V v = {{0}}; memcpy(&v, p, {size}); return v; }}"
        yield f"static inline void ST{tail}(S *p, V v) {{ memcpy(p, &v, {size}); }}"


def horizontal_sums(width: int, counts: set[int]) -> Iterator[str]:
    """The C functions ``total``, which sums the scalars of a vector, and ``totalsN`` for N vectors and each count N.

    ``totalsN`` writes N sums side by side. Each of its steps merges two vectors into one, so it needs a quarter of the
    shuffles of N calls of ``total``.
    """
    yield "#if defined(__clang__) || __GNUC__ >= 12"
    yield "static inline S total(V v) {"
    step = width // 2
    while step:
        yield f"  v += {_shuffled('v', 'v', [lane ^ step for lane in range(width)])};"
        step //= 2
    yield "  return v[0];"
    yield "}"
    for count in sorted(counts):
        yield f"static inline void totals{count}(const V *s, S *out) {{"
        yield from _totals(width, count)
        yield "}"
    yield "#else"
    yield "static inline S total(V v) { S s = 0; for (int k = 0; k < W; k++) s += v[k]; return s; }"
    for count in sorted(counts):
        body = f"for (int n = 0; n < {count}; n++) out[n] = total(s[n]);"
        yield f"static inline void totals{count}(const V *s, S *out) {{ {body} }}"
    yield "#endif"


def _totals(width: int, count: int) -> Iterator[str]:
    """Add halves of vectors n and n + step, then quarters and so on: lane n at the end is the sum of vector n."""
    names = [f"s[{n}]" for n in range(count)]
    step = width // 2
    while step:
        low = [lane if not lane & step else width + lane - step for lane in range(width)]
        high = [index + step for index in low]
        merged = []
        for n in range(min(step, len(names))):
            other = names[n + step] if n + step < len(names) else names[n]
            name = f"v{step}_{n}"
            yield f"  const V {name} = {_shuffled(names[n], other, low)} + {_shuffled(names[n], other, high)};"
            merged.append(name)
        names, step = merged, step // 2
    yield f"  memcpy(out, &{names[0]}, {count} * sizeof(S));"


def _shuffled(first: str, second: str, lanes: list[int]) -> str:
    return f"__builtin_shufflevector({first}, {second}, {', '.join(map(str, lanes))})"


@runtime_checkable
class KernelSource(Protocol):
    """A kernel to compile. Its repr must contain everything on which its C source depends, because it is hashed."""

    @property
    def kind(self) -> str:
        """The first part of the name of the compiled file."""

    def source(self, target: Target) -> str:
        """Return the C source; its function ``run`` takes a pointer to the struct of arguments."""
