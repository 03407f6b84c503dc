"""Interprets a pickle over inert values: it can build dictionaries and descriptions of tensors, and do nothing else.

Only the opcodes that torch's pickles are made of exist here, and only the names in `objects.GLOBALS`; anything else ends the reading
with ``UnsafeCheckpoint``. Opcodes, marks and lengths are bounded, no code of the file's choosing is ever reached, no step recurses.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from homolog.checkpoint.torchbin.feed import MOST_OPCODES, Feed
from homolog.checkpoint.torchbin.objects import GLOBALS, Global, Misuse, Opaque, Storage, call_global, load_persistent
from homolog.errors import MalformedCheckpoint, UnsafeCheckpoint

__all__ = ["Pickled", "run_pickle"]

_MOST_MARKS = 1000
_LONGEST_STRING = 1 << 20
_LONGEST_INTEGER = 16
_STOP = ord(".")
_ADVICE = (
    "nothing but tensors in dictionaries; where you trust the file, save its state_dict as safetensors and read that"
)


@dataclass(frozen=True, slots=True)
class Pickled:
    """What a pickle describes."""

    value: object
    """Dictionaries, lists, tuples, plain values, and `objects.Tensor`."""
    storages: dict[str, Storage]
    """Every storage it mentions, by key."""


def run_pickle(feed: Feed) -> Pickled:
    """Interpret one pickle.

    Leaves the feed after the pickle's end. Raises ``UnsafeCheckpoint`` for a name or opcode that could run code and
    ``MalformedCheckpoint`` for everything that torch does not write.
    """
    machine = _Machine(feed)
    for used in range(1, feed.opcodes_left + 1):
        start = feed.position
        code = feed.take(1)[0]
        try:
            if code == _STOP:
                feed.opcodes_left -= used
                return Pickled(machine.finish(), machine.storages)
            step = _STEPS.get(code)
            if step is None:
                raise _Forbidden(f"opcode {bytes([code])!r}")
            step(machine)
        except _Forbidden as error:
            raise UnsafeCheckpoint(
                feed.source.path, at=f"pickle, byte {start}", found=str(error), expected=_ADVICE
            ) from error
        except Misuse as error:
            expected = "what torch.save writes"
            raise MalformedCheckpoint(
                feed.source.path, at=f"pickle, byte {start}", found=str(error), expected=expected
            ) from error
    raise feed.malformed(f"more than {MOST_OPCODES} opcodes", "the pickle of a state dict")


class _Forbidden(Exception):  # noqa: N818  (turned into UnsafeCheckpoint by run_pickle)
    """Something that unpickling for real could run."""


class _Machine:
    """A stack, marks in it, and a memo."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}
        self.storages: dict[str, Storage] = {}

    def finish(self) -> object:
        if len(self.stack) != 1 or self.marks:
            raise Misuse(f"{len(self.stack)} values at the end")
        return self.stack[0]

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> object:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise Misuse("an empty stack")
        return self.stack.pop()

    def peek(self) -> object:
        value = self.pop()
        self.stack.append(value)
        return value

    def mark(self) -> None:
        if len(self.marks) == _MOST_MARKS:
            raise Misuse(f"more than {_MOST_MARKS} open marks")
        self.marks.append(len(self.stack))

    def pop_marked(self) -> list[object]:
        if not self.marks:
            raise Misuse("no mark to go back to")
        floor = self.marks.pop()
        values = self.stack[floor:]
        del self.stack[floor:]
        return values

    def number(self, width: int) -> int:
        """An unsigned little-endian argument."""
        return int.from_bytes(self.feed.take(width), "little")

    def sized(self, width: int) -> bytes:
        """An argument that says its length first."""
        length = self.number(width)
        if length > _LONGEST_STRING:
            raise Misuse(f"a string of {length} bytes, longer than {_LONGEST_STRING}")
        return self.feed.take(length)

    def text(self, width: int) -> str:
        try:
            return self.sized(width).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise Misuse("a string that is not UTF-8") from error

    def integer(self, width: int) -> int:
        length = self.number(width)
        if length > _LONGEST_INTEGER:
            raise Misuse(f"a whole number of {length} bytes")
        return int.from_bytes(self.feed.take(length), "little", signed=True)


def _put(machine: _Machine, place: int) -> None:
    machine.memo[place] = machine.peek()


def _get(machine: _Machine, place: int) -> None:
    if place not in machine.memo:
        raise Misuse(f"memo {place}, which was never set")
    machine.push(machine.memo[place])


def _digits(machine: _Machine) -> int:
    line = machine.feed.line()
    if not line.isdigit() or len(line) > 10:
        raise Misuse("a memo number that is none")
    return int(line)


def _tuple(machine: _Machine, count: int) -> None:
    floor = len(machine.stack) - count
    if floor < (machine.marks[-1] if machine.marks else 0):
        raise Misuse("an empty stack")
    machine.stack[floor:] = [tuple(machine.stack[floor:])]


