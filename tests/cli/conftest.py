"""The program, run in a folder with small data."""

import os
import sys

import pytest

from equiforce.cli import main
from tests.cli.small import SETS
from tests.data_sets import crystals, molecules, write


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    write(folder / "copper.xyz", crystals(10))
    write(folder / "water.xyz", molecules(3))
    (folder / "folder").mkdir()
    (folder / "text.eqf").write_text("no model")
    return folder


@pytest.fixture
def equiforce(place, monkeypatch, capsys):
    """The program, run in this process: its exit status, standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(place)
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", ["equiforce", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def model(place):
    """The path of a model that the program trained, relative to its folder."""
    before = os.getcwd()
    os.chdir(place)
    sys_argv, sys.argv = sys.argv, ["equiforce", "train", "copper.xyz", "-o", "run", "--steps", "2", *SETS]
    try:
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
    finally:
        sys.argv = sys_argv
        os.chdir(before)
    return "run/model.eqf"
