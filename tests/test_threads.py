import time

import pytest
import torch

from equiforce.threads import fastest_threads


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("best", [1, 2])
def test_the_fastest_number_is_taken_and_the_old_one_restored(best):
    def work():
        time.sleep(0.002 if torch.get_num_threads() == best else 0.02)

    with fastest_threads(work):
        assert torch.get_num_threads() == best
    assert torch.get_num_threads() == 2


def test_without_work_nothing_changes():
    with fastest_threads(None):
        assert torch.get_num_threads() == 2
