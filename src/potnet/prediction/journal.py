"""What a long prediction keeps while it runs, so that it goes on after an interruption."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from potnet.crystal import Crystal
from potnet.errors import ConfigError, Failure
from potnet.prediction.predictor import BATCH_SIZE, Predictor, predict_stream
from potnet.prediction.rows import Prediction

Item = Prediction | Failure


class Journal:
    """The finished crystals of a prediction, one line each, in a file that grows as they come.

    A line holds a digest of the crystal and what was predicted for it; the first line is a digest
    of the models. A crystal that has changed since is predicted again, and so is everything when
    the models have.

    Args:
        path: The file; an existing one is continued.
        predictors: The models that predict.
        row: What is kept for each property of a crystal, a dataclass with ``id`` and ``flags``.
        settings: What else the rows depend on, in words.

    Raises:
        ConfigError: On entering, if the file is somebody else's.
    """

    _file: IO[str]

    def __init__(
        self,
        path: str | os.PathLike[str],
        predictors: Iterable[Predictor],
        *,
        row: type = Prediction,
        settings: str = "",
    ) -> None:
        self.path, self._row = Path(path), row
        cards = [predictor.card.model_dump_json() for predictor in predictors]
        models = "\n".join([version("potnet"), settings, *cards])
        self._models = hashlib.sha256(models.encode()).hexdigest()
        self._known: dict[str, list[Item]] = {}
        self.n_read = self.n_kept = 0

    def __enter__(self) -> Journal:
        self._known = dict(self._read())
        self.n_read = self.n_kept = len(self._known)
        # Written anew: the last line of the old file may be a part of one.
        self._file = open(self.path, "w", encoding="utf-8")  # noqa: SIM115
        self._file.write(self._first_line())
        for digest, items in self._known.items():
            self._write({"crystal": digest, "items": [asdict(item) for item in items]})
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._file.close()
        if kind is None or not self.n_kept:
            self.path.unlink(missing_ok=True)

    def predict(
        self,
        predictors: Sequence[Predictor],
        crystals: Iterable[Crystal | Failure],
        *,
        batch_size: int = BATCH_SIZE,
    ) -> Iterator[Item]:
        """Yield what :func:`predict_stream` yields, from the file where it is there already."""
        return self.resume(
            crystals, lambda items: predict_stream(predictors, items, batch_size=batch_size)
        )

    def resume(
        self,
        crystals: Iterable[Crystal | Failure],
        stream: Callable[[Iterable[Crystal | Failure]], Iterator[Any]],
    ) -> Iterator[Any]:
        """Yield what ``stream`` yields for crystals, from the file where it is there already."""
        found: list[Item] = []
        digests: dict[str, str] = {}

        def unknown() -> Iterator[Crystal | Failure]:
            for item in crystals:
                digest = _digest(item) if isinstance(item, Crystal) else ""
                if digest in self._known:
                    found.extend(self._known.pop(digest))
                else:
                    digests[item.id] = digest
                    yield item

        done: list[Item] = []
        for item in stream(unknown()):
            if done and done[0].id != item.id:
                self._keep(digests.pop(done[0].id, ""), done)
                done = []
            done.append(item)
            yield from found
            found.clear()
            yield item
        if done:
            self._keep(digests.pop(done[0].id, ""), done)
        yield from found

    def _keep(self, digest: str, items: Sequence[Item]) -> None:
        if digest:  # what could not be read is read again
            self._write({"crystal": digest, "items": [asdict(item) for item in items]})
            self.n_kept += 1

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()  # to the system, which keeps it when this process is killed

    def _read(self) -> Iterator[tuple[str, list[Item]]]:
        """Yield the finished crystals of an earlier run with the same models."""
        if not self.path.exists():
            return
        with open(self.path, encoding="utf-8", errors="replace") as file:
            first = file.readline()
            if first and not first.startswith('{"models": "'):
                raise ConfigError(
                    f"{self.path}: must be what an interrupted prediction left or be free, got "
                    "another file. Rename it, or choose another output."
                )
            if first != self._first_line():
                return
            for text in file:
                try:
                    line = json.loads(text)
                    yield line["crystal"], [self._item(plain) for plain in line["items"]]
                except (ValueError, TypeError, KeyError):
                    return  # the run was killed while it wrote this line

    def _item(self, plain: dict[str, Any]) -> Item:
        if "stage" in plain:
            return Failure(**plain)
        plain["flags"] = tuple(plain["flags"])
        return self._row(**plain)

    def _first_line(self) -> str:
        return json.dumps({"models": self._models}) + "\n"


def _digest(crystal: Crystal) -> str:
    parts = (crystal.id.encode(), crystal.numbers, crystal.positions, crystal.cell, crystal.pbc)
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part if isinstance(part, bytes) else part.tobytes())
    return whole.hexdigest()
