"""Arrays of compiled code in memory that Python gave: nothing is allocated, nothing counted."""

from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from latticesums.compiled.jit import part

CACHE_LINE = 8  # numbers; every array begins with one
_WORD = ir.IntType(64)


class Memory(NamedTuple):
    """One stretch of memory, seen as numbers and as integers; the first of these counts its use.

    Where more is asked for than there is, arrays lie beyond the end: whoever lays them out must
    compare :func:`used` with the room before anything is written.
    """

    floats: Any
    words: Any


@part
def memory_of(floats, words):
    """Return memory of which nothing is in use but the count of what is."""
    words[0] = CACHE_LINE
    return Memory(floats, words)


@part
def used(memory):
    """Return how many numbers are in use, or would be."""
    return memory.words[0]


def _array(context, builder, kind, data, lengths):
    """Return a C-contiguous array whose numbers lie at a place."""
    array = make_array(kind)(context, builder)
    item = ir.Constant(_WORD, kind.dtype.bitwidth // 8)
    strides = [item]
    for length in lengths[:0:-1]:
        strides.insert(0, builder.mul(strides[0], length))
    populate_array(array, data=data, shape=lengths, strides=strides, itemsize=item, meminfo=None)
    return array._getvalue()


def _taken(builder, kind, memory, lengths):
    """Return a place for so many more numbers or integers."""
    floats, words = cgutils.unpack_tuple(builder, memory)
    n = lengths[0]
    for length in lengths[1:]:
        n = builder.mul(n, length)
    start = builder.load(words, typ=_WORD)
    whole = builder.add(n, ir.Constant(_WORD, CACHE_LINE - 1))
    whole = builder.and_(whole, ir.Constant(_WORD, -CACHE_LINE))
    builder.store(builder.add(start, whole), words)
    is_real = kind.dtype == types.float64
    pointer, number = (floats, ir.DoubleType()) if is_real else (words, _WORD)
    return builder.gep(pointer, [start], source_etype=number)


def _signature(kind, first, lengths):
    return kind(first, *[types.intp] * len(lengths))


def _codegen(dtype):
    """Return the code of an array in memory, or at an address where there is no type."""

    def codegen(context, builder, sig, arguments):
        place, *lengths = arguments
        if dtype is not None:
            place = _taken(builder, sig.return_type, place, lengths)
        return _array(context, builder, sig.return_type, place, lengths)

    return codegen


def _makers(dtype=None):
    """Make the functions that return arrays of one, two and three axes.

    Of numbers of a type in memory; or, without a type, at an address.
    """

    @intrinsic
    def one(typing_context, place, n):
        kind = types.Array(dtype or place.dtype, 1, "C")
        return _signature(kind, place, [n]), _codegen(dtype)

    @intrinsic
    def two(typing_context, place, rows, n):
        kind = types.Array(dtype or place.dtype, 2, "C")
        return _signature(kind, place, [rows, n]), _codegen(dtype)

    @intrinsic
    def three(typing_context, place, blocks, rows, n):
        kind = types.Array(dtype or place.dtype, 3, "C")
        return _signature(kind, place, [blocks, rows, n]), _codegen(dtype)

    return one, two, three


numbers: Any
rows_of: Any
blocks_of: Any
integers: Any
rows_of_integers: Any
#: Room in memory: ``numbers(memory, n)``, ``rows_of(memory, rows, n)``, ...
numbers, rows_of, blocks_of = _makers(types.float64)
integers, rows_of_integers, _ = _makers(types.int64)
line_at: Any
rows_at: Any
blocks_at: Any
#: Arrays at an address: ``line_at(pointer, n)``, ``rows_at(pointer, rows, n)``, ...
line_at, rows_at, blocks_at = _makers()


def _pointer(number):
    """Make the function that returns the pointer to numbers of a type at an address."""

    @intrinsic
    def pointer(typing_context, address):
        kind = types.CPointer(number)

        def codegen(context, builder, sig, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(kind))

        return kind(types.int64), codegen

    return pointer


floats_at: Any = _pointer(types.float64)
words_at: Any = _pointer(types.int64)


@part
def fill(array, value):
    """Write one number everywhere."""
    for i in range(array.size):
        array[i] = value


@part
def fill_rows(array, value):
    """Write one number everywhere."""
    for i in range(array.shape[0]):
        for k in range(array.shape[1]):
            array[i, k] = value
