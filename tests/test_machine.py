import os

import torch

from equiforce.machine import cpu_model, describe_device, n_cores


def test_the_machine_has_a_name_and_cores():
    assert cpu_model()
    assert 1 <= n_cores() <= (os.cpu_count() or 1)


def test_the_device_that_computes_is_named():
    before = torch.get_num_threads()
    try:
        for n_threads, words in ((1, "cpu, 1 thread"), (2, "cpu, 2 threads")):
            torch.set_num_threads(n_threads)
            assert describe_device(torch.device("cpu")) == words
    finally:
        torch.set_num_threads(before)


def test_only_cores_that_may_be_used_count():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert n_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
