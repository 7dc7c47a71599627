import errno
import logging
import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from equiforce import cache
from equiforce.errors import InputError


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The cache of a user who has nothing yet, and a folder for temporary files."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cache.tell_once.cache_clear()
    return tmp_path / "cache"


@pytest.fixture
def read_only(home, monkeypatch):
    """The same on a file system that cannot be written to; root may write anywhere else."""
    made = tempfile.TemporaryFile

    def refused(dir):  # noqa: A002
        if home in Path(dir).parents:
            raise OSError(30, "Read-only file system")
        return made(dir=dir)

    (home / "equiforce" / "kernels").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    return home / "equiforce" / "kernels"


def test_the_users_cache_is_taken(home):
    folder = cache.writable_folder("kernels")
    assert folder == home / "equiforce" / "kernels" == cache.user_folder("kernels")
    assert folder.is_dir()


def test_without_it_there_is_one_temporary_folder_of_the_user(home, tmp_path):
    home.write_text("not a folder")
    folder = cache.writable_folder("kernels")
    assert folder == tmp_path / "temporary" / f"equiforce-{os.getuid()}" / "kernels"
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    cache._writable.cache_clear()
    assert cache.writable_folder("kernels") == folder


def test_what_is_in_a_read_only_cache_is_found(read_only):
    (read_only / "kernel.so").write_text("code")
    folder = cache.writable_folder("kernels")
    assert folder != read_only
    assert (folder / "kernel.so").read_text() == "code"
    assert os.listdir(folder) == ["kernel.so"]


def test_a_folder_that_others_prepared_is_not_used(home, tmp_path, caplog):
    """They could put code there that we would run."""
    home.write_text("not a folder")
    shared = tmp_path / "temporary" / f"equiforce-{os.getuid()}"
    shared.mkdir()
    shared.chmod(0o777)
    folder = cache.writable_folder("kernels")
    assert folder.parent == tmp_path / "temporary"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert f"others can write to {shared} and could put code there" in caplog.text


