"""Features of a whole dataset, made once before training."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from potnet.crystal import Crystal
from potnet.devices import import_torch
from potnet.errors import Failure, PotNetError, as_refusal
from potnet.features import Batch
from potnet.features.contract import Features
from potnet.parallel import in_order

CHUNK = 256
CHUNK_PAIRS = 2**18  # of all atoms, before symmetry joins some

_log = logging.getLogger(__name__)

# Batches travel between processes as arrays: tensors would go through shared file handles.
Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Part:
    """Features of a chunk of crystals, or only how many there are of them.

    Attributes:
        tensors: The features, if they are wanted and there are any.
        counts: Atoms and pairs of each crystal that has features, shape (n_kept, 2).
        rows: Where these are among all crystals, ascending.
        failures: The others, by where they are.
        n_done: Crystals that were looked at, this chunk included.
    """

    tensors: Tensors | None
    counts: NDArray[np.int64]
    rows: list[int]
    failures: dict[int, Failure]
    n_done: int = 0


@dataclass(frozen=True)
class Survey:
    """What is known of the features of a dataset after all of them were computed once.

    Attributes:
        batch: All of them, or None if they are larger than allowed.
        kept: Indices of the crystals that have features, shape (n_graphs,).
        failures: The others.
        atom_counts: Atoms of the cells that the features describe, shape (n_graphs,).
        pair_counts: Pairs of each crystal in all sets together, shape (n_graphs,).
        read: Gives those of some of the kept crystals, if they are on disk.
    """

    batch: Batch | None
    kept: NDArray[np.int64]
    failures: list[Failure]
    atom_counts: NDArray[np.int64]
    pair_counts: NDArray[np.int64]
    read: Callable[[NDArray[np.int64]], Batch] | None = None

    @staticmethod
    def of(batch: Batch) -> Survey:
        """Return the survey of features that are there already."""
        counts = counts_of(batch)
        return Survey(batch, np.arange(len(batch)), [], counts[:, 0], counts[:, 1])


def compute_features(
    features: Features,
    crystals: Sequence[Crystal],
    *,
    on_error: str = "raise",
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Batch, NDArray[np.int64], list[Failure]]:
    """Return the features of ``crystals`` as one batch.

    Args:
        features: Settings of the features, as ``network.features`` gives them.
        crystals: What to prepare.
        on_error: "raise" stops at the first crystal that fails, "skip" goes on without it.
        workers: Processes to use; the result does not depend on it.
        progress: Called with the number of crystals done and their total.

    Returns:
        The batch, the indices of the crystals in it, shape (n_graphs,), and what failed.

    Raises:
        PotNetError: If a crystal fails and ``on_error`` is "raise", or if all of them fail.
    """
    found = survey(features, crystals, on_error=on_error, workers=workers, progress=progress)
    batch = found.batch
    if batch is None:
        raise PotNetError("features: `most_bytes` must not be set where all are wanted.")
    return batch, found.kept, found.failures


def survey(
    features: Features,
    crystals: Sequence[Crystal],
    *,
    most_bytes: float = math.inf,
    on_error: str = "raise",
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Survey:
    """Compute all features once: keep them if they are small, else keep their sizes.

    Args:
        features: As for :func:`compute_features`; so are the others.
        crystals: What to look at; those on disk are read a chunk at a time.
        most_bytes: Largest size of features that are kept.
        on_error: What to do when a crystal fails.
        workers: Processes to use.
        progress: Called with the number of crystals done and their total.

    Raises:
        PotNetError: If a crystal fails and ``on_error`` is "raise", or if all of them fail.
    """
    batches: list[Batch] = []
    parts: list[Part] = []
    n_bytes = 0
    for part in computed(
        features,
        crystals,
        on_error=on_error,
        workers=workers,
        progress=progress,
        most_bytes=most_bytes,
    ):
        if part.tensors is not None and n_bytes <= most_bytes:
            n_bytes += size_of(part.tensors)
            batches.append(Batch.from_tensors(as_tensors(part.tensors)))
            if n_bytes > most_bytes:
                batches.clear()
                _log.info(
                    "Features of %d of %d crystals take %.2g GB, more than is allowed: they will "
                    "be computed while loading, in each epoch. `feature_folder` keeps them.",
                    part.n_done, len(crystals), n_bytes / 1e9,
                )  # fmt: skip
        parts.append(replace(part, tensors=None))
    kept = [row for part in parts for row in part.rows]
    failures = [failure for part in parts for failure in part.failures.values()]
    require_some(kept, failures)
    counts = np.concatenate([part.counts for part in parts])
    return Survey(
        Batch.cat(batches) if batches else None,
        np.array(kept, dtype=np.int64),
        failures,
        counts[:, 0],
        counts[:, 1],
    )


def require_some(kept: Sequence[int] | NDArray[np.int64], failures: Sequence[Failure]) -> None:
    """Raise ``PotNetError`` unless a crystal has features."""
    if not len(kept):
        raise PotNetError(f"features: no crystal could be prepared; first: {failures[0].reason}")


def computed(
    features: Features,
    crystals: Sequence[Crystal],
    *,
    on_error: str = "raise",
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    most_bytes: float = math.inf,
) -> Iterator[Part]:
    """Yield the features of ``crystals``, a chunk at a time, in order.

    Args:
        features: As for :func:`compute_features`; so are the others.
        crystals: What to look at.
        on_error: What to do when a crystal fails.
        workers: Processes to use.
        progress: Called with the number of crystals done and their total.
        most_bytes: After so many bytes of features, only their sizes are wanted.

    Raises:
        PotNetError: If a crystal fails and ``on_error`` is "raise".
    """
    sizes: list[int] = []
    done = n_bytes = 0

    def tasks() -> Iterator[tuple[Features, list[tuple[Any, ...]], str, bool]]:
        for chunk in _chunks(crystals):
            sizes.append(len(chunk))
            yield features, chunk, on_error, n_bytes <= most_bytes

    for k, part in enumerate(in_order(_remote_part, tasks(), workers, prepare=import_torch)):
        n_bytes += size_of(part.tensors or {})
        rows = [done + row for row in part.rows]
        failures = {done + row: failure for row, failure in part.failures.items()}
        done += sizes[k]
        yield replace(part, rows=rows, failures=failures, n_done=done)
        if progress is not None:
            progress(done, len(crystals))


def size_of(tensors: Tensors) -> int:
    """Return the bytes of all tensors together."""
    return sum(array.nbytes for array in tensors.values())


def _chunks(crystals: Sequence[Crystal]) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the crystals as plain arrays, few large ones or many small ones at a time."""
    chunk: list[tuple[Any, ...]] = []
    n_pairs = 0
    for crystal in crystals:
        pairs = crystal.n_atoms**2
        if chunk and (len(chunk) == CHUNK or n_pairs + pairs > CHUNK_PAIRS):
            yield chunk
            chunk, n_pairs = [], 0
        chunk.append(_plain(crystal))
        n_pairs += pairs
    if chunk:
        yield chunk


