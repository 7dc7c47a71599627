"""The answer to an option that does not exist: the option that was meant."""

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from equiforce.counterparts import ELSEWHERE, Counterpart, by_name, plain

PAGE = "docs/coming-from-nequip-or-mace.md"
CLOSE = 0.8  # similarity of two names, between 0 and 1, above which one may be a misspelling of the other
FEWEST_LETTERS = 4  # of a word that is looked for among the words of other names
MOST_SUGGESTIONS = 3
MOST_LISTED = 6  # names without an answer that one sentence lists
SIGNATURE = 4  # options of a program, from which on a file is said to be that program's
HYDRA = "_target_"  # in files of nequip, the class that is made


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The options that exist.

    Args:
        options: each as ``section.option``, with the condition under which it exists, such as
            ``with model.kind=allegro``; the condition is empty if it always exists.
        listing: where the user finds all options, as the end of a sentence.
    """

    options: Mapping[str, str]
    listing: str

    @property
    def sections(self) -> list[str]:
        """The sections in their order."""
        return list(dict.fromkeys(_section(option) for option in self.options))

    def has(self, option: str) -> bool:
        """Whether an option exists without a condition."""
        return self.options.get(option) == ""

    def inside(self, section: str) -> list[str]:
        """The options of a section that exist without a condition."""
        return [option for option in self.options if _section(option) == section and self.has(option)]


class Meaning(NamedTuple):
    """What a wrong name can mean."""

    options: list[str]  # empty if there is no counterpart
    clause: str  # says so, as a part of a sentence


def wrong_names(values: Mapping[str, Any], vocabulary: Vocabulary) -> list[str]:
    """List the names in nested values that are no options, each with those above it, such as ``trainer.max_time``."""
    wrong: list[str] = []
    for name, section in values.items():
        if name not in vocabulary.sections:
            wrong += [name] if _near(name, vocabulary.sections) else _innermost(name, section, vocabulary)
        elif not isinstance(section, Mapping | None):
            wrong.append(name)
        else:
            paths = {f"{name}.{option}": value for option, value in (section or {}).items() if option != HYDRA}
            for path, value in paths.items():
                wrong += [] if vocabulary.has(path) else _innermost(path, value, vocabulary)
    return list(dict.fromkeys(wrong))


def refusal(wrong: Sequence[str], vocabulary: Vocabulary) -> str:
    """Say in one sentence what each name should be.

    Args:
        wrong: at least one name that is not an option, as ``section.option`` or as the user wrote it.
        vocabulary: the options that exist.
    """
    if len(wrong) == 1:
        return _one(wrong[0], vocabulary)
    program, n = Counter(p for name in wrong for p in _programs(name)).most_common(1)[0]
    if n < SIGNATURE:
        program = ""
    found = {name: _options_meant(name, program, vocabulary) for name in wrong}
    parts = [f"{' or '.join(options)} for {_leaf(name)}" for name, options in found.items() if options]
    rest = list(dict.fromkeys(_leaf(name) for name, options in found.items() if not options))
    clauses = [f"write {', '.join(dict.fromkeys(parts))}"] if parts else []
    if rest:
        more = f" and {len(rest) - MOST_LISTED} more" if len(rest) > MOST_LISTED else ""
        clauses.append(f"nothing corresponds to {', '.join(rest[:MOST_LISTED])}{more}")
    if program:
        return f"this is a configuration of {program}: {'; '.join(clauses)}; {PAGE} says more"
    return f"there are no such options: {'; '.join(clauses)}; {vocabulary.listing}"


def _one(name: str, vocabulary: Vocabulary) -> str:
    if name in vocabulary.sections:
        option = vocabulary.inside(name)[0]
        meant = "".join(f"; {meaning.clause}" for meaning in _from_elsewhere(name, vocabulary))
        return (
            f"{name} is a section: write '{_leaf(option)}: ...' indented below '{name}:', or --set {option}=...{meant}"
        )
    if vocabulary.has(name):
        return f"{name} must be two lines: '{_section(name)}:', and indented below it '{_leaf(name)}: ...'"
    near = "" if "." in name else _near(name, vocabulary.sections)
    if near and (plain(near) == plain(name) or not _from_elsewhere(name, vocabulary)):
        return f"there is no section {name}: did you mean {near}?"
    clauses = [meaning.clause for meaning in _meanings(name, vocabulary)]
    return f"there is no option {name}: {', or '.join(clauses) or vocabulary.listing}"


def _options_meant(name: str, program: str, vocabulary: Vocabulary) -> list[str]:
    """The options that a name can mean, in a file of one program or of none."""
    rows = [row for row, programs in _rows(name, vocabulary).items() if {program, f"{program}-allegro"} & set(programs)]
    same = [option for option in vocabulary.options if _leaf(option) == _leaf(name)]
    if program and (rows or not same):
        return list(dict.fromkeys(option for row in rows for option in _targets(row, vocabulary)))
    return list(dict.fromkeys(option for meaning in _meanings(name, vocabulary) for option in meaning.options))


def _meanings(name: str, vocabulary: Vocabulary) -> list[Meaning]:
    """What a name can mean, from the surest kind of likeness that there is."""
    same = [option for option in vocabulary.options if plain(_leaf(option)) == plain(_leaf(name))]
    beside = [option for option in same if _section(option) == _section(name) and vocabulary.has(option)]
    if beside:
        return [_suggestion(beside)]
    named = _from_elsewhere(name, vocabulary)
    if any(vocabulary.has(option) for option in same) or (same and not _containing(name, vocabulary)):
        shown = [f"{option} {vocabulary.options[option]}".rstrip() for option in same]
        verb = "it exists only as" if name in same else "it is" if "." in name else "write"
        own = Meaning(same, f"{verb} {' or '.join(shown)}")
        return [own, *(meaning for meaning in named if not set(meaning.options) & set(same))]
    here = any(_targets(row, vocabulary) or not row.ours for row in _rows(name, vocabulary))
    alike = [] if here else _containing(name, vocabulary) or _misspelled(name, vocabulary)
    return [_suggestion(alike)] if alike else named


def _suggestion(options: list[str]) -> Meaning:
    return Meaning(options, f"did you mean {' or '.join(options)}?")


def _rows(name: str, vocabulary: Vocabulary) -> dict[Counterpart, list[str]]:
    """The rows with a name; rows about another command of equiforce only if there are no others."""
    rows = by_name().get(plain(_leaf(name)), {})
    return {row: programs for row, programs in rows.items() if _targets(row, vocabulary)} or rows


def _targets(row: Counterpart, vocabulary: Vocabulary) -> list[str]:
    """The options of a row that exist, without a condition if possible; the commands md and lammps share theirs."""
    spelled = dict.fromkeys(option for own in row.ours for option in (own, own.replace("md.", "lammps.")))
    named = [option for option in spelled if option in vocabulary.options]
    return [option for option in named if vocabulary.has(option)] or named


def _from_elsewhere(name: str, vocabulary: Vocabulary) -> list[Meaning]:
    """What other programs mean by a name."""
    return [_meaning_of(_leaf(name), row, programs, vocabulary) for row, programs in _rows(name, vocabulary).items()]


def _meaning_of(leaf: str, row: Counterpart, programs: Sequence[str], vocabulary: Vocabulary) -> Meaning:
    owners = [f"{p}'s" for p in programs if p != ELSEWHERE and (p != "nequip-allegro" or "nequip" not in programs)]
    subject = f"{', '.join(owners[:-1])} and {owners[-1]}" if len(owners) > 1 else "".join(owners)
    subject = f"{subject} {leaf}".strip()
    if not row.ours:
        return Meaning([], f"{subject} has no counterpart here; {row.remark}")
    remark = f" ({row.remark})" if row.remark else ""
    if targets := _targets(row, vocabulary):
        shown = [f"{option} {vocabulary.options[option]}".rstrip() for option in targets]
        return Meaning(targets, f"{subject} is {' or '.join(shown)} here{remark}")
    command = "md" if _section(row.ours[0]) == "md" else "train"
    return Meaning([], f"{subject} is {' or '.join(row.ours)}, an option of equiforce {command}{remark}")


def _containing(name: str, vocabulary: Vocabulary) -> list[str]:
    """The few options of the same section that contain the words of a name: ``radial_knots`` for ``knots``."""
    leaf = _leaf(name)
    words = set(leaf.lower().split("_"))
    found = [
        option
        for option in vocabulary.inside(_section(name))
        if words < set(_leaf(option).split("_")) or _leaf(option).startswith(leaf)
    ]
    return found if len(leaf) >= FEWEST_LETTERS and len(found) <= MOST_SUGGESTIONS else []


def _misspelled(name: str, vocabulary: Vocabulary) -> list[str]:
    """The option that a name is a misspelling of, of the same section or else of any."""
    for options in (vocabulary.inside(_section(name)), [o for o in vocabulary.options if vocabulary.has(o)]):
        nearest = _near(_leaf(name), [_leaf(option) for option in options])
        if nearest:
            return [option for option in options if _leaf(option) == nearest][:1]
    return []


def _near(name: str, known: Iterable[str]) -> str:
    """The known name that has the same first letter and is most similar; empty if none is similar."""
    spelled = {plain(other): other for other in known if plain(other)[:1] == plain(name)[:1]}
    nearest = difflib.get_close_matches(plain(name), spelled, n=1, cutoff=CLOSE)
    return spelled[nearest[0]] if nearest else ""


def _innermost(path: str, value: Any, vocabulary: Vocabulary) -> list[str]:
    """The names at the end of nested values, or the outermost one if those inside mean nothing."""
    parts = value if isinstance(value, list) else [value]
    inner = [item for part in parts if isinstance(part, Mapping) for item in part.items() if item[0] != HYDRA]
    paths = [leaf for name, content in inner for leaf in _innermost(f"{path}.{name}", content, vocabulary)]
    return paths if any(_meanings(leaf, vocabulary) for leaf in paths) else [path]


def _programs(name: str) -> list[str]:
    """The programs that have an option of this name, nequip-allegro as nequip; an empty name if there are none."""
    programs = {program for found in by_name().get(plain(_leaf(name)), {}).values() for program in found}
    return sorted({program.removesuffix("-allegro") for program in programs - {ELSEWHERE}}) or [""]


def _section(option: str) -> str:
    return option.rpartition(".")[0]


def _leaf(option: str) -> str:
    return option.rpartition(".")[2]