def test_a_temporary_folder_of_one_process_is_removed_when_it_ends(tmp_path):
    (tmp_path / f"equiforce-{os.getuid()}").write_text("not a folder")
    program = (
        "import os; from equiforce.cache import writable_folder\n"
        "folder = writable_folder('kernels'); (folder / 'kernel.so').write_text('code')\n"
        "if (child := os.fork()) == 0: raise SystemExit\n"
        "os.waitpid(child, 0); print(folder, (folder / 'kernel.so').exists())"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": "/proc/nowhere", "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", "-c", program]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert answer[0].startswith(f"{tmp_path}/equiforce-kernels-")
    assert answer[1] == "True"
    assert os.listdir(tmp_path) == [f"equiforce-{os.getuid()}"]


def test_new_folders_and_files_are_the_users_alone_whatever_the_mask(home):
    before = os.umask(0)
    try:
        folder = cache.writable_folder("kernels")
        (folder / "kernel.so").write_bytes(b"code")
        cache.seal(folder / "kernel.so", "kernel.so")
    finally:
        os.umask(before)
    for path in (home, home / "equiforce", folder, folder / "kernel.so"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o755


@pytest.fixture
def kernel(home):
    """A compiled file in the user's cache."""
    path = cache.writable_folder("kernels") / "kernel.so"
    path.write_bytes(bytes(range(40)))
    cache.seal(path, path.name)
    return path


def test_every_cut_and_a_flip_in_every_byte_are_noticed(kernel):
    content = kernel.read_bytes()
    assert cache.whole(kernel) == cache.sound(kernel) == kernel
    for length in range(len(content)):
        kernel.write_bytes(content[:length])
        assert cache.whole(kernel) is None
    for byte in range(len(content)):
        flipped = bytearray(content)
        flipped[byte] ^= 1 << byte % 8
        kernel.write_bytes(flipped)
        assert cache.whole(kernel) is None
    kernel.write_bytes(content)
    assert cache.whole(kernel) == kernel


def test_damage_is_told_once_and_a_missing_file_is_none(kernel, caplog):
    kernel.write_bytes(kernel.read_bytes()[:-1])
    assert cache.sound(kernel) is cache.sound(kernel) is None
    assert [record.message for record in caplog.records] == [f"{kernel} is damaged, and is not used"]
    kernel.unlink()
    assert cache.sound(kernel) is cache.whole(kernel) is None
    assert len(caplog.records) == 1


def test_a_file_under_the_name_of_another_is_not_it(kernel):
    other = kernel.with_name("other.so")
    kernel.rename(other)
    assert cache.sound(other) is None


@pytest.mark.parametrize("what", ["folder", "pipe", "loop"])
def test_what_is_no_file_is_not_read(kernel, what):
    kernel.unlink()
    {"folder": os.mkdir, "pipe": os.mkfifo, "loop": lambda path: os.symlink(path, path)}[what](kernel)
    assert cache.sound(kernel) is None


def others_write(path):
    path.chmod(0o757)


def group_writes(path):
    path.chmod(0o775)
    as_root(os.chown, path, os.getuid(), 12345)


def others_own(path):
    as_root(os.chown, path, 12345, -1)


def as_root(change, *arguments):
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    change(*arguments)


@pytest.mark.parametrize("permit", [others_write, group_writes, others_own])
@pytest.mark.parametrize("where", ["kernel.so", "kernels", "equiforce", "cache"])
def test_what_others_could_change_is_not_loaded(kernel, permit, where, caplog):
    (path,) = (step for step in (kernel, *kernel.parents) if step.name == where)
    permit(path)
    assert cache.sound(kernel) is None
    said = f"{path} belongs to user 12345" if permit is others_own else f"others can write to {path}"
    assert said in caplog.text


@pytest.mark.parametrize("permit", [others_write, group_writes, others_own])
@pytest.mark.parametrize("where", ["kernels", "equiforce", "cache"])
def test_a_cache_that_others_could_change_is_not_used_and_nothing_in_it(kernel, permit, where, caplog, tmp_path):
    (path,) = (step for step in kernel.parents if step.name == where)
    permit(path)
    cache._writable.cache_clear()
    for _ in range(2):
        folder = cache.writable_folder("kernels")
    assert folder == tmp_path / "temporary" / f"equiforce-{os.getuid()}" / "kernels"
    assert os.listdir(folder) == []
    (said,) = (record.message for record in caplog.records)
    assert "could put code there that you would run" in said
    assert "chmod go-w" in said


@pytest.mark.parametrize("where", ["target", "its folder", "folder of a link"])
def test_links_are_followed_and_checked(kernel, where, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    target = kernel.rename(other / kernel.name)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "link").symlink_to(target)
    kernel.symlink_to("../../../links/link")
    assert cache.sound(kernel) == kernel
    others_write({"target": target, "its folder": other, "folder of a link": tmp_path / "links"}[where])
    assert cache.sound(kernel) is None


def test_a_folder_like_tmp_may_hold_the_cache_but_not_be_it(kernel):
    kernel.parents[1].chmod(0o1777)
    assert cache.sound(kernel) == kernel
    assert cache.danger(kernel.parents[1]) == f"others can write to {kernel.parents[1]}"


def test_the_group_of_one_user_is_that_user(kernel, monkeypatch):
    """On many systems everything that a user makes can be written by a group of the user's name."""
    kernel.chmod(0o775)
    owner, group = cache.pwd.getpwuid(os.getuid()), cache.grp.getgrgid(os.getgid())
    for name, members, safe in ((owner.pw_name, [], True), (owner.pw_name, ["other"], False), ("users", [], False)):
        made = cache.grp.struct_group((name, group.gr_passwd, group.gr_gid, members))
        monkeypatch.setattr(cache.grp, "getgrgid", lambda _, made=made: made)
        assert bool(cache.sound(kernel)) == safe


def test_what_killed_processes_left_is_removed_after_a_day(home):
    folder = cache.writable_folder("kernels")
    for name, days in (("draft-old", 2), ("draft-new", 0), ("other", 2)):
        (folder / name).mkdir()
        (folder / name / "kernel.c").write_text("half")
        os.utime(folder / name, (time.time() - 86_400 * days,) * 2)
    with cache.workshop(folder) as drafts:
        assert sorted(os.listdir(folder)) == sorted([drafts.name, "draft-new", "other"])
    assert sorted(os.listdir(folder)) == ["draft-new", "other"]


def test_a_full_disk_is_told_apart_from_other_failures(tmp_path, monkeypatch):
    usage = type(cache.shutil.disk_usage(tmp_path))
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage(10**9, 0, 5 * 10**9))
    full, other = OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EACCES, "Permission denied")
    assert "a quota or the number of files leaves no room in" in cache.lack_of_room(tmp_path, full)
    assert "(5,000 MB of its disk are free)" in cache.lack_of_room(tmp_path, "ld: No space left on device")
    assert cache.lack_of_room(tmp_path, other) == cache.lack_of_room(tmp_path, "error: expected ';'") == ""
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 4096))
    assert cache.lack_of_room(tmp_path, full) == f"the disk of {tmp_path} is full (0.00 MB are free)"
    assert cache.lack_of_room(tmp_path, "ld terminated with signal 7")
    assert cache.lack_of_room(tmp_path, other) == ""


def test_a_message_is_told_once(caplog):
    cache.tell_once.cache_clear()
    with caplog.at_level(logging.WARNING, logger="equiforce"):
        for _ in range(3):
            cache.tell_once("only once")
    assert [record.message for record in caplog.records] == ["only once"]


def test_a_user_without_a_home_gets_no_folder_called_tilde(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cache.platformdirs, "user_cache_dir", lambda _: "~/.cache/equiforce")
    assert cache.writable_folder("kernels").is_relative_to(tmp_path / f"equiforce-{os.getuid()}")
    assert not (tmp_path / "~").exists()


def test_without_any_folder_there_is_a_sentence(home, monkeypatch):
    home.write_text("not a folder")
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    with pytest.raises(InputError, match="set XDG_CACHE_HOME to a folder that you can write to and others cannot"):
        cache.writable_folder("kernels")
