"""Features on disk: computed once, kept under a hash of their crystal, and read as they are needed.

A folder of features has one folder for each kind of them, by settings and version of potnet; in it
``000000.safetensors``, ``000001.safetensors`` and so on, each with the features of some hundred or
thousand crystals. A file appears whole or not at all and never changes; what a process that was
killed had not written yet is computed by the next one. So all folds, seeds and targets, and a
dataset that has grown, find the features of the crystals that they share.

Files are mapped into memory: what was read stays there, for all processes together, as long as the
system has room.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from potnet.crystal import Crystal
from potnet.data.dataset import take
from potnet.errors import DataError, Failure
from potnet.features import Batch
from potnet.features.contract import Features
from potnet.files import atomic_write, check_output_folder, exclusive, remove_leftovers
from potnet.training.checkpoint import checksum
from potnet.training.features import (
    Part,
    Survey,
    Tensors,
    as_tensors,
    computed,
    require_some,
    size_of,
)
from potnet.training.packed import lengths, pack, unpack, unpacked_size

FILE_BYTES = 64 * 2**20
KEY_BYTES = 16
PAUSE = 0.2  # s between two looks whether another process is done

_log = logging.getLogger(__name__)


class FeatureFolder:
    """Where the features of crystals are kept.

    Args:
        path: The folder for features of all kinds.
        features: Settings of these.

    Attributes:
        path: The folder in it for features of these settings and this version of potnet.
    """

    def __init__(self, path: str | os.PathLike[str], features: Features) -> None:
        kind = type(features)
        self.features = features
        self._about = {
            "features": f"{kind.__module__}.{kind.__qualname__}",
            "settings": features.model_dump(mode="json"),
            "potnet": version("potnet"),
        }
        digest = hashlib.sha256(json.dumps(self._about).encode()).hexdigest()
        self.path = Path(path) / f"{kind.__name__}-{digest[:16]}"

    def survey(
        self,
        crystals: Sequence[Crystal],
        *,
        most_bytes: float = 0,
        on_error: str = "raise",
        workers: int = 1,
        progress: Callable[[int, int], None] | None = None,
    ) -> Survey:
        """Compute the features that are missing; return where those of ``crystals`` are.

        Args:
            crystals: What to look at; those on disk are read a chunk at a time.
            most_bytes: Largest size of features that are read into memory at once.
            on_error: "raise" stops at the first crystal that fails, "skip" goes on without it.
            workers: Processes that compute.
            progress: Called with the number of crystals that are done and their total.

        Raises:
            ConfigError: If the folder takes no files.
            PotNetError: If a crystal fails and ``on_error`` is "raise", or if all of them fail.
        """
        keys = np.array([_key(crystal) for crystal in crystals], f"S{KEY_BYTES}")
        failed: dict[int, Failure] = {}
        is_untried = np.ones(len(keys), bool)
        with self._alone():
            files = self._opened(keys, crystals)
            # Of equal crystals one is computed; if it fails all of them are tried.
            while len(rows := _firsts(keys, is_untried & (_places(keys, files) < 0))):
                is_untried[rows] = False
                missing = take(crystals, rows)
                parts = computed(self.features, missing, on_error=on_error, workers=workers)
                ready = len(keys) - len(rows)
                for part in self._written(parts, keys[rows], files):
                    failed |= {rows[k]: failure for k, failure in part.failures.items()}
                    if progress is not None:
                        progress(ready + part.n_done, len(keys))
        if progress is not None:
            progress(len(keys), len(keys))
        places = _places(keys, files)
        kept = np.flatnonzero(places >= 0)
        failures = [failed[row] for row in sorted(failed)]
        require_some(kept, failures)
        stored = StoredFeatures(files, places[kept])
        batch = stored(np.arange(len(kept))) if stored.n_bytes <= most_bytes else None
        counts = stored.counts
        return Survey(batch, kept, failures, counts[:, 0], counts[:, 1], stored)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder for this process, once no other one does."""
        check_output_folder(self.path, option="feature_folder")
        held, is_said = BlockingIOError(), False
        with ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(exclusive(self.path / ".lock", held))
                    break
                except BlockingIOError:
                    if not is_said:
                        _log.info("%s: waiting for another process, which computes.", self.path)
                    is_said = True
                    time.sleep(PAUSE)
            yield

    def _opened(self, keys: NDArray[np.bytes_], crystals: Sequence[Crystal]) -> list[_File]:
        """Return the files that are there, but for those with some of ``keys`` that are no good."""
        remove_leftovers(self.path)
        about = self.path / "about.json"
        if not about.exists():
            with atomic_write(about) as file:
                json.dump(self._about, file, indent=1)
        files = []
        for path in sorted(self.path.glob("[0-9]*.safetensors")):
            try:
                file = _File(path)
                rows = np.flatnonzero(np.isin(keys, file.keys))
                if len(rows):
                    file.check(self.features, crystals[int(rows[0])])
                files.append(file)
            except DataError as error:
                _log.warning("%s Its features are computed anew.", error)
                path.unlink()
        return files

    def _written(
        self, parts: Iterable[Part], keys: NDArray[np.bytes_], files: list[_File]
    ) -> Iterator[Part]:
        """Write parts and add the files to ``files``; yield each part after it was taken in."""
        waiting: list[Tensors] = []
        rows: list[int] = []
        for part in parts:
            if part.tensors is not None:
                waiting.append(part.tensors)
                rows += part.rows
            if sum(map(size_of, waiting)) > FILE_BYTES:
                files.append(self._write(waiting, keys[rows], len(files)))
                waiting, rows = [], []
            yield part
        if waiting:
            files.append(self._write(waiting, keys[rows], len(files)))

    def _write(self, parts: Sequence[Tensors], keys: NDArray[np.bytes_], number: int) -> _File:
        """Return a new file with some features; it has the first free number from ``number`` on."""
        while (path := self.path / f"{number:06}.safetensors").exists():
            number += 1
        tensors = pack({key: np.concatenate([part[key] for part in parts]) for key in parts[0]})
        tensors["keys"] = keys.view(np.uint8).reshape(-1, KEY_BYTES)
        with atomic_write(path, "wb") as file:
            file.write(save(tensors, {"checksum": str(checksum(as_tensors(tensors)))}))
        return _File(path)


