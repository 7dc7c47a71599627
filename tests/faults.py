"""Runs the program with a kill, or a full disk, at a chosen one of the calls that change files in a folder.

The calls are intercepted by a library (faults.c) that is loaded before libc. A server process imports everything once
and forks for each command, so that hundreds of kills take a minute.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# a kill before the call, or in the middle of a write; the disk is full from this call on; SIGTERM before the call
KILL, HALF, FULL, TERM = "k", "h", "f", "t"
TERM, TWICE = "t", "T"  # SIGTERM before the call; Ctrl-C before the call and before the next
KILLED = -9
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Ended:
    """The end of a command."""

    rc: int  # its exit status, or minus the signal
    calls: int  # that change files in the folder, up to its end
    output: str
    errors: str


@cache
def _library() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="equiforce-faults-"))
    library = folder / "faults.so"
    source = Path(__file__).with_suffix(".c")
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


class Server:
    """Runs commands of the program one after another."""

    def __init__(self):
        environment = {**os.environ, "LD_PRELOAD": str(_library()), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        command = [sys.executable, "-m", "tests.faults"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        )

    def run(self, *arguments: object, folder: Path, at: int = 0, mode: str = KILL, cwd: Path | None = None) -> Ended:
        """Run ``equiforce arguments`` with a fault at call number ``at`` in ``folder``; 0 means none."""
        request = {"arguments": [str(a) for a in arguments], "folder": str(folder), "at": at, "mode": mode}
        self.process.stdin.write(json.dumps({**request, "cwd": str(cwd or folder.parent)}) + "\n")
        self.process.stdin.flush()
        return Ended(**json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@contextmanager
def server():
    """A server that ends at the end."""
    running = Server()
    try:
        yield running
    finally:
        running.close()


def _serve() -> None:
    import torch

    import equiforce.assessment
    import equiforce.calculators.lammps.prepare
    import equiforce.calculators.md.run
    import equiforce.calculators.relax
    import equiforce.studies.benchmark
    import equiforce.studies.page
    import equiforce.studies.work
    import equiforce.workflow  # noqa: F401 (imported once, and not by each child)

    torch.set_num_threads(1)
    library, answers = ctypes.CDLL(str(_preloaded())), os.fdopen(os.dup(1), "w", encoding="utf-8")
    library.fault_calls.restype = ctypes.c_long
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryDirectory() as folder:
            streams = [Path(folder) / name for name in ("output", "errors")]
            library.fault_arm(None, ctypes.c_long(0), ctypes.c_char(b"k"))  # the counter is shared from here on
            if (child := os.fork()) == 0:
                _perform(request, streams, library)
            _, status = os.waitpid(child, 0)
            rc = os.waitstatus_to_exitcode(status)
            texts = [stream.read_text(encoding="utf-8", errors="replace") for stream in streams]
        answer = {"rc": rc, "calls": library.fault_calls(), "output": texts[0], "errors": texts[1]}
        print(json.dumps(answer), file=answers, flush=True)


def _perform(request: dict, streams: list[Path], library: ctypes.CDLL) -> None:
    from equiforce import cli

    for number, stream in zip((1, 2), streams, strict=True):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT, 0o600), number)
    os.chdir(request["cwd"])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    _arm(library, request)
    sys.argv, rc = ["equiforce", *request["arguments"]], 0
    try:
        cli.main()
    except SystemExit as end:
        rc = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        rc = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(rc)


def _arm(library: ctypes.CDLL, request: dict) -> None:
    folder, mode = request["folder"].encode(), ctypes.c_char(request["mode"].encode())
    library.fault_arm(folder, ctypes.c_long(request["at"]), mode)


def _preloaded() -> Path:
    return Path(os.environ["LD_PRELOAD"])


if __name__ == "__main__":
    _serve()
