"""One table from the results of many rows, as Markdown and as JSON."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from potnet.benchmark.predictions import read_predictions
from potnet.benchmark.statistics import compare, compare_areas
from potnet.errors import DataError
from potnet.files import atomic_write

HEADER = (
    "row",
    "crystals at most",
    "test {error} (95 % interval)",
    "folds: mean ± std",
    "RMSE",
    "validation {error}",
    "seeds",
    "against the first row",
    "parameters",
    "epochs",
    "s/epoch",
    "total s",
    "device",
    "memory MB",
)

# Of the results for a target: each has predictions of its own.
PARTS = ("validation", "test", "held_back")

# What all rows of a table have in common.
SHARED = ("suite", "what", "data", "notes", "n_folds")


def read_rows(source: str | os.PathLike[str]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the folder and the results of each row of ``source``.

    Args:
        source: The folder of a row or of a set of them, or ``STEM.json`` of a table that kept the
            predictions of its first row.

    Raises:
        DataError: If there is none.
    """
    source = Path(source)
    if source.suffix == ".json":
        yield from _rows_of_table(source)
        return
    paths = [source / "results.json"] if (source / "results.json").exists() else []
    paths = paths or sorted(source.glob("*/results.json"))
    if not paths:
        raise DataError(
            f"{source}: must hold the results of a benchmark, got no results.json in it. "
            "Name the output folder of a finished run, or the .json of a table."
        )
    for path in paths:
        yield path.parent, json.loads(path.read_text(encoding="utf-8"))


def _rows_of_table(path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the rows of a table as if each were a result in the folder of its predictions."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        shared = {key: table[key] for key in SHARED}
        rows = []
        for row in table["rows"]:
            tasks = {target: _by_file(row["tasks"][target]) for target in row["tasks"]}
            rows.append({**shared, **row, "tasks": tasks})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: must be a table of benchmark results, got {error!r}. "
            "Name a STEM.json that `potnet benchmark table` wrote."
        ) from None
    for row in rows:
        yield path.with_suffix(""), row


