import copy
import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from equiforce.threads import OfThread, fastest_threads


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


class Mine(OfThread):
    def __init__(self):
        self.values = []


def test_each_thread_has_its_own_values_and_a_copy_those_of_its_maker():
    mine = Mine()
    mine.values.append(1)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: mine.values).result() == []
    for copied in (copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))):
        assert copied.values == [1]
        copied.values.append(2)
    assert mine.values == [1]
