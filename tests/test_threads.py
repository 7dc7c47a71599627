import os
import signal
import subprocess
import sys
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


FORKED = """
import multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import torch
from ase.build import bulk
from torch.utils.data import DataLoader

import equiforce
from equiforce import threads
from equiforce.kernels import using

torch.set_num_threads(2)
potential = equiforce.untrained(["Si"], l_max=1, channels=8, n_layers=2, cutoff=4.0, dtype="float64").potential
calculator = equiforce.Calculator(potential)


def numbers(seed, backend="auto"):
    "Energy and a force of a crystal, a product of matrices by torch, and the number of threads."
    atoms = bulk("Si", cubic=True) * (3, 3, 3)
    atoms.rattle(0.05, seed=seed)
    atoms.calc = calculator
    with using(backend):
        energy, force = atoms.get_potential_energy(), atoms.get_forces()[0, 0]
    matrix = torch.arange(160_000, dtype=torch.float64).sin().view(400, 400)
    return energy, force, float((matrix @ matrix)[0, 0]), torch.get_num_threads()


def in_plain_torch(seed):
    return numbers(seed, "reference")


def of_pool(how):
    context = multiprocessing.get_context(how)
    with context.Pool(2, maxtasksperchild=1) as pool:
        first = pool.map_async(numbers, range(4)).get(timeout=60)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        second, third = (pool.map(function, range(4), timeout=60) for function in (numbers, in_plain_torch))
        return first, list(second), list(third)


def forked_by_a_thread():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(numbers, 0).result()
        return pool.submit(of_pool, "fork").result()


class Energies(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, seed):
        return torch.tensor(numbers(seed), dtype=torch.float64)


if __name__ == "__main__":
    how = sys.argv[1]
    wanted = [numbers(seed) for seed in range(4)]
    assert wanted[0][3] == 2 and len(os.listdir("/proc/self/task")) > 1
    if how == "fork without OpenMP 5":
        threads.openmp_runtime = lambda: None
        wanted = [(*each[:3], 1) for each in wanted]
    if how == "DataLoader":
        loaded = DataLoader(Energies(), num_workers=2, multiprocessing_context="fork", batch_size=None)
        found = [[each.tolist() for each in loaded]]
        wanted = [(*each[:3], 1) for each in wanted]  # torch gives a worker one thread
    elif how == "thread":
        found = forked_by_a_thread()
    else:
        found = of_pool(how.split()[0])
    for each in (*found, [numbers(seed) for seed in range(4)]):
        actual, expected = (torch.tensor(rows, dtype=torch.float64) for rows in (each, wanted))
        torch.testing.assert_close(actual[:, :3], expected[:, :3], rtol=1e-9, atol=1e-9)
    assert {each[3] for each in found[0]} == {each[3] for each in wanted}
    print("the same numbers")
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fork", "fork without OpenMP 5", "thread", "DataLoader", "spawn", "forkserver"])
def test_processes_of_a_process_with_threads_compute_the_same(how, tmp_path):
    (tmp_path / "script.py").write_text(FORKED)
    command = [sys.executable, "script.py", how]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.split("\n")[-2] == "the same numbers"


def test_a_fork_does_not_hang():
    matrix = torch.ones(300, 300) @ torch.ones(300, 300)  # starts the threads
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        right = bool((torch.ones(300, 300) @ torch.ones(300, 300) == matrix).all()) and torch.get_num_threads() == 2
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