def _by_file(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return the results for a target with predictions named by their file, not by its folder."""
    named = [key for key in PARTS if "predictions" in task.get(key, {})]
    files = {key: Path(task[key]["predictions"]).name for key in named}
    return {**task, **{key: {**task[key], "predictions": files[key]} for key in files}}


def joined(found: Sequence[tuple[Path, dict[str, Any]]]) -> dict[str, Any]:
    """Return rows of one suite as one table, each compared with the first on the same crystals.

    Args:
        found: Folder and results of each row.

    Returns:
        ``suite``, ``what``, ``data``, ``notes`` and ``rows``: the results without what they share,
        each test with ``against_first`` (:class:`~potnet.benchmark.statistics.Comparison`).

    Raises:
        DataError: If the rows are not of one suite and the same data, or two share a name.
    """
    first_folder, first = found[0]
    rows = []
    for folder, result in found:
        if result["suite"] != first["suite"] or result["data"] != first["data"]:
            raise DataError(
                f"{folder}: all rows of a table must have the suite and the data of "
                f"{first_folder}, got {result['suite']} with {result['data']}. "
                "Make a table for each suite."
            )
        if any(row["name"] == result["name"] for row in rows):
            raise DataError(
                f"{folder}: the rows of a table must have names of their own, got a second "
                f"{result['name']}. Leave it out, or run it again with another `--name`."
            )
        row = {key: value for key, value in result.items() if key not in SHARED}
        rules = result["combine"], first["combine"]
        row["tasks"] = {
            target: _with_comparison(
                task, first["tasks"].get(target, {}), folder, first_folder, rules
            )
            for target, task in result["tasks"].items()
        }
        rows.append(row)
    return {**{key: first[key] for key in SHARED}, "rows": rows}


def _with_comparison(
    task: Mapping[str, Any],
    reference: Mapping[str, Any],
    folder: Path,
    first: Path,
    rules: tuple[str, str],
) -> dict[str, Any]:
    """Add the paired comparison: on the test, or on validation where the test is not scored.

    The seeds of both are combined as each row says.
    """
    part = _compared(task)
    if folder == first:  # The first row itself, or one of its table, compared already.
        return dict(task)
    task = {key: value for key, value in task.items() if key != "against_first"}
    if part not in reference:
        return task
    for place, found in ((folder, task), (first, reference)):
        if "predictions" not in found[part]:
            raise DataError(
                f"{place}: a table keeps the predictions of its first row alone, so that this one "
                "must stay the first, got another. Name the table before other rows, or make it "
                "again from the rows themselves."
            )
    tables = [
        read_predictions(place / found[part]["predictions"]).combined(rule)
        for place, found, rule in zip((folder, first), (task, reference), rules, strict=True)
    ]
    compared = compare_areas(*tables) if _is_area(task) else compare(*tables)
    return {**task, "against_first": {"part": part, **compared.to_dict()}}


def _compared(task: Mapping[str, Any]) -> str:
    """Return the part on which rows are compared."""
    return "test" if "test" in task else "validation"


def _is_area(task: Mapping[str, Any]) -> bool:
    return task.get("metric") == "roc_auc"


def cells_by_target(table: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return title, header and cells for each target of a table; empty columns are left out."""
    parts = []
    for target in dict.fromkeys(target for row in table["rows"] for target in row["tasks"]):
        having = [row for row in table["rows"] if target in row["tasks"]]
        cells = [_cells(row, row["tasks"][target], table["n_folds"]) for row in having]
        used = [k for k in range(len(HEADER)) if any(line[k] for line in cells)]
        first = having[0]["tasks"][target]
        title = target if _is_area(first) else f"{target} in {first['unit'] or 'no unit'}"
        error = "ROC-AUC" if _is_area(first) else "MAE"
        header = [HEADER[k].format(error=error) for k in used]
        parts.append((title, header, [[line[k] for k in used] for line in cells]))
    return parts


def markdown(table: Mapping[str, Any]) -> str:
    """Return the table of :func:`joined` as Markdown, one part per target."""
    lines = []
    for title, header, cells in cells_by_target(table):
        lines += [f"**{title}**", "", _line(header), _line(["---"] * len(header))]
        lines += [*map(_line, cells), ""]
    lines += [f"- {note}" for note in table["notes"]]
    return "\n".join(lines).strip() + "\n"


def _cells(row: Mapping[str, Any], task: Mapping[str, Any], n_folds: int) -> list[str]:
    test, validation, cost = task.get("test"), task["validation"], task["cost"]
    metric = "roc_auc" if _is_area(task) else "mae"
    alone = f"{validation[f'single_{metric}']:.4g}"
    errors = ["held back" if "held_back" in task else "not scored", "", ""]
    if test is not None:
        done = len(test["folds"])
        of_folds = f"fold_{metric}"
        mean = f"{test[of_folds + '_mean']:.4g} ± {test[of_folds + '_std']:.2g}" * (done > 1)
        mean += f" ({done} of {n_folds} folds)" if done < n_folds else ""
        rmse = "" if _is_area(task) else f"{test['rmse']:.4g}"
        errors = [_with_interval(test, metric), mean, rmse]
    per_epoch, memory = cost["seconds_per_epoch"], cost["peak_memory_mb"]
    return [
        row["name"],
        str(row.get("most", "")),
        *errors,
        _with_interval(validation) if "mae" in validation and metric == "mae" else alone,
        str(len(row["seeds"])),
        _against(task.get("against_first")),
        f"{cost['n_parameters']:,}" if cost["n_parameters"] else "",
        f"{cost['epochs_per_job']:.3g}" if per_epoch else "",
        f"{per_epoch:.3g}" if per_epoch else "",
        f"{cost['seconds']:.3g}",
        cost["device"],
        f"{memory:.0f}" if memory else "",
    ]


def _with_interval(metrics: Mapping[str, Any], name: str = "mae") -> str:
    low, high = metrics[f"{name}_low"], metrics[f"{name}_high"]
    return f"{metrics[name]:.4g} ({low:.4g} to {high:.4g})"


def _against(comparison: Mapping[str, Any] | None) -> str:
    if comparison is None:
        return ""
    c = comparison
    return f"{c['difference']:+.3g} ({c['low']:+.3g} to {c['high']:+.3g}), p = {c['p_value']:.2g}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write_table(
    found: Sequence[tuple[Path, dict[str, Any]]], stem: Path, *, keep: bool = False
) -> tuple[Path, dict[str, Any]]:
    """Write a table as ``STEM.json`` and ``STEM.md``.

    Args:
        found: Folder and results of each row.
        stem: Where, without suffix.
        keep: Copy the predictions of the first row (several seeds as one, compressed) into the
            folder ``STEM``, so that the table stands without the folders of the rows and takes
            more of them; of the others the checksums remain.

    Returns:
        The Markdown file and the table.
    """
    table = joined(found)
    if keep:
        stem.mkdir(parents=True, exist_ok=True)
        for k, ((source, _), row) in enumerate(zip(found, table["rows"], strict=True)):
            for task in row["tasks"].values():
                _keep_predictions(source, row, task, stem, stays=k == 0)
    stem.parent.mkdir(parents=True, exist_ok=True)
    texts = {".json": json.dumps(table, indent=1) + "\n", ".md": markdown(table)}
    for suffix, text in texts.items():
        with atomic_write(stem.with_name(stem.name + suffix)) as file:
            file.write(text)
    return stem.with_name(stem.name + ".md"), table


def _keep_predictions(
    source: Path, row: Mapping[str, Any], task: dict[str, Any], folder: Path, *, stays: bool
) -> None:
    """Copy what a row predicted for one target into ``folder`` if it ``stays``; note its checksum.

    Inner validation is not copied where there is a test.
    """
    for part in PARTS:
        if "predictions" not in task.get(part, {}):
            continue
        path = source / task[part]["predictions"]
        kept = read_predictions(path).combined(row["combine"])
        own = path.name.removeprefix(row["name"] + "-").removesuffix(".gz")
        copy = folder / f"{row['name']}-{own}.gz"
        (kept.write_submission if part == "held_back" else kept.write)(copy)
        text = gzip.decompress(copy.read_bytes())
        task[part] = {**task[part], "sha256": hashlib.sha256(text).hexdigest()}
        if stays and (part != "validation" or "test" not in task):
            task[part]["predictions"] = f"{folder.name}/{copy.name}"
        else:
            del task[part]["predictions"]
            copy.unlink()
