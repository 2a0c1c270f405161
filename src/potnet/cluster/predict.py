"""Tables of many files, by all machines of a cluster of Ray."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Literal

from potnet.cluster.addresses import OutputFolder, Source, find_sources
from potnet.cluster.crew import Crew
from potnet.cluster.shard import ERRORS, Settings, ShardWorker, peak_memory
from potnet.errors import ConfigError, Failure
from potnet.files import check_output_folder, exclusive
from potnet.stability import Hull

ABOUT, LOCK = "_potnet.json", "_lock"

_log = logging.getLogger("potnet")


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        shards, total: That have their tables, of all.
        crystals: That this run has read.
        cpu: Seconds of processor time that workers have used for them.
        memory: Most that a worker has had, MB.
    """

    shards: int
    total: int
    crystals: int
    cpu: float
    memory: float


@dataclass(frozen=True)
class ClusterResult:
    """What a run on a cluster has done.

    Attributes:
        output: Address of the folder of tables.
        n_shards: Files that were read, each of which has a table.
        n_before: Those whose table was there already.
        n_crystals: That this run has read.
        n_failures: Of what this run could not use; the lists are in ``_errors``.
        lost: Files that have no table, and why.
        seconds: That it took.
        cpu: Seconds of processor time of all workers, but for their start.
        n_workers: Most that worked at once.
        n_deaths: Workers that died and were replaced.
        memory: Most that a worker, and that this process has had, MB.
    """

    output: str
    n_shards: int
    n_before: int
    n_crystals: int
    n_failures: int
    lost: tuple[Failure, ...]
    seconds: float
    cpu: float
    n_workers: int
    n_deaths: int
    memory: tuple[float, float]


