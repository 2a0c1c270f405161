"""Features of a whole dataset, made once before training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from potnet.crystal import Crystal
from potnet.errors import Failure, PotNetError
from potnet.features import Batch

CHUNK = 256

Features = Callable[[Sequence[Crystal]], Batch]
# Batches travel between processes as arrays: tensors would go through shared file handles.
Part = tuple[dict[str, NDArray[Any]] | None, list[int], list[Failure]]


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
    chunks = [crystals[k : k + CHUNK] for k in range(0, len(crystals), CHUNK)]
    batches, kept, failures = [], [], []
    done = 0
    for chunk, (tensors, rows, failed) in zip(
        chunks, _parts(features, chunks, on_error, workers), strict=True
    ):
        if tensors is not None:
            batches.append(Batch.from_tensors({k: torch.from_numpy(v) for k, v in tensors.items()}))
        kept.extend(done + row for row in rows)
        failures.extend(failed)
        done += len(chunk)
        if progress is not None:
            progress(done, len(crystals))
    if not batches:
        raise PotNetError(f"features: no crystal could be prepared; first: {failures[0].reason}")
    return Batch.cat(batches), np.array(kept, dtype=np.int64), failures


def _parts(
    features: Features, chunks: Sequence[Sequence[Crystal]], on_error: str, workers: int
) -> Iterator[Part]:
    if workers == 1 or len(chunks) == 1:
        yield from (_one_part(features, chunk, on_error) for chunk in chunks)
        return
    # Not "fork": it would copy the threads' locks of torch and numba in whatever state they are.
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        flat = ([_plain(crystal) for crystal in chunk] for chunk in chunks)
        yield from pool.map(_remote_part, ((features, chunk, on_error) for chunk in flat))


def _one_part(features: Features, crystals: Sequence[Crystal], on_error: str) -> Part:
    """Return the features of a chunk; when it fails, of its crystals one by one."""
    try:
        return _arrays(features(crystals)), list(range(len(crystals))), []
    except PotNetError:
        if on_error == "raise":
            raise
    batches, kept, failures = [], [], []
    for k, crystal in enumerate(crystals):
        try:
            batches.append(features([crystal]))
            kept.append(k)
        except PotNetError as error:
            failures.append(Failure(crystal.id, "features", str(error)))
    return (_arrays(Batch.cat(batches)) if batches else None), kept, failures


def _arrays(batch: Batch) -> dict[str, NDArray[Any]]:
    return {key: tensor.numpy() for key, tensor in batch.to_tensors().items()}


def _plain(crystal: Crystal) -> tuple[Any, ...]:
    return crystal.numbers, crystal.positions, crystal.cell, crystal.pbc, crystal.id


def _remote_part(task: tuple[Features, list[tuple[Any, ...]], str]) -> Part:
    features, plain, on_error = task
    torch.set_num_threads(1)
    return _one_part(features, [Crystal(*fields) for fields in plain], on_error)
