from dataclasses import dataclass, fields

from equiforce.options import default_of, explain, option, switched_off, to_lines, without_effect


@dataclass(frozen=True)
class Paint:
    kind: str = option("plain", "most walls")
    sparkle: float = option(0.5, "enough", unit="lm", ge=0, only_if=("kind is glitter", lambda p: p.kind == "glitter"))
    coats: list[int] = option(reason="thin ones", factory=list)


def test_an_option_carries_reason_unit_and_bounds():
    sparkle = fields(Paint)[1]
    assert (sparkle.metadata["reason"], sparkle.metadata["unit"], sparkle.metadata["bounds"]) == (
        "enough",
        "lm",
        {"ge": 0},
    )
    assert [default_of(entry) for entry in fields(Paint)] == ["plain", 0.5, []]


def test_options_are_written_with_unit_and_reason():
    assert explain(fields(Paint)[1]) == "lm; enough"
    assert to_lines(Paint()) == 'kind: "plain"  # most walls\nsparkle: 0.5  # lm; enough\ncoats: []  # thin ones\n'


def test_what_is_switched_off_by_another_option():
    assert switched_off(Paint()) == {"sparkle": "kind is glitter"}
    assert switched_off(Paint(kind="glitter")) == {}


def test_what_was_changed_and_changes_nothing():
    assert list(without_effect(Paint())) == []
    assert list(without_effect(Paint(sparkle=0.9))) == [("sparkle", "kind is glitter")]
    assert list(without_effect(Paint(kind="glitter", sparkle=0.9))) == []
