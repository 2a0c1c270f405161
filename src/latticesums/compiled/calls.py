"""What a kernel is called with: addresses of arrays, and memory to work in."""

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_first: Any = ctypes.c_char.from_buffer
_place = ctypes.addressof


def address(array: NDArray[Any]) -> int:
    """Return where the numbers of a writable array in C order lie; 0 if there are none."""
    try:
        return _place(_first(array))
    except ValueError:
        return 0


class _Room:
    """Memory that kernels use one after the other: new one is slow to touch.

    Attributes:
        bytes: Room for few numbers; ``integers`` are the same bytes, and ``place`` their address.
        told: For what a caller wrote to ``bytes`` at last, if it left them as they were.
        arguments: Address of the memory, twice, and its size in numbers.
    """

    def __init__(self) -> None:
        self.bytes = bytearray(256)
        self.integers = np.frombuffer(self.bytes, np.int64)
        self.place = address(self.integers)
        self.told: Any = None
        self.grow(1 << 16)

    def grow(self, n: int) -> None:
        """Give room for n numbers, beginning with a cache line."""
        self.numbers = np.zeros(n + 8)
        first = -(-address(self.numbers) // 64) * 64
        self.arguments = (first, first, n)


class _Kept(threading.local):
    """The memory of each thread."""

    def __init__(self) -> None:
        self.room = _Room()


KEPT = _Kept()
_LARGEST_KEPT = 1 << 22  # numbers


def in_memory(function: Callable[..., int], *arguments: float) -> None:
    """Call a kernel with arguments, the addresses and the size of its memory; or with more memory.

    The kernel returns 0, or the numbers for which it needs room.
    """
    own = KEPT.room
    while needed := function(*arguments, *own.arguments):
        if needed > _LARGEST_KEPT:
            own = _Room()
        own.grow(needed + needed // 8)
