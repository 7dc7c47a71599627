"""Requests to stop."""

import os
import signal
import threading

import pytest

from equiforce.signals import SIGNALS, deferred, interruptions, stop_requests


@pytest.fixture(autouse=True)
def handlers():
    """Where the tests are a shell's background job, Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_asks_to_stop(number):
    before = signal.getsignal(number)
    with stop_requests() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.is_set()
        assert stop.numbers == [number]
    assert signal.getsignal(number) == before


def test_a_second_ctrl_c_interrupts_and_a_second_signal_of_a_cluster_does_not():
    with stop_requests() as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.numbers == [signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM, signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("number", SIGNALS)
def test_where_nothing_needs_to_be_saved_a_signal_interrupts_at_once(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interruptions():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as after nohup
    try:
        with interruptions(), stop_requests() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_deferred_signal_arrives_also_after_an_error():
    with pytest.raises(KeyboardInterrupt), interruptions(), deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        raise ValueError


def test_other_threads_leave_signals_alone():
    found = []

    def work():
        with stop_requests():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]
