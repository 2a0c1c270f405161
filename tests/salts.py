"""Crystals of the NaCl type, made for tests."""

import numpy as np


def rock_salt(first: int, second: int, length: float, id: str = ""):
    """Return a crystal of the NaCl type in its primitive cell, nearest distance ``length`` Å."""
    from potnet import Crystal

    cell = length * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    return Crystal([first, second], [[0, 0, 0], [length, length, length]], cell, id=id)
