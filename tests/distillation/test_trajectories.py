"""The teacher's trajectories: what is planned, that they go on, and that one that goes wrong is no error."""

from dataclasses import replace

import numpy as np
import pytest

import equiforce
from equiforce import model_file
from equiforce.calculators.md import run_md
from equiforce.coverage import ranges_of
from equiforce.distillation import trajectories
from equiforce.distillation.options import DistillOptions
from equiforce.distillation.trajectories import Interrupted, check_pressures, planned, play_all
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


def test_each_temperature_meets_each_pressure_beside_the_strains():
    options = DistillOptions(temperatures="300,600", pressures="0,5")
    plan = planned(copper(1), 2.0, options)
    assert [t.conditions for t in plan] == [
        *("300 K", "300 K, 0 GPa", "300 K, 5 GPa"),
        *("600 K", "600 K, 0 GPa", "600 K, 5 GPa"),
    ]
    assert len({t.name for t in plan}) == len({t.options.seed for t in plan}) == 6
    assert [t.options.ensemble for t in plan[:3]] == ["langevin", "npt", "npt"]
    assert plan[2].group == "md 300 K, 5 GPa"
    assert plan[4].strain == 0 != plan[3].strain
    assert planned(copper(1), 2.0, options, by="student")[0].group == "student md 300 K"


def test_what_has_no_pressure_is_left_out_and_said():
    options, cell = DistillOptions(pressures="0"), copper(1)
    slab = replace(cell[0], pbc=np.array([True, True, False]), source="slab.xyz")
    held = replace(cell[0], extra={"move_mask": np.array([False, True, True, True])}, of_atoms=frozenset({"move_mask"}))
    assert [t.name for t in planned([slab, held, ethanol()], 1.0, replace(options, temperatures="300"))] == [
        "0-300K",
        "1-300K",
        "2-300K",
    ]
    assert check_pressures([*cell, slab], DistillOptions()) == check_pressures(cell, options) == []
    (said,) = check_pressures([*cell, slab, held], options)
    assert said.startswith("2 of the 3 start structures are not periodic in all directions, or hold atoms fixed, such ")
    with pytest.raises(InputError, match="so they have no pressure: leave --pressures out"):
        check_pressures([slab, ethanol()], options)


def test_the_volume_follows_the_pressure(teacher, tmp_path):
    options = replace(QUICK, temperatures="200", pressures="50", steps=30)
    _, squeezed = play_all(teacher, planned(copper(1), 1.0, options), tmp_path, CONSOLE)
    volumes = [abs(np.linalg.det(frame.cell)) for frame in squeezed.frames]
    assert len(volumes) == 10
    assert volumes[-1] < 0.995 * volumes[0]
    assert squeezed.frames[0].group == "md 200 K, 50 GPa"


def test_a_student_is_stopped_where_it_leaves_its_data(teacher, tmp_path, monkeypatch, capsys):
    (trajectory,) = planned(copper(1), 1.0, replace(QUICK, temperatures="200", every=4), by="student")
    here = ranges_of([trajectory.start], 3.5)
    narrow = replace(here, volume_per_atom=(0.001, 0.002))
    model = tmp_path / "student.eqf"
    model_file.save(model, teacher, [], {"ranges": narrow.to_dict()})
    (played,) = play_all(model, [trajectory], tmp_path / "md", own_console())
    assert "stopped at step 1 (0.001 ps) because the volume is" in played.stopped
    assert "the volume is" in " ".join(capsys.readouterr().out.split())
    assert (played.n_steps, [f.source for f in played.frames]) == (1, ["step 1 of md/0-200K"])
    assert played.frames[0].forces is not None
    monkeypatch.setattr(trajectories, "run_md", lambda *_, **__: pytest.fail("it began anew"))
    (again,) = play_all(model, [trajectory], tmp_path / "md", CONSOLE)
    assert (again.n_steps, again.stopped, len(again.frames)) == (1, played.stopped, 1)


def test_frames_have_energies_and_forces_but_not_the_start(teacher, tmp_path):
    plan = planned(copper(1), 1.0, QUICK)
    played = play_all(teacher, plan, tmp_path, CONSOLE)
    assert [len(p.frames) for p in played] == [4, 4]
    assert [(p.stopped, p.n_steps) for p in played] == [("", 12), ("", 12)]
    for p in played:
        frame = p.frames[0]
        assert frame.group == f"md {p.trajectory.options.temperature:g} K"
        assert frame.source == f"step 3 of {tmp_path.name}/{p.trajectory.name}"
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
    folder = tmp_path / plan[0].name
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
