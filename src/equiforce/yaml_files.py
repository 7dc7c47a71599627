"""Reads the plain part of YAML: names, numbers, texts, lists and nested values, in limited time and memory.

The text of a YAML file comes from anybody. Numbers are read only as a user means them: ``1e-3`` is a number, while
``010``, ``1:30`` and ``2024-01-31`` are texts and not an octal number, seconds or a date.
"""

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from equiforce.errors import InputError

MOST_BYTES = 2**20  # a thousand times more than the options of a run; parsing takes about ten seconds
MOST_VALUES = 100_000  # with those that an alias repeats
DEEPEST = 20
TOO_MANY = f"it has more than {MOST_VALUES:,} values"
TOO_DEEP = f"it is nested more than {DEEPEST} times"
MOST_DIGITS = 30
CORE = "tag:yaml.org,2002:"


def load_yaml(path: Path, content: str = "lines of the form 'name: value'") -> dict[str, Any]:
    """Read a YAML file of names and values; raise InputError if it is missing, not YAML or has other content."""
    if not path.is_file():
        raise InputError(f"there is no configuration file {path}: correct the path")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise InputError(
            f"{path} has {size:,} bytes, but a file of options has at most {MOST_BYTES:,}: correct the path"
        )
    try:
        values = read_value(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise InputError(
            f"{path}{where} is not valid YAML ({getattr(error, 'problem', None) or 'it is not a text file'}): "
            f"write {content}"
        ) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{path} must consist of {content}")
    return {str(name): value for name, value in values.items()}


def read_value(text: str) -> Any:
    """The value of a YAML text; raises yaml.YAMLError if it is not plain YAML, or too large."""
    return yaml.load(text, Loader=_Loader)


def one_line_yaml(value: Any) -> str:
    """The value as YAML on one line, which :func:`read_value` reads again."""
    dumped = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=10**6, allow_unicode=True)
    return str(dumped.splitlines()[0])


class _Loader(yaml.SafeLoader):
    """Loads plain YAML, and refuses a key that occurs twice instead of silently taking its last value."""

    # a first letter -> the tags of texts without quotation marks, each with the texts that it fits
    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}  # type: ignore[misc] # the stub
    yaml_constructors: ClassVar[dict[str | None, Any]] = {}

    depth = n_nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth, self.n_nodes = self.depth + 1, self.n_nodes + 1
        if self.n_nodes > MOST_VALUES:
            raise yaml.MarkedYAMLError(problem=TOO_MANY, problem_mark=self.peek_event().start_mark)
        if (
            self.depth > DEEPEST
        ):  # at once, because the time to read nested brackets grows with the square of their number
            raise yaml.MarkedYAMLError(problem=TOO_DEEP, problem_mark=self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            self._count(node, {}, ())
        return node

    def _count(self, node: yaml.Node, counts: dict[int, int], above: tuple[int, ...]) -> int:
        """The number of values in a node, in which an alias counts as often as it repeats them."""
        if id(node) in counts:
            return counts[id(node)]
        if id(node) in above:
            raise yaml.MarkedYAMLError(problem="an alias contains itself", problem_mark=node.start_mark)
        if len(above) >= DEEPEST:
            raise yaml.MarkedYAMLError(problem=TOO_DEEP, problem_mark=node.start_mark)
        inner = [] if isinstance(node, yaml.ScalarNode) else node.value
        parts = [part for one in inner for part in (one if isinstance(one, tuple) else (one,))]
        found = counts[id(node)] = 1 + sum(self._count(part, counts, (*above, id(node))) for part in parts)
        if found > MOST_VALUES:
            raise yaml.MarkedYAMLError(problem=TOO_MANY, problem_mark=node.start_mark)
        return found

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} occurs twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_tuple(self, node: yaml.SequenceNode) -> list[Any]:
        return self.construct_sequence(node)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """Construct an integer or a float."""
        text, kind = node.value.replace("_", ""), int if node.tag == f"{CORE}int" else float
        if kind is int and len(text) > MOST_DIGITS:
            raise yaml.MarkedYAMLError(problem=f"a number has {len(text):,} digits", problem_mark=node.start_mark)
        try:
            return kind(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", text, flags=re.IGNORECASE))
        except ValueError:
            problem = f"{node.value[:MOST_DIGITS]!r} is not a number"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None

    def construct_truth(self, node: yaml.ScalarNode) -> bool:
        """Construct true or false."""
        try:
            return self.bool_values[node.value.lower()]
        except KeyError:
            problem = f"{node.value[:MOST_DIGITS]!r} is neither true nor false"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None


_CONSTRUCTORS: dict[str | None, Any] = {
    f"{CORE}null": _Loader.construct_yaml_null,
    f"{CORE}str": _Loader.construct_yaml_str,
    f"{CORE}seq": _Loader.construct_yaml_seq,
    f"{CORE}map": _Loader.construct_yaml_map,
    f"{CORE}bool": _Loader.construct_truth,
    f"{CORE}int": _Loader.construct_number,
    f"{CORE}float": _Loader.construct_number,
    f"{CORE}python/tuple": _Loader.construct_tuple,  # as in files of nequip
    None: _Loader.construct_undefined,
}
_Loader.yaml_constructors.update(_CONSTRUCTORS)


class _Dumper(yaml.SafeDumper):
    """Writes a text in quotation marks if this or another reader of YAML takes it for something else."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Represent a text; in double quotes, which keep it on one line, if it has line breaks."""
        style = '"' if len(text.splitlines()) > 1 or text != text.strip() else None
        return self.represent_scalar(f"{CORE}str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)


for _name, _texts, _letters in (
    ("null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("merge", "<<", "<"),
    ("bool", r"(?i:yes|no|true|false|on|off)", "yYnNtTfFoO"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
    ("float", r"[-+]?\.(?i:inf)|\.(?i:nan)", "-+."),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"{CORE}{_name}", re.compile(f"(?:{_texts})$"), list(_letters))
