"""Print the tables of README and docs from the JSON files under ``benchmarks/results/``.

python benchmarks/results_table.py            # print
python benchmarks/results_table.py --write    # put them into README.md and docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path

import yaml

from potnet.benchmark import SUITES
from potnet.benchmark.contestants import Network
from potnet.benchmark.settings import different
from potnet.benchmark.table import markdown
from potnet.files import atomic_write
from potnet.models.registry import NETWORKS
from potnet.training import TrainingConfig

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SHOWN = ("perovskite-5", "quartz-9", "aniso-3x3x30", "cell-40", "cell-200")
PUBLISHED = yaml.safe_load((ROOT / "benchmarks" / "published.yaml").read_text("utf-8"))
RANKED = ("phonons", "jdft2d", "elastic", "perovskites")
MARKS = ("<!-- {name}: written by benchmarks/results_table.py -->", "<!-- end of {name} -->")


def models() -> str:
    """Return the errors of the bundled models beside the mean predictor."""
    found = json.loads((RESULTS / "bundled_models.json").read_text(encoding="utf-8"))
    lines = [
        "| model | trained on | measured on | mean absolute error (95 % interval) "
        "| mean predictor |",
        "|---|---|---|---|---|",
    ]
    for name, model in found.items():
        target = model["targets"][0]
        part = "test" if "test" in model["metrics"] else "val"
        m = model["metrics"][part][target["name"]]
        error = f"{m['mae']:.3g} ({m['mae_low']:.3g} to {m['mae_high']:.3g}) {target['unit']}"
        if "log10_mae" in m:
            error += f"; {m['log10_mae']:.3f} in log10"
        for question in model["targets"][1:]:
            answers = model["metrics"][part][question["name"]]
            error += (
                f"; {answers['accuracy']:.0%} right about `{question['name']}` "
                f"({answers['baseline_accuracy']:.0%})"
            )
        where = {"test": "held-out test", "val": "validation"}[part]
        lines.append(
            f"| `{name}` | {model['data']['n_train']} crystals | {where}, {m['n']} crystals "
            f"| {error} | {m['baseline_mae']:.3g} {target['unit']} |"
        )
    return "\n".join(lines)


def sums() -> str:
    """Return time and true error of the lattice sums at the tolerance 1e-6."""
    found = json.loads((RESULTS / "sums.json").read_text(encoding="utf-8"))
    paths = {"fast": "compiled", "torch": "differentiable"}
    lines = [
        "| cell | atoms | path | time per ordered pair | largest true error | published code |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for row in found["rows"]:
        if row["tolerance"] == 1e-6 and row["crystal"] in SHOWN:
            lines.append(
                f"| {row['crystal']} | {row['n_atoms']} | {paths[row['path']]} "
                f"| {row['min_us']:.2g} µs | {row['max_error']:.1e} "
                f"| {row['published_over_min']:,.0f} x |"
            )
    return "\n".join(lines)


def throughput() -> str:
    """Return what training and prediction take on one core."""
    found = json.loads((RESULTS / "network.json").read_text(encoding="utf-8"))
    names = {
        "completenet": "CompleteNet",
        "completenet_adamw": "CompleteNet, AdamW",
        "mended": "PotNet",
        "accelerated": "published form, accelerated",
        "published": "published form",
    }
    lines = [
        "Training, crystals per second (how many times as fast CompleteNet is):\n",
        f"| crystals | atoms, mean | batch | {' | '.join(names.values())} |",
        "|---|---|---|" + "---|" * len(names),
    ]
    for table, run in found["train"].items():
        for row in run["rows"]:
            rates = " | ".join(
                f"{rate:,.{0 if rate > 99 else 1}f} ({row[f'over_{name}']:.3g} x)"
                if f"over_{name}" in row
                else f"{rate:,.0f}"
                for name, rate in ((name, row["crystals_per_second"][name]) for name in names)
            )
            atoms = f"{run['mean_atoms']:.1f}"
            crystals = f"{run['crystals']} of {table}"
            lines.append(f"| {crystals} | {atoms} | {row['batch_size']} | {rates} |")
    compiled = next(iter(found["compile"].values()))["potnet"]["rows"]
    sizes = [row["batch_size"] for row in compiled]
    lines += [
        "\nTraining with `torch.compile` (dynamic sizes), times as fast as without:\n",
        "| crystals | network | seconds to compile | "
        + " | ".join(f"batch {size}" for size in sizes)
        + " |",
        "|---|---|---|" + "---|" * len(sizes),
    ]
    for table, networks in found["compile"].items():
        for name, label in (("completenet", "CompleteNet"), ("potnet", "PotNet")):
            ratios = " | ".join(f"{row['ratio']:.2f}" for row in networks[name]["rows"])
            crystals = f"{networks['crystals']} of {table}"
            lines.append(f"| {crystals} | {label} | {networks[name]['compile_s']:.0f} | {ratios} |")
    predict = found["predict"]
    lines += [
        f"\nPrediction from files, ms for each of {predict['crystals']} crystals with "
        f"{predict['mean_atoms']:.1f} atoms on average, batches of {predict['batch_size']}:\n",
        f"| | CIF | reading alone | extxyz | reading alone |\n|---|{'---|' * 4}",
    ]
    for name, label in (
        ("potnet", f"`{predict['model']}`"),
        ("chgnet", f"CHGNet {predict['chgnet']['version']}"),
    ):
        cells = [
            f"{predict[name][kind][time]:.2f}"
            for kind in ("cif", "extxyz")
            for time in ("total_ms", "read_ms")
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    ratios = [f"{predict['potnet'][kind]['over_chgnet']:.1f}" for kind in ("cif", "extxyz")]
    lines.append(f"| ratio | {ratios[0]} | | {ratios[1]} | |")
    lines.append(
        f"\nOf ours, features take {predict['potnet']['features_ms']:.2f} ms and the network "
        f"{predict['potnet']['network_ms']:.2f} ms."
    )
    return "\n".join(lines)


def suites() -> str:
    """Return the suites of ``potnet benchmark``."""
    rules = {
        "matbench": "MatBench's five folds",
        "labels": "official",
        "config": "labels of the data, or the settings",
    }
    lines = ["| suite | what | entries | targets | split | download |", "|---|---|---|---|---|---|"]
    for suite in SUITES.values():
        targets = ", ".join(f"`{task.target}` ({task.unit})" for task in suite.tasks)
        lines.append(
            f"| `{suite.name}` | {suite.what} "
            f"| {f'{suite.n_entries:,}' * bool(suite.n_entries)} | {targets or 'all of the data'} "
            f"| {rules[suite.rule]} | {f'`{suite.download}`' * bool(suite.download)} |"
        )
    return "\n".join(lines)


def tasks() -> str:
    """Return the first rows of the suites with all folds, beside what others have published."""
    lines = [
        "| task | CompleteNet, test error (95 % interval) | processor minutes, 5 folds "
        "| best published | ALIGNN |",
        "|---|---|---|---|---|",
    ]
    for stem in RANKED:
        table = json.loads((RESULTS / "suites" / f"{stem}.json").read_text(encoding="utf-8"))
        row = table["rows"][0]
        for target, task in row["tasks"].items():
            test, unit = task["test"], task["unit"]
            others = {
                name: error.get("here", error["full"])
                for name, error in PUBLISHED[table["suite"]][target].items()
            }
            best = min(others, key=others.__getitem__)
            lines.append(
                f"| {stem}, `{target}` | {test['mae']:.3g} ({test['mae_low']:.3g} to "
                f"{test['mae_high']:.3g}) {unit} | {task['cost']['seconds'] / 60:.0f} "
                f"| {others[best]:.3g} ({best}) | {others['ALIGNN']:.3g} |"
            )
    return "\n".join(lines)


def measured() -> str:
    """Return all tables that ``potnet benchmark table`` put under ``results/suites/``."""
    parts = []
    for path in sorted((RESULTS / "suites").glob("*.json")):
        table = json.loads(path.read_text(encoding="utf-8"))
        what = table["what"][:1].upper() + table["what"][1:].rstrip(".")
        parts += [f"### {path.stem}", f"{what}.", markdown(table).strip()]
        others = PUBLISHED.get(table["suite"], {})
        tasks = {target for row in table["rows"] for target in row["tasks"]}
        known = {target: rows for target, rows in others.items() if target in tasks}
        # One fold is easier or harder than another: published means over all do not go beside it.
        if known and all(len(row["folds"]) == table["n_folds"] for row in table["rows"]):
            parts.append("\n".join(_published(known)))
        commands = [command_of(table["suite"], row, table["n_folds"]) for row in table["rows"]]
        parts.append("\n".join(["```bash", *commands, "```"]))
    return "\n\n".join(parts)


def _published(known: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    lines = ["| published | target | whole test set | on the crystals here |", "|---|---|---|---|"]
    for target, rows in known.items():
        lines += [
            f"| {name} | {target} | {error['full']:g} | {error.get('here', '')} |"
            for name, error in rows.items()
        ]
    return lines


def command_of(suite: str, row: dict, n_folds: int) -> str:
    """Return the command that makes a row again; settings that have their default are left out."""
    settings = dict(row["settings"])
    if settings["network"] in NETWORKS:
        defaults = Network(TrainingConfig(network=settings["network"])).settings()
        if settings["start"] is not None:
            defaults["network_settings"] = {}  # the model to begin with has its own
        settings = {"network": settings["network"], **different(settings, defaults)}
    words = ["potnet", "benchmark", suite, "--data", "FILE", "-o", f"runs/{row['name']}"]
    words += ["--name", row["name"]]
    if len(row["tasks"]) != len(SUITES[suite].tasks) and "targets" not in settings:
        words += [word for target in row["tasks"] for word in ("--target", target)]
    network, seeds = settings.pop("network"), settings.pop("members", 1)
    if "command" in settings:
        words += [
            "--rival",
            f"ENV/bin/python benchmarks/rivals/{settings.pop('command').split()[-1]}",
        ]
    else:
        words += ["--network", network]
    for flag in ("epochs", "budget"):
        if flag in settings:
            words += [f"--{flag}", f"{settings.pop(flag):g}"]
    if max(seeds, len(row["seeds"])) > 1:
        words += ["--seeds", str(max(seeds, len(row["seeds"])))]
    if len(row["folds"]) != n_folds:
        words += ["--folds", ",".join(map(str, row["folds"]))]
    if not any(part in task for task in row["tasks"].values() for part in ("test", "held_back")):
        words += ["--no-test"]
    for name, value in settings.items():
        words += ["--set", f"{name}={json.dumps(value)}"]
    return shlex.join(words)


# What is written where, by name of the mark.
TABLES = {
    "README.md": {"models": models, "tasks": tasks, "sums": sums},
    "docs/benchmarks.md": {"suites": suites, "throughput": throughput, "measured": measured},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    for file, tables in TABLES.items():
        text = (ROOT / file).read_text(encoding="utf-8")
        for name, make in tables.items():
            table = make()
            print(f"{table}\n")
            begin, end = (mark.format(name=name) for mark in MARKS)
            pattern = re.escape(begin) + ".*?" + re.escape(end)
            text = re.sub(pattern, lambda _, t=f"{begin}\n{table}\n{end}": t, text, flags=re.S)
        if write:
            with atomic_write(ROOT / file) as opened:
                opened.write(text)


if __name__ == "__main__":
    main()
