"""The inner loops of the fused messages, for numba; what it makes of them is shipped.

Sums are read as lists: for each node and each kind of sum, which nodes it meets there and how
strongly. `scripts/make_kernels.py` writes what is shipped: run it after any change here.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from latticesums.compiled.jit import entry, signature

# Sums of products may be reordered, but what is not a number stays that.
FAST: dict[str, Any] = {"fastmath": {"reassoc", "contract", "nsz", "arcp"}}
#: Sums below this are left out: in single precision they change no message of the order of 1.
#: Ends of Gaussians are 1e-40, and numbers too small for a mantissa cost a hundred products each.
NEGLIGIBLE = 1e-12

_LANES = 8
_WORD, _HALF, _FLOAT = ir.IntType(64), ir.IntType(32), ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, _LANES)


def _add_gathered(n_vectors: int) -> Any:
    """Make the loop out[c] += factors[c] sum over e of terms[e] rows[members[e] step + c].

    For 8 n columns; the sums stay in registers.
    """

    @intrinsic
    def loop(typing_context, terms, members, start, stop, rows, step, factors, out, columns):  # type: ignore[no-untyped-def]
        def codegen(context, builder, sig, arguments):  # type: ignore[no-untyped-def]
            terms, members, start, stop, rows, step, factors, out, columns = arguments
            at_rows, at_factors, at_out = cgutils.unpack_tuple(builder, columns)

            def vector(array, place, v):  # type: ignore[no-untyped-def]
                place = builder.add(place, ir.Constant(_WORD, _LANES * v))
                address = builder.gep(array, [place], source_etype=_FLOAT)
                return builder.bitcast(address, _VECTOR.as_pointer())

            def read(array, place, v):  # type: ignore[no-untyped-def]
                return builder.load(vector(array, place, v), align=4, typ=_VECTOR)

            def fma(a, b, c):  # type: ignore[no-untyped-def]
                return builder.fadd(builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))

            zero = ir.Constant(_VECTOR, [0.0] * _LANES)
            totals = [cgutils.alloca_once_value(builder, zero) for _ in range(n_vectors)]
            with cgutils.for_range(builder, builder.sub(stop, start)) as entries:
                e = builder.add(start, entries.index)
                member = builder.load(builder.gep(members, [e], source_etype=_HALF), typ=_HALF)
                member = builder.zext(member, _WORD)
                term = builder.load(builder.gep(terms, [e], source_etype=_FLOAT), typ=_FLOAT)
                row = builder.add(builder.mul(member, step), at_rows)
                undefined = ir.Constant(_VECTOR, ir.Undefined)
                first = builder.insert_element(undefined, term, ir.Constant(_HALF, 0))
                places = ir.Constant(ir.VectorType(_HALF, _LANES), [0] * _LANES)
                term = builder.shuffle_vector(first, undefined, places)
                for v, total in enumerate(totals):
                    builder.store(fma(term, read(rows, row, v), builder.load(total)), total)
            for v, total in enumerate(totals):
                added = fma(builder.load(total), read(factors, at_factors, v), read(out, at_out, v))
                builder.store(added, vector(out, at_out, v), align=4)
            return context.get_dummy_value()

        floats, short, n = types.CPointer(types.float32), types.CPointer(types.int32), types.intp
        places = types.UniTuple(n, 3)
        return types.void(floats, short, n, n, floats, n, floats, floats, places), codegen

    return loop


_add_64: Any = _add_gathered(8)
_add_32: Any = _add_gathered(4)
_add_8: Any = _add_gathered(1)


def group(n_pairs, n_nodes, nodes, first, order):
    """Write the pairs sorted by node to ``order``; return how many there are.

    Those of node n are at ``first[n]`` to ``first[n + 1]``. ``first`` is room for n_nodes + 1
    numbers and holds zeros.
    """
    for p in range(n_pairs):
        first[nodes[p] + 1] += 1
    for node in range(n_nodes):
        first[node + 1] += first[node]
    for p in range(n_pairs):
        node = nodes[p]
        order[first[node]] = p
        first[node] += 1
    for node in range(n_nodes, 0, -1):
        first[node] = first[node - 1]
    first[0] = 0
    return n_pairs


def count_sums(
    start, stop, n_components, n_sums, pair_step, component_step, sums, order, first, found
):  # fmt: skip
    """Write how much the nodes ``start`` to ``stop`` meet to ``found``; return how much in all.

    The sums of pair p and component d begin at p pair_step + d component_step.
    """
    in_all = 0
    for node in range(start, stop):
        n = 0
        for q in range(first[node], first[node + 1]):
            for d in range(n_components):
                place = order[q] * pair_step + d * component_step
                for k in range(n_sums):
                    n += not abs(sums[place + k]) <= NEGLIGIBLE  # true of nan, too
        found[node] = n
        in_all += n
    return in_all


def list_sums(
    start, stop, n_components, n_sums, pair_step, component_step,
    sums, order, first, others, room, starts, members, terms,
):  # fmt: skip
    """Write what the nodes ``start`` to ``stop`` meet; return how many nodes these are.

    The list of node n, component d and sum k begins at ``starts[n (n_components n_sums + 1) +
    d n_sums + k]`` and ends where the next begins; the first of a node at ``room[n]``, from where
    on there is room for one entry more than it has.
    """
    n_lists = n_components * n_sums
    for node in range(start, stop):
        place, head = room[node], node * (n_lists + 1)
        for d in range(n_components):
            for k in range(n_sums):
                starts[head] = place
                head += 1
                shift = d * component_step + k
                for q in range(first[node], first[node + 1]):
                    p = order[q]
                    term = sums[p * pair_step + shift]
                    members[place], terms[place] = others[p], term
                    place += not abs(term) <= NEGLIGIBLE  # no branch to be guessed
        starts[head] = place
    return stop - start


def gather(
    start, stop, n_components, n_sums, n_channels, row_step, row_component,
    factor_node, factor_component, factor_sum, out_node, out_component, out_sum,
    starts, members, terms, rows, factors, out,
):  # fmt: skip
    """Add factors[n, d, k, c] sum over m of F[n, m, d, k] rows[m, d, c] to out[n, d, k, c].

    For the nodes n from ``start`` to ``stop``; F is listed. Arrays begin where their steps say;
    those with a step of 0 lack that axis, so that what is added there is the sum over it. Returns
    the number of nodes.
    """
    n_lists = n_components * n_sums
    for node in range(start, stop):
        c = 0
        while c < n_channels:
            left = n_channels - c
            width = 64 if left >= 64 else 32 if left >= 32 else 8 if left >= 8 else left
            head = node * (n_lists + 1)
            for d in range(n_components):
                at_rows = d * row_component + c
                for k in range(n_sums):
                    begin, end = starts[head], starts[head + 1]
                    head += 1
                    if begin == end:
                        continue
                    at_factors = node * factor_node + d * factor_component + k * factor_sum + c
                    at_out = node * out_node + d * out_component + k * out_sum + c
                    at = (at_rows, at_factors, at_out)
                    if width == 64:
                        _add_64(terms, members, begin, end, rows, row_step, factors, out, at)
                    elif width == 32:
                        _add_32(terms, members, begin, end, rows, row_step, factors, out, at)
                    elif width == 8:
                        _add_8(terms, members, begin, end, rows, row_step, factors, out, at)
                    else:
                        for v in range(width):
                            total = 0.0
                            for e in range(begin, end):
                                total += terms[e] * rows[members[e] * row_step + at_rows + v]
                            out[at_out + v] += total * factors[at_factors + v]
            c += width
    return stop - start


def meet_images(
    n_images, n_channels, n, row, i, j, harmonics, filters, states, received, there
):  # fmt: skip
    """Add the messages of images to ``received``; return how many images there are.

    Those of one degree, with n harmonics: ``received`` has n rows for each node. An image of j that
    i meets is one of i that j meets, in the opposite direction: harmonics of degree 1 turn round,
    those of degree 0 and 2 do not. Own images are listed there and back. Harmonics of an image
    begin ``row`` numbers after those of the one before; ``there`` is room for n_channels numbers.
    """
    for e in range(n_images):
        kept = e * n_channels
        if n == 1 and i[e] != j[e]:  # both ways at once: harmonics of degree 0 are 1
            node, other = i[e] * n_channels, j[e] * n_channels
            for c in range(n_channels):
                weight = filters[kept + c]
                received[node + c] += weight * states[other + c]
                received[other + c] += weight * states[node + c]
            continue
        for way in range(1 if i[e] == j[e] else 2):
            node, other = (i[e], j[e]) if way == 0 else (j[e], i[e])
            for c in range(n_channels):
                there[c] = filters[kept + c] * states[other * n_channels + c]
            for m in range(n):
                factor, out = harmonics[e * row + m], (node * n + m) * n_channels
                if way == 1 and n == 3:
                    factor = -factor
                for c in range(n_channels):
                    received[out + c] += factor * there[c]
    return n_images


def pull_images(
    n_images, n_channels, n, row, i, j, harmonics, filters, states, gradient,
    by_harmonics, by_filters, by_states, there,
):  # fmt: skip
    """Take the derivatives by what :func:`meet_images` reads; return how many images there are.

    Those by filters are written, others added, but not those by harmonics of degree 0, which are 1.
    ``gradient`` is the derivative by what nodes
    received; ``there`` is room for 2 n_channels numbers.
    """
    for e in range(n_images):
        kept = e * n_channels
        if n == 1 and i[e] != j[e]:
            node, other = i[e] * n_channels, j[e] * n_channels
            for c in range(n_channels):
                pull = gradient[node + c] * states[other + c]
                by_filters[kept + c] = pull + gradient[other + c] * states[node + c]
            for c in range(n_channels):
                weight = filters[kept + c]
                by_states[other + c] += weight * gradient[node + c]
                by_states[node + c] += weight * gradient[other + c]
            continue
        for way in range(1 if i[e] == j[e] else 2):
            node, other = (i[e], j[e]) if way == 0 else (j[e], i[e])
            sent, is_turned = other * n_channels, way == 1 and n == 3
            for c in range(n_channels):
                there[c] = filters[kept + c] * states[sent + c]
                there[n_channels + c] = 0
            for m in range(n):
                at, out = e * row + m, (node * n + m) * n_channels
                factor, total = harmonics[at], by_harmonics[at]
                if is_turned:
                    factor, total = -factor, -total
                for c in range(n_channels):
                    there[n_channels + c] += factor * gradient[out + c]
                    total += there[c] * gradient[out + c]
                by_harmonics[at] = -total if is_turned else total
            for c in range(n_channels):
                pull = there[n_channels + c]
                by_states[sent + c] += pull * filters[kept + c]
                if way == 0:
                    by_filters[kept + c] = pull * states[sent + c]
                else:
                    by_filters[kept + c] += pull * states[sent + c]
    return n_images


def measure(n_nodes, n_components, n_channels, row, scale, vectors, mixed, out):
    """Write what of the vectors of nodes does not turn; return how many nodes there are.

    That is the sum of the squares of vectors, and of the products of the halves of ``mixed``, each
    compressed (x / t, t = (1 + x^2)^(1/4)) and times ``scale``. Rows of ``out`` lie ``row``
    numbers apart.
    """
    for node in range(n_nodes):
        at = node * row
        for c in range(2 * n_channels):
            out[at + c] = 0
        for m in range(n_components):
            vector = (node * n_components + m) * n_channels
            left, right = 2 * vector, 2 * vector + n_channels
            for c in range(n_channels):
                out[at + c] += vectors[vector + c] * vectors[vector + c]
            for c in range(n_channels):
                out[at + n_channels + c] += mixed[left + c] * mixed[right + c]
        for c in range(2 * n_channels):
            x = out[at + c]
            out[at + c] = scale * x / math.sqrt(math.sqrt(1 + x * x))
    return n_nodes


def pull_measures(
    n_nodes, n_components, n_channels, row, scale, vectors, mixed, gradient, by_vectors, by_mixed,
    room,
):  # fmt: skip
    """Write the derivatives by what :func:`measure` reads; return how many nodes there are.

    Rows of ``gradient``, the derivative by what that writes, lie ``row`` numbers apart.
    """
    for node in range(n_nodes):
        at = node * row
        for c in range(2 * n_channels):
            room[c] = 0
        for m in range(n_components):
            vector = (node * n_components + m) * n_channels
            left, right = 2 * vector, 2 * vector + n_channels
            for c in range(n_channels):
                room[c] += vectors[vector + c] * vectors[vector + c]
            for c in range(n_channels):
                room[n_channels + c] += mixed[left + c] * mixed[right + c]
        for c in range(2 * n_channels):
            u = 1 + room[c] * room[c]
            half = 0.5 * scale * gradient[at + c] / math.sqrt(math.sqrt(u))
            room[c] = half + half / u
        for m in range(n_components):
            vector = (node * n_components + m) * n_channels
            left, right = 2 * vector, 2 * vector + n_channels
            for c in range(n_channels):
                by_vectors[vector + c] = 2 * room[c] * vectors[vector + c]
            for c in range(n_channels):
                by_mixed[left + c] = room[n_channels + c] * mixed[right + c]
                by_mixed[right + c] = room[n_channels + c] * mixed[left + c]
    return n_nodes


# The same functions for numbers in double precision.
meet_images_double, pull_images_double = meet_images, pull_images
measure_double, pull_measures_double = measure, pull_measures


def compiled(name: str, arguments: str) -> int:
    """Return the address of a function of this file that numba compiles, or finds on the disk."""
    found = entry(globals()[name], signature(arguments), **FAST)
    _kept.append(found)
    return found.address


_kept: list[Any] = []  # machine code lives as long as its function
