"""The teacher's trajectories: what is planned, that they go on, and that one that goes wrong is no error."""

from dataclasses import replace

import numpy as np
import pytest

import equiforce
from equiforce.calculators.md import run_md
from equiforce.distillation import trajectories
from equiforce.distillation.options import DistillOptions
from equiforce.distillation.trajectories import Interrupted, planned, play_all
from equiforce.errors import InputError, UnstableError
from equiforce.terminal import own_console
from tests.distillation.small import QUICK, copper
from tests.systems import ethanol

CONSOLE = own_console(quiet=True)


@pytest.fixture(scope="module")
def teacher():
    return equiforce.untrained(["Cu"], l_max=0, channels=4, n_layers=1, cutoff=3.5, dtype="float64").potential


def test_each_temperature_meets_each_strain():
    plan = planned(copper(3), 2.0, DistillOptions(temperatures="300,600,900", strains="0,-0.02,0.02"))
    assert len(plan) == 9
    assert {(t.options.temperature, t.strain) for t in plan} == {
        (kelvin, strain) for kelvin in (300, 600, 900) for strain in (0, -0.02, 0.02)
    }
    assert len({t.options.seed for t in plan}) == len({t.name for t in plan}) == 9
    assert {t.options.timestep for t in plan} == {2.0}
    assert all(t.strain == 0 for t in planned([ethanol()], 0.5, DistillOptions()))


def test_frames_have_energies_and_forces_but_not_the_start(teacher, tmp_path):
    plan = planned(copper(1), 1.0, QUICK)
    played = play_all(teacher, plan, tmp_path, CONSOLE)
    assert [len(p.frames) for p in played] == [4, 4]
    assert [p.stopped for p in played] == ["", ""]
    for p in played:
        frame = p.frames[0]
        assert frame.group == f"md {p.trajectory.options.temperature:g} K"
        assert frame.source == f"step 3 of teacher-md/{p.trajectory.name}"
        assert np.abs(frame.positions - p.trajectory.start.positions).max() > 0.001
        answer = equiforce.predict(teacher, frame)
        np.testing.assert_allclose(frame.forces, answer.forces, atol=1e-6)


@pytest.mark.slow
def test_an_interrupted_call_goes_on_to_the_same_frames(teacher, tmp_path, monkeypatch):
    plan = planned(copper(1), 1.0, QUICK)
    whole = play_all(teacher, plan, tmp_path / "whole", CONSOLE)
    real = run_md

    def stopped(*arguments, on_step, **options):
        def stop_at(step):
            if step == 7 and "200K" in str(arguments[3]):
                raise KeyboardInterrupt
            on_step(step)

        return real(*arguments, on_step=stop_at, **options)

    monkeypatch.setattr(trajectories, "run_md", stopped)
    with pytest.raises(KeyboardInterrupt):
        play_all(teacher, plan, tmp_path / "cut", CONSOLE)
    monkeypatch.setattr(trajectories, "run_md", lambda *_, **__: pytest.fail("it began anew"))
    continued = play_all(teacher, plan, tmp_path / "cut", CONSOLE)
    for one, other in zip(whole, continued, strict=True):
        for a, b in zip(one.frames, other.frames, strict=True):
            np.testing.assert_array_equal(a.positions, b.positions)


def test_a_signal_stops_between_steps(teacher, tmp_path, monkeypatch):
    class Summary:
        interrupted = True

    monkeypatch.setattr(trajectories, "run_md", lambda *_, **__: Summary)
    with pytest.raises(Interrupted):
        play_all(teacher, planned(copper(1), 1.0, QUICK), tmp_path, CONSOLE)


def test_a_trajectory_that_goes_wrong_is_said_and_kept(teacher, tmp_path, monkeypatch, capsys):
    plan = planned(copper(1), 1.0, QUICK)
    calls, real = [], run_md

    def exploding(model, start, options, folder, **others):
        calls.append(folder.name)
        if options.temperature > 100:
            real(model, start, replace(options, steps=6), folder, **others)
            raise UnstableError("the simulation stopped at step 7 because atoms collapse: try less")
        return real(model, start, options, folder, **others)

    monkeypatch.setattr(trajectories, "run_md", exploding)
    played = play_all(teacher, plan, tmp_path, own_console())
    assert [len(p.frames) for p in played] == [4, 2]
    assert played[1].stopped == "the simulation stopped at step 7 because atoms collapse"
    said = " ".join(capsys.readouterr().out.split())
    assert "0-200K: 2 frames are kept of a trajectory that went wrong: the simulation stopped at step 7" in said
    again = play_all(teacher, plan, tmp_path, CONSOLE)
    assert calls == ["0-100K", "0-200K"]  # none is played again
    assert again[1].stopped == played[1].stopped


def test_a_damaged_note_is_one_sentence(teacher, tmp_path):
    plan = planned(copper(1), 1.0, QUICK)
    folder = tmp_path / "teacher-md" / plan[0].name
    folder.mkdir(parents=True)
    (folder / "stopped.json").write_text("{")
    with pytest.raises(InputError, match=r"stopped\.json is damaged: delete it"):
        play_all(teacher, plan, tmp_path, CONSOLE)


def test_a_real_explosion_is_stopped(tmp_path):
    wild = equiforce.untrained(["C", "H", "O"], l_max=0, channels=4, n_layers=1, cutoff=3.5).potential
    wild.scale.fill_(1000.0)
    options = replace(QUICK, steps=60, temperatures="300")
    (played,) = play_all(wild, planned([ethanol()], 0.5, options), tmp_path, CONSOLE)
    assert "because" in played.stopped
    assert len(played.frames) < 20
