"""Pickles of other people, read as data: Python's unpickler in Python, with harmless opcodes alone.

Nothing is ever imported: a name that a pickle asks for is looked up in a table of stand-ins, and one that is
not there is refused. The unpickler in C, even with its names fenced in, can be made to allocate gigabytes by
one opcode, and both to hash for hours; here no opcode costs more than the bytes that it holds.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import IO, Any, NoReturn, TypeAlias

from wsssbench.errors import BadData

MOST_STEPS = 5_000_000  # a table of tags of all COCO images has 3 million
MOST_KEY = 2**40  # larger whole numbers can be chosen so that a dict of them takes hours
DAMAGED = "a damaged pickle"
OPCODES = """
    PROTO FRAME STOP MARK POP POP_MARK PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET
    NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
    BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS
    GLOBAL STACK_GLOBAL REDUCE BUILD PERSID BINPERSID INST OBJ NEWOBJ NEWOBJ_EX EXT1 EXT2 EXT4
"""  # what is not here (sets, buffers beside the pickle) is refused as damage

Names: TypeAlias = Mapping[tuple[str, str], Any]


class Stored:
    """A stand-in for an object: it remembers what a pickle calls for it, and its state, until it is asked."""

    state: Any = None

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        self.make, self.arguments = make, arguments

    def value(self) -> Any:
        """What it stands for: make(state, *arguments). ValueError where that is damaged or no plain value."""
        try:
            return self.make(self.state, *self.arguments)
        except (TypeError, LookupError, OverflowError) as error:
            raise ValueError("its parts do not fit together") from error


def settled(value: Any) -> Any:
    """What `value` stands for where it is a stand-in, else itself; ValueError where that is damaged."""
    return value.value() if isinstance(value, Stored) else value


def load_pickle(
    stream: IO[bytes],
    where: object,
    names: Names,
    *,
    persistent: Callable[[Any], Any] | None = None,
    hint: str = "",
) -> Any:
    """The value of the one pickle that begins at the stream's place; the stream then stands behind it.

    `names` maps (module, name) to what stands for it; a pickle can call what is callable there, and nothing
    else. `persistent` turns a persistent id into a value. Text of Python 2 becomes latin-1 text. BadData for
    whatever needs code: a name that is not in `names`, an extension code, an instance, a persistent id that
    nobody knows. ValueError for a damaged pickle.
    """
    machine = _Machine(stream, encoding="latin1")
    machine.dispatch = _Counted(ACTIONS)  # type: ignore[misc]
    machine.where, machine.names, machine.persistent, machine.hint = where, names, persistent, hint
    try:
        return machine.load()
    except BadData:
        raise
    except Exception as error:  # a damaged pickle can fail in any way: stack, memo, text, memory
        said = _one_line(str(error)) if type(error) is ValueError else ""
        inner = said.removeprefix(DAMAGED).removeprefix(": ")  # of a pickle within the pickle
        raise ValueError(f"{DAMAGED}: {inner}" if inner else DAMAGED) from error


def _one_line(text: str) -> str:
    return text[:120].encode("unicode_escape").decode()


class _Machine(pickle._Unpickler):
    """Python's unpickler without what calls, imports, hashes for ever or allocates what is not there."""

    stack: list[Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]
    readline: Callable[[], bytes]
    pop_mark: Callable[[], list[Any]]

    where: object
    names: Names
    persistent: Callable[[Any], Any] | None
    hint: str

    def refuse(self, what: str) -> NoReturn:
        hint = "do not load this file with numpy.load or torch.load: it may run a program"
        raise BadData(
            f"refused: this file asks for {_one_line(what)}, which has no place in data",
            where=self.where,
            hint=f"{hint}; {self.hint}" if self.hint else hint,
        )

    def find_class(self, module: str, name: str) -> Any:
        return self.names[module, name] if (module, name) in self.names else self.refuse(f"{module}.{name}")

    def get_extension(self, code: int) -> NoReturn:
        self.refuse(f"code (extension {code})")

    def load_inst(self) -> None:
        module, name = (self.readline()[:-1].decode("latin1") for _ in range(2))
        self.refuse(f"{module}.{name}")

    def load_newobj(self) -> None:
        self.refuse("code (an object of a class)")

    load_obj = load_newobj_ex = load_newobj

    def persistent_load(self, pid: Any) -> Any:
        if self.persistent is None:
            self.refuse("an object outside of it (a persistent id)")
        return self.persistent(pid)

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not callable(function) or type(arguments) is not tuple:
            raise ValueError("a call of what cannot be called")
        self.append(function(*arguments))

    def load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Stored):
            raise ValueError("a state for what has none")
        self.stack[-1].state = state

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self.set_items(items)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def load_setitems(self) -> None:
        self.set_items(self.pop_mark())

    def set_items(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not dict:
            raise ValueError("an entry set in what is not a dict")
        for key in items[::2]:
            _check_key(key)
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def load_bytearray8(self) -> None:  # Python's own allocates what the opcode claims
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))


def _check_key(key: Any) -> None:
    """Keys are text, numbers of moderate size or stand-ins: a tuple can take for ever to hash."""
    if isinstance(key, Stored) or key is None or type(key) in (str, bytes, float, bool):
        return
    if type(key) is not int:
        raise ValueError(f"a key of type {type(key).__name__}")
    if abs(key) >= MOST_KEY:
        raise ValueError("a key that is too large a number")


class _Counted(dict[int, Callable[[Any], None]]):
    """What each opcode does; how often it is asked is limited."""

    asked = 0

    def __getitem__(self, opcode: int) -> Callable[[Any], None]:
        self.asked += 1
        if self.asked > MOST_STEPS:
            raise ValueError("too many opcodes")
        return super().__getitem__(opcode)


ACTIONS: dict[int, Callable[[Any], None]] = {
    code: getattr(_Machine, pickle._Unpickler.dispatch[code].__name__)
    for code in (getattr(pickle, name)[0] for name in OPCODES.split())
}
