"""Reads the data of a pickle without executing it: an object of any class becomes an inert record of its parts.

The memory is limited by the number of instructions, each of which makes at most one small object. Keys of dicts are
texts and numbers alone, because the hash of nested tuples can take forever.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

MOST_BYTES = 2**25  # published packages have less than a megabyte
MOST_INSTRUCTIONS = 2_000_000
PLAIN = (str, int, float, bool, type(None))
TENSOR, PARAMETER, ORDERED = (
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "collections.OrderedDict",
)


@dataclass(slots=True, eq=False)
class Thing:
    """An object that was not made: its class or function, and what it was to be made of."""

    name: str  # with the module, such as "torch.nn.modules.sparse.Embedding"
    args: Any = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)


class TensorRecord(NamedTuple):
    """A tensor that was not made: a view of numbers that lie elsewhere in the file."""

    storage: Any  # what was pickled in place of the numbers
    offset: Any
    shape: Any
    strides: Any


def load(content: bytes) -> Any:
    """Read a pickle of protocol 2 to 5.

    Returns:
        Values, lists, tuples and dicts as they are, :class:`TensorRecord` for tensors, the identifiers of what lies
        elsewhere (persistent ids), and :class:`Thing` for all else.

    Raises:
        ValueError: the pickle is damaged, too large, or has instructions that no writer of torch uses.
    """
    if len(content) > MOST_BYTES:
        raise ValueError("the pickle is too large")
    machine = _Machine()
    try:
        for number, (code, arg, _) in enumerate(pickletools.genops(content)):
            if number > MOST_INSTRUCTIONS:
                raise ValueError("the pickle has too many instructions")
            if code.name == "STOP":
                return machine.stack.pop()
            handler = HANDLERS.get(code.name)
            if handler is None:
                raise ValueError(f"the pickle has the instruction {code.name}")
            handler(machine, arg)
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError("the pickle is damaged") from error
    raise ValueError("the pickle has no end")


class _Machine:
    """The stack and the memo, as in the pickle protocol (PEP 3154)."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def skip(self, _: Any) -> None:
        """Do nothing."""

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self, _: Any = None) -> Any:
        return self.stack.pop()

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def since_mark(self, _: Any = None) -> list[Any]:
        """Take what lies above the last mark."""
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def put(self, index: Any) -> None:
        self.memo[index] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, index: Any) -> None:
        self.push(self.memo[index])

    def tuple_of(self, count: int) -> None:
        taken = tuple(self.stack[len(self.stack) - count :])
        if len(taken) != count:
            raise ValueError("the pickle is damaged")
        del self.stack[len(self.stack) - count :]
        self.push(taken)

    def append(self, _: Any) -> None:
        self.extend([self.pop()])

    def extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        (target.items if isinstance(target, Thing) else target).extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        pairs = zip(values[::2], values[1::2], strict=True)
        if isinstance(target, Thing):
            target.items.extend(pairs)
        else:
            target.update({key: value for key, value in pairs if type(key) in PLAIN})

    def set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def known(self, name: str) -> None:
        module, _, attribute = name.partition(" ")
        self.push(Thing(f"{module}.{attribute}"))

    def known_from_stack(self, _: Any) -> None:
        attribute, module = self.pop(), self.pop()
        self.known(f"{module!s:.200} {attribute!s:.200}")

    def call(self, _: Any) -> None:
        """Record a call of a function, or of a class."""
        args, function = self.pop(), self.pop()
        if not isinstance(function, Thing) or type(args) is not tuple:
            raise ValueError("the pickle is damaged")
        if function.name == TENSOR:
            self.push(TensorRecord(*args[:4]))
        elif function.name == PARAMETER:
            self.push(args[0])
        elif function.name == ORDERED and not args:
            self.push({})
        else:
            self.push(Thing(function.name, args))

    def build(self, _: Any) -> None:
        state = self.pop()
        if isinstance(self.stack[-1], Thing):
            self.stack[-1].state = state


def _constant(value: Any) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.push(value)


HANDLERS: dict[str, Callable[[_Machine, Any], Any]] = {
    **dict.fromkeys(["PROTO", "FRAME"], _Machine.skip),
    **dict.fromkeys(
        ["INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE",
         "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "STRING", "BINSTRING",
         "SHORT_BINSTRING"],
        _Machine.push,
    ),
    "NONE": _constant(None), "NEWTRUE": _constant(True), "NEWFALSE": _constant(False), "EMPTY_TUPLE": _constant(()),
    "EMPTY_LIST": lambda machine, _: machine.push([]), "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_SET": lambda machine, _: machine.push(Thing("builtins.set")),
    "MARK": _Machine.mark, "POP": _Machine.pop, "POP_MARK": _Machine.since_mark,
    **dict.fromkeys(["PUT", "BINPUT", "LONG_BINPUT"], _Machine.put), "MEMOIZE": _Machine.memoize,
    **dict.fromkeys(["GET", "BINGET", "LONG_BINGET"], _Machine.get),
    "TUPLE1": lambda machine, _: machine.tuple_of(1), "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "LIST": lambda machine, _: machine.push(machine.since_mark()),
    "APPEND": _Machine.append, "SETITEM": _Machine.set_item,
    **dict.fromkeys(["APPENDS", "ADDITEMS"], lambda machine, _: machine.extend(machine.since_mark())),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "GLOBAL": _Machine.known, "STACK_GLOBAL": _Machine.known_from_stack,
    **dict.fromkeys(["REDUCE", "NEWOBJ"], _Machine.call), "BUILD": _Machine.build,
    "BINPERSID": _Machine.skip,  # the identifier stays on the stack
}  # fmt: skip
