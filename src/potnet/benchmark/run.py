"""Running a benchmark: jobs side by side, each finished one kept, then one scoring of the test."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from potnet.benchmark.contestants import Contestant, Job
from potnet.benchmark.cost import Cost
from potnet.benchmark.opened import OpenSuite, open_suite
from potnet.benchmark.predictions import PredictionTable, concatenated
from potnet.benchmark.statistics import roc_auc, summarise
from potnet.benchmark.suites import Suite
from potnet.benchmark.sweep import different
from potnet.errors import ConfigError, DataError
from potnet.files import atomic_write, remove_leftovers
from potnet.targets import column_of
from potnet.training import Progress
from potnet.training.features import compute_features
from potnet.training.metrics import regression_metrics


@dataclass(frozen=True)
class TableRow:
    """One line of a table: a contestant with fixed settings.

    Attributes:
        name: What the table calls it.
        contestant: Who competes.
        folder: Where everything about it goes.
    """

    name: str
    contestant: Contestant
    folder: Path


@dataclass(frozen=True)
class _Order:
    """One job, in words that another process understands."""

    suite: Suite
    source: str
    row: TableRow
    targets: tuple[str, ...]
    fold: int
    turn: int
    features: Path | None
    threads: int

    @property
    def seed(self) -> int:
        return self.row.contestant.first_seed + self.turn

    @property
    def name(self) -> str:
        targets = re.sub(r"[^\w.+-]", "_", "+".join(self.targets))
        return f"{targets}-fold{self.fold}-seed{self.seed}"

    @property
    def folder(self) -> Path:
        return self.row.folder / "jobs" / self.name

    @property
    def scored(self) -> tuple[str, ...]:
        """The targets whose official split the job followed; others only helped to learn."""
        of = self.row.contestant.split_rule.of
        return tuple(t for t in self.targets if column_of(t) == of) if of else self.targets

    @property
    def is_done(self) -> bool:
        return (self.folder / "job.json").exists()


def run(
    opened: OpenSuite,
    rows: Sequence[TableRow],
    *,
    source: str | os.PathLike[str],
    features: str | os.PathLike[str],
    targets: Sequence[str] = (),
    folds: Sequence[int] = (),
    n_seeds: int | None = None,
    jobs: int = 1,
    workers: int = 1,
    score_test: bool = True,
    say: Callable[[str], None] = lambda _: None,
    progress: Callable[[Progress], None] | None = None,
) -> list[dict[str, Any]]:
    """Train and score contestants on a suite.

    Each contestant learns each target in each fold with each seed: a job with a folder of its
    own. A job that is finished is not repeated, one that was killed goes on, so that the same
    call continues after any interruption; further folds and seeds may be added to a folder, other
    settings may not. Test targets are nan in all that a contestant sees. When the jobs are done
    they are compared with the predictions, and ``scored.jsonl`` of the row keeps a line for every
    time this was done with new predictions: a row that was scored once was not chosen by its test
    error.

    Args:
        opened: The suite with its data.
        rows: Who competes.
        source: Where ``opened`` came from, for processes that open it again.
        features: Folder for the features that networks share.
        targets: Which of the suite's targets; empty takes all. Contestants that name targets of
            their own learn those together.
        folds: Which folds; empty takes all.
        n_seeds: Networks from different seeds, which predict together; None asks the contestant.
        jobs: Processes side by side; 1 works in this one.
        workers: Processes that make features.
        score_test: False leaves the test sealed and reports validation alone.
        say: Called with one line about each finished step.
        progress: Called with each epoch where ``jobs`` is 1.

    Returns:
        The results of each row, as ``results.json`` in its folder holds them.

    Raises:
        ConfigError: If a folder holds a row of other settings, or a fold does not exist.
        DataError: If a job fails.
    """
    names = _chosen(opened, targets)
    wanted = list(folds) or list(range(opened.suite.n_folds))
    absent = [fold for fold in wanted if not 0 <= fold < opened.suite.n_folds]
    if absent:
        raise ConfigError(
            f"{opened.suite.name}: `folds` must be from 0 to {opened.suite.n_folds - 1}, got "
            f"{absent[0]}. Correct it."
        )
    asked = opened.asking([name for row in rows for name in row.contestant.targets])
    orders: list[_Order] = []
    threads = max(1, (os.cpu_count() or 1) // jobs)
    for row in rows:
        _claim(row, opened)
        shared = _features_file(opened, row.contestant, Path(features), workers, say)
        for group in _groups(row.contestant, names):
            _chosen(asked, group)
            for fold in wanted:
                for turn in range(n_seeds or row.contestant.n_seeds):
                    orders.append(
                        _Order(opened.suite, str(source), row, group, fold, turn, shared, threads)
                    )
    _work(asked, [order for order in orders if not order.is_done], jobs, say, progress)
    results = []
    for row in rows:
        own = [order for order in orders if order.row is row]
        results.append(_conclude(asked, row, own, score_test=score_test))
    return results


def _chosen(opened: OpenSuite, targets: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in targets if name not in opened.tasks]
    if unknown:
        raise ConfigError(
            f"{opened.suite.name}: targets must be {', '.join(opened.tasks)}, got "
            f"{unknown[0]!r}. Correct the name."
        )
    return tuple(targets) or tuple(opened.tasks)


def _groups(contestant: Contestant, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the targets of each network: what the settings join, else one by one."""
    return [contestant.targets] if contestant.targets else [(name,) for name in names]


