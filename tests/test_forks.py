import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from equiforce import forks


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


FORKED = """
import multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import torch
from ase.build import bulk
from torch.utils.data import DataLoader

import equiforce
from equiforce import forks
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
    each = 1 if how == "fork" else None  # tasks of a process; the others start slowly
    with context.Pool(2, maxtasksperchild=each) as pool:
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
        forks.openmp_runtime = lambda: None
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


def answer_of(program, *arguments, seconds=60):
    """The last line that a program prints within some seconds."""
    command = [sys.executable, "-W", "ignore", "-c", program, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.splitlines()[-1], result.stderr


# a thread computes, or has computed, while the process is forked; prints what the child says
BUSY = """
import os, select, signal, sys, threading
import torch
from ase.build import molecule
import equiforce
from equiforce.errors import InputError

torch.set_num_threads(2)
potential = equiforce.untrained(["H", "O"], l_max=1, channels=4, n_layers=2, cutoff=3.0).potential
atoms = molecule("H2O")
atoms.calc = equiforce.Calculator(potential)
energy = atoms.get_potential_energy()
inside, done = threading.Event(), threading.Event()


def wait(*_):
    inside.set()
    done.wait()


def compute():
    hook = potential.model.register_forward_pre_hook(wait)
    equiforce.Calculator(potential).get_potential_energy(molecule("H2O"))
    hook.remove()


def differentiate():
    x = torch.ones(3, requires_grad=True)
    x.register_hook(wait)
    x.sum().backward()


def have_computed():
    equiforce.Calculator(potential).get_potential_energy(molecule("H2O"))
    wait()


def answer():
    for compute in (
        lambda: equiforce.Calculator(potential).get_potential_energy(molecule("H2O")),
        lambda: potential(equiforce.build_graph(water, potential.species, potential.cutoff)),
        lambda: BatchedPotential(potential)([water]),
    ):
        try:
            compute()
            yield "computed"
        except InputError as error:
            yield str(error)


from equiforce.calculators.batched import BatchedPotential
from equiforce.structure import Structure
water = Structure(atomic_numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell.array, pbc=atoms.pbc)
thread = threading.Thread(target=globals()[sys.argv[1]])
thread.start()
inside.wait()
reader, writer = os.pipe()
if os.fork() == 0:
    signal.alarm(25)
    if sys.argv[2:] == ["grandchild"] and os.fork():
        os._exit(0)
    signal.alarm(25)
    os.write(writer, " | ".join(answer()).encode())
    os._exit(0)
os.close(writer)
print(os.read(reader, 10000).decode() if select.select([reader], [], [], 20)[0] else "hangs")
done.set()
thread.join()
"""


@pytest.mark.slow
@pytest.mark.parametrize("what", ["compute grandchild", "differentiate"])
def test_a_process_that_was_forked_while_a_thread_computed_refuses(what):
    said = answer_of(BUSY, *what.split())[0].split(" | ")
    assert len(said) == 3
    for line in said:
        assert "this process was forked while another thread computed" in line
        assert "by the method spawn" in line


@pytest.mark.slow
def test_a_thread_that_waits_is_no_obstacle():
    assert answer_of(BUSY, "have_computed")[0] == "computed | computed | computed"


# torch's threads have worked before equiforce is imported, or before any of it but its name is
IMPORTED_LATE = """
import os, select, signal, sys
import torch

torch.set_num_threads(2)
if sys.argv[1] == "import equiforce":
    import equiforce
matrix = torch.ones(400, 400) @ torch.ones(400, 400)
reader, writer = os.pipe()
if os.fork() == 0:
    signal.alarm(45)
    from ase.build import bulk
    import equiforce
    from equiforce.kernels import using

    potential = equiforce.untrained(["Si"], l_max=1, channels=8, n_layers=2, cutoff=4.0).potential
    atoms = bulk("Si", cubic=True) * (3, 3, 3)
    atoms.calc = equiforce.Calculator(potential)
    with using("reference"):
        atoms.get_potential_energy()
    os.write(writer, f"{torch.get_num_threads()} threads".encode())
    os._exit(0)
os.close(writer)
print(os.read(reader, 100).decode() if select.select([reader], [], [], 40)[0] else "hangs")
"""


@pytest.mark.slow
def test_a_fork_works_from_the_first_import_on():
    assert answer_of(IMPORTED_LATE, "import equiforce") == ("2 threads", "")


@pytest.mark.slow
def test_a_fork_before_the_import_leaves_one_thread_and_says_so():
    said, log = answer_of(IMPORTED_LATE, "nothing")
    assert said == "1 threads"
    assert "this process was forked by one that had loaded torch and not equiforce" in log


def test_what_counts_as_computing():
    package = Path(forks.__file__).parent
    for file in (package / "potential.py", package / "kernels" / "cpu" / "launch.py", "/a/torch/autograd/graph.py"):
        assert forks.COMPUTING.search(f'  File "{file}", line 1 in f')
    assert all(ord(letter) < 128 for letter in forks.HERE)
    # a loop that waits for its DataLoader, the threads of that, and programs whose folders have the names of packages
    for file in (
        package / "training" / "loop.py",
        "/a/torch/utils/data/_utils/pin_memory.py",
        "/equiforce/models/a.py",
    ):
        assert not forks.COMPUTING.search(f'  File "{file}", line 1 in f')


def test_the_stacks_of_the_other_threads_are_read():
    waiting, done = threading.Event(), threading.Event()

    def wait_for_the_test():
        waiting.set()
        done.wait(20)

    thread = threading.Thread(target=wait_for_the_test)
    thread.start()
    waiting.wait(20)
    stacks = forks._stacks_of_others()
    done.set()
    thread.join()
    assert sum("wait_for_the_test" in stack for stack in stacks) == 1
    assert not any("test_the_stacks_of_the_other_threads_are_read" in stack for stack in stacks)
