"""One shard: a file of crystals becomes a table, by the pipeline of ``potnet predict``.

Nothing here knows of other machines. Whatever is done twice, by a worker that was taken for dead
or by a second run, makes the same bytes under the same name.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from time import perf_counter, process_time
from typing import Any, NamedTuple

from potnet.cluster.addresses import Kind, OutputFolder, local_copy
from potnet.errors import ConfigError, Failure
from potnet.files import write_failures
from potnet.io import Piece, pieces_of
from potnet.sheet import COLUMNS, SheetMaker
from potnet.sheet.files import open_table
from potnet.sheet.pipeline import SheetWork, key_of, outcomes_of
from potnet.sheet.rows import records_of
from potnet.stability import Hull

ERRORS = "_errors"  # folder of the lists of what was skipped
MOST_NOTES = 20  # of what was read with a change, that one shard says


@dataclass(frozen=True)
class Settings:
    """What decides the bytes of a table.

    Attributes:
        models, properties, hull, device: As of :class:`~potnet.sheet.SheetMaker`.
        kind: Format of the tables.
        wide: One row for each crystal.
        batch_size: Most crystals that are computed together.
        species: Symbols for POSCAR files that do not say them.
    """

    models: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    hull: Hull | None = None
    device: str = "cpu"
    kind: Kind = "parquet"
    wide: bool = False
    batch_size: int = 64
    species: tuple[str, ...] = ()

    def maker(self, device: str | None = None) -> SheetMaker:
        """Return what makes the sheets, on another device if one is named."""
        return SheetMaker(
            self.models, self.properties, hull=self.hull, device=device or self.device
        )

    def key(self, maker: SheetMaker) -> str:
        """Return the text that is another when tables would be."""
        rest = self.device, self.kind, self.wide, self.batch_size, self.species
        return key_of(maker, *rest)


class Done(NamedTuple):
    """What came of a shard.

    Attributes:
        n_crystals: That could be read.
        n_failures: Of what could not be used.
        seconds: That it took.
        cpu: Seconds of processor time that the worker has used for it.
        memory: Most that the process has had since it began, MB.
        notes: What was read with a change, in words.
    """

    n_crystals: int
    n_failures: int
    seconds: float
    cpu: float
    memory: float
    notes: tuple[str, ...]


class ShardWorker:
    """What a process does with shards; it loads the models once.

    Args:
        settings: Decide the bytes.
        output: Address of the folder of tables.
        key: Of the process in charge: the models here must be the same.
        potnet: Version of it.
    """

    def __init__(self, settings: Settings, output: str, key: str, potnet: str) -> None:
        self._settings, self._output, self._key, self._potnet = settings, output, key, potnet
        self._work: SheetWork | None = None

    def load(self) -> None:
        """Load what is needed.

        Raises:
            ConfigError: If potnet or a model is another one here.
        """
        maker = self._settings.maker()
        if version("potnet") != self._potnet or self._settings.key(maker) != self._key:
            raise ConfigError(
                "cluster: every machine must have the same potnet and the same models, got "
                f"others on {_host()}. Install the same version there, and put archives where all "
                "machines find them."
            )
        self._work = SheetWork(maker, batch_size=self._settings.batch_size)

    def predict(self, address: str, name: str, careful: bool = False) -> Done:
        """Write the table of the file at ``address``, and the list of what was skipped.

        Args:
            address: Of the file.
            name: Of the table, without the ending.
            careful: Let other processes work: the crystal over which two of them are killed is
                listed among what was skipped.

        Raises:
            OSError: If the file or the folder cannot be reached.
        """
        if self._work is None:
            self.load()
        assert self._work is not None  # noqa: S101  (loaded just now)
        start, used = perf_counter(), process_time()
        settings, folder = self._settings, OutputFolder(self._output)
        n_crystals, failures = 0, []
        columns = () if settings.wide else COLUMNS
        table = f"{name}.{settings.kind}"
        with _noted() as notes, local_copy(address) as path, folder.writing(table) as made:
            pieces = (
                piece._replace(path=address) for piece in pieces_of(path, True, settings.species)
            )
            with open_table(made, columns) as rows:
                for outcome in self._outcomes(pieces, careful):
                    n_crystals += outcome.is_crystal
                    failures += outcome.failures
                    for record in records_of(outcome.rows, wide=settings.wide):
                        rows.write(record)
            self._list(folder, name, failures)  # before the table says that all is done
        took = perf_counter() - start, process_time() - used
        return Done(n_crystals, len(failures), *took, peak_memory(), tuple(notes))

    def _outcomes(self, pieces: Iterator[Piece], careful: bool) -> Iterator[Any]:
        assert self._work is not None  # noqa: S101  (as above)
        settings = self._settings
        found = outcomes_of(
            self._work,
            pieces,
            workers=2 if careful else 1,
            task_size=settings.batch_size,
            few=0 if careful else 1,
        )
        for _, outcomes in found:
            yield from outcomes

    @staticmethod
    def _list(folder: OutputFolder, name: str, failures: list[Failure]) -> None:
        errors = f"{ERRORS}/{name}.csv"
        if not failures:
            folder.remove(errors)
            return
        with folder.writing(errors) as made:
            write_failures(failures, made)


def peak_memory() -> float:
    """Return the most memory that this process has had, MB; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0.0
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


@contextmanager
def _noted() -> Iterator[list[str]]:
    """Collect what is said about the reading of files, once each."""
    notes: list[str] = []

    class Noted(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if len(notes) < MOST_NOTES and text not in notes:
                notes.append(text)

    log, handler = logging.getLogger("potnet"), Noted(logging.WARNING)
    log.addHandler(handler)
    try:
        yield notes
    finally:
        log.removeHandler(handler)


def _host() -> str:
    import socket

    return socket.gethostname()
