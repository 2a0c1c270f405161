"""What a kernel is called with: addresses of arrays, and memory to work in."""

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def address(array: NDArray[Any]) -> int:
    """Return where the numbers of a writable array in C order lie."""
    buffer: Any = array
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer)) if array.size else 0


class _Kept(threading.local):
    """Memory of a thread, which kernels use one after the other: new one is slow to touch.

    Attributes:
        integers: Room for a few, and ``place``, their address.
        given: What a caller gave, and ``given_at``, its address.
        arguments: Address of the memory, twice, and its size in numbers.
    """

    def __init__(self) -> None:
        self.integers = np.zeros(8, np.int64)
        self.place = address(self.integers)
        self.given = np.zeros(0)
        self.grow(1 << 16)

    def take(self, positions: NDArray[np.float64], cell: NDArray[np.float64]) -> int:
        """Copy positions, and a cell behind them, to memory that stays; return where they lie."""
        n = positions.size
        if self.given.size < n + 9:
            self.given = np.zeros(2 * n + 9)
            self.given_at = address(self.given)
        self.given[:n] = positions.ravel()
        self.given[n : n + 9] = cell.ravel()
        return self.given_at

    def farthest(self, n: int) -> float:
        """Return the sum of the squares of the first numbers taken: none is farther than that."""
        numbers = self.given[:n]
        return float(np.vdot(numbers, numbers))

    def grow(self, n: int) -> None:
        """Give room for n numbers, beginning with a cache line."""
        self.numbers = np.zeros(n + 8)
        first = -(-address(self.numbers) // 64) * 64
        self.arguments = (first, first, n)


KEPT = _Kept()
_LARGEST_KEPT = 1 << 22  # numbers


def in_memory(function: Callable[..., int], *arguments: float) -> None:
    """Call a kernel with arguments, the addresses and the size of its memory; or with more memory.

    The kernel returns 0, or the numbers for which it needs room.
    """
    own = KEPT
    while needed := function(*arguments, *own.arguments):
        if needed > _LARGEST_KEPT:
            own = _Kept()
        own.grow(needed + needed // 8)
