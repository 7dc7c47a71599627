import importlib
import re
from pathlib import Path

import pytest

from equiforce.errors import InputError
from equiforce.foundation import import_potential, path_of
from equiforce.foundation.published import NOT_KNOWN, PUBLISHED, source_of

ONE = "nequix-mp-1"


def test_each_has_everything_that_must_be_told():
    for name, one in PUBLISHED.items():
        assert one.file.startswith(name) or (one.program == "sevenn" and one.file.startswith("checkpoint_"))
        assert re.fullmatch("[0-9a-f]{64}", one.sha256)
        assert all((one.url, one.licence, one.data, one.citation))
    assert len({one.sha256 for one in PUBLISHED.values()}) == len(PUBLISHED)


def test_a_file_is_recognised_by_its_checksum():
    source = source_of(Path("renamed.nqx"), PUBLISHED[ONE].sha256, "nequix")
    assert (source.name, source.licence) == (ONE, "MIT")
    other = source_of(Path("nequix-mp-1.nqx"), "0" * 64, "nequix")
    assert (other.name, other.licence, other.data, other.citation) == (ONE, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN)
    assert set(other.as_dict()) == {"name", "program", "sha256", "licence", "data", "citation"}


def test_a_name_is_looked_for_where_its_program_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"not on this machine.* take it from https://github\.com/atomicarch"):
        path_of(ONE)
    place = tmp_path / ".cache" / "nequix" / "models" / "nequix-mp-1.nqx"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"x")
    assert path_of(ONE) == place


def test_a_file_within_an_installed_program_is_found(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"not on this machine.* take it from the package sevenn 0\.13\.0"):
        path_of("sevennet-0")
    place = tmp_path / "sevenn" / "pretrained_potentials" / "SevenNet_0__11Jul2024" / "checkpoint_sevennet_0.pth"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"x")
    (tmp_path / "sevenn" / "__init__.py").write_text("raise AssertionError('the program is not imported')")
    importlib.invalidate_caches()
    assert path_of("sevennet-0") == place


def test_wrong_names_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"did you mean nequix-mp-1\?"):
        path_of("nequix-mp1")
    with pytest.raises(InputError, match="give a file, or one of nequix-mp-1, "):
        path_of(tmp_path / "zzz")
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match=r"give a file that ends in \.nqx of nequix"):
        import_potential(tmp_path / "model.bin")
