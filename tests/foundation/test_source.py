from equiforce.foundation.source import Source


def test_it_becomes_a_dict_for_a_header():
    source = Source(name="a", program="b", sha256="c", licence="d", data="e", citation="f")
    assert source.as_dict() == {
        "name": "a", "program": "b", "sha256": "c", "licence": "d", "data": "e", "citation": "f",
    }  # fmt: skip
