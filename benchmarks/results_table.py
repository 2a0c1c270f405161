"""Print the tables of the README from the JSON files under ``benchmarks/results/``.

python benchmarks/results_table.py            # print
python benchmarks/results_table.py --write    # put them into the README
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from potnet.files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SHOWN = ("perovskite-5", "quartz-9", "aniso-3x3x30", "cell-40", "cell-200")
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    write = parser.parse_args().write
    for name, table in (("models", models()), ("sums", sums())):
        print(f"{table}\n")
        begin, end = (mark.format(name=name) for mark in MARKS)
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        text = re.sub(pattern, lambda _, t=f"{begin}\n{table}\n{end}": t, text, flags=re.S)
    if write:
        with atomic_write(ROOT / "README.md") as file:
            file.write(text)


if __name__ == "__main__":
    main()
