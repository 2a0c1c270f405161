"""The innermost loops, written as LLVM vectors of four numbers.

The automatic vectoriser leaves the short loops met here to scalar code, and does not keep the sums
of a matrix product in registers. LLVM maps the vectors to whatever the machine has. Arrays are
one-dimensional, C order; places in them are counted in numbers.
"""

import math
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = 4
#: Numbers that a polynomial is evaluated at together; its arrays need room for whole groups.
GROUP = 6 * LANES
#: Images are sorted by squared length into so many bins.
BINS = 64
#: Å; the first component of a vector to what is no atom.
NO_ATOM = 1e9

_WORD, _DOUBLE, _HALF = ir.IntType(64), ir.DoubleType(), ir.IntType(32)
_VECTOR, _WORDS = ir.VectorType(_DOUBLE, LANES), ir.VectorType(_WORD, LANES)


class _Array:
    """The memory of an array in the code of an intrinsic."""

    def __init__(self, context, builder, kind, value):
        self.builder, self.data = builder, context.make_array(kind)(context, builder, value).data
        is_real = kind.dtype == types.float64
        self.numbers, self.vectors = (_DOUBLE, _VECTOR) if is_real else (_WORD, _WORDS)

    def _at(self, place):
        return self.builder.gep(self.data, [place], source_etype=self.numbers)

    def _vector_at(self, place):
        return self.builder.bitcast(self._at(place), self.vectors.as_pointer())

    def number(self, place):
        return self.builder.load(self._at(place), typ=self.numbers)

    def set_number(self, number, place):
        self.builder.store(number, self._at(place))

    def vector(self, place):
        return self.builder.load(self._vector_at(place), align=8, typ=self.vectors)

    def set_vector(self, vector, place):
        self.builder.store(vector, self._vector_at(place), align=8)

    def splat(self, place):
        return _splat(self.builder, self.number(place))


def _arrays(context, builder, sig, arguments, *places):
    return (_Array(context, builder, sig.args[k], arguments[k]) for k in places)


def _word(n):
    return ir.Constant(_WORD, n)


def _splat(builder, scalar):
    """Return a vector of equal numbers."""
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(_HALF, 0))
    zeros = ir.Constant(ir.VectorType(_HALF, LANES), [0] * LANES)
    return builder.shuffle_vector(first, undefined, zeros)


def _fma(builder, a, b, c):
    product = builder.fmul(a, b, flags=("contract",))
    return builder.fadd(product, c, flags=("contract",))


