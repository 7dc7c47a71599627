"""The origin of a potential that others trained."""

import pytest

from equiforce.foundation import import_potential
from equiforce.foundation.source import Source
from tests.foundation.nequip_models import FOLDER, NAMES


def test_it_becomes_a_dict_for_a_header():
    source = Source(name="a", program="b", sha256="c", licence="d", data="e", citation="f")
    assert source.as_dict() == {
        "name": "a", "program": "b", "sha256": "c", "licence": "d", "data": "e", "citation": "f",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_program_is_the_one_that_trained_the_model(name):
    program = "nequip-allegro" if name.startswith("allegro") else "nequip"
    assert import_potential(FOLDER / name).source.program == program