def _claim(row: TableRow, opened: OpenSuite) -> None:
    """Make the folder of a row, or find it to be of this row."""
    row.folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(row.folder)
    path = row.folder / "benchmark.json"
    content = _plain(
        {
            "suite": opened.suite.name,
            "data": {
                "name": opened.dataset.name,
                "n": len(opened.dataset),
                "sha256": opened.dataset.sha256,
            },
            "settings": row.contestant.settings(),
        }
    )
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        new, old = different(content, found), different(found, content)
        if new or old:
            raise ConfigError(
                f"{path}: a row must keep its {' and '.join({**new, **old})}, got "
                f"{json.dumps(new)} in place of {json.dumps(old)}. Choose another folder."
            )
    elif any(row.folder.glob("jobs/*")):
        raise ConfigError(
            f"{row.folder}: must be empty or hold the row that was begun in it, got jobs of "
            "something else. Choose another folder."
        )
    if opened.left_out:
        with atomic_write(row.folder / "left-out.txt") as file:
            file.writelines(f"{id}\n" for id in opened.left_out)
    _write_json(path, content)


def _features_file(
    opened: OpenSuite, contestant: Contestant, folder: Path, workers: int, say: Callable
) -> Path | None:
    """Return the file with the features of all crystals, made if it is not there."""
    features = contestant.features()
    if features is None:
        return None
    name = f"{type(features).__name__}{features.model_dump_json()}{opened.dataset.sha256}"
    path = folder / f"features-{hashlib.sha256(name.encode()).hexdigest()[:16]}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        batch, kept, _ = compute_features(features, opened.dataset.crystals, workers=workers)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        save_file({k: v.contiguous() for k, v in batch.to_tensors().items()}, partial)
        os.replace(partial, path)
        say(f"features of {len(kept):,} crystals: {time.monotonic() - start:.1f} s")
    return path


# ------------------------------------------------------------------------------------------ jobs


