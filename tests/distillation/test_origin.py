"""From whom a student learned, through several generations."""

import hashlib

import pytest

import equiforce
from equiforce import model_file
from equiforce.distillation.origin import in_words, origin_of, rows
from equiforce.foundation.source import Source

SOURCE = Source(name="large-1", program="nequix", sha256="ab" * 32, licence="MIT", data="all of it", citation="Us 2025")


@pytest.fixture
def saved(tmp_path):
    potential = equiforce.untrained(["Cu"], l_max=0, channels=2, n_layers=1, cutoff=3.0).potential

    def save(name, **about):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        model_file.save(path, potential, [], about)
        return path

    return save


def test_the_licence_and_citation_of_an_imported_teacher_are_kept(saved):
    path = saved("any.eqf", source=SOURCE.as_dict())
    found = origin_of(path)
    assert found == {
        "name": "large-1",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "program": "nequix",
        "licence": "MIT",
        "data": "all of it",
        "citation": "Us 2025",
        "source_sha256": "ab" * 32,
    }
    shown = dict(rows(found))
    assert shown["distilled from"].startswith("large-1 of nequix, by its model file with sha256 ")
    assert shown["licence of the teacher"] == "MIT"
    assert shown["citation of the teacher"] == "Us 2025"


def test_an_own_teacher_has_the_name_of_its_file_or_run(saved):
    assert origin_of(saved("large.eqf"))["name"] == "large"
    found = origin_of(saved("run-7/model.eqf"))
    assert set(found) == {"name", "sha256"}
    assert found["name"] == "run-7"
    assert [name for name, _ in rows(found)] == ["distilled from"]


def test_the_student_of_a_student_names_both(saved):
    first = origin_of(saved("any.eqf", source=SOURCE.as_dict()))
    second = origin_of(saved("middle.eqf", distilled_from=first))
    assert second["name"] == "middle"
    assert second["licence"] == "MIT"
    assert "program" not in second
    assert in_words(second).startswith("middle, by its model file with sha256 ")
    assert "; that was distilled from large-1 of nequix, by its model file with sha256" in in_words(second)