def _call(builder, name, *arguments):
    """Return what an LLVM intrinsic of one type returns."""
    kind = ir.FunctionType(arguments[0].type, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _larger(builder, a, b):
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _constant(number):
    """Return a vector of equal constants."""
    return ir.Constant(_VECTOR, [number] * LANES)


def _tile(n_vectors):
    """Make the kernel C[r, :] += sum over k of A[k, r] B[k, :] for 4 rows and 4 n columns."""

    @intrinsic
    def tile(typing_context, a, at_a, b, at_b, step, c, at_c, step_c, n_k):
        def codegen(context, builder, sig, arguments):
            a, b, c = _arrays(context, builder, sig, arguments, 0, 2, 5)
            _, at_a, _, at_b, step, _, at_c, step_c, n_k = arguments
            places, sums = [], []
            for r in range(4):
                line = builder.add(at_c, builder.mul(step_c, _word(r)))
                for v in range(n_vectors):
                    places.append(builder.add(line, _word(LANES * v)))
                    sums.append(cgutils.alloca_once_value(builder, c.vector(places[-1])))
            with cgutils.for_range(builder, n_k) as loop:
                shift = builder.mul(loop.index, step)
                left, right = builder.add(at_a, shift), builder.add(at_b, shift)
                columns = [b.vector(builder.add(right, _word(LANES * v))) for v in range(n_vectors)]
                for r in range(4):
                    row = a.splat(builder.add(left, _word(r)))
                    for v in range(n_vectors):
                        total = sums[r * n_vectors + v]
                        builder.store(_fma(builder, row, columns[v], builder.load(total)), total)
            for place, total in zip(places, sums, strict=True):
                c.set_vector(builder.load(total), place)
            return context.get_dummy_value()

        n = types.intp
        return types.void(a, n, b, n, n, c, n, n, n), codegen

    return tile


tile1: Any = _tile(1)
tile2: Any = _tile(2)
tile3: Any = _tile(3)


@intrinsic
def _rotate(typing_context, a, at_a, b, at_b, sign, out, at_out, n):
    """Write (cos, sin) of the sum of two angles, or of the difference if sign is -1.

    n cosines, a multiple of four, are followed by n sines.
    """

    def codegen(context, builder, sig, arguments):
        a, b, out = _arrays(context, builder, sig, arguments, 0, 2, 5)
        _, at_a, _, at_b, sign, _, at_out, n = arguments
        sign = _splat(builder, sign)
        with cgutils.for_range(builder, builder.udiv(n, _word(LANES))) as loop:
            column = builder.mul(loop.index, _word(LANES))
            at = [builder.add(place, column) for place in (at_a, at_b, at_out)]
            cos_a, sin_a = a.vector(at[0]), a.vector(builder.add(at[0], n))
            cos_b, sin_b = b.vector(at[1]), b.vector(builder.add(at[1], n))
            sin_b = builder.fmul(sin_b, sign)
            minus = builder.fneg(builder.fmul(sin_a, sin_b))
            out.set_vector(_fma(builder, cos_a, cos_b, minus), at[2])
            product = builder.fmul(sin_a, cos_b)
            out.set_vector(_fma(builder, cos_a, sin_b, product), builder.add(at[2], n))
        return context.get_dummy_value()

    n = types.intp
    return types.void(a, n, b, n, types.float64, out, n, n), codegen


@intrinsic
def _scale(typing_context, a, at_a, factor, out, at_out, n):
    """Write n numbers, a multiple of four, times a factor."""

    def codegen(context, builder, sig, arguments):
        a, out = _arrays(context, builder, sig, arguments, 0, 3)
        _, at_a, factor, _, at_out, n = arguments
        factor = _splat(builder, factor)
        with cgutils.for_range(builder, builder.udiv(n, _word(LANES))) as loop:
            column = builder.mul(loop.index, _word(LANES))
            product = builder.fmul(a.vector(builder.add(at_a, column)), factor)
            out.set_vector(product, builder.add(at_out, column))
        return context.get_dummy_value()

    n = types.intp
    return types.void(a, n, types.float64, out, n, n), codegen


@intrinsic
def _polynomial(typing_context, coefficients, at, degree, u, n, out):
    """Write sum over i of coefficients[at + i] u^i for u[:n], and on to a whole group.

    A group stays in registers, so that neither memory nor the latency of a step limits it.
    """

    def codegen(context, builder, sig, arguments):
        coefficients, u, out = _arrays(context, builder, sig, arguments, 0, 3, 5)
        _, at, degree, _, n, _ = arguments
        groups = builder.udiv(builder.add(n, _word(GROUP - 1)), _word(GROUP))
        with cgutils.for_range(builder, groups) as group:
            start = builder.mul(group.index, _word(GROUP))
            places = [builder.add(start, _word(v)) for v in range(0, GROUP, LANES)]
            x = [u.vector(place) for place in places]
            first = coefficients.splat(builder.add(at, degree))
            sums = [cgutils.alloca_once(builder, _VECTOR) for _ in places]
            for total in sums:
                builder.store(first, total)
            with cgutils.for_range(builder, degree) as step:
                left = builder.sub(builder.sub(degree, step.index), _word(1))
                c = coefficients.splat(builder.add(at, left))
                for total, value in zip(sums, x, strict=True):
                    builder.store(_fma(builder, builder.load(total), value, c), total)
            for total, place in zip(sums, places, strict=True):
                out.set_vector(builder.load(total), place)
        return context.get_dummy_value()

    n = types.intp
    return types.void(coefficients, n, n, u, n, out), codegen


@intrinsic
def _add_scaled(typing_context, a, at_a, factor, out, at_out, n):
    """Add n numbers times a factor to as many others."""

    def codegen(context, builder, sig, arguments):
        a, out = _arrays(context, builder, sig, arguments, 0, 3)
        _, at_a, factor, _, at_out, n = arguments
        factors, whole = _splat(builder, factor), builder.udiv(n, _word(LANES))
        with cgutils.for_range(builder, whole) as loop:
            column = builder.mul(loop.index, _word(LANES))
            here, there = builder.add(at_a, column), builder.add(at_out, column)
            out.set_vector(_fma(builder, a.vector(here), factors, out.vector(there)), there)
        done = builder.mul(whole, _word(LANES))
        with cgutils.for_range(builder, builder.sub(n, done)) as loop:
            column = builder.add(loop.index, done)
            here, there = builder.add(at_a, column), builder.add(at_out, column)
            out.set_number(_fma(builder, a.number(here), factor, out.number(there)), there)
        return context.get_dummy_value()

    n = types.intp
    return types.void(a, n, types.float64, out, n, n), codegen


# exp(f) for |f| <= ln(2) / 2: coefficients of f^12, f^11, ..
_EXPONENTIAL = [1 / math.factorial(k) for k in range(12, -1, -1)]


@intrinsic
def _exponentials(typing_context, x, n, out):
    """Write exp(x) for x <= 0 to 2 ulp, on to a whole group."""

    def codegen(context, builder, sig, arguments):
        x, out = _arrays(context, builder, sig, arguments, 0, 2)
        groups = builder.udiv(builder.add(arguments[1], _word(GROUP - 1)), _word(GROUP))
        to_integer = _constant(6755399441055744.0)  # 1.5 2^52: the last bits are the integer
        with cgutils.for_range(builder, groups) as group:
            start = builder.mul(group.index, _word(GROUP))
            places = [builder.add(start, _word(v)) for v in range(0, GROUP, LANES)]
            powers, rests = [], []
            for place in places:
                value = _larger(builder, x.vector(place), _constant(-700.0))
                shifted = _fma(builder, value, _constant(1.4426950408889634), to_integer)
                whole = builder.fsub(shifted, to_integer)
                rest = _fma(builder, whole, _constant(-0.693145751953125), value)
                rests.append(_fma(builder, whole, _constant(-1.4286068203094172e-06), rest))
                words = builder.bitcast(shifted, _WORDS)
                words = builder.add(words, ir.Constant(_WORDS, [1023] * LANES))
                words = builder.shl(words, ir.Constant(_WORDS, [52] * LANES))
                powers.append(builder.bitcast(words, _VECTOR))
            sums = [_constant(_EXPONENTIAL[0])] * len(places)
            for coefficient in _EXPONENTIAL[1:]:
                term = _constant(coefficient)
                sums = [_fma(builder, s, r, term) for s, r in zip(sums, rests, strict=True)]
            for place, total, power in zip(places, sums, powers, strict=True):
                out.set_vector(builder.fmul(total, power), place)
        return context.get_dummy_value()

    return types.void(x, types.intp, out), codegen


class _Packer:
    """Stores those of four numbers that a mask names one after the other, without a branch."""

    def __init__(self, context, builder):
        self.builder = builder
        # AVX2 has an instruction that moves them together; elsewhere each finds its own place.
        self.shuffles = "+avx2" in context.codegen().magic_tuple()[2].split(",")
        if self.shuffles:
            table = [
                [
                    half
                    for lane in range(LANES)
                    if mask >> lane & 1
                    for half in (2 * lane, 2 * lane + 1)
                ]
                for mask in range(2**LANES)
            ]
            line = ir.ArrayType(_HALF, 2 * LANES)
            self.kind = kind = ir.ArrayType(line, 2**LANES)
            rows = [ir.Constant(line, row + [0] * (2 * LANES - len(row))) for row in table]
            self.table = cgutils.global_constant(
                builder.module, "latticesums.moves", ir.Constant(kind, rows)
            )

    def moves(self, mask):
        """Return how the lanes of a mask move, for :meth:`store`."""
        builder = self.builder
        if not self.shuffles:
            lower = [builder.and_(mask, _word(2**lane - 1)) for lane in range(LANES)]
            return [builder.ctpop(lanes) for lanes in lower]
        kind = ir.VectorType(_HALF, 2 * LANES)
        row = builder.gep(self.table, [_word(0), mask], source_etype=self.kind)
        return builder.load(builder.bitcast(row, kind.as_pointer()), align=4, typ=kind)

    def store(self, vector, array, n, moves):
        """Store the lanes of a vector from number n of an array on; what follows is lost."""
        builder = self.builder
        if not self.shuffles:
            for lane, before in enumerate(moves):
                number = builder.extract_element(vector, ir.Constant(_HALF, lane))
                array.set_number(number, builder.add(n, before))
            return
        singles = ir.VectorType(ir.FloatType(), 2 * LANES)
        kind = ir.FunctionType(singles, [singles, moves.type])
        permute = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.permps")
        moved = builder.call(permute, [builder.bitcast(vector, singles), moves])
        array.set_vector(builder.bitcast(moved, vector.type), n)


def _wrapped_vectors(builder, atoms, basis, step, atom, column):
    """Return the components of the vectors from an atom to four others, wrapped."""

    def row(k, place):
        return builder.add(builder.mul(step, _word(k)), place)

    wraps = []
    for k in range(3):
        apart = builder.fsub(atoms.vector(row(k, column)), atoms.splat(row(k, atom)))
        whole = builder.fadd(apart, _constant(0.5))
        wraps.append(builder.fneg(_call(builder, "llvm.floor.v4f64", whole)))
    own = []
    for axis in range(3):
        parts = []
        for half in range(2):
            k = 3 + 3 * half + axis
            apart = builder.fsub(atoms.vector(row(k, column)), atoms.splat(row(k, atom)))
            for vector, wrap in enumerate(wraps):
                component = basis.splat(_word(9 * half + 3 * vector + axis))
                apart = _fma(builder, wrap, component, apart)
            parts.append(apart)
        own.append(builder.fadd(*parts))
    return own


def _lanes_that_count(builder, lanes, last, left_out):
    """Return which of four atoms come before the last and are not the one left out."""
    counts = ir.Constant(ir.VectorType(ir.IntType(1), LANES), ir.Undefined)
    for lane, place in enumerate(lanes):
        is_atom = builder.and_(
            builder.icmp_signed("<", place, last), builder.icmp_signed("!=", place, left_out)
        )
        counts = builder.insert_element(counts, is_atom, ir.Constant(_HALF, lane))
    return counts


def _squared(builder, components):
    """Return the squared lengths of four vectors."""
    x, y, z = components
    total = builder.fmul(x, x, flags=("contract",))
    return _fma(builder, z, z, _fma(builder, y, y, total))


def _bin_in_reach(builder, squares, reach, per_square):
    """Return the bin of images that can be within reach of the longest of four vectors."""
    longest = squares
    for lanes_of in ([2, 3, 0, 1], [1, 0, 3, 2]):
        order = ir.Constant(ir.VectorType(_HALF, LANES), lanes_of)
        longest = _larger(builder, longest, builder.shuffle_vector(longest, longest, order))
    distance = builder.extract_element(longest, ir.Constant(_HALF, 0))
    distance = builder.fadd(_call(builder, "llvm.sqrt.f64", distance), reach)
    square = builder.fmul(builder.fmul(distance, distance), per_square)
    first_bin = builder.add(builder.fptosi(square, _WORD), _word(1))
    last_bin = _word(BINS - 1)
    is_less = builder.icmp_signed("<", first_bin, last_bin)
    return builder.select(is_less, first_bin, last_bin)


def _named(builder, image, numbers):
    """Return the number of an image in the upper half of the words, columns in the lower."""
    high = builder.shl(image, _word(32))
    highs = ir.Constant(_WORDS, ir.Undefined)
    for lane in range(LANES):
        highs = builder.insert_element(highs, high, ir.Constant(_HALF, lane))
    return builder.or_(highs, numbers)


def _noted_vectors(builder, arrays, step, atom, column, last, left_out):
    """Write the wrapped vectors from an atom to four others, and the smallest squares met.

    Returns:
        Their components, far off for those that do not count; and their squares, 0 for these.
    """
    atoms, basis, nearest, vectors = arrays
    own = _wrapped_vectors(builder, atoms, basis, step, atom, column)
    lanes = [builder.add(column, _word(lane)) for lane in range(LANES)]
    counts = _lanes_that_count(builder, lanes, last, left_out)
    length = _squared(builder, own)
    closest, there = (
        nearest.vector(_word(0)),
        builder.select(counts, length, _constant(1e18)),
    )
    closer = builder.fcmp_ordered("<", there, closest)
    nearest.set_vector(builder.select(closer, there, closest), _word(0))
    own[0] = builder.select(counts, own[0], _constant(NO_ATOM))  # no image is near
    for k, part in enumerate(own):
        vectors.set_vector(part, builder.add(builder.mul(step, _word(k)), column))
    return own, builder.select(counts, length, _constant(0.0))


def _search(context, builder, own, limit, images, step_images, begin, end, slots, line, column,
            squares, codes, n, names_images=False):  # fmt: skip
    """Append what is nearer than a limit of four vectors and the images begin..end-1."""
    numbers = ir.Constant(_WORDS, ir.Undefined)
    for lane in range(LANES):
        place = builder.add(column, _word(lane))
        code = place if names_images else builder.add(slots.number(place), line)
        numbers = builder.insert_element(numbers, code, ir.Constant(_HALF, lane))
    packer = _Packer(context, builder)
    last = cgutils.alloca_once_value(builder, n)
    with cgutils.for_range(builder, builder.sub(end, begin)) as loop:
        image = builder.add(begin, loop.index)
        places = [builder.add(image, builder.mul(step_images, _word(k))) for k in range(3)]
        moved = [
            builder.fadd(part, images.splat(place)) for part, place in zip(own, places, strict=True)
        ]
        total = _squared(builder, moved)
        near = builder.fcmp_ordered("<", total, limit)
        mask = builder.zext(builder.bitcast(near, ir.IntType(LANES)), _WORD)
        n, moves = builder.load(last), packer.moves(mask)
        packer.store(total, squares, n, moves)
        code = _named(builder, image, numbers) if names_images else numbers
        packer.store(code, codes, n, moves)
        builder.store(builder.add(n, builder.ctpop(mask)), last)
    return builder.load(last)


def _gather(names_images):
    """Make the search for the images of four neighbouring atoms that are near enough to one."""

    @intrinsic
    def gather(
        typing_context, atoms, step, atom, column, last, left_out, basis, reach, images,
        step_images, starts, per_square, slots, line, squares, codes, nearest, vectors, n,
    ):  # fmt: skip
        """Append squared distances below the reach, and codes of what they belong to.

        From ``atom`` to the images of atoms ``column`` .. ``column`` + 3. Those from ``last`` on do
        not count, nor does ``left_out``. Rows of ``atoms`` are fractional coordinates, places on
        the grid and their rests; ``basis`` has its parts on the grid and their rests, too. The
        wrapped vectors are written to ``vectors``, the smallest squares met to ``nearest``.

        The code of an image is the slot of its atom plus ``line``, or if ``names_images`` the
        number of the image in the upper half of a word and the column of its atom in the lower.

        Returns:
            The new number of squares.
        """

        def codegen(context, builder, sig, arguments):
            atoms, basis, images, starts, slots, squares, codes, nearest, vectors = _arrays(
                context, builder, sig, arguments, 0, 6, 8, 10, 12, 14, 15, 16, 17
            )
            _, step, atom, column, last, left_out, _, reach, _, step_images = arguments[:10]
            per_square, line, n = arguments[11], arguments[13], arguments[18]
            arrays = atoms, basis, nearest, vectors
            own, length = _noted_vectors(builder, arrays, step, atom, column, last, left_out)
            n_images = starts.number(_bin_in_reach(builder, length, reach, per_square))
            limit = _splat(builder, builder.fmul(reach, reach))
            return _search(
                context, builder, own, limit, images, step_images, _word(0), n_images, slots, line,
                column, squares, codes, n, names_images,
            )  # fmt: skip

        n_type, x = types.intp, types.float64
        signature = n_type(
            atoms, n_type, n_type, n_type, n_type, n_type, basis, x, images, n_type, starts, x,
            slots, n_type, squares, codes, nearest, vectors, n_type,
        )  # fmt: skip
        return signature, codegen

    return gather


@intrinsic
def _wrap(typing_context, atoms, step, atom, column, last, left_out, basis, nearest, vectors):
    """Write wrapped vectors as :func:`_gather` does, without a search."""

    def codegen(context, builder, sig, arguments):
        _, step, atom, column, last, left_out = arguments[:6]
        arrays = list(_arrays(context, builder, sig, arguments, 0, 6, 7, 8))
        _noted_vectors(builder, arrays, step, atom, column, last, left_out)
        return context.get_dummy_value()

    n = types.intp
    return types.void(atoms, n, n, n, n, n, basis, nearest, vectors), codegen


@intrinsic
def _search_images(
    typing_context, vectors, step, column, reach, images, step_images, begin, end, slots, line,
    squares, codes, n,
):  # fmt: skip
    """Append squares and codes as :func:`_gather` does, of the images begin..end-1 alone."""

    def codegen(context, builder, sig, arguments):
        vectors, images, slots, squares, codes = _arrays(
            context, builder, sig, arguments, 0, 4, 8, 10, 11
        )
        _, step, column, reach, _, step_images, begin, end, _, line, _, _, n = arguments
        own = [vectors.vector(builder.add(builder.mul(step, _word(k)), column)) for k in range(3)]
        limit = _splat(builder, builder.fmul(reach, reach))
        return _search(
            context, builder, own, limit, images, step_images, begin, end, slots, line, column,
            squares, codes, n,
        )  # fmt: skip

    n, x = types.intp, types.float64
    return n(vectors, n, n, x, images, n, n, n, slots, n, squares, codes, n), codegen


def _adder(n_terms):
    """Make the sum of the terms of one or more potentials into their places."""

    @intrinsic
    def add_at(typing_context, values, shifts, q, codes, terms, step, first, last):
        """Add terms[q, i] to values[codes[i] + shifts[q]] for i in first..last-1, one by one.

        So for ``n_terms`` successive q; rows of ``terms`` are ``step`` numbers apart.
        """

        def codegen(context, builder, sig, arguments):
            values, shifts, codes, terms = _arrays(context, builder, sig, arguments, 0, 1, 3, 4)
            _, _, q, _, _, step, first, last = arguments
            rows = [builder.add(q, _word(k)) for k in range(n_terms)]
            moves = [shifts.number(row) for row in rows]
            starts = [builder.mul(row, step) for row in rows]
            with cgutils.for_range(builder, builder.sub(last, first)) as loop:
                i = builder.add(first, loop.index)
                code = codes.number(i)
                places = [builder.add(code, move) for move in moves]
                numbers = [terms.number(builder.add(start, i)) for start in starts]
                before = [values.number(place) for place in places]
                for place, old, number in zip(places, before, numbers, strict=True):
                    values.set_number(builder.fadd(old, number), place)
            return context.get_dummy_value()

        n = types.intp
        return types.void(values, shifts, n, codes, terms, n, n, n), codegen

    return add_at


def _mirrorer(n_terms):
    """Make the completion of the sums of one or more potentials in a row of pairs."""

    @intrinsic
    def mirror(
        typing_context, values, at, step, across, step_across, sums, begins, q, zeros, most, n
    ):
        """Add long halves and constants to n sums, and copy them to a column.

        So for ``n_terms`` successive potentials from q on, which lie side by side. The long halves
        of potential p are in ``sums`` from ``begins[p]`` on, its constant is ``zeros[p]``, and
        ``most[p]`` becomes its largest short half if that is larger.
        """

        def codegen(context, builder, sig, arguments):
            values, sums, begins, zeros, most = _arrays(
                context, builder, sig, arguments, 0, 5, 6, 8, 9
            )
            _, at, step, across, step_across, _, _, q, _, _, n = arguments
            rows = [builder.add(q, _word(k)) for k in range(n_terms)]
            starts = [begins.number(row) for row in rows]
            constants = [zeros.number(row) for row in rows]
            largest = [cgutils.alloca_once_value(builder, most.number(row)) for row in rows]
            with cgutils.for_range(builder, n) as loop:
                place = builder.add(at, builder.mul(loop.index, step))
                copy = builder.add(across, builder.mul(loop.index, step_across))
                for k, (start, constant) in enumerate(zip(starts, constants, strict=True)):
                    here, there = builder.add(place, _word(k)), builder.add(copy, _word(k))
                    short = values.number(here)
                    highest = _larger(builder, short, builder.load(largest[k]))
                    builder.store(highest, largest[k])
                    long = sums.number(builder.add(start, loop.index))
                    total = builder.fadd(builder.fadd(short, long), constant)
                    values.set_number(total, here)
                    values.set_number(total, there)
            for row, highest in zip(rows, largest, strict=True):
                most.set_number(builder.load(highest), row)
            return context.get_dummy_value()

        n_type = types.intp
        signature = types.void(
            values, n_type, n_type, n_type, n_type, sums, begins, n_type, zeros, most, n_type
        )
        return signature, codegen

    return mirror


rotate: Any = _rotate
scale: Any = _scale
add_scaled: Any = _add_scaled
polynomial: Any = _polynomial
exponentials: Any = _exponentials
wrap: Any = _wrap
search_images: Any = _search_images
gather: Any = _gather(names_images=False)
gather_named: Any = _gather(names_images=True)
add_one: Any = _adder(1)
add_three: Any = _adder(3)
mirror_one: Any = _mirrorer(1)
mirror_three: Any = _mirrorer(3)
