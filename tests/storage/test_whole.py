"""A file is written whole or not at all, also when the process is killed or the disk is full."""

import os
import signal
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from equiforce.errors import InputError
from equiforce.storage.whole import DRAFT, remove_drafts, together, whole, write_bytes, write_text, write_together


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_text(path, "one\n")
    write_text(path, "zwölf\n")
    assert path.read_text(encoding="utf-8") == "zwölf\n"
    assert names(path.parent) == ["a.txt"]


def test_an_error_leaves_the_old_file_and_no_draft(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), whole(path) as draft:
        draft.write_text("half")
        _ = 1 / 0
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_the_draft_ends_as_the_file_which_decides_the_format_of_figures(tmp_path):
    with whole(tmp_path / "curve.png") as draft:
        assert draft.suffix == ".png"
        assert draft.parent == tmp_path
        draft.write_bytes(b"x")


def test_two_writers_at_once_do_not_meet(tmp_path):
    path = tmp_path / "a"
    with whole(path) as first, whole(path) as second:
        first.write_text("first")
        second.write_text("second")
        assert first != second
    assert path.read_text() == "first"  # the last to finish
    assert names(tmp_path) == ["a"]


def test_the_permissions_are_those_of_any_new_file_and_those_of_the_old_one(tmp_path):
    write_text(tmp_path / "new", "")
    (tmp_path / "usual").touch()
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode
    (tmp_path / "new").chmod(0o640)
    write_text(tmp_path / "new", "again")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_the_target_of_a_link_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a").write_text("old")
    (tmp_path / "a").symlink_to("far/a")
    write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").is_symlink()
    assert (tmp_path / "far" / "a").read_text() == "new"


def test_the_link_itself_is_replaced_where_that_is_asked_for(tmp_path):
    (tmp_path / "far").write_text("precious")
    (tmp_path / "a").symlink_to("far")
    with whole(tmp_path / "a", replaces_link=True) as draft:
        draft.write_text("new")
    assert ((tmp_path / "a").read_text(), (tmp_path / "far").read_text()) == ("new", "precious")
    assert names(tmp_path) == ["a", "far"]


@pytest.mark.parametrize("place", ["folder", "/dev/null"])
def test_what_is_no_file_is_not_replaced(tmp_path, place):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="not a file that can be replaced"):
        write_text(tmp_path / place, "")


def test_a_file_in_the_place_of_a_folder_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        InputError, match=r"cannot be written because .*a part of this path is a file|is a file and not"
    ):
        write_text(tmp_path / "file" / "a", "")


def test_a_long_name_is_possible_and_a_too_long_one_is_said(tmp_path):
    write_text(tmp_path / ("a" * 255), "x")
    with pytest.raises(InputError, match="choose a shorter name"):
        write_text(tmp_path / ("a" * 256), "x")


def test_several_files_are_replaced_together_or_not_at_all(tmp_path):
    first, second = tmp_path / "in", tmp_path / "data"
    write_together({first: b"1", second: b"2"})
    with pytest.raises(InputError):
        write_together({first: b"new", tmp_path / "data" / "x": b""})
    assert (first.read_text(), second.read_text()) == ("1", "2")
    assert names(tmp_path) == ["data", "in"]


def test_files_that_belong_together_appear_when_all_are_complete_and_never_beside_old_ones(tmp_path, monkeypatch):
    first, second, third = (tmp_path / name for name in "abc")
    for path in (first, second, third):
        path.write_text("old")
    seen = []
    for name in ("unlink", "replace"):
        real = getattr(Path, name)

        def watched(path, *arguments, real=real, **options):
            real(path, *arguments, **options)
            if not path.name.startswith(DRAFT) or arguments:
                seen.append({path.name: path.read_text() for path in (first, second, third) if path.exists()})

        monkeypatch.setattr(Path, name, watched)
    with together(third):
        write_text(first, "new")
        write_text(second, "new")
        assert first.read_text() == second.read_text() == "old"
    assert seen == [{"a": "old", "b": "old"}, {"a": "old"}, {"a": "new"}, {"a": "new", "b": "new"}]
    with pytest.raises(ZeroDivisionError), together(second):
        write_text(first, "newer")
        _ = 1 / 0
    assert {name: (tmp_path / name).read_text() for name in names(tmp_path)} == {"a": "new", "b": "new"}


def test_drafts_of_dead_processes_are_removed_and_those_of_living_ones_stay(tmp_path):
    script = (
        "import os, signal, sys; from equiforce.storage.whole import whole\n"
        "with whole(sys.argv[1]) as draft: draft.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    dead = subprocess.run([sys.executable, "-c", script, tmp_path / "a"], check=False)
    assert dead.returncode == -signal.SIGKILL
    (left,) = names(tmp_path)
    assert left.startswith(DRAFT)
    with whole(tmp_path / "b") as living:
        remove_drafts(tmp_path)
        assert names(tmp_path) == [living.name]
        living.write_text("")


@pytest.mark.parametrize("name", ["a", "water[64]*.xyz"])
def test_another_write_of_the_same_file_removes_its_old_drafts(tmp_path, name):
    (tmp_path / f"{DRAFT}01234567-{name}").write_text("half")
    (tmp_path / f"{DRAFT}01234567-b").write_text("half")
    write_text(tmp_path / name, "whole")
    assert names(tmp_path) == [f"{DRAFT}01234567-b", name]


def test_an_error_of_another_file_is_not_taken_for_one_of_this_file(tmp_path):
    with pytest.raises(FileNotFoundError), whole(tmp_path / "a"):
        (tmp_path / "elsewhere" / "missing").read_text(encoding="utf-8")


def kill_half_way(path, n):
    """Replace the file in a child that is killed after ``n`` written bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        child = os.fork()
    if child == 0:
        with whole(path) as draft:
            draft.write_bytes(b"new"[:n])
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.parametrize("n", range(4))
def test_a_kill_leaves_the_old_file(tmp_path, n):
    write_bytes(tmp_path / "a", b"old")
    kill_half_way(tmp_path / "a", n)
    assert (tmp_path / "a").read_bytes() == b"old"
    write_bytes(tmp_path / "a", b"new")
    assert names(tmp_path) == ["a"]
