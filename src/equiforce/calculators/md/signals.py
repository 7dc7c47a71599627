"""Ends a simulation between two steps when it is asked to stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C, and the time limit of a cluster


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Yields an event that Ctrl-C or SIGTERM sets; a second one interrupts at once.

    The signals keep their meaning outside of the main thread, which alone may change it, and where they are ignored.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number, handler in before.items():
            if handler != signal.SIG_IGN:
                signal.signal(number, request)
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
