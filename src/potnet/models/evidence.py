"""What the networks of a model see of crystals, beside what they predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from potnet.calibration import Contents, Evidence
from potnet.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from potnet.features.batch import Batch
    from potnet.models.contract import Network


def combined(outputs: NDArray[np.float64], how: Literal["median", "mean"]) -> NDArray[np.float64]:
    """Return the outputs of several networks, shape (n_members, n, n_targets), as one."""
    return np.median(outputs, axis=0) if how == "median" else np.mean(outputs, axis=0)


def states_of(members: Sequence[Network], batch: Batch) -> list[Tensor] | None:
    """Return the states of crystals in each network, None where one offers none."""
    with torch.inference_mode():
        try:
            return [member.embedding(batch) for member in members]
        except ModelError:
            return None


def described(
    members: Sequence[Network], batch: Batch, states: Sequence[Tensor] | None = None
) -> tuple[NDArray, NDArray[np.float64]]:
    """Return the states of crystals in all networks and all outputs.

    Args:
        members: The networks.
        batch: The crystals.
        states: What :func:`states_of` returns, where it is there already.

    Returns:
        The states side by side, shape (n, n_states), without columns where a network offers none,
        and outputs of shape (n_members, n, n_targets).
    """
    states = states_of(members, batch) if states is None else states
    with torch.inference_mode():
        if states is None:
            outputs = torch.stack([member(batch).double() for member in members])
            return np.zeros((batch.n_graphs, 0), np.float32), outputs.cpu().numpy()
        each = zip(members, states, strict=True)
        outputs = torch.stack([member.from_embedding(own, batch).double() for member, own in each])
    return torch.cat(list(states), 1).float().cpu().numpy(), outputs.cpu().numpy()


def heard(witnesses: Sequence[Network], batch: Batch) -> NDArray[np.float64] | None:
    """Return what witnesses say, shape (n_witnesses, n, n_targets); None if there is none."""
    if not witnesses:
        return None
    with torch.inference_mode():
        return torch.stack([network(batch).double() for network in witnesses]).cpu().numpy()


def evidence(
    states: NDArray,
    outputs: NDArray[np.float64],
    how: Literal["median", "mean"],
    contents: Contents,
    n_atoms: NDArray[np.int64],
    said: NDArray[np.float64] | None = None,
) -> Evidence:
    """Return what is seen of crystals.

    Args:
        states: Their states, as :func:`described` returns them.
        outputs: Those of all networks, as :func:`described` returns them.
        how: How these become one.
        contents: Compositions and volumes.
        n_atoms: Of the cells that the networks saw, shape (n,).
        said: By witnesses, as :func:`heard` returns it: it counts for how far all networks are
            apart, and for nothing else.
    """
    together = combined(outputs, how)
    every = outputs if said is None else np.concatenate([outputs, said])
    spreads = every.std(axis=0)
    return Evidence(states, together, spreads, contents.shares, n_atoms, contents.volumes)
