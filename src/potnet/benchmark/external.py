"""Contestants that are programs of their own, in environments of their own.

The program gets one argument, a folder with

- ``train.jsonl``, ``val.jsonl``, ``test.jsonl``: a record ``{id, lattice, species, frac_coords,
  target}`` per crystal (Å, rows are vectors); test records have no target;
- ``job.json``: ``{target, unit, seed, budget, settings}``; ``budget`` are the processor seconds
  that training may take, or null.

It writes ``predictions.csv`` with the columns ``id,prediction`` for all validation and test
crystals and may write ``cost.json`` with ``n_parameters``, ``epochs``, ``seconds`` (processor
seconds of training) and ``preparation`` (processor seconds before it); then it ends with code 0.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from potnet.benchmark.contestants import Combine, Job, Outcome
from potnet.benchmark.cost import Cost, resident_mb
from potnet.crystal import Crystal
from potnet.data import SplitConfig
from potnet.errors import ConfigError, DataError
from potnet.files import atomic_write


@dataclass(frozen=True)
class External:
    """A program that learns and predicts.

    Attributes:
        network: What to call it.
        command: How to start it, without the folder, as a shell would split it.
        options: Handed to it as ``settings``.
        budget: Processor seconds of training that it is told to use.
        split_rule: Share and seed of inner validation.
    """

    network: str
    command: str
    options: dict[str, Any] = field(default_factory=dict)
    budget: float | None = None
    split_rule: SplitConfig = field(default_factory=SplitConfig)
    combine: Combine = "mean"
    targets: tuple[str, ...] = ()
    first_seed: int = 0
    n_seeds: int = 1

    def settings(self) -> dict[str, Any]:
        """Return name, program, options and budget."""
        script = [Path(word).name for word in shlex.split(self.command)]
        chosen = {"network": self.network, "command": " ".join(script), **self.options}
        return chosen if self.budget is None else {**chosen, "budget": self.budget}

    def features(self) -> None:
        """Return None: it makes its own."""

    def compete(self, job: Job) -> Outcome:
        """Write the files, run the program and read what it predicts."""
        (target,) = job.dataset.targets
        folder = job.folder / "external"
        folder.mkdir(exist_ok=True)
        for part in ("train", "val", "test"):
            _write_part(folder / f"{part}.jsonl", job, target, part)
        order = {
            "target": target,
            "unit": job.dataset.units[target],
            "seed": job.seed,
            "budget": self.budget,
            "settings": self.options,
        }
        with atomic_write(folder / "job.json") as file:
            json.dump(order, file, indent=1)
        usage = self._run(folder)
        found = _read_predictions(folder / "predictions.csv")
        missing = [id for id in (job.dataset.ids[k] for k in job.asked) if id not in found]
        if missing:
            raise DataError(
                f"{self.network}: predictions.csv must have all validation and test crystals, got "
                f"none for {missing[0]!r} ({len(missing)} such). Correct the program."
            )
        predictions = np.array([[found[job.dataset.ids[k]]] for k in job.asked])
        reported = folder / "cost.json"
        said = json.loads(reported.read_text("utf-8")) if reported.exists() else {}
        return Outcome(predictions, Cost(**{**usage, **said}))

    def _run(self, folder: Path) -> dict[str, Any]:
        """Run the program in ``folder``; return its processor seconds and memory."""
        command = [*shlex.split(self.command), str(folder.resolve())]
        log = folder / "log.txt"
        with open(log, "wb") as file:
            try:
                process = subprocess.Popen(
                    command, stdout=file, stderr=subprocess.STDOUT, env=_foreign_environment()
                )
            except OSError as error:
                raise ConfigError(
                    f"{self.network}: the program must start, got {error.strerror} for "
                    f"{command[0]!r}. Correct the command."
                ) from None
            usage: dict[str, Any] = {}
            if sys.platform == "win32":
                process.wait()
            else:
                _, status, used = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                usage["seconds"] = used.ru_utime + used.ru_stime
                usage["peak_memory_mb"] = resident_mb(used.ru_maxrss)
        if process.returncode:
            last = log.read_text("utf-8", errors="replace").strip().splitlines()[-1:]
            raise DataError(
                f"{self.network}: the program must end with code 0, got {process.returncode}: "
                f"{' '.join(last) or 'it said nothing'}. Read {log}."
            )
        return usage


def _foreign_environment() -> dict[str, str]:
    """Return the environment without what would lead the program to this one's packages."""
    own = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in own}


def _write_part(path: Path, job: Job, target: str, part: str) -> None:
    values = job.dataset.targets[target]
    with atomic_write(path) as file:
        for k in getattr(job.split, part):
            if part != "test" and not np.isfinite(values[k]):
                continue
            record = record_of(job.dataset.crystals[k])
            if part != "test":
                record["target"] = float(values[k])
            file.write(json.dumps(record) + "\n")


def record_of(crystal: Crystal) -> dict[str, Any]:
    """Return a crystal as a line of JSON Lines holds it."""
    return {
        "id": crystal.id,
        "lattice": crystal.cell.tolist(),
        "species": list(crystal.symbols),
        "frac_coords": crystal.scaled_positions.tolist(),
    }


def _read_predictions(path: Path) -> dict[str, float]:
    if not path.exists():
        raise DataError(f"{path}: must hold the predictions, got no file. Correct the program.")
    with open(path, encoding="utf-8", newline="") as file:
        found = {row["id"]: float(row["prediction"]) for row in csv.DictReader(file)}
    bad = next((id for id, value in found.items() if not np.isfinite(value)), None)
    if bad is not None:
        raise DataError(
            f"{path}: predictions must be finite, got {found[bad]} for {bad!r}. "
            "Correct the program."
        )
    return found
