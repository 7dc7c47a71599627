"""Starts worker processes, asks them for timings, and reports why one has died."""

import json
import os
import select
import subprocess
import time
from pathlib import Path
from typing import Any

from cases import HERE, RUNNERS

ROOT = HERE.parent
LOGS = HERE / ".logs"
COMPILE_LIMIT = 7200  # seconds


class FailedError(Exception):
    """The reason why a worker has no result, in one sentence."""


class Worker:
    """A process that holds a model and a structure, and times one call when asked.

    Args:
        runner: name of the program in :data:`cases.RUNNERS`.
        message: description of the case.
        log: name of the file for what libraries print.
        timeout: seconds to wait for each answer.
        environment: further environment variables of the process.
        checkout: root of the checkout of equiforce whose worker and source run.
    """

    def __init__(
        self,
        runner: str,
        message: dict[str, Any],
        log: str,
        timeout: float,
        environment: dict[str, str] | None = None,
        checkout: Path = ROOT,
    ):
        self.timeout = timeout
        python = RUNNERS[runner].python
        if not python.exists():
            peer = RUNNERS[runner].package
            raise FailedError(f"{peer} is not installed here: python benchmarks/peers/install.py {peer}")
        LOGS.mkdir(exist_ok=True)
        self.log = LOGS / f"{log.replace('/', '-')}.log"
        program = checkout / HERE.name / "workers" / RUNNERS[runner].program
        source = {"PYTHONPATH": str(checkout / "src")} if RUNNERS[runner].package == "equiforce" else {}
        # answers have their own pipe, because some packages print to standard output when they are imported
        reading, writing = os.pipe()
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                [str(python), str(program), str(writing)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                text=True,
                bufsize=1,
                pass_fds=[writing],
                env=os.environ | source | (environment or {}),
            )
        os.close(writing)
        self.answers = os.fdopen(reading)
        try:
            self.ready = self._ask(json.dumps(message))["ready"]
        except FailedError:
            self.kill()
            raise

    def go(self) -> float:
        """Return the milliseconds of one call."""
        return self._ask("go")["ms"]

    def end(self) -> dict[str, Any]:
        """End the process, and return its peak memory and the versions of its packages."""
        done = self._ask("end")["done"]
        self.process.wait()
        self.answers.close()
        return done

    def kill(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.wait()
        self.answers.close()

    def _ask(self, line: str) -> dict[str, Any]:
        try:
            self.process.stdin.write(line + "\n")
            answered, _, _ = select.select([self.answers], [], [], self.timeout)
            answer = self.answers.readline() if answered else None
        except BrokenPipeError:
            answer = ""
        if answer is None:
            self.kill()
            raise FailedError(f"no answer within {self.timeout:.0f} s")
        if not answer:
            raise FailedError(why_it_died(self.process.wait(), self.log))
        return json.loads(answer)


def why_it_died(status: int, log: Path) -> str:
    """Say why a process ended."""
    if status == -9:
        return "the system killed it because memory ran out"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1].replace(str(HERE.parent), ".")[:200] if lines else "no message"
    return f"ended with status {status}: {last}"


def compile_first(runner: str, message: dict[str, Any]) -> float:
    """Compile the model of a compiled runner with the peer's own compiler, and return the seconds that it took."""
    python = RUNNERS[runner].python
    if not RUNNERS[runner].compile_threads or not python.exists():
        return 0.0
    LOGS.mkdir(exist_ok=True)
    log = LOGS / f"compile-{runner}.log"
    program = HERE / "workers" / "nequip_compile.py"
    began = time.perf_counter()
    with log.open("w") as output:
        try:
            ended = subprocess.run(
                [str(python), str(program)],
                input=json.dumps(message) + "\n",
                stdout=output,
                stderr=output,
                text=True,
                timeout=COMPILE_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise FailedError(f"the compilation did not end within {COMPILE_LIMIT} s") from None
    if ended.returncode:
        raise FailedError(f"the compilation failed: {why_it_died(ended.returncode, log)}")
    return time.perf_counter() - began
