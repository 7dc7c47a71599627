"""Lets a process that has computed with several threads be forked, and refuses to compute where that cannot work.

Nothing here imports torch, because each fork after ``import equiforce`` has to be prepared.
"""

import ctypes
import faulthandler
import logging
import os
import re
import sys
from functools import cache
from pathlib import Path

from equiforce.errors import InputError

log = logging.getLogger("equiforce")

OPENMP_RUNTIMES = re.compile(r"/lib(?:g|i)?omp5?[^/]*\.so[^/]*$")
OMP_PAUSE_SOFT = 1  # ends the threads and keeps the settings, such as the number of threads
HERE = str(Path(__file__).parent).encode("ascii", "backslashreplace").decode()  # as faulthandler writes it
# the files in which a thread computes; it holds locks there that a fork would wait for
COMPUTING = re.compile(
    rf'"(?:{re.escape(HERE)}/(?:calculators|chunks|graph|kernels|model_file|models|neighbors|nn|'
    r'potential)\b|[^"]*/torch/(?:_tensor|autograd|functional|nn|optim)\b|[^"]*/vesin/)'
)
FORKED_WITHOUT_EXEC = 0x40  # PF_FORKNOEXEC of the Linux kernel


@cache
def openmp_runtime() -> str | None:
    """The path of the OpenMP runtime that torch has loaded; the kernels use its threads."""
    found = sorted({line.split(maxsplit=5)[-1] for line in _runtimes("self")})
    # other packages may have loaded their own runtime
    return next((path for path in found if "/torch/" in path), found[0] if found else None)


def refuse_after_unsafe_fork() -> None:
    """Raise InputError if this process was forked while another thread computed."""
    if _forks.unsafe:
        raise InputError(
            "this process was forked while another thread computed, whose locks it may wait for without end: fork "
            "before threads compute or after they have ended, or start processes by the method spawn "
            "(multiprocessing.get_context)"
        )


def _runtimes(process: int | str) -> set[str]:
    """Where a process has loaded OpenMP runtimes, as the system lists it."""
    try:
        mapped = Path(f"/proc/{process}/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return set()
    return {line for line in mapped if OPENMP_RUNTIMES.search(line)}


class _Forks:
    """Ends the idle threads of the OpenMP runtime before a fork.

    A child has no copy of these threads, but the runtime's copy in the child would wait for them for ever. Both
    processes start new threads when they next compute.
    """

    def __init__(self) -> None:
        self.threads_ended = self.others_compute = self.unsafe = False
        os.register_at_fork(before=self.before, after_in_child=self.in_child)
        if _forked_with_runtime():
            log.warning(
                "this process was forked by one that had loaded torch and not equiforce, so it computes with one "
                "thread: import equiforce before the fork, or start processes by the method spawn"
            )
            self.in_child()

    def before(self) -> None:
        self.threads_ended, self.others_compute = False, True  # if an error ends this, such as too many open files
        self.others_compute = any(COMPUTING.search(stack) for stack in _stacks_of_others())
        path = openmp_runtime() if _torch_is_loaded() else None
        pause = getattr(ctypes.CDLL(path), "omp_pause_resource_all", None) if path else None
        self.threads_ended = pause is not None and pause(OMP_PAUSE_SOFT) == 0

    def in_child(self) -> None:
        self.unsafe |= self.others_compute
        if not self.threads_ended and _torch_is_loaded():
            sys.modules["torch"].set_num_threads(1)  # an OpenMP before 5.0: one thread needs no others


def _torch_is_loaded() -> bool:
    return hasattr(sys.modules.get("torch"), "set_num_threads")


def _stacks_of_others() -> list[str]:
    """What the other threads do, one text for each.

    Python's own dump of all stacks is made in one go. A loop over ``sys._current_frames()`` gives way to the other
    threads, whose frames then change while they are read, which can end the process.
    """
    with open(os.memfd_create("stacks"), "w+", encoding="utf-8", errors="replace") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        blocks = re.split(r"^(?=(?:Current t|T)hread )", file.read(), flags=re.MULTILINE)
    return [block for block in blocks if block.startswith("Thread ")]


def _forked_with_runtime() -> bool:
    """Whether this process is a fork of one that had loaded torch, whose OpenMP runtime may miss its threads here."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return False
    if not _torch_is_loaded() or not int(fields[6]) & FORKED_WITHOUT_EXEC:
        return False
    return bool(_runtimes("self") & _runtimes(os.getppid()))


_forks = _Forks()
