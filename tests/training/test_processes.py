"""Several processes train as one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import equiforce
from equiforce.errors import InputError
from equiforce.training.processes import add_gradients, make_fabric, on_first_process, total_over_processes
from equiforce.training.stopping import TrainingConfig
from tests.data_sets import TINY, crystals, write
from tests.training.setups import tiny_potential
from tests.training.two_processes import cases, gradients

ROOT = Path(__file__).parents[2]


OPTIONS = {
    **{f"model.{name}": value for name, value in TINY.items()},
    "training.dtype": "float64",
    "training.batch_size": 3,
    "training.max_steps": 7,
    "training.validate_every": 3,
    "split.validation": 3,
    "split.test": 1,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where two processes have left their gradients, their run and what they said."""
    folder = tmp_path_factory.mktemp("processes")
    write(folder / "copper.xyz", crystals(11))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    sets = [text for key, value in OPTIONS.items() for text in ("--set", f"{key}={value}")]
    process = subprocess.Popen(
        [*torchrun, "-m", "tests.training.two_processes", "train", "copper.xyz", "-o", "two", *sets],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=240)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == 0, output
    (folder / "output").write_text(output)
    return folder


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(folder):
    found = torch.load(folder / "found.pt", weights_only=True)
    assert (found["world_size"], found["flags"]) == (2, [True, False])
    assert (found["told"], found["refusal"]) == (0, "the disk is full")  # as the second process has it
    fabric = make_fabric(TrainingConfig(device="cpu"))
    for name, structures in cases().items():
        value, expected = gradients(structures, fabric)
        assert found["gradients"][name][0] == pytest.approx(value, abs=1e-10)
        for key, gradient in found["gradients"][name][1].items():
            torch.testing.assert_close(gradient, expected[key], rtol=0, atol=1e-10)
            assert gradient.abs().max() > 1e-6


@pytest.mark.slow
@pytest.mark.usefixtures("without_plots")
def test_two_processes_train_the_model_of_one(folder):
    equiforce.train(folder / "copper.xyz", folder / "one", options=OPTIONS)
    one, two = (torch.load(folder / name / "last.pt", weights_only=True) for name in ("one", "two"))
    assert (one["step"], one["best_step"], one["n_rows"]) == (two["step"], two["best_step"], two["n_rows"])
    assert two["best_loss"] == pytest.approx(one["best_loss"], rel=1e-6)
    for name, value in one["potential"].items():
        torch.testing.assert_close(two["potential"][name], value, rtol=0, atol=1e-6)
    assert (folder / "two" / "test_errors.json").exists()


@pytest.mark.slow
def test_only_the_first_of_two_processes_speaks(folder):
    output = (folder / "output").read_text()
    assert output.count("7 steps are done") == 1
    assert output.count("written into two:") == 1
    assert "Traceback" not in output
    assert "warn" not in output.lower()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"device": "cuda"}, "training.device=cuda, but torch finds no GPU"),
        ({"tf32": True}, "training.tf32 changes nothing on a CPU"),
        ({"n_nodes": 2}, "training.n_nodes=2"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_what_this_machine_cannot_do_is_said(options, problem):
    with pytest.raises(InputError, match=problem):
        make_fabric(TrainingConfig(**options))


def test_alone_a_process_adds_nothing_up():
    fabric = make_fabric(TrainingConfig(device="cpu"))
    value = torch.ones(2)
    assert total_over_processes(value, fabric) is value
    potential = tiny_potential()
    potential.model.embed.weight.grad = torch.ones_like(potential.model.embed.weight)
    add_gradients(potential, fabric)
    assert (potential.model.embed.weight.grad == 1).all()


def test_alone_an_error_stays_what_it_is():
    fabric = make_fabric(TrainingConfig(device="cpu"))
    assert on_first_process(lambda: 3, fabric) == 3
    with pytest.raises(FileNotFoundError):
        on_first_process(lambda: os.listdir("nowhere"), fabric)


def test_deterministic_algorithms_are_switched_on_and_off():
    for wanted in (True, False):
        make_fabric(TrainingConfig(device="cpu", deterministic=wanted))
        assert torch.are_deterministic_algorithms_enabled() is wanted


def test_an_allocation_of_slurm_changes_nothing(monkeypatch):
    for name, value in {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "train"}.items():  # as sbatch --ntasks=4 sets them
        monkeypatch.setenv(name, value)
    assert make_fabric(TrainingConfig(device="cpu")).world_size == 1


def test_several_tasks_of_srun_are_refused(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    with pytest.raises(InputError, match=r"srun started 4 tasks.*torchrun --nproc-per-node=4"):
        make_fabric(TrainingConfig(device="cpu"))
