"""Signals that ask a program to stop: Ctrl-C, the limits of a cluster, and a terminal that is closed."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread

# SLURM sends SIGTERM, or the signal of sbatch --signal, before it ends a job
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class ToldInterrupt(KeyboardInterrupt):
    """An interruption by a signal, after which the user has been told how the work goes on."""


class StopRequest:
    """Whether a signal has asked to stop."""

    def __init__(self) -> None:
        # of the signals so far; an Event has a lock, on which a handler could wait forever
        self.numbers: list[int] = []

    def is_set(self) -> bool:
        """Whether a signal has arrived."""
        return bool(self.numbers)

    def set(self, number: int = signal.SIGTERM) -> None:
        """Ask to stop."""
        self.numbers.append(number)

    def handle(self, number: int, _: object) -> None:
        """Note a signal; raise KeyboardInterrupt at the second Ctrl-C."""
        if number == signal.SIGINT and number in self.numbers:
            raise KeyboardInterrupt
        self.set(number)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Yields what the four signals set, so that the work can be saved before it ends; a second Ctrl-C ends it at once.

    The signals keep their meaning outside of the main thread, which alone may change it, and where they are ignored, as
    after ``nohup``.
    """
    stop = StopRequest()
    with _handled(stop.handle):
        yield stop


@contextmanager
def interruptions() -> Iterator[None]:
    """Lets the four signals raise KeyboardInterrupt, so that locks and drafts are removed and nothing half is left."""
    with _handled(_interrupt):
        yield


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def deferred() -> Iterator[None]:
    """Lets signals wait for the end of a short piece of work that must not be cut."""
    stop = StopRequest()
    try:
        with _handled(stop.handle):
            yield
    finally:
        for number in stop.numbers:
            signal.raise_signal(number)


@contextmanager
def _handled(handler: Callable[[int, object], None]) -> Iterator[None]:
    """Give a handler to the signals that are not ignored, and give the handlers from before back."""
    before = {}
    if current_thread() is main_thread():
        found = {number: signal.getsignal(number) for number in SIGNALS}
        # None is a handler that is not Python's, which could not be given back
        before = {number: old for number, old in found.items() if old not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
