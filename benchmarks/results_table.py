"""Write the tables of README, docs and ``benchmarks/results/`` from the JSON files beside them.

python benchmarks/results_table.py            # say which files would change
python benchmarks/results_table.py --write    # change them

README and docs hold summaries, between two marks; each ``results/suites/STEM.md`` has all of
``STEM.json``, with the commands that make its rows again, and ``results/speed.md`` the speeds.
"""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

import yaml

from potnet.benchmark import SUITES
from potnet.benchmark.contestants import Network
from potnet.benchmark.sweep import different
from potnet.benchmark.table import markdown
from potnet.files import atomic_write
from potnet.models import registry
from potnet.training import TrainingConfig

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PUBLISHED = yaml.safe_load((ROOT / "benchmarks" / "published.yaml").read_text("utf-8"))
GOALS = PUBLISHED.pop("goals")
# Tables of all folds, by the suite that they are of, in the order of the summary.
RANKED = (
    "matbench-phonons",
    "matbench-jdft2d",
    "matbench-perovskites",
    "matbench-elastic",
    "matbench-mp-gap",
    "matbench-mp-is-metal",
    "matbench-mp-e-form",
)
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


def bundled() -> str:
    """Return the table of :func:`models` in short: what can be predicted, and how well."""
    lines = [line.strip("| ").split(" | ") for line in models().splitlines()[2:]]
    rows = [[name, error.split(";")[0], mean] for name, _, _, error, mean in lines]
    head = ["model", "mean absolute error (95 % interval)", "a constant errs"]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * 3, *rows])


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


def _table(stem: str) -> dict:
    return json.loads((RESULTS / "suites" / f"{stem}.json").read_text(encoding="utf-8"))


def tasks() -> str:
    """Return what the first rows of the suites reach, beside our goals and others."""
    lines = [
        "| task | without other data (95 % interval) | goal | going on from our networks | goal "
        "| best published | with pre-training | parameters | processor minutes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for suite in RANKED:
        if not (RESULTS / "suites" / f"{suite}.json").exists():
            continue
        table = _table(suite)
        for target in table["rows"][0]["tasks"]:
            lines.append(f"| {' | '.join(_line_of(table, target))} |")
    return "\n".join(lines)


def _line_of(table: dict, target: str) -> list[str]:
    """Return the cells of one target: the first row of each kind that has all folds."""
    whole = [row for row in table["rows"] if target in row["tasks"]]
    whole = [row for row in whole if "test" in row["tasks"][target]]
    whole = [row for row in whole if len(row["folds"]) == table["n_folds"]]
    first = table["rows"][0]["tasks"][target]
    cells = [f"`{table['suite']}`, {target}" + f" ({first['unit']})" * (first["unit"] != "1")]
    costs = []
    goals = GOALS.get(table["suite"], {}).get(target, ("", ""))
    for is_started, goal in enumerate(goals):
        rows = [row for row in whole if bool(row["settings"].get("finetune")) == bool(is_started)]
        error = ""
        if rows:
            error = _with_interval(rows[0]["tasks"][target])
            costs.append(rows[0]["tasks"][target]["cost"])
        cells += [error, f"{goal:g}" if goal else ""]
    others = PUBLISHED[table["suite"]][target]
    best = max if first.get("metric") == "roc_auc" else min
    for is_pretrained in (False, True):
        known = {
            name: error["full"]
            for name, error in others.items()
            if error.get("pretrained", False) == is_pretrained
        }
        name = best(known, key=known.__getitem__, default=None)
        cells.append(f"{known[name]:.3g}, {name}" if name else "")
    cells.append(", ".join(f"{cost['n_parameters']:,}" for cost in costs))
    cells.append(", ".join(f"{cost['seconds'] / 60:.0f}" for cost in costs))
    return cells


def _with_interval(task: dict) -> str:
    name = task.get("metric", "mae")
    error, low, high = (task["test"][f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{error:.3g} ({low:.3g} to {high:.3g})"


def suite_page(stem: str) -> str:
    """Return one table that ``potnet benchmark table`` wrote, with published errors, commands."""
    table = _table(stem)
    what = table["what"][:1].upper() + table["what"][1:].rstrip(".")
    parts = [
        f"# {stem}",
        f"{what}. Written by `benchmarks/results_table.py`.",
        markdown(table).strip(),
    ]
    others = PUBLISHED.get(table["suite"], {})
    tasks = {target for row in table["rows"] for target in row["tasks"]}
    known = {target: rows for target, rows in others.items() if target in tasks}
    # One fold is easier or harder than another: published means over all do not go beside it.
    if known and all(len(row["folds"]) == table["n_folds"] for row in table["rows"]):
        parts.append("\n".join(_published(known)))
    commands = [command_of(table["suite"], row, table["n_folds"]) for row in table["rows"]]
    parts.append("\n".join(["```bash", *commands, "```"]))
    return "\n\n".join(parts) + "\n"


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
    if settings["network"] in registry.networks():
        defaults = Network(TrainingConfig(network=settings["network"])).settings()
        if settings["finetune"] is not None:
            defaults["network_settings"] = {}  # the model to begin with has its own
        settings = {"network": settings["network"], **different(settings, defaults)}
    words = ["potnet", "benchmark", suite, "--data", "FILE", "-o", f"runs/{row['name']}"]
    words += ["--name", row["name"]]
    if len(row["tasks"]) != len(SUITES[suite].tasks) and "targets" not in settings:
        words += [word for target in row["tasks"] for word in ("--target", target)]
    network, members = settings.pop("network"), settings.get("members", 1)
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
    if len(row["seeds"]) != members:
        words += ["--seeds", str(len(row["seeds"]))]
    if len(row["folds"]) != n_folds:
        words += ["--folds", ",".join(map(str, row["folds"]))]
    if "most" in row:
        words += ["--most", str(row["most"])]
    if not any(part in task for task in row["tasks"].values() for part in ("test", "held_back")):
        words += ["--no-test"]
    for name, value in settings.items():
        words += ["--set", f"{name}={json.dumps(value)}"]
    return shlex.join(words)


# What stands between the marks of a page, by name of the mark.
BLOCKS = {
    "README.md": {"bundled": bundled},
    "docs/benchmarks.md": {"tasks": tasks},
    "docs/networks.md": {"models": models},
}


def written() -> dict[Path, str]:
    """Return the text that every file with tables should have."""
    files = {}
    for name, blocks in BLOCKS.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        for block, make in blocks.items():
            begin, end = (mark.format(name=block) for mark in MARKS)
            before, rest = text.split(begin)
            text = f"{before}{begin}\n{make()}\n{end}{rest.split(end)[1]}"
        files[ROOT / name] = text
    for path in sorted((RESULTS / "suites").glob("*.json")):
        files[path.with_suffix(".md")] = suite_page(path.stem)
    files[RESULTS / "speed.md"] = f"# Speed of the networks\n\n{throughput()}\n"
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    for path, text in written().items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        print(path.relative_to(ROOT))
        if write:
            with atomic_write(path) as opened:
                opened.write(text)


if __name__ == "__main__":
    main()