class StoredFeatures:
    """Features of crystals in files that are mapped into memory.

    Args:
        files: The files.
        places: Where each crystal is, counted through all files, shape (n,).

    Attributes:
        counts: Atoms and pairs of each crystal, shape (n, 2).
        n_bytes: Size of all of them.
    """

    def __init__(self, files: Sequence[_File], places: NDArray[np.int64]) -> None:
        starts = np.cumsum([0, *map(len, files)])
        numbers = np.searchsorted(starts, places, "right") - 1
        self._row = places - starts[numbers]
        used, self._file = np.unique(numbers, return_inverse=True)
        self._files = [files[number] for number in used.tolist()]
        self.counts = np.concatenate([file.counts for file in self._files])
        starts = np.cumsum([0, *map(len, self._files)])
        self.counts = self.counts[starts[self._file] + self._row]
        sizes = [unpacked_size(file.packed) / len(file) for file in self._files]
        self.n_bytes = np.array(sizes)[self._file].sum()

    def __call__(self, rows: NDArray[np.int64]) -> Batch:
        """Return the features of the crystals ``rows``, in that order."""
        places = zip(self._file[rows].tolist(), self._row[rows].tolist(), strict=True)
        return _together([self._files[number].piece(row) for number, row in places])


def _together(pieces: Sequence[Tensors]) -> Batch:
    """Return the features of crystals, each packed."""
    packed = {key: np.concatenate([piece[key] for piece in pieces]) for key in pieces[0]}
    return Batch.from_tensors(as_tensors(unpack(packed)))


class _File:
    """A file of features.

    Attributes:
        path: Where it is.
        keys: Hash of each crystal, shape (n,).
        packed: Their features, mapped into memory.

    Raises:
        DataError: If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with safe_open(path, framework="pt") as file:
                self._checksum = int((file.metadata() or {})["checksum"])
                found = {key: file.get_tensor(key).numpy() for key in file.keys()}  # noqa: SIM118
            self.keys = found.pop("keys").copy().view(f"S{KEY_BYTES}")[:, 0]
            self.packed = found
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise self._damaged(f"a damaged one: {error}") from None

    def __len__(self) -> int:
        return len(self.keys)

    def _damaged(self, got: str) -> DataError:
        return DataError(f"{self.path}: must be a whole file of features, got {got}.")

    def check(self, features: Features, crystal: Crystal) -> None:
        """Look whether the file is as it was written, and one crystal as it is computed today.

        Raises:
            DataError: If a byte has changed, or the code that computes.
        """
        keys = self.keys.view(np.uint8).reshape(-1, KEY_BYTES)
        if checksum(as_tensors({**self.packed, "keys": keys})) != self._checksum:
            raise self._damaged("changed bytes")
        row = int(np.flatnonzero(self.keys == _key(crystal))[0])
        kept = _together([self.piece(row)]).to_tensors()
        today = features([crystal]).to_tensors()
        if kept.keys() != today.keys() or not all(torch.equal(kept[k], today[k]) for k in today):
            raise self._damaged("features that are computed in another way")

    @property
    def counts(self) -> NDArray[np.int64]:
        """Atoms and pairs of each crystal, shape (n, 2)."""
        pairs = [array for key, array in self.packed.items() if key.endswith(".counts")]
        return np.stack([self.packed["atom_counts"], np.sum(pairs, axis=0)], 1)

    @cached_property
    def _starts(self) -> dict[str, NDArray[np.int64]]:
        """Where each crystal begins in each tensor, shape (n + 1,)."""
        return {key: np.append(0, np.cumsum(n)) for key, n in lengths(self.packed).items()}

    def piece(self, row: int) -> Tensors:
        """Return the packed features of one crystal."""
        starts = self._starts
        return {
            key: array[starts[key][row] : starts[key][row + 1]]
            for key, array in self.packed.items()
        }


def _key(crystal: Crystal) -> bytes:
    """Return a hash of all of a crystal that its features depend on."""
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for array in (crystal.numbers, crystal.positions, crystal.cell, crystal.pbc):
        digest.update(array.tobytes())
    return digest.digest()


def _firsts(keys: NDArray[np.bytes_], is_wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the first place of each different key that is wanted, ascending."""
    rows = np.flatnonzero(is_wanted)
    return rows[np.sort(np.unique(keys[rows], return_index=True)[1])]


def _places(keys: NDArray[np.bytes_], files: Sequence[_File]) -> NDArray[np.int64]:
    """Return where each key is, counted through all files, -1 for those that are not there."""
    known = np.concatenate([np.empty(0, keys.dtype), *(file.keys for file in files)])
    if not len(known):
        return np.full(len(keys), -1)
    order = np.argsort(known, kind="stable")
    found = order[np.searchsorted(known, keys, sorter=order).clip(max=len(known) - 1)]
    return np.where(known[found] == keys, found, -1)
