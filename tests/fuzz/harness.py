"""Gives many hostile inputs to equiforce, in limited processes, and counts how they end.

An attack is a function that makes one hostile input from a random generator, gives it to equiforce, and says in a word
how that ended, such as ``"refused"`` after an InputError or ``"right"``. Another exception, the end of the process, and
more than four seconds or 1 GB of memory are failures.
"""

import json
import os
import random
import resource
import select
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

Attack = Callable[[random.Random, Path], str]

LONGEST = 4.0  # seconds of the processor for one try: 2 would do where it is not shared
PATIENCE = 20.0  # seconds until a try that does not end is called a hang; other programs may run beside it
MOST_MEMORY = 2**30  # bytes beyond those of the process that begins
# the part of the time of all fuzzers that each of them gets; pytest --fuzz-seconds sets the whole
SHARES = {
    "model_headers": 60,
    "model_flips": 50,
    "checkpoints": 40,
    "data": 60,
    "options": 50,
    "starts": 30,
    "text": 20,
    "imports": 20,
}


@dataclass
class Tally:
    """How the tries of a fuzzer ended."""

    counts: Counter = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def tries(self) -> int:
        return self.counts.total()

    def add(self, word: str, failure: str = "") -> None:
        """Count a try; ``failure`` says what went wrong, and is empty if nothing did."""
        if failure:
            self.failures.append(f"try {self.tries}: {word}: {failure}")
        self.counts[word] += 1

    def __str__(self) -> str:
        found = ", ".join(f"{word} {n:,}" for word, n in self.counts.most_common())
        return f"{self.tries:,} tries: {found}" + "".join(f"\n  {failure}" for failure in self.failures[:20])


def share(name: str, whole: float) -> float:
    """The seconds of a fuzzer if all of them together have ``whole`` seconds."""
    return whole * SHARES[name] / sum(SHARES.values())


def run(
    attack: Attack, folder: Path, *, tries: int | None = None, seconds: float = float("inf"), seed: int = 1
) -> Tally:
    """Make tries until their number or the time is used up; try ``i`` is the same in each run with the same seed.

    Args:
        attack: makes a try; it may write into its folder.
        folder: an empty folder.
        tries: the number of tries; None means as many as the time allows.
        seconds: the time.
        seed: of the random numbers.
    """
    tally, end = Tally(), time.monotonic() + seconds
    while time.monotonic() < end and (tries is None or tally.tries < tries):
        _one_process(attack, folder, seed, tries, end, tally)
    return tally


def _one_process(attack: Attack, folder: Path, seed: int, tries: int | None, end: float, tally: Tally) -> None:
    """Let a child process make tries until all are done or it has to be ended."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork of a process with threads
        child = os.fork()
    if child == 0:
        os.close(reader)
        _work(attack, folder, seed, tally.tries, tries, end, writer)
    os.close(writer)
    rest = b""
    while (answered := bool(select.select([reader], [], [], PATIENCE)[0])) and (read := os.read(reader, 65536)):
        *lines, rest = (rest + read).split(b"\n")
        for line in lines:
            tally.add(*json.loads(line))
    os.close(reader)
    if not answered:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not answered:
        tally.add("hang", f"no answer within {PATIENCE:g} s")
    elif os.WIFSIGNALED(status):
        tally.add("crash", signal.Signals(os.WTERMSIG(status)).name)


def _work(attack: Attack, folder: Path, seed: int, first: int, tries: int | None, end: float, writer: int) -> NoReturn:
    """Make tries and write a line about each; a pipe keeps lines in order, and a killed process leaves whole ones."""
    with open("/proc/self/statm", encoding="utf-8") as statm:
        present = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (present + MOST_MEMORY,) * 2)
    number = first
    while time.monotonic() < end and (tries is None or number < tries):
        began, failure = time.process_time(), ""
        try:
            word = attack(random.Random(f"{seed}-{number}"), folder)
        except BaseException:
            word, failure = "traceback", traceback.format_exc(limit=-4)
        if (took := time.process_time() - began) > LONGEST and not failure:
            word, failure = "slow", f"{took:.1f} s of the processor, then {word}"
        os.write(writer, json.dumps([word, failure]).encode() + b"\n")
        number += 1
    os._exit(0)
