"""Logs and trajectories grow by whole pieces."""

import pytest

from equiforce.storage.append import Growing, whole_lines


def test_pieces_are_appended_and_those_beyond_a_size_are_cut_off(tmp_path):
    path = tmp_path / "log"
    with Growing(path) as log:
        log.append("one\n")
        size = log.flush()
        log.append("zwei ä\n")
    with Growing(path, size) as log:
        log.append("two\n")
    assert path.read_text(encoding="utf-8") == "one\ntwo\n"


def test_a_file_that_is_kept_grows_at_its_end(tmp_path):
    (tmp_path / "log").write_text("old\n")
    with Growing(tmp_path / "log") as log:
        log.append("new\n")
        log.close()
    assert (tmp_path / "log").read_text() == "old\nnew\n"


def test_a_new_file_is_never_empty_and_an_old_one_stays_until_the_first_piece(tmp_path):
    path = tmp_path / "log"
    with Growing(path) as log:
        assert not path.exists()
        assert log.flush() == 0
        log.append("old\n")
    with Growing(path, 0) as log:
        assert path.read_text() == "old\n"
        log.append("a\n")
        log.append("b\n")
        assert log.flush() == 4
    assert path.read_text() == "a\nb\n"
    with pytest.raises(ValueError, match="is closed"):
        log.append("c\n")
    assert path.read_text() == "a\nb\n"


@pytest.mark.parametrize(("text", "whole"), [("a\nb\n", "a\nb\n"), ("a\nb", "a\n"), ("a", ""), ("", "")])
def test_a_line_that_was_cut_is_left_out(tmp_path, text, whole):
    (tmp_path / "log").write_text(text)
    assert whole_lines(tmp_path / "log") == whole
