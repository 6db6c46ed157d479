"""Pickles from strangers, read as data: a small machine of our own that builds containers and stand-ins.

Python's `pickletools` splits the bytes into opcodes; what an opcode does is decided here. Nothing is ever
imported: a name that a pickle asks for is looked up in a table of stand-ins, and one that is not there is
refused. Python's own unpickler, even with its names fenced in, can be made to allocate gigabytes by one
opcode or to hash for hours; here no opcode costs more than the bytes that it holds.
"""

from __future__ import annotations

import itertools
import pickletools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, NoReturn, TypeAlias

from wsssbench.errors import BadData

MOST_STEPS = 5_000_000  # a table of tags of all COCO images has 3 million
MOST_KEY = 2**40  # larger whole numbers can be chosen so that a dict of them takes hours
NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
TEXTS = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
OLD_TEXTS = ("STRING", "BINSTRING", "SHORT_BINSTRING")  # of Python 2
BYTES = ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8")
DAMAGED = "a damaged pickle"
CODE = ("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4")  # opcodes that call or import


@dataclass(frozen=True)
class Name:
    """What stands for an importable name. `make` builds an inert value from the arguments; a name without it
    may only be mentioned, and `value` says what it means. What `copies` its first argument is made once for
    each: a few bytes of pickle could else copy the same megabytes again and again."""

    make: Callable[..., Any] | None = None
    value: Any = None
    copies: bool = False


class Stored:
    """A stand-in for an object with a state: it remembers the state and does nothing with it."""

    state: Any = None


Names: TypeAlias = Mapping[tuple[str, str], Name]


def load_pickle(
    stream: IO[bytes],
    where: object,
    names: Names,
    *,
    persistent: Callable[[Any], Any] | None = None,
    hint: str = "",
) -> Any:
    """The value of the one pickle that begins at the stream's place; the stream then stands behind it.

    `names` maps (module, name) to what stands for it; `persistent` turns a persistent id into a value. Text
    of Python 2 becomes latin-1 text. BadData for whatever needs code: a name that is not in `names`, an
    extension code, an instance, a persistent id that nobody knows. ValueError for a damaged pickle.
    """
    machine = _Machine(where, names, persistent, hint)
    try:
        for opcode, argument in itertools.islice(_opcodes(stream), MOST_STEPS):
            action = ACTIONS.get(opcode.name)
            if action is None:
                machine.reject(opcode.name, argument)
            else:
                action(machine, argument)
        return machine.result()
    except BadData:
        raise
    except Exception as error:  # a damaged pickle can fail in any way: stack, memo, text, memory
        said = _one_line(str(error)) if type(error) is ValueError else ""
        inner = said.removeprefix(DAMAGED).removeprefix(": ")  # of a pickle within the pickle
        raise ValueError(f"{DAMAGED}: {inner}" if inner else DAMAGED) from error


def _opcodes(stream: IO[bytes]) -> Iterator[tuple[pickletools.OpcodeInfo, Any]]:
    try:
        yield from ((opcode, argument) for opcode, argument, _ in pickletools.genops(stream))
    except Exception as error:  # in the words of its own code
        raise ValueError("it ends early, or bytes in it were changed") from error


def _one_line(text: str) -> str:
    return text[:120].encode("unicode_escape").decode()


