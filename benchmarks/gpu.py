"""Run everything that waits for a GPU, in at most eight minutes, and write one file of results.

    python benchmarks/gpu.py                          # writes benchmarks/results/gpu.json
    python benchmarks/gpu.py --device cpu --quick     # that the script itself works

Each check has its own entry: its figures, or the error that ended it; one that would begin too late
is named as left out. The crystals are made up, of the sizes of small oxides.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from step_operators import crystals_like_oxides, trainer_of
from torch.profiler import ProfilerActivity, profile

import potnet
from latticesums import Coulomb, London, Pauli, pair_sums
from potnet.data import open as open_dataset
from potnet.training.features import compute_features

HERE = Path(__file__).parent
RESULT = HERE / "results" / "gpu.json"
SECONDS = 480.0
CORES = os.cpu_count() or 1
POTENTIALS = (Coulomb(), London(), Pauli())


@dataclass(frozen=True)
class Setting:
    """Where and how much: a device, whether only the script is tried, what is learned from."""

    device: str
    quick: bool
    data: Path | None = None

    def n(self, many: int, few: int) -> int:
        """Return ``many``, or ``few`` of a try."""
        return few if self.quick else many

    def wait(self) -> float:
        """Return the time when the device has done all that it was asked for, in s."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter()


def tests(setting: Setting) -> dict[str, Any]:
    """Return what the tests marked ``gpu`` say."""
    words = ["-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "-W", "default"]
    words += ["--tb=short"]
    words += ["--collect-only"] if setting.quick else _files_of_tests()
    done = subprocess.run(
        [sys.executable, *words], cwd=HERE.parent, capture_output=True, text=True, timeout=240
    )
    return {"code": done.returncode, "says": done.stdout[-6000:]}


def _files_of_tests() -> list[str]:
    """Return the files that have tests for a GPU: to import all others takes longer."""
    files = sorted((HERE.parent / "tests").rglob("test_*.py"))
    return [str(path) for path in files if "@pytest.mark.gpu" in path.read_text(encoding="utf-8")]


def sums(setting: Setting) -> dict[str, Any]:
    """Return how far sums on the device are from those of the CPU, and crystals per second."""
    crystals = crystals_like_oxides(setting.n(1000, 4))
    counts = torch.tensor([crystal.n_atoms for crystal in crystals])
    index = torch.arange(len(crystals)).repeat_interleave(counts)
    positions = torch.from_numpy(np.concatenate([crystal.positions for crystal in crystals]))
    cells = torch.from_numpy(np.stack([crystal.cell for crystal in crystals]))
    found: dict[str, Any] = {"crystals": len(crystals)}
    for tolerance in (1e-4, 1e-6):
        places = {}
        for device in ("cpu", setting.device):
            given = [tensor.to(device) for tensor in (positions, cells, index)]
            for _ in range(2):  # the first use loads libraries
                x = given[0].clone().requires_grad_()
                start = setting.wait()
                values = pair_sums(
                    x, given[1], POTENTIALS, tolerance=tolerance, graph_index=given[2]
                ).values
                forward = setting.wait()
                torch.autograd.grad(values.sum(), x)
                seconds = setting.wait() - start
            places[device] = values.detach().cpu()
            found[f"{device} at {tolerance:g}"] = {
                "crystals_per_s": len(crystals) / (forward - start),
                "with_forces_per_s": len(crystals) / seconds,
            }
        apart = (places["cpu"] - places[setting.device]).abs().max()
        found[f"largest difference at {tolerance:g}"] = apart.item()
    return found


def training(setting: Setting) -> dict[str, Any]:
    """Return seconds of an epoch at three batch sizes, launches of a step, and how busy it is."""
    crystals = crystals_like_oxides(setting.n(13_827, 8))
    if setting.data is not None:
        crystals = list(open_dataset(setting.data).crystals)
    start = time.perf_counter()
    batch, *_ = compute_features(potnet.CompleteFeatures(), crystals, workers=setting.n(CORES, 1))
    found: dict[str, Any] = {"crystals": len(crystals), "pairs": len(batch.pairs["complete"].i)}
    found["features_s"] = time.perf_counter() - start
    rows = np.arange(len(crystals))
    for batch_size in (128, 512, 2048):
        batch_size = setting.n(batch_size, 4)
        for is_recorded in (True, False):
            trainer, loader = trainer_of(batch, batch_size=batch_size, device=setting.device)
            if not is_recorded:
                trainer._recorder = None
            start = setting.wait()
            trainer.train_epoch(loader, rows)
            first = setting.wait()
            losses = [trainer.train_epoch(loader, rows) for _ in range(2)]
            seconds = (setting.wait() - first) / 2
            n_graphs = len(trainer._recorder._graphs) if trainer._recorder else 0
            name = f"batch {batch_size}{'' if is_recorded else ', step by step'}"
            found[name] = {"epoch_s": seconds, "first_epoch_s": first - start}
            found[name] |= {"losses": losses, "graphs": n_graphs}
            if setting.device.startswith("cuda"):
                found[name] |= _looked_into(trainer, loader, rows, batch_size, setting)
        if setting.quick:
            break
    return found


def _looked_into(
    trainer: Any, loader: Any, rows: Any, batch_size: int, setting: Setting
) -> dict[str, Any]:
    """Return what the device does in a step: kernels, its own time, and its share of all."""
    n_steps = min(20, len(rows) // batch_size)
    steps = np.split(rows[: n_steps * batch_size], n_steps)
    minibatches = list(loader.minibatches(steps))
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        trainer.step_through(minibatches)
        setting.wait()
    kernels = [e for e in profiler.events() if e.device_type.name == "CUDA"]
    busy = sum(e.device_time for e in kernels) / 1e6
    start = setting.wait()
    trainer.step_through(minibatches)
    seconds = setting.wait() - start
    return {
        "kernels_per_step": len(kernels) / n_steps,
        "step_ms": 1e3 * seconds / n_steps,
        "busy": busy / seconds,
        "memory_gb": torch.cuda.max_memory_allocated() / 1e9,
    }


def prediction(setting: Setting) -> dict[str, Any]:
    """Return crystals per second from crystals to numbers, in one process, and the difference."""
    crystals = crystals_like_oxides(setting.n(4096, 4))
    values, found = {}, {}
    for device in dict.fromkeys(("cpu", setting.device)):
        model = potnet.load("mp-formation-energy", device=device)
        model.predict(crystals[:4])
        start = setting.wait()
        rows = model.predict(crystals, batch_size=512)
        found[f"{device} per second"] = len(crystals) / (setting.wait() - start)
        values[device] = np.array([row.prediction for row in rows])
    found["largest difference"] = float(abs(values["cpu"] - values[setting.device]).max())
    return found


def screening(setting: Setting) -> dict[str, Any]:
    """Return crystals per second of ``potnet predict`` with all cores, its start beside."""
    found: dict[str, Any] = {"workers": setting.n(CORES, 1)}
    numbers = setting.n(100_000, 300), setting.n(10_000, 100)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        kinds = [crystal.as_dict() for crystal in crystals_like_oxides(1000 if CORES > 1 else 10)]
        for n in numbers:
            with (folder / f"{n}.jsonl").open("w") as file:
                file.writelines(
                    json.dumps(kinds[k % len(kinds)] | {"id": f"c{k}"}) + "\n" for k in range(n)
                )
        for device in dict.fromkeys(("cpu", setting.device)):
            seconds = []
            for n in numbers:
                words = ["predict", f"{n}.jsonl", "-m", "mp-formation-energy", "--device", device]
                words += ["--workers", str(found["workers"]), "-o", f"{device}-{n}.csv"]
                start = time.perf_counter()
                done = _potnet(words, folder)
                seconds.append(time.perf_counter() - start)
                if done.returncode:
                    return found | {device: (done.stdout + done.stderr)[-500:]}
            rate = (numbers[0] - numbers[1]) / (seconds[0] - seconds[1])
            found[device] = {"crystals_per_s": rate, "start_s": seconds[1] - numbers[1] / rate}
    return found


def _potnet(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    program = "from potnet.cli import app; app()"
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def commands(setting: Setting) -> dict[str, Any]:
    """Return how ``potnet train``, its continuation and ``potnet predict`` end on the device."""
    crystals = crystals_like_oxides(setting.n(200, 30))
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        lines = (
            json.dumps(crystal.as_dict() | {"id": f"c{k}", "y": crystal.volume})
            for k, crystal in enumerate(crystals)
        )
        (folder / "data.jsonl").write_text("\n".join(lines))
        common = ["--set", f"device={setting.device}", "--set", "batch_size=16"]
        train = ["train", "data.jsonl", "-t", "y", "-o", "run", *common]
        for name, words in {
            "train": [*train, "--epochs", "1"],
            "predict": ["predict", "data.jsonl", "-m", "run/model", "-o", "out.csv"],
        }.items():
            words += ["--device", setting.device] if name == "predict" else []
            done = _potnet(words, folder)
            found[name] = {"code": done.returncode, "says": (done.stdout + done.stderr)[-500:]}
    return found


CHECKS: tuple[Callable[[Setting], dict[str, Any]], ...] = (
    tests,
    training,
    prediction,
    screening,
    sums,
    commands,
)


def main(words: list[str] | None = None) -> dict[str, Any]:
    """Run the checks, write and return their results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="few crystals: to try the script")
    parser.add_argument("--only", nargs="+", choices=[check.__name__ for check in CHECKS])
    parser.add_argument("--seconds", type=float, default=SECONDS, help="after which none begins")
    parser.add_argument("--data", type=Path, help="crystals to learn from, instead of made-up ones")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args(words)
    setting = Setting(options.device, options.quick, options.data)
    cuda = torch.cuda.is_available()
    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or "cpu",
        "potnet": version("potnet"),
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "command": " ".join(["python benchmarks/gpu.py", *(words or sys.argv[1:])]),
    }
    begin = time.monotonic()
    for check in CHECKS:
        if options.only and check.__name__ not in options.only:
            continue
        start = time.monotonic()
        if start - begin > options.seconds - 60:
            results[check.__name__] = {"left out": "the time was over"}
            continue
        try:
            results[check.__name__] = check(setting)
        # One that breaks does not cost the others: a loan of a GPU is short.
        except Exception as error:  # noqa: BLE001
            results[check.__name__] = {"error": f"{type(error).__name__}: {error}"[:1000]}
        results[check.__name__]["seconds"] = round(time.monotonic() - start, 1)
        options.output.write_text(json.dumps(results, indent=1) + "\n")
        print(check.__name__, json.dumps(results[check.__name__])[:300], flush=True)
    return results


if __name__ == "__main__":
    main()
