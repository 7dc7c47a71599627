import os

import torch

from equiforce.machine import cpu_model, device_name, n_cores


def test_the_machine_has_a_name_and_cores():
    assert device_name(torch.device("cpu")) == f"CPU ({cpu_model()})"
    assert cpu_model()
    assert 1 <= n_cores() <= (os.cpu_count() or 1)


def test_only_cores_that_may_be_used_count():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert n_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
