"""Draw ``results/sums.json`` for the documentation and write its tables.

    python benchmarks/sums_figure.py

Makes ``docs/images/sums-benchmark.svg``, and the tables between the marks of
``docs/benchmark_sums.md``.
"""

from __future__ import annotations

import json
import re
from io import StringIO
from pathlib import Path

from matplotlib.figure import Figure

from potnet.files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmark_sums.md"
PICTURE = ROOT / "docs" / "images" / "sums-benchmark.svg"
PATHS = {"fast": "potnet, compiled", "torch": "potnet, differentiable"}
COLOURS = {
    "potnet, compiled": "#2563a8",
    "potnet, differentiable": "#7fb2e5",
    "torch-pme": "#d9772b",
    "jax-pme": "#b4458c",
    "pymatgen": "#3f8f5b",
    "epsteinlib": "#6b7280",
    "published": "#111827",
}
MARKS = {"potnet, compiled": "o", "potnet, differentiable": "s"}


def points(found: dict) -> dict[str, list[dict]]:
    """Return what was measured, by tool: crystal, tolerance, us per pair, true error."""
    tools: dict[str, list[dict]] = {}
    for row in found["rows"]:
        tools.setdefault(PATHS[row["path"]], []).append({**row, "us": row["min_us"]})
    for row in found["rivals"]:
        if row["potential"] == "coulomb":
            tools.setdefault(row["tool"], []).append(row)
    if found["slower_than_recorded"]:
        for row in found["rows"]:
            if row["path"] == "fast" and row["tolerance"] == 1e-6:
                tools.setdefault("published", []).append({**row, "us": row["published_us"]})
    return tools


def figure(found: dict) -> Figure:
    """Return three panels: cells, true error against cost, and scaling."""
    tools = points(found)
    names = list(dict.fromkeys(row["crystal"] for row in found["rows"]))
    drawing = Figure(figsize=(13.5, 4.6), layout="constrained")
    cells, errors, sizes = drawing.subplots(1, 3)
    for tool, rows in tools.items():
        mark = {"color": COLOURS[tool], "marker": MARKS.get(tool, "D"), "label": tool}
        at = {row["crystal"]: row["us"] for row in rows if row["tolerance"] == 1e-6}
        cells.plot([names.index(n) for n in at], list(at.values()), ls=":", ms=6, **mark)
        kept = sorted(
            (row["max_error"], row["us"])
            for row in rows
            if row["crystal"] == "quartz-9" and tool != "published"
        )
        if kept:
            # an error of nothing at all stands at the end of double precision
            x, y = [max(e, 1e-17) for e, _ in kept], [us for _, us in kept]
            errors.plot(x, y, ls="-", ms=6, **mark)
    cells.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8)
    cells.set(yscale="log", ylabel="processor time per ordered pair (µs)")
    cells.set_title("Tolerance 1e-6", fontsize=11)
    cells.legend(fontsize=8, frameon=False, ncols=2, loc="upper right", bbox_to_anchor=(1, 1.0))
    low, high = cells.get_ylim()
    cells.set_ylim(low, high * 30)
    errors.set(xscale="log", yscale="log", xlabel="largest true error (Å$^{-1}$ and others)")
    errors.invert_xaxis()
    errors.set_title("What accuracy costs, quartz (9 atoms)", fontsize=11)
    for path, label in PATHS.items():
        rows = [row for row in found["scaling"]["atoms"] if row["path"] == path]
        mark = {"color": COLOURS[label], "marker": MARKS[label], "label": label}
        sizes.plot([r["n_atoms"] for r in rows], [r["min_us"] for r in rows], ms=6, **mark)
    sizes.set(xscale="log", yscale="log", xlabel="atoms in the cell")
    sizes.set_title("Scaling, tolerance 1e-6", fontsize=11)
    for axes in (cells, errors, sizes):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(True, which="major", color="#e5e7eb", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8)
    return drawing


def rival_table(found: dict) -> str:
    """Return cost and true error of everything at the tolerance 1e-6."""
    tools = points(found)
    order = [tool for tool in COLOURS if tool in tools and tool != "published"]
    lines = ["| cell | atoms | " + " | ".join(order) + " | published code |"]
    lines.append("|---|---|" + "---|" * (len(order) + 1))
    for row in found["rows"]:
        if row["path"] != "fast" or row["tolerance"] != 1e-6:
            continue
        cellsof = []
        for tool in order:
            at = [
                r for r in tools[tool] if r["crystal"] == row["crystal"] and r["tolerance"] == 1e-6
            ]
            cellsof.append(f"{at[0]['us']:.3g} µs ({at[0]['max_error']:.0e})" if at else "–")
        published = f"{row['published_us']:,.0f} µs" if "published_us" in row else "–"
        lines.append(
            f"| {row['crystal']} | {row['n_atoms']} | {' | '.join(cellsof)} | {published} |"
        )
    return "\n".join(lines)


def ratio_table(found: dict) -> str:
    """Return how many times longer the others take than the compiled path, at 1e-6."""
    both: dict[tuple[str, str], float] = {}
    for row in found["rivals"]:
        if row["tolerance"] == 1e-6:
            key = row["tool"], row["crystal"]
            both[key] = both.get(key, 0.0) + row["us"]
    names = list(dict.fromkeys(tool for tool, _ in both))
    lines = ["| cell | " + " | ".join(names) + " | published code |"]
    lines.append("|---|" + "---|" * (len(names) + 1))
    for row in found["rows"]:
        if row["path"] != "fast" or row["tolerance"] != 1e-6:
            continue
        ratios = []
        for name in names:
            us = both.get((name, row["crystal"]))
            ratios.append("–" if us is None else f"{us / row['min_us']:,.0f}")
        published = row.get("published_over_min")
        ratios.append("–" if published is None else f"{published:,.0f}")
        lines.append(f"| {row['crystal']} | {' | '.join(ratios)} |")
    return "\n".join(lines)


def tolerance_table(found: dict) -> str:
    """Return cost and true error of the compiled path at every tolerance."""
    rows = [r for r in found["scaling"]["tolerances"] if r["path"] == "fast"]
    lines = [
        "| cell | tolerance | time per ordered pair | largest true error |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {r['crystal']} | {r['tolerance']:.0e} | {r['min_us']:.3g} µs | {r['max_error']:.1e} |"
        for r in rows
    ]
    return "\n".join(lines)


def main() -> None:
    found = json.loads((RESULTS / "sums.json").read_text(encoding="utf-8"))
    drawn = StringIO()
    figure(found).savefig(drawn, format="svg", metadata={"Date": None})
    PICTURE.parent.mkdir(exist_ok=True)
    with atomic_write(PICTURE) as file:
        file.write(drawn.getvalue())
    text = PAGE.read_text(encoding="utf-8")
    tables = {"rivals": rival_table, "ratios": ratio_table, "tolerances": tolerance_table}
    for name, table in tables.items():
        begin = f"<!-- {name}: written by benchmarks/sums_figure.py -->"
        end = f"<!-- end of {name} -->"
        block = f"{begin}\n{table(found)}\n{end}"
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        text = re.sub(pattern, lambda _, b=block: b, text, flags=re.S)
    with atomic_write(PAGE) as file:
        file.write(text)


if __name__ == "__main__":
    main()
