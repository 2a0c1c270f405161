"""Numbers that describe the chemical elements."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

import torch
from torch import Tensor

MAX_NUMBER = 118
N_DESCRIPTORS = 92


def element_table() -> Tensor:
    """Return the 92 zero-or-one features of each element, shape (119, 92), float32.

    Row Z describes the element of atomic number Z by its group, period, electronegativity,
    covalent radius, valence electrons, first ionisation energy, electron affinity, block and
    atomic volume, each in bins. Elements beyond fermium (Z = 100), and row 0, are all zeros.

    References:
        Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018); MIT licence.
    """
    return _table().clone()


@cache
def _table() -> Tensor:
    text = files("potnet.models").joinpath("cgcnn_elements.json").read_text(encoding="utf-8")
    table = torch.zeros(MAX_NUMBER + 1, N_DESCRIPTORS)
    for number, columns in json.loads(text).items():
        table[int(number), columns] = 1.0
    return table
