"""What a job of a benchmark is, and the scoring of a row when its jobs are done."""

from __future__ import annotations

import csv
import hashlib
import json
import platform
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from potnet.benchmark.contestants import Contestant
from potnet.benchmark.cost import Cost
from potnet.benchmark.opened import OpenSuite
from potnet.benchmark.predictions import PredictionTable, concatenated
from potnet.benchmark.statistics import summarise
from potnet.benchmark.suites import Suite
from potnet.errors import DataError
from potnet.files import atomic_write
from potnet.targets import column_of
from potnet.training.metrics import regression_metrics, roc_auc


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
class Order:
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


def _predicted(order: Order) -> dict[str, dict[str, float]]:
    """Return what a finished job predicted: by target, by id."""
    with open(order.folder / "predicted.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {t: {row["id"]: float(row[t]) for row in rows} for t in order.targets}


def conclude(
    opened: OpenSuite, row: TableRow, orders: Sequence[Order], *, score_test: bool
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
    write_json(row.folder / "results.json", result)
    return result


def _scored(
    opened: OpenSuite,
    row: TableRow,
    target: str,
    orders: Sequence[Order],
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
    opened: OpenSuite, order: Order, target: str, values: dict[str, float], rows: Any
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


def _mean_predictor(opened: OpenSuite, target: str, orders: Sequence[Order]) -> float:
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


def _total_cost(orders: Sequence[Order]) -> dict[str, Any]:
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


def write_json(path: Path, content: Any) -> None:
    with atomic_write(path) as file:
        json.dump(content, file, indent=1)