def _set_items(machine: _Machine, items: list[object]) -> None:
    target = machine.peek()
    if not isinstance(target, dict) or len(items) % 2:
        raise Misuse("items set in something that is no dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[_key(key)] = value


def _key(key: object) -> str:
    """Names only, and the small numbers by which optimisers count: other keys could be made to collide, or to nest."""
    if isinstance(key, str):
        return key
    if isinstance(key, int):
        return str(key)
    raise Misuse(f"a dictionary's key of type {type(key).__name__}")


def _append(machine: _Machine, items: list[object]) -> None:
    target = machine.peek()
    if not isinstance(target, list):
        raise Misuse("values appended to something that is no list")
    target.extend(items)


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    _set_items(machine, [key, value])


def _make_dict(machine: _Machine) -> None:
    items = machine.pop_marked()
    machine.push({})
    _set_items(machine, items)


def _global(machine: _Machine, module: str, name: str) -> None:
    full = f"{module}.{name}"
    known = GLOBALS.get(full)
    if known is None:
        raise _Forbidden(f"the name {full}")
    machine.push(known)


def _global_line(machine: _Machine) -> None:
    module, name = machine.feed.line(), machine.feed.line()
    _global(machine, module.decode("utf-8", "backslashreplace"), name.decode("utf-8", "backslashreplace"))


def _global_stack(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise Misuse("a name that is no text")
    _global(machine, module, name)


def _reduce(machine: _Machine) -> None:
    arguments, function = machine.pop(), machine.pop()
    if not isinstance(function, Global):
        raise _Forbidden(f"a call of a {type(function).__name__}")
    if not isinstance(arguments, tuple):
        raise Misuse("a call without a tuple of arguments")
    machine.push(call_global(function, arguments))


def _build(machine: _Machine) -> None:
    """State is set on nothing: torch hangs version numbers on its dictionaries, numpy a byte order on its dtypes; both are dropped."""
    machine.pop()
    target = machine.peek()
    if not isinstance(target, (dict, Opaque)):
        raise _Forbidden(f"state for a {type(target).__name__}")


def _persistent(machine: _Machine) -> None:
    storage = load_persistent(machine.pop())
    first = machine.storages.setdefault(storage.key, storage)
    if (first.root_count, first.dtype) != (storage.root_count, storage.dtype):
        raise Misuse(f"the storage {storage.key!r} in two sizes or kinds")
    machine.push(storage)


def _pop(machine: _Machine) -> None:
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.pop()


def _protocol(machine: _Machine) -> None:
    version = machine.number(1)
    if not 2 <= version <= 5:
        raise Misuse(f"pickle protocol {version}")


_Step = Callable[[_Machine], object]
_STEPS: dict[int, _Step] = {
    ord(code): step
    for code, step in (
        ("\x80", _protocol),
        ("\x95", lambda m: m.feed.take(8)),  # FRAME: a hint for buffered readers
        ("(", _Machine.mark),
        ("0", _pop),
        ("1", _Machine.pop_marked),
        ("2", lambda m: m.push(m.peek())),
        ("N", lambda m: m.push(None)),
        ("\x88", lambda m: m.push(True)),
        ("\x89", lambda m: m.push(False)),
        ("K", lambda m: m.push(m.number(1))),
        ("M", lambda m: m.push(m.number(2))),
        ("J", lambda m: m.push(int.from_bytes(m.feed.take(4), "little", signed=True))),
        ("\x8a", lambda m: m.push(m.integer(1))),
        ("\x8b", lambda m: m.push(m.integer(4))),
        ("G", lambda m: m.push(struct.unpack(">d", m.feed.take(8))[0])),
        ("X", lambda m: m.push(m.text(4))),
        ("\x8c", lambda m: m.push(m.text(1))),
        ("\x8d", lambda m: m.push(m.text(8))),
        ("U", lambda m: m.push(m.sized(1).decode("latin-1"))),  # Python 2 wrote names as byte strings
        ("T", lambda m: m.push(m.sized(4).decode("latin-1"))),
        ("C", lambda m: m.push(m.sized(1))),
        ("B", lambda m: m.push(m.sized(4))),
        ("\x8e", lambda m: m.push(m.sized(8))),
        (")", lambda m: m.push(())),
        ("]", lambda m: m.push([])),
        ("}", lambda m: m.push({})),
        ("t", lambda m: m.push(tuple(m.pop_marked()))),
        ("\x85", lambda m: _tuple(m, 1)),
        ("\x86", lambda m: _tuple(m, 2)),
        ("\x87", lambda m: _tuple(m, 3)),
        ("l", lambda m: m.push(m.pop_marked())),
        ("d", _make_dict),
        ("a", lambda m: _append(m, [m.pop()])),
        ("e", lambda m: _append(m, m.pop_marked())),
        ("s", _set_item),
        ("u", lambda m: _set_items(m, m.pop_marked())),
        ("q", lambda m: _put(m, m.number(1))),
        ("r", lambda m: _put(m, m.number(4))),
        ("p", lambda m: _put(m, _digits(m))),
        ("\x94", lambda m: _put(m, len(m.memo))),
        ("h", lambda m: _get(m, m.number(1))),
        ("j", lambda m: _get(m, m.number(4))),
        ("g", lambda m: _get(m, _digits(m))),
        ("c", _global_line),
        ("\x93", _global_stack),
        ("R", _reduce),
        ("b", _build),
        ("Q", _persistent),
    )
}
