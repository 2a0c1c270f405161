"""Features without the zeros of their pairs: on disk they take about half of their room.

An atom meets another in few shells, and atoms far from each other in none, so most of what pairs
carry is zero. Packed, pairs have a mask of bits, and one after the other the numbers that are not
zero; indices of atoms are no longer than they need to be. Unpacked, all have the same bits again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from potnet.training.features import Tensors

_WORDS: dict[int, type[np.unsignedinteger]] = {4: np.uint32, 8: np.uint64}


def pack(tensors: Tensors) -> Tensors:
    """Return the features of crystals, as ``Batch.to_tensors`` names them, without zeros."""
    packed = dict(tensors)
    for pairs in _pairs_of(tensors, "values"):
        values, counts = packed.pop(f"{pairs}.values"), tensors[f"{pairs}.counts"]
        is_kept = np.ascontiguousarray(values).view(_WORDS[values.itemsize]) != 0  # -0 is kept
        ends = np.append(0, np.cumsum(is_kept.sum(1)))[np.cumsum(counts)]
        packed |= {
            f"{pairs}.mask": np.packbits(is_kept, axis=1),
            f"{pairs}.terms": values[is_kept],
            f"{pairs}.term_counts": np.diff(ends, prepend=0),
            f"{pairs}.widths": np.full(len(counts), values.shape[1]),
        }
        for end in "ij":
            indices = tensors[f"{pairs}.{end}"]
            small = np.min_scalar_type(indices.max(initial=0))
            packed[f"{pairs}.{end}"] = indices.astype(np.promote_types(small, np.uint16))
    return packed


def unpack(packed: Tensors) -> Tensors:
    """Return what :func:`pack` was given."""
    tensors = dict(packed)
    for pairs in _pairs_of(packed, "mask"):
        mask, terms, _, widths = (
            tensors.pop(f"{pairs}.{part}") for part in ("mask", "terms", "term_counts", "widths")
        )
        width = int(widths[0])
        values = np.zeros((len(mask), width), terms.dtype)
        values[np.unpackbits(mask, axis=1, count=width).view(bool)] = terms
        tensors[f"{pairs}.values"] = values
        tensors |= {f"{pairs}.{end}": packed[f"{pairs}.{end}"].astype(np.int64) for end in "ij"}
    return tensors


def unpacked_size(packed: Tensors) -> int:
    """Return the bytes that features take when they are unpacked."""
    n_bytes = sum(array.nbytes for array in packed.values())
    for pairs in _pairs_of(packed, "mask"):
        parts = ("mask", "terms", "term_counts", "widths", "i", "j")
        n_bytes -= sum(packed[f"{pairs}.{part}"].nbytes for part in parts)
        width = int(packed[f"{pairs}.widths"][0])
        n_bytes += len(packed[f"{pairs}.mask"]) * (width * packed[f"{pairs}.terms"].itemsize + 16)
    return n_bytes


def lengths(packed: Tensors) -> dict[str, NDArray[Any]]:
    """Return how many rows of each tensor belong to each crystal, shape (n_crystals,)."""
    owners = {"numbers": "node_counts", "weights": "node_counts"}
    for pairs in _pairs_of(packed, "mask"):
        owners |= {f"{pairs}.{part}": f"{pairs}.counts" for part in ("i", "j", "mask")}
        owners[f"{pairs}.terms"] = f"{pairs}.term_counts"
    one = np.ones_like(packed["node_counts"])
    return {key: packed[owners[key]] if key in owners else one for key in packed}


def _pairs_of(tensors: Tensors, part: str) -> list[str]:
    return [key.removesuffix(f".{part}") for key in tensors if key.endswith(f".{part}")]