def predict(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    recursive: bool = False,
    models: Sequence[str] = (),
    properties: Sequence[str] = (),
    hull: Hull | None = None,
    kind: Literal["csv", "parquet"] = "parquet",
    wide: bool = False,
    batch_size: int = 64,
    species: Sequence[str] = (),
    device: str = "cpu",
    cluster: str = "auto",
    workers: int | tuple[int, int | None] | None = None,
    cpus: float = 1,
    gpus: float | None = None,
    memory: float | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ClusterResult:
    """Predict all crystals in many files, each file into a table of its own.

    The tables are those that ``potnet predict FILE -o TABLE`` writes on one machine, to the last
    byte. A table takes its place when it is complete, and that is all that says what is done: the
    same call goes on after any interruption, and makes anew the tables of files that have been
    written since. Ids are unique within a file.

    Args:
        inputs: Files of crystals, folders or patterns, at any addresses of fsspec: local paths,
            ``s3://bucket/*.parquet``, ``gs://...``. Every machine must be able to read them.
        output: Folder for the tables, at any address that every machine can write to.
        recursive: Whether to enter the folders inside folders.
        models: Bundled models, or archives at paths that every machine has; those of the sheet if
            none are named.
        properties: Rows that are wanted; all if none are named.
        hull: What crystals compete with; the bundled snapshot if it is not given.
        kind: Format of the tables.
        wide: One row for each crystal.
        batch_size: Most crystals that are computed together.
        species: Symbols for POSCAR files that do not say them.
        device: Where a worker computes: "cpu" or "cuda". Digits differ between the two, and so a
            run has one.
        cluster: "auto" for the running cluster that this machine belongs to, "local" for one that
            is started here and ended, or an address of Ray. Where a program has connected to one
            already, that one is used.
        workers: How many, or the least and the most; None for as many as the cluster has room for,
            as it grows.
        cpus, gpus, memory: Cores, share of a GPU (a whole one with "cuda") and GB that Ray keeps
            free for a worker.
        progress: Called now and again.

    Raises:
        ConfigError: If a setting does not fit, there is no cluster, or the folder holds tables of
            other models or settings.
        ModelError: If a model does not exist.
    """
    _require_ray()
    start = time.monotonic()
    given = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
    names = tuple(models), tuple(properties)
    settings = Settings(*names, hull, device, kind, wide, batch_size, tuple(species))
    key = settings.key(settings.maker("cpu"))
    sources = find_sources([os.fspath(item) for item in given], recursive=recursive)
    folder = OutputFolder(os.fspath(output))
    least, most = (workers, workers) if isinstance(workers, int) else workers or (1, None)
    with _owned(folder), connected(cluster):
        _claim(folder, {"sheet": key, "kind": kind, "wide": wide})
        todo = _unfinished(sources, folder, kind)
        resources = _resources(cpus, gpus, memory, device)
        start_one = _started(resources, settings, folder.address, key)
        crew = Crew(start_one, least, most, partial(_room, resources))
        tally = _Tally(len(sources), len(sources) - len(todo), progress)
        try:
            for _, done in crew.results(todo):
                tally.add(done)
        finally:
            crew.close()
    return ClusterResult(
        output=folder.address,
        n_shards=len(sources),
        n_before=len(sources) - len(todo),
        n_crystals=tally.n_crystals,
        n_failures=tally.n_failures,
        lost=tuple(tally.lost),
        seconds=time.monotonic() - start,
        cpu=tally.cpu,
        n_workers=crew.n_workers,
        n_deaths=crew.n_deaths,
        memory=(tally.memory, peak_memory()),
    )


class _Tally:
    """Counts what is done."""

    def __init__(
        self, total: int, before: int, progress: Callable[[Progress], None] | None
    ) -> None:
        self._total, self._shards, self._progress = total, before, progress
        self.n_crystals = self.n_failures = 0
        self.cpu = self.memory = 0.0
        self.lost: list[Failure] = []

    def add(self, done: Any) -> None:
        """Count a finished shard, or note why it is lost."""
        if isinstance(done, Failure):
            self.lost.append(done)
            return
        for note in done.notes:
            _log.warning("%s", note)
        self._shards += 1
        self.n_crystals += done.n_crystals
        self.n_failures += done.n_failures
        self.cpu += done.cpu
        self.memory = max(self.memory, done.memory)
        if self._progress is not None:
            now = self._shards, self._total, self.n_crystals
            self._progress(Progress(*now, self.cpu, self.memory))


def _require_ray() -> None:
    if find_spec("ray") is None:
        raise ConfigError(
            "cluster: ray must be installed on every machine, got none here. "
            "pip install 'potnet[cluster]'."
        )


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect to a cluster of Ray, and leave it afterwards unless that was there before.

    Raises:
        ConfigError: If there is none.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's announcement of it
    import ray

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    if address == "local":
        quiet["include_dashboard"] = False
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError) as error:
        raise ConfigError(
            f"cluster: Ray must run where {address!r} says, got {str(error).strip()[:200]}. Start "
            "it with `ray start --head`, or use `--cluster local` for this machine alone."
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _resources(
    cpus: float, gpus: float | None, memory: float | None, device: str
) -> dict[str, Any]:
    """Return what Ray keeps free for a worker, under its names."""
    share = (1.0 if device.startswith("cuda") else 0.0) if gpus is None else gpus
    return {"num_cpus": cpus, "num_gpus": share, "memory": (memory or 0) * 2**30}


def _room(resources: dict[str, Any]) -> int:
    """Return how many workers fit into the cluster as it is."""
    import ray

    there = ray.cluster_resources()
    names = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
    shares = [there.get(names[key], 0.0) // need for key, need in resources.items() if need]
    return int(min(shares, default=1))


def _started(resources: dict[str, Any], *given: Any) -> Callable[[], Any]:
    """Return a function that starts a worker; what it is given travels once."""
    import ray

    actor = ray.remote(max_restarts=0, **resources)(ShardWorker)
    refs = [ray.put(value) for value in (*given, version("potnet"))]
    return lambda: actor.remote(*refs)


@contextmanager
def _owned(folder: OutputFolder) -> Iterator[None]:
    """Keep other runs on this machine out of a folder of it."""
    if folder.local is None:
        yield
        return
    check_output_folder(folder.local)
    refusal = ConfigError(
        f"{folder.local}: only one run may write into a folder, got a second one. "
        "Wait until the first has ended."
    )
    with exclusive(folder.local / LOCK, refusal):
        yield


def _claim(folder: OutputFolder, about: dict[str, Any]) -> None:
    """Say in the folder which models and settings its tables are of.

    Raises:
        ConfigError: If it has those of others, or other files.
    """
    text = json.dumps(about) + "\n"
    before = folder.read(ABOUT)
    if before == text:
        return
    if before:
        raise ConfigError(
            f"{folder.address}: tables must be those of the same models and settings, got those "
            "of others. Choose another folder."
        )
    if others := [name for name in folder.listed() if name != LOCK]:
        raise ConfigError(
            f"{folder.address}: a folder for tables must be empty or hold those of an earlier "
            f"run, got {others[0]}. Choose another folder."
        )
    with folder.writing(ABOUT) as made:
        made.write_text(text, "utf-8")


def _unfinished(sources: Sequence[Source], folder: OutputFolder, kind: str) -> list[Source]:
    """Return the sources without a table that is newer than they; remove what killed runs left."""
    there = folder.listed()
    for name in there:
        if name.endswith(".tmp") and name.rpartition("/")[2].startswith("."):
            folder.remove(name)
    tables = {f"{source.name}.{kind}" for source in sources}
    kept = (ABOUT, LOCK, f"{ERRORS}/")
    others = [n for n in there if n not in tables and not n.startswith(kept) and n[:1] != "."]
    if others:
        _log.warning(
            "%s: %d tables there are of no file that was named, such as %s.",
            folder.address, len(others), others[0],
        )  # fmt: skip
    return [s for s in sources if (n := f"{s.name}.{kind}") not in there or there[n] < s.modified]
