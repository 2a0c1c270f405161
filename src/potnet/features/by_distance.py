"""The features of one crystal, divided by how far the images are that they come from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from potnet.crystal import Crystal
    from potnet.features.batch import Batch
    from potnet.features.complete import CompleteFeatures

SAME_DISTANCE = 1e-6  # Å: an image this little beyond an edge counts as within, rounding or not


@dataclass(frozen=True)
class ByDistance:
    """Complete sums and what they are made of.

    Attributes:
        nodes: Node of each atom, shape (n_atoms,).
        batch: The features of the crystal.
        parts: What the images of each range of distances add to each channel of each pair. They
            add up to the sums of the batch, float64, shape (n_edges + 1, n_pairs, n_channels).
    """

    nodes: NDArray[np.int64]
    batch: Batch
    parts: Tensor


def by_distance(features: CompleteFeatures, cell: Crystal, edges: Sequence[float]) -> ByDistance:
    """Return the features of a crystal, divided at some distances.

    A sum is linear in its images, so that it divides exactly. What lies beyond the last edge is the
    complete sum less all that lies within. Within a distance the Coulomb sum has its background,
    and is balanced on the surface (:func:`latticesums.partial_sums`).

    Args:
        features: Settings of the sums.
        cell: The crystal in the cell that is summed over, as ``features.reduced`` returns it.
        edges: Distances in Å, ascending.
    """
    nodes = features.orbits(cell)
    batch = features.batch([cell], [nodes])
    complete = batch.pairs["complete"].values.double()
    nothing = torch.zeros_like(complete)
    within = [nothing, *(_within(features, cell, nodes, edge) for edge in edges), complete]
    parts = torch.stack([outer - inner for inner, outer in zip(within, within[1:], strict=False)])
    # The range in which a channel ends takes what the nearer ones leave of it, and the ranges
    # beyond get nothing, not even the rounding of the sums.
    last = np.searchsorted(np.array(edges), features.reaches)
    for k in range(len(edges)):
        ends = torch.from_numpy(last == k)
        parts[k][:, ends] = (complete - within[k])[:, ends]
        parts[k + 1 :, :, ends] = 0.0
    return ByDistance(nodes, batch, parts)


def _within(
    features: CompleteFeatures, cell: Crystal, nodes: NDArray[np.int64], edge: float
) -> Tensor:
    """Return the channels of all pairs of nodes, of images within an edge alone."""
    from potnet.sums import directed_shells, partial_sums

    n, radius = cell.n_atoms, edge + SAME_DISTANCE
    arrays = torch.tensor(cell.positions), torch.tensor(cell.cell)
    near = directed_shells(*arrays, features.shells, degree=features.degree, within=radius)
    far = near.new_zeros(n * n, 0)
    if features.long_range:
        far = partial_sums(*arrays, features.potentials, radius=radius)
    columns = [part * torch.from_numpy(scale) for part, scale in features.channels(near, far)]
    pairs = torch.cat(columns, 1).view(n, n, -1)
    first = np.unique(nodes, return_index=True)[1]
    rows = pairs[torch.from_numpy(first)]
    found = rows.new_zeros(len(first), len(first), rows.shape[2])
    return found.index_add(1, torch.from_numpy(nodes), rows).flatten(0, 1)


def edges_in_words(edges: Sequence[float]) -> tuple[str, ...]:
    """Return what to call the ranges between some distances in Å.

    >>> edges_in_words([3, 5])
    ('0 to 3 Å', '3 to 5 Å', 'beyond 5 Å')
    """
    ends = [0.0, *edges, math.inf]
    return tuple(
        f"{low:g} to {high:g} Å" if high < math.inf else f"beyond {low:g} Å"
        for low, high in zip(ends, ends[1:], strict=False)
    )