def _work(
    opened: OpenSuite,
    orders: Sequence[_Order],
    jobs: int,
    say: Callable[[str], None],
    progress: Callable[[Progress], None] | None,
) -> None:
    """Do the jobs; all of them are tried before the first fault is raised."""
    if jobs == 1 or len(orders) <= 1:
        for k, order in enumerate(orders, 1):
            cost = _do(order, opened, progress)
            say(_line(order, cost, k, len(orders)))
        return
    faults = []
    # A process per job: its peak memory is its own, and nothing is left over from another one.
    with ProcessPoolExecutor(jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
        futures = {pool.submit(_do_elsewhere, order): order for order in orders}
        for k, future in enumerate(as_completed(futures), 1):
            order, fault = futures[future], future.exception()
            if fault is not None:
                faults.append(fault)
                say(f"[{k}/{len(orders)}] {order.row.name} {order.name}: {fault}")
            else:
                say(_line(order, future.result(), k, len(orders)))
    if faults:
        raise faults[0]


def _line(order: _Order, cost: Cost, k: int, n: int) -> str:
    return f"[{k}/{n}] {order.row.name} {order.name}: {cost.seconds:.1f} s"


def _do_elsewhere(order: _Order) -> Cost:
    torch.set_num_threads(order.threads)
    return _do(order, open_suite(order.suite, order.source).asking(order.targets), None)


def _do(order: _Order, opened: OpenSuite, progress: Callable[[Progress], None] | None) -> Cost:
    """Train and predict, and keep the result: ``job.json`` is written last."""
    order.folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(order.folder)
    contestant = order.row.contestant
    split = opened.split(order.targets, order.fold, turn=order.turn, rule=contestant.split_rule)
    job = Job(
        dataset=opened.job_dataset(order.targets, split),
        split=split,
        seed=order.seed,
        folder=order.folder,
        features=order.features,
        binary=frozenset(t for t in order.targets if opened.tasks[t].metric == "roc_auc"),
        progress=progress,
    )
    outcome = contestant.compete(job)
    with atomic_write(order.folder / "predicted.csv") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", *order.targets])
        for row, values in zip(job.asked, outcome.predictions.tolist(), strict=True):
            writer.writerow([job.dataset.ids[row], *(f"{value:.9g}" for value in values)])
    _write_json(order.folder / "job.json", {"cost": outcome.cost.model_dump(mode="json")})
    return outcome.cost


def _predicted(order: _Order) -> dict[str, dict[str, float]]:
    """Return what a finished job predicted: by target, by id."""
    with open(order.folder / "predicted.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {t: {row["id"]: float(row[t]) for row in rows} for t in order.targets}


# --------------------------------------------------------------------------------------- scoring


def _conclude(
    opened: OpenSuite, row: TableRow, orders: Sequence[_Order], *, score_test: bool
) -> dict[str, Any]:
    """Join predictions and targets, and write the tables and ``results.json`` of a row."""
    parts: dict[str, dict[str, list[PredictionTable]]] = {}
    for order in orders:
        for target, values in _predicted(order).items():
            if target not in order.scored:
                continue
            found = parts.setdefault(target, {"validation": [], "test": []})
            split = opened.split(
                (target,), order.fold, turn=order.turn, rule=row.contestant.split_rule
            )
            for part, rows in (("validation", split.val), ("test", split.test)):
                found[part].append(_lines(opened, order, target, values, rows))
    tasks = {}
    for target, found in parts.items():
        own = [order for order in orders if target in order.scored]
        lines = {part: concatenated(found[part]) for part in found}
        tasks[target] = {
            "unit": opened.tasks[target].unit,
            "metric": opened.tasks[target].metric,
            **_scored(opened, row, target, own, lines["validation"], lines["test"], score_test),
            "cost": _total_cost(own),
        }
    result = {
        "name": row.name,
        "suite": opened.suite.name,
        "what": opened.suite.what,
        "notes": list(opened.notes),
        "folds": sorted({order.fold for order in orders}),
        "n_folds": opened.suite.n_folds,
        "seeds": sorted({order.seed for order in orders}),
        "combine": row.contestant.combine,
        **json.loads((row.folder / "benchmark.json").read_text(encoding="utf-8")),
        "tasks": tasks,
        "versions": {
            "potnet": version("potnet"),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    _write_json(row.folder / "results.json", result)
    return result


def _scored(
    opened: OpenSuite,
    row: TableRow,
    target: str,
    orders: Sequence[_Order],
    validation: PredictionTable,
    test: PredictionTable,
    score_test: bool,
) -> dict[str, Any]:
    """Return the errors of one target and write its predictions; look at the test if told to."""
    combine = row.contestant.combine
    stem = re.sub(r"[^\w.-]", "_", target)
    names = {part: f"{part}-{stem}.csv" for part in ("validation", "predictions", "submission")}
    metric = opened.tasks[target].metric
    validation.write(row.folder / names["validation"])
    validation = validation.select(np.isfinite(validation.targets))
    errors = np.abs(validation.values - validation.targets)
    scored: dict[str, Any] = {
        "validation": {
            "n": len(validation),
            "single_mae": float(errors.mean()),
            "predictions": names["validation"],
        }
    }
    if metric == "roc_auc":
        area, _ = roc_auc(validation.targets, validation.values)
        scored["validation"]["single_roc_auc"] = area
    if opened.suite.n_folds == 1:
        together = validation.combined(combine)
        scored["validation"] |= regression_metrics(together.targets, together.values)
    known = test.select(np.isfinite(test.targets))
    if len(test) and not len(known):
        test.combined(combine).write_submission(row.folder / names["submission"])
        scored["held_back"] = {"n": len(test.combined()), "predictions": names["submission"]}
    elif len(known) and score_test:
        test.write(row.folder / names["predictions"])
        scored["test"] = {
            **summarise(known, combine=combine, metric=metric),
            "mean_predictor_mae": _mean_predictor(opened, target, orders),
            "predictions": names["predictions"],
            "looked_at": _record(row, target, known),
        }
    return scored


def _lines(
    opened: OpenSuite, order: _Order, target: str, values: dict[str, float], rows: Any
) -> PredictionTable:
    """Return the lines of one job for the crystals ``rows`` that it was to predict."""
    ids = [opened.dataset.ids[k] for k in rows]
    missing = [id for id in ids if id not in values]
    if missing:
        raise DataError(
            f"{order.folder}: must hold predictions for all validation and test crystals, got "
            f"none for {missing[0]!r}. Delete this folder and run again."
        )
    return PredictionTable(
        np.array(ids, dtype=str),
        np.full(len(ids), order.fold),
        np.full(len(ids), order.seed),
        opened.dataset.targets[target][rows],
        np.array([values[id] for id in ids]),
    )


def _mean_predictor(opened: OpenSuite, target: str, orders: Sequence[_Order]) -> float:
    """Return the error of predicting the mean of all crystals outside the test."""
    errors = []
    values = opened.dataset.targets[target]
    for fold in sorted({order.fold for order in orders}):
        split = opened.split((target,), fold)
        rest = values[np.concatenate([split.train, split.val])]
        errors.append(np.abs(values[split.test] - np.nanmean(rest)))
    return float(np.nanmean(np.concatenate(errors)))


def _record(row: TableRow, target: str, lines: PredictionTable) -> dict[str, Any]:
    """Note in ``scored.jsonl`` that these test targets were looked at; return what it says."""
    path = row.folder / "scored.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    entries = [json.loads(line) for line in text.splitlines()]
    for fold in np.unique(lines.folds).tolist():
        part = lines.select(lines.folds == fold)
        content = json.dumps([part.ids.tolist(), part.seeds.tolist(), part.values.tolist()])
        digest = hashlib.sha256(content.encode()).hexdigest()
        own = [e for e in entries if (e["target"], e["fold"]) == (target, fold)]
        if not own or own[-1]["sha256"] != digest:
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            entries.append({"target": target, "fold": fold, "when": when, "sha256": digest})
    with atomic_write(path) as file:
        file.writelines(json.dumps(entry) + "\n" for entry in entries)
    own = [entry for entry in entries if entry["target"] == target]
    folds = [entry["fold"] for entry in own]
    return {"times": max(folds.count(fold) for fold in folds), "last": own[-1]["when"]}


def _total_cost(orders: Sequence[_Order]) -> dict[str, Any]:
    """Return the cost of ``orders`` together, and of one epoch."""
    costs = [
        Cost(**json.loads((order.folder / "job.json").read_text(encoding="utf-8"))["cost"])
        for order in orders
    ]
    seconds, epochs = sum(c.seconds for c in costs), sum(c.epochs for c in costs)
    memory = [c.peak_memory_mb for c in costs if c.peak_memory_mb is not None]
    return {
        "device": " and ".join(sorted({c.device for c in costs})),
        "processor": processor_name(),
        "jobs": len(costs),
        "seconds": seconds,
        "preparation": sum(c.preparation for c in costs),
        "epochs_per_job": epochs / len(costs),
        "seconds_per_epoch": seconds / epochs if epochs else None,
        "n_parameters": max(c.n_parameters for c in costs),
        "peak_memory_mb": max(memory, default=None),
    }


def processor_name() -> str:
    """Return what the system calls the processor."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _plain(content: Any) -> Any:
    return json.loads(json.dumps(content))


def _write_json(path: Path, content: Any) -> None:
    with atomic_write(path) as file:
        json.dump(content, file, indent=1)
