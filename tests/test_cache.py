import os
import stat
import tempfile
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


def test_a_folder_that_others_prepared_is_not_used(home, tmp_path):
    """They could put code there that we would run."""
    home.write_text("not a folder")
    shared = tmp_path / "temporary" / f"equiforce-{os.getuid()}"
    shared.mkdir()
    shared.chmod(0o777)
    folder = cache.writable_folder("kernels")
    assert folder.parent == tmp_path / "temporary"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_user_without_a_home_gets_no_folder_called_tilde(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cache.platformdirs, "user_cache_dir", lambda _: "~/.cache/equiforce")
    assert cache.writable_folder("kernels").is_relative_to(tmp_path / f"equiforce-{os.getuid()}")
    assert not (tmp_path / "~").exists()


def test_without_any_folder_there_is_a_sentence(home, monkeypatch):
    home.write_text("not a folder")
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    with pytest.raises(InputError, match="set XDG_CACHE_HOME to a folder that can be written to"):
        cache.writable_folder("kernels")
