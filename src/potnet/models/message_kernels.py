"""The inner loops of the fused messages, for numba; what it makes of them is shipped.

A pair is read, multiplied and added while it is in the cache. `scripts/make_kernels.py` writes what
is shipped: run it after any change here.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from latticesums.compiled.jit import entry, signature
from latticesums.compiled.memory import blocks_at, line_at, rows_at

# Sums of products may be reordered; arrays lie in memory that Python gave.
FAST: dict[str, Any] = {"fastmath": True}
_INLINED: dict[str, Any] = {"inline": "always", "error_model": "numpy", "_nrt": False, **FAST}
_inlined: Any = numba.njit(**_INLINED)


@_inlined
def _filter(sums: Any, place: Any, n_sums: Any, weight: Any, out: Any) -> None:
    """Write ``sums[place : place + n_sums] @ weight``."""
    n_channels = weight.shape[1]
    for c in range(n_channels):
        out[c] = np.float32(0)
    k = 0
    # Four rows at a time, so that the sums stay in registers four times as long.
    while k + 4 <= n_sums:
        f0, f1, f2, f3 = (
            sums[place + k],
            sums[place + k + 1],
            sums[place + k + 2],
            sums[place + k + 3],
        )
        w0, w1, w2, w3 = weight[k], weight[k + 1], weight[k + 2], weight[k + 3]
        for c in range(n_channels):
            out[c] += f0 * w0[c] + f1 * w1[c] + f2 * w2[c] + f3 * w3[c]
        k += 4
    while k < n_sums:
        f0, w0 = sums[place + k], weight[k]
        for c in range(n_channels):
            out[c] += f0 * w0[c]
        k += 1


@_inlined
def _add_outer(rows: Any, columns: Any, out: Any) -> None:
    """Add ``rows.T @ columns``, four rows each."""
    c0, c1, c2, c3 = columns[0], columns[1], columns[2], columns[3]
    for k in range(rows.shape[1]):
        r0, r1, r2, r3 = rows[0, k], rows[1, k], rows[2, k], rows[3, k]
        line = out[k]
        for c in range(columns.shape[1]):
            line[c] += r0 * c0[c] + r1 * c1[c] + r2 * c2[c] + r3 * c3[c]


def receive(
    start, stop, n_nodes, n_components, n_sums, n_channels, pair_step, component_step,
    sums, weight, states, i, j, received, filters,
):  # fmt: skip
    """Add the messages of the pairs ``start`` to ``stop`` to ``received``; return how many.

    The sums of pair p and component d begin at p pair_step + d component_step. ``filters`` is room
    for n_channels numbers.
    """
    values = line_at(sums, stop * pair_step + n_components * component_step)
    weights = rows_at(weight, n_sums, n_channels)
    sent = rows_at(states, n_nodes, n_channels)
    receiver, sender = line_at(i, stop), line_at(j, stop)
    total = blocks_at(received, n_nodes, n_components, n_channels)
    filtered = line_at(filters, n_channels)
    for p in range(start, stop):
        state = sent[sender[p]]
        for d in range(n_components):
            _filter(values, p * pair_step + d * component_step, n_sums, weights, filtered)
            out = total[receiver[p], d]
            for c in range(n_channels):
                out[c] += filtered[c] * state[c]
    return stop - start


def send_back(
    start, stop, n_nodes, n_components, n_sums, n_channels, pair_step, component_step,
    sums, weight, states, i, j, by_message, by_weight, by_states, filters, rows,
):  # fmt: skip
    """Add the derivatives by the filters and by the states; return how many pairs gave some.

    ``filters`` is room for 5 n_channels numbers, and ``rows`` for 4 n_sums; both hold zeros.
    """
    values = line_at(sums, stop * pair_step + n_components * component_step)
    weights = rows_at(weight, n_sums, n_channels)
    sent, back = rows_at(states, n_nodes, n_channels), rows_at(by_states, n_nodes, n_channels)
    receiver, sender = line_at(i, stop), line_at(j, stop)
    given_back = blocks_at(by_message, n_nodes, n_components, n_channels)
    changed = rows_at(by_weight, n_sums, n_channels)
    room = rows_at(filters, 5, n_channels)
    # Four pairs at a time change the derivative by the filters, which so moves four times less.
    filtered, waiting, read = room[4], room[:4], rows_at(rows, 4, n_sums)
    n = 0
    for p in range(start, stop):
        state, by_state = sent[sender[p]], back[sender[p]]
        for d in range(n_components):
            place = p * pair_step + d * component_step
            _filter(values, place, n_sums, weights, filtered)
            given, product = given_back[receiver[p], d], waiting[n]
            for c in range(n_channels):
                by_state[c] += given[c] * filtered[c]
                product[c] = given[c] * state[c]
            for k in range(n_sums):
                read[n, k] = values[place + k]
            n += 1
            if n == 4:
                _add_outer(read, waiting, changed)
                n = 0
    for row in range(n, 4):
        for k in range(n_sums):
            read[row, k] = 0.0
    _add_outer(read, waiting, changed)
    return stop - start


def compiled(name: str, arguments: str) -> int:
    """Return the address of a function of this file that numba compiles, or finds on the disk."""
    found = entry(globals()[name], signature(arguments), **FAST)
    _kept.append(found)
    return found.address


_kept: list[Any] = []  # machine code lives as long as its function