def _remote_part(task: tuple[Features, list[tuple[Any, ...]], str, bool]) -> Part:
    features, plain, on_error, wants_tensors = task
    if parent_process() is not None:
        torch.set_num_threads(1)
    crystals = [Crystal.restored(*fields) for fields in plain]
    batch, kept, failures = _one_part(features, crystals, on_error)
    if batch is None:
        return Part(None, np.empty((0, 2), np.int64), kept, failures)
    return Part(_as_arrays(batch) if wants_tensors else None, counts_of(batch), kept, failures)


def _one_part(
    features: Features, crystals: Sequence[Crystal], on_error: str
) -> tuple[Batch | None, list[int], dict[int, Failure]]:
    """Return the features of a chunk; when it fails, of its crystals one by one."""
    try:
        return features(crystals), list(range(len(crystals))), {}
    except Exception:  # noqa: BLE001  (as below)
        if on_error == "raise":
            raise
    batches, kept, failures = [], [], {}
    for k, crystal in enumerate(crystals):
        try:
            batches.append(features([crystal]))
            kept.append(k)
        # The wall around one crystal: whatever it does, it never costs the others.
        except Exception as error:  # noqa: BLE001
            reason = str(as_refusal(crystal.id, error))
            failures[k] = Failure(crystal.id, "features", reason)
    return (Batch.cat(batches) if batches else None), kept, failures


def counts_of(batch: Batch) -> NDArray[np.int64]:
    """Return atoms and pairs of each crystal, shape (n_graphs, 2)."""
    pairs = sum((p.counts for p in batch.pairs.values()), torch.zeros_like(batch.atom_counts))
    return torch.stack([batch.atom_counts, pairs], dim=1).cpu().numpy()


def _as_arrays(batch: Batch) -> Tensors:
    return {key: tensor.numpy() for key, tensor in batch.to_tensors().items()}


def as_tensors(arrays: Tensors) -> dict[str, torch.Tensor]:
    """Return arrays as tensors that share their memory."""
    return {key: torch.from_numpy(array) for key, array in arrays.items()}


def _plain(crystal: Crystal) -> tuple[Any, ...]:
    return crystal.numbers, crystal.positions, crystal.cell, crystal.pbc, crystal.id
