import logging

from equiforce.kernels import cache


def test_the_cache_of_a_home_that_cannot_be_written(monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setattr(cache.platformdirs, "user_cache_dir", lambda _: str(blocked))
    cache.cache_folder.cache_clear()
    try:
        folder = cache.cache_folder()
        assert folder.is_dir()
        assert blocked not in folder.parents
    finally:
        cache.cache_folder.cache_clear()


def test_a_message_is_told_once(caplog):
    cache.tell_once.cache_clear()
    with caplog.at_level(logging.WARNING, logger="equiforce"):
        for _ in range(3):
            cache.tell_once("only once")
    assert [record.message for record in caplog.records] == ["only once"]