class _Machine:
    """The stack, the marks in it and the memo of one pickle."""

    def __init__(
        self, where: object, names: Names, persistent: Callable[[Any], Any] | None, hint: str
    ) -> None:
        self.where, self.names, self.persistent, self.hint = where, names, persistent, hint
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.copied: dict[tuple[int, int], tuple[Any, Any]] = {}  # by identities; keeps the originals alive
        self.stopped = False

    def reject(self, opcode: str, argument: Any) -> NoReturn:
        if opcode in CODE:
            self.refuse(f"code ({opcode}{'' if argument is None else f' {argument}'})")
        raise ValueError(f"the opcode {opcode} has no place here")

    def result(self) -> Any:
        if not self.stopped or len(self.stack) != 1:
            raise ValueError(f"{len(self.stack)} values at its end" if self.stopped else "too many opcodes")
        return self.stack[0]

    def refuse(self, what: str) -> NoReturn:
        hint = "do not load this file with numpy.load or torch.load: it may run a program"
        raise BadData(
            f"refused: this file asks for {_one_line(what)}, which has no place in data",
            where=self.where,
            hint=f"{hint}; {self.hint}" if self.hint else hint,
        )

    def since_mark(self) -> list[Any]:
        """Take what lies above the last mark off the stack."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def find(self, module: Any, name: Any) -> None:
        known = self.names.get((module, name)) if type(module) is type(name) is str else None
        self.stack.append(known if known is not None else self.refuse(f"{module}.{name}"))

    def global_(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.find(module, name)

    def stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.find(module, name)

    def reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Name) or function.make is None or type(arguments) is not tuple:
            raise ValueError("a call of what cannot be called")
        if not function.copies or not arguments:
            self.stack.append(function.make(*arguments))
            return
        key = (id(function), id(arguments[0]))
        if key not in self.copied:
            self.copied[key] = (arguments[0], function.make(*arguments))
        self.stack.append(self.copied[key][1])

    def build(self, _: Any) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Stored):
            raise ValueError("a state for what has none")
        self.stack[-1].state = state

    def persistent_id(self, argument: Any) -> None:
        key = self.stack.pop() if argument is None else argument
        if self.persistent is None:
            self.refuse("an object outside of it (a persistent id)")
        self.stack.append(self.persistent(key))

    def append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError("an item appended to what is no list")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not dict or len(items) % 2:
            raise ValueError("an entry set in what is no dict")
        for key in items[::2]:
            _check_key(key)
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def make_dict(self, _: Any) -> None:
        items = self.since_mark()
        self.stack.append({})
        self.set_items(items)

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError("the stack is empty")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def last(self, count: int) -> list[Any]:
        return [self.stack.pop() for _ in range(count)][::-1]

    def stop(self, _: Any) -> None:
        self.stopped = True


def _check_key(key: Any) -> None:
    """Keys are text, numbers of moderate size or stand-ins: a tuple can take for ever to hash."""
    if isinstance(key, Stored) or key is None or type(key) in (str, bytes, float, bool):
        return
    if type(key) is not int:
        raise ValueError(f"a key of type {type(key).__name__}")
    if abs(key) >= MOST_KEY:
        raise ValueError("a key that is too large a number")


Action: TypeAlias = Callable[[_Machine, Any], object]
ACTIONS: dict[str, Action] = {
    **dict.fromkeys((*NUMBERS, *TEXTS, *OLD_TEXTS, *BYTES), lambda m, a: m.stack.append(a)),
    **dict.fromkeys(("PROTO", "FRAME"), lambda m, a: None),
    "STOP": _Machine.stop,
    "NONE": lambda m, a: m.stack.append(None),
    "NEWTRUE": lambda m, a: m.stack.append(True),
    "NEWFALSE": lambda m, a: m.stack.append(False),
    "EMPTY_TUPLE": lambda m, a: m.stack.append(()),
    "EMPTY_LIST": lambda m, a: m.stack.append([]),
    "EMPTY_DICT": lambda m, a: m.stack.append({}),
    "MARK": lambda m, a: m.marks.append(len(m.stack)),
    "POP": lambda m, a: m.stack.pop(),
    "POP_MARK": lambda m, a: m.since_mark(),
    "TUPLE": lambda m, a: m.stack.append(tuple(m.since_mark())),
    "TUPLE1": lambda m, a: m.tuple_of(1),
    "TUPLE2": lambda m, a: m.tuple_of(2),
    "TUPLE3": lambda m, a: m.tuple_of(3),
    "LIST": lambda m, a: m.stack.append(m.since_mark()),
    "DICT": _Machine.make_dict,
    "APPEND": lambda m, a: m.append(m.last(1)),
    "APPENDS": lambda m, a: m.append(m.since_mark()),
    "SETITEM": lambda m, a: m.set_items(m.last(2)),
    "SETITEMS": lambda m, a: m.set_items(m.since_mark()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda m, a: m.memo.update({a: m.stack[-1]})),
    "MEMOIZE": lambda m, a: m.memo.update({len(m.memo): m.stack[-1]}),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda m, a: m.stack.append(m.memo[a])),
    "GLOBAL": _Machine.global_,
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "PERSID": _Machine.persistent_id,
    "BINPERSID": _Machine.persistent_id,
}
