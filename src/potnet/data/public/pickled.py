"""Plain data out of pickled files, without running what is in them.

Two public datasets exist only in Python's own serial format, which can call any function while it
is loaded. Here its instructions are read as a list (``pickletools``) and those that build plain
data are carried out by the few lines below; numbers of numpy are decoded from their bytes. Whatever
else a file asks for, it is refused by name.
"""

from __future__ import annotations

import io
import math
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from potnet.errors import DataError

MAX_BYTES = 1 << 28
MAX_ITEMS = 5_000_000  # of all lists, dictionaries and arrays together
MAX_DEPTH = 100
_MARK = object()


class _Named:
    """A function or class that the file names; it stands for one of ``ALLOWED``, never for code."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Made:
    """An array or type of numpy between its creation and its state."""

    def __init__(self, kind: str, detail: Any = None) -> None:
        self.kind, self.detail, self.value = kind, detail, None


def plain_data(path: Path) -> Any:
    """Return the lists, dictionaries, words and numbers in a pickled file.

    Raises:
        DataError: If the file is damaged, or holds anything but plain data and numbers of numpy.
    """
    if path.stat().st_size > MAX_BYTES:
        raise DataError(
            f"{path}: the file must have at most {MAX_BYTES >> 20} MiB, got more. Split it."
        )
    try:
        return _Machine().run(path.read_bytes())
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, EOFError) as error:
        reason = str(error) or type(error).__name__
        raise DataError(
            f"{path}: must be a pickled list of plain data, got {reason}. "
            "Fetch it again, or convert it to JSON."
        ) from None


class _Machine:
    """The stack that builds a value, as the instructions say."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, content: bytes) -> Any:
        for code, value, _ in pickletools.genops(io.BytesIO(content)):
            if code.name == "STOP":
                (found,) = self._stack
                return _Finisher().of(found)
            self._do(code.name, value)
        raise EOFError("a file that does not end")

    def _do(self, name: str, value: Any) -> None:
        stack = self._stack
        if name in _VALUES:
            stack.append(value)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[value] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._memo[value])
        elif name in _TUPLES:
            count = _TUPLES[name]
            stack[len(stack) - count :] = [tuple(stack[len(stack) - count :])]
        elif name == "TUPLE":
            stack.append(tuple(self._to_mark()))
        elif name == "LIST":
            stack.append(self._to_mark())
        elif name == "DICT":
            stack.append(_pairs(self._to_mark()))
        elif name == "APPEND":
            item = stack.pop()
            _list(stack[-1]).append(item)
        elif name == "APPENDS":
            items = self._to_mark()
            _list(stack[-1]).extend(items)
        elif name == "SETITEM":
            pair = [stack.pop(-2), stack.pop()]
            _dict(stack[-1]).update(_pairs(pair))
        elif name == "SETITEMS":
            items = self._to_mark()
            _dict(stack[-1]).update(_pairs(items))
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            stack.append(_named(value or f"{stack.pop(-2)} {stack.pop()}"))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(_called(stack.pop(), arguments))
        elif name == "BUILD":
            state = stack.pop()
            _fill(stack[-1], state)
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"the instruction {name}")

    def _to_mark(self) -> list[Any]:
        """Take what lies above the last mark, and the mark."""
        at = len(self._stack) - 1 - self._stack[::-1].index(_MARK)
        items = self._stack[at + 1 :]
        del self._stack[at:]
        return items


_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "MARK": lambda: _MARK,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_VALUES = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
ALLOWED = {
    **{
        f"numpy.{core}.{name}": name.split()[1]
        for core in ("core", "_core")
        for name in ("multiarray scalar", "multiarray _reconstruct", "numeric _frombuffer")
    },
    "numpy dtype": "dtype",
    "numpy ndarray": "ndarray",
    "_codecs encode": "encode",  # how the second protocol keeps bytes
}


def _named(name: str) -> _Named:
    if name not in ALLOWED:
        raise ValueError(f"the name {name.replace(' ', '.')[:80]!r}, which may be code")
    return _Named(ALLOWED[name])


def _called(function: Any, arguments: Any) -> Any:
    """Return what one of the allowed functions makes of its arguments."""
    name = function.name if isinstance(function, _Named) else ""
    if name == "encode":
        return arguments[0].encode("latin-1")
    if name == "dtype":
        return _Made("dtype", _type(arguments[0]))
    if name == "scalar":
        return _array(arguments[0], (), arguments[1])
    if name == "_frombuffer":
        content, dtype, shape, order = arguments
        return _array(dtype, shape, bytes(content), order)
    if name == "_reconstruct":
        return _Made("array")
    raise ValueError(f"a call of {name or type(function).__name__}")


def _type(text: Any) -> np.dtype:
    if text not in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "b1"):
        raise ValueError(f"the type {str(text)[:20]!r}")
    return np.dtype(text)


def _fill(made: Any, state: Any) -> None:
    """Give an array or a type of numpy its state."""
    if not isinstance(made, _Made):
        raise ValueError(f"a state for {type(made).__name__}")
    if made.kind == "dtype":
        made.detail = made.detail.newbyteorder(state[1] if state[1] in "<>" else "=")
    else:
        _, shape, dtype, by_columns, content = state
        made.value = _array(dtype, shape, content, order="F" if by_columns else "C")


def _array(dtype: Any, shape: Any, content: Any, order: Any = "C") -> Any:
    """Return the numbers in ``content``: one, or lists of them."""
    kind = dtype.detail
    if 0 in shape and math.prod(filter(None, shape)) > 1:
        raise ValueError("an array without numbers, of a shape that has many")
    if not isinstance(content, bytes) or len(content) != math.prod(shape) * kind.itemsize:
        raise ValueError("numbers that do not fill their array")
    return np.frombuffer(content, kind).reshape(shape, order=order).tolist()


def _list(found: Any) -> list[Any]:
    if not isinstance(found, list):
        raise ValueError(f"items for {type(found).__name__}")
    return found


def _dict(found: Any) -> dict[Any, Any]:
    if not isinstance(found, dict):
        raise ValueError(f"keys for {type(found).__name__}")
    return found


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


class _Finisher:
    """Puts the numbers of numpy in place of what stood for them, and counts what there is.

    What a file names twice is one object in memory but two in what is returned, so that a few
    bytes could ask for any number of items.
    """

    def __init__(self) -> None:
        self._n_items = 0

    def of(self, found: Any, depth: int = 0) -> Any:
        """Return ``found`` as plain data."""
        if isinstance(found, _Made):
            return found.value
        if isinstance(found, _Named) or found is _MARK:
            raise ValueError("a function among the data")
        if not isinstance(found, (dict, list, tuple)):
            return found
        self._n_items += len(found)
        if self._n_items > MAX_ITEMS or depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_ITEMS} items, or lists {MAX_DEPTH} deep")
        if isinstance(found, dict):
            return {key: self.of(value, depth + 1) for key, value in found.items()}
        return [self.of(value, depth + 1) for value in found]
