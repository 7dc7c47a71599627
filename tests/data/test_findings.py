import pytest

from equiforce.data.findings import Finding, settle
from equiforce.errors import InputError

DOUBT, FAULT = Finding(sentence="this may be wrong", sure=False), Finding(sentence="this is wrong", sure=True)


def test_what_is_sure_is_an_error():
    with pytest.raises(InputError, match=r"^this is wrong \(--set data\.check=false trains on the data as they are\)$"):
        settle([DOUBT, FAULT], refuse=True)


def test_what_is_doubtful_is_a_note():
    assert settle([DOUBT], refuse=True) == ["this may be wrong"]
    assert settle([], refuse=True) == []


def test_an_error_may_be_made_a_note_that_comes_first():
    assert settle([DOUBT, FAULT], refuse=False) == ["this is wrong", "this may be wrong"]
