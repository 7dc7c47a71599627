"""The fuzzers' harness itself: it must notice what it is there to notice."""

import os
import signal
import time

from tests.fuzz import harness


def outcome_of(attack, tmp_path, tries=3):
    return harness.run(attack, tmp_path, tries=tries)


def test_words_are_counted_and_tries_repeat(tmp_path):
    def attack(rng, folder):
        return f"drew {rng.randrange(3)}"

    first, again = outcome_of(attack, tmp_path, 50), outcome_of(attack, tmp_path, 50)
    assert first.tries == 50
    assert first.counts == again.counts
    assert len(first.counts) == 3
    assert not first.failures


def test_another_exception_is_a_failure_and_the_tries_go_on(tmp_path):
    def attack(rng, folder):
        raise KeyError("lost")

    tally = outcome_of(attack, tmp_path)
    assert tally.counts == {"traceback": 3}
    assert "KeyError" in tally.failures[0]


def test_a_crash_is_a_failure_and_the_tries_go_on(tmp_path):
    def attack(rng, folder):
        os.kill(os.getpid(), signal.SIGKILL)
        return "alive"

    tally = outcome_of(attack, tmp_path)
    assert tally.counts == {"crash": 3}
    assert "SIGKILL" in tally.failures[0]


def test_memory_is_limited(tmp_path):
    def attack(rng, folder):
        return str(len(bytearray(2 * harness.MOST_MEMORY)))

    assert outcome_of(attack, tmp_path, 1).counts == {"traceback": 1}


def test_a_hang_and_a_slow_try_are_failures(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "PATIENCE", 0.2)
    monkeypatch.setattr(harness, "LONGEST", 0.05)

    def sleeps(rng, folder):
        time.sleep(60)

    def computes(rng, folder):
        began = time.process_time()
        while time.process_time() < began + 0.06:
            pass
        return "done"

    assert outcome_of(sleeps, tmp_path, 1).counts == {"hang": 1}
    assert outcome_of(computes, tmp_path, 1).counts == {"slow": 1}


def test_time_ends_the_tries(tmp_path):
    def attack(rng, folder):
        time.sleep(0.01)
        return "right"

    tally = harness.run(attack, tmp_path, seconds=0.2)
    assert 1 <= tally.tries <= 20


def test_the_shares_are_parts_of_the_whole():
    assert sum(harness.share(name, 300.0) for name in harness.SHARES) == 300.0
