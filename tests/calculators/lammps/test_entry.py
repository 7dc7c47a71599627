import os
import subprocess
import sys

import pytest

from equiforce.calculators.lammps import entry, plugin
from equiforce.errors import InputError
from tests.calculators.lammps.runs import needs_lammps
from tests.calculators.lammps.simulations import ran


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Put back after each test."""
    for name in ("LIBPYTHON", "PYTHONHOME", "PYTHONPATH", "PYTHON"):
        monkeypatch.setenv(f"EQUIFORCE_{name}", "")
    monkeypatch.setenv("GLIBC_TUNABLES", "")
    monkeypatch.delenv("GLIBC_TUNABLES")
    monkeypatch.delenv("PMI_RANK", raising=False)


@needs_lammps
def test_lammps_knows_the_pair_style(tmp_path):
    assert "equiforce" in ran(tmp_path, "plugin list\n")


@needs_lammps
def test_there_is_one_plugin_in_the_folder_and_the_way_to_python_in_the_environment():
    folder = entry.get_plugin_dir()
    assert [name for name in os.listdir(folder) if name.endswith("plugin.so")] == [plugin.PLUGIN]
    assert os.environ["EQUIFORCE_PYTHON"] == sys.executable
    assert os.environ["EQUIFORCE_PYTHONHOME"].startswith(sys.base_prefix)
    assert os.environ["GLIBC_TUNABLES"] == entry.TUNABLES


@needs_lammps
def test_a_users_own_settings_of_memory_stay(monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
    entry.get_plugin_dir()
    assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.check=0"


def test_what_is_wrong_is_said_once_and_lammps_starts_nevertheless(monkeypatch, capsys):
    def broken():
        raise InputError("there is no compiler")

    monkeypatch.setattr(plugin, "compiled", broken)
    folder = entry.get_plugin_dir()
    assert not [name for name in os.listdir(folder) if name.endswith("plugin.so")]
    assert capsys.readouterr().err.splitlines()[-1] == (
        "equiforce: pair_style equiforce is not available: there is no compiler"
    )
    monkeypatch.setenv("PMI_RANK", "1")
    entry.get_plugin_dir()
    assert not capsys.readouterr().err


def test_nothing_heavy_is_imported():
    script = "import sys, equiforce.calculators.lammps.entry; print('torch' in sys.modules, 'ase' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]


def test_a_python_without_a_shared_library_has_none(monkeypatch):
    monkeypatch.setattr(entry.sysconfig, "get_config_var", lambda name: {"LIBDIR": "/usr/lib"}.get(name, "libpy.a"))
    assert entry.shared_library() is None
    monkeypatch.setattr(entry.sysconfig, "get_config_var", lambda _: None)
    assert entry.shared_library() is None
