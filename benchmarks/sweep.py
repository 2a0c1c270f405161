"""Train many models that share data: ablations, and the models that potnet ships.

A sweep is a YAML file:

    data: name or path of a dataset (or give --data)
    base: settings of every run, as ``potnet train --config`` takes them
    runs: name of a run -> the settings in which it differs

Features are made once for every distinct kind. Runs go side by side (``--jobs``), each in its own
process and folder; a killed sweep continues where it was. The table goes to
``benchmarks/results/<sweep>.json``.

    python benchmarks/sweep.py benchmarks/sweeps/ablation.yaml --data FILE --output runs/ablation
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file

import potnet.data
from potnet.features import Batch
from potnet.files import atomic_write
from potnet.models import registry
from potnet.training import TrainingConfig, train
from potnet.training.features import compute_features

RESULTS = Path(__file__).parent / "results"


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``changes``, mappings inside mappings included."""
    result = dict(base)
    for key, value in changes.items():
        inner = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if inner else value
    return result


def shared_features(config: TrainingConfig) -> Any:
    return registry.build(config.network, config.network_settings, 1).features


def features_path(folder: Path, features: Any) -> Path:
    name = type(features).__name__ + features.model_dump_json()
    return folder / f"features-{hashlib.sha256(name.encode()).hexdigest()[:16]}.safetensors"


def prepare(dataset: potnet.data.Dataset, features: Any, path: Path, workers: int) -> None:
    """Make the features of all crystals once, whole or not at all."""
    if path.exists():
        return
    start = time.monotonic()
    batch, kept, failures = compute_features(features, dataset.crystals, workers=workers)
    if failures:
        raise SystemExit(f"{len(failures)} crystals failed, first: {failures[0].reason}")
    partial = path.with_suffix(".partial")
    save_file({k: v.contiguous() for k, v in batch.to_tensors().items()}, partial)
    os.replace(partial, path)
    print(f"features of {len(kept)} crystals: {time.monotonic() - start:.0f} s", flush=True)


def run_one(name: str, data: str, config: TrainingConfig, output: Path) -> None:
    torch.set_num_threads(1)
    dataset = potnet.data.open(data)
    batch = Batch.from_tensors(load_file(features_path(output, shared_features(config))))
    start = time.monotonic()
    result = train(dataset, config, output / name, resume=True, batch=batch)
    network = registry.build(config.network, config.network_settings, max(len(config.targets), 1))
    row = {
        "n_parameters": sum(p.numel() for p in network.parameters()),
        "seconds": round(time.monotonic() - start, 1),
        "metrics": json.loads((result.output / "metrics.json").read_text(encoding="utf-8")),
    }
    with atomic_write(output / f"{name}.json") as file:
        json.dump(row, file, indent=1)


def collect(name: str, config: TrainingConfig, output: Path) -> dict[str, Any] | None:
    """Return what is known of a run, finished or not; None if it has not begun."""
    path = output / name / "metrics.csv"
    if not path.exists():
        return None
    with open(path, encoding="utf-8", newline="") as file:
        history = list(csv.DictReader(file))
    finished = output / f"{name}.json"
    row = {
        "settings": config.differences(TrainingConfig()),
        "finished": finished.exists(),
        "epochs": len(history),
        "history": {
            key: [float(f"{float(entry[key]):.5g}") for entry in history]
            for key in (history[0] if history else {})
            if key == "train_loss" or key.startswith("val_mae")
        },
    }
    return row | (json.loads(finished.read_text(encoding="utf-8")) if finished.exists() else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--data", help="dataset, if the sweep does not name one that is at hand")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="processes that make features")
    parser.add_argument("--epochs", type=int, help="instead of those in the sweep")
    parser.add_argument("--only", nargs="*", help="names of runs")
    parser.add_argument("--device-name", help="where the runs were made, if not here")
    parser.add_argument("--collect", action="store_true", help="train nothing, write the table")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sweep = yaml.safe_load(arguments.sweep.read_text(encoding="utf-8"))
    data = arguments.data or sweep["data"]
    configs = {}
    for name, changes in sweep["runs"].items():
        settings = merged(sweep.get("base", {}), changes or {})
        if arguments.epochs:
            settings["epochs"] = arguments.epochs
        if not arguments.only or name in arguments.only:
            configs[name] = TrainingConfig(**settings)
    if arguments.run:
        run_one(arguments.run, data, configs[arguments.run], arguments.output)
        return

    arguments.output.mkdir(parents=True, exist_ok=True)
    dataset = potnet.data.open(data)

    def launch(name: str) -> int:
        with open(arguments.output / f"{name}.log", "w", encoding="utf-8") as log:
            command = [sys.executable, *sys.argv, "--run", name]
            code = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
        print(f"{name}: {'done' if code == 0 else f'failed with {code}'}", flush=True)
        return code

    if arguments.collect:
        report_on(arguments, sweep, configs, dataset)
        return
    for config in configs.values():
        features = shared_features(config)
        prepare(dataset, features, features_path(arguments.output, features), arguments.workers)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        codes = list(pool.map(launch, configs))
    report_on(arguments, sweep, configs, dataset)
    sys.exit(max(codes, default=0))


def report_on(
    arguments: argparse.Namespace,
    sweep: dict[str, Any],
    configs: dict[str, TrainingConfig],
    dataset: potnet.data.Dataset,
) -> None:
    """Print the errors and write the table."""
    found = {name: collect(name, config, arguments.output) for name, config in configs.items()}
    rows = {name: row for name, row in found.items() if row}
    for name, row in rows.items():
        for target, metrics in row.get("metrics", {}).get("val", {}).items():
            print(f"{name:24s} {target:28s} val MAE {metrics['mae']:.4f}  {row['seconds']:.0f} s")
    here = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    report = {
        "what": sweep.get("what", ""),
        "command": " ".join(["python", "benchmarks/sweep.py", arguments.sweep.name]),
        "data": {"name": dataset.name, "sha256": dataset.sha256},
        "device": arguments.device_name or here,
        "jobs": arguments.jobs,
        "sweep": sweep,
        "runs": rows,
    }
    with atomic_write(RESULTS / f"{arguments.sweep.stem}.json") as file:
        json.dump(report, file, indent=1)


if __name__ == "__main__":
    main()
