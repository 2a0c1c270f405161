"""Phases of the atoms of one crystal at the waves of a list of terms."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from latticesums.compiled.jit import part
from latticesums.compiled.memory import integers, numbers, rows_of, rows_of_integers
from latticesums.compiled.simd import LANES
from latticesums.compiled.terms import E_IMAGES, E_ORDER, E_WAVES
from latticesums.compiled.waves import WIDEST, write_phases

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Phases(NamedTuple):
    """Room for phases, cosines before sines in blocks of ``WIDEST`` atoms (:mod:`waves`)."""

    fractions: Floats
    orders: Ints
    slots: Ints
    turns: Floats
    powers: Floats
    line: Floats
    phases: Floats


@part
def largest_sizes(ends, offsets, n_graphs):
    """Return the most atoms, images, waves and the highest order that a crystal has."""
    n_atoms = n_images = n_waves = top = 0
    for c in range(n_graphs):
        images, waves = ends[c, E_IMAGES], ends[c, E_WAVES]
        if c > 0:
            images -= ends[c - 1, E_IMAGES]
            waves -= ends[c - 1, E_WAVES]
        n_atoms = max(n_atoms, offsets[c + 1] - offsets[c])
        n_images, n_waves = max(n_images, images), max(n_waves, waves)
        top = max(top, ends[c, E_ORDER])
    return n_atoms, n_images, n_waves, top


@part
def whole_blocks(n):
    """Return n rounded up to whole blocks, and room for what is read beyond."""
    return (n + WIDEST - 1) // WIDEST * WIDEST + LANES


@part
def room_for_phases(memory, n_atoms, n_waves, n_orders):
    """Return room for the phases of so many atoms at once."""
    room = whole_blocks(n_atoms)
    return Phases(
        fractions=rows_of(memory, 3, room),
        orders=rows_of_integers(memory, 3, n_waves),
        slots=integers(memory, n_waves),
        turns=rows_of(memory, 6, room),
        powers=numbers(memory, 6 * (n_orders + 1) * WIDEST),
        line=numbers(memory, 2 * WIDEST),
        phases=numbers(memory, 2 * n_waves * room),
    )


@part
def take_orders(orders, begin, n_waves, room):
    """Copy the orders of the waves of a crystal."""
    for k in range(n_waves):
        room.slots[k] = k
        for axis in range(3):
            room.orders[axis, k] = orders[axis, begin + k]


@part
def write_phases_of(fractions, first, n_atoms, n_waves, top, room):
    """Write the phases of atoms from number ``first`` on."""
    for i in range(room.fractions.shape[1]):
        for axis in range(3):
            room.fractions[axis, i] = fractions[axis, first + i] if i < n_atoms else 0.0
    write_phases(
        room.fractions, n_atoms, WIDEST, room.orders, room.slots, n_waves, top, room.turns,
        room.powers, room.line, room.phases,
    )  # fmt: skip
