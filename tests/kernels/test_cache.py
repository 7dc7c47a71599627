import logging

from equiforce.cache import user_folder
from equiforce.kernels import cache


def test_kernels_have_their_folder_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == user_folder("kernels") == tmp_path / "equiforce" / "kernels"


def test_a_message_is_told_once(caplog):
    cache.tell_once.cache_clear()
    with caplog.at_level(logging.WARNING, logger="equiforce"):
        for _ in range(3):
            cache.tell_once("only once")
    assert [record.message for record in caplog.records] == ["only once"]
