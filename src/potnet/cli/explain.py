"""``potnet explain``: why a model predicts what it predicts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from potnet.cli.app import Device, Recursive, Species, Structures, app, check_suffix, structures
from potnet.cli.sheets import show_nearest
from potnet.cli.terminal import (
    SHOWN_ROWS,
    counted,
    errors_beside,
    finish,
    show_progress,
    show_table,
    write_failures,
)
from potnet.errors import Failure
from potnet.files import check_output

if TYPE_CHECKING:
    from potnet.crystal import Crystal
    from potnet.explanation import Explainer, Explanation

SHOWN = 5  # explanations on the terminal when there is a file for all
PICTURES = (".png", ".svg", ".pdf")
NEGLIGIBLE = 1e-9  # of the largest share in a table: rounding


@app.command(rich_help_panel="Crystals")
def explain(
    paths: Structures,
    properties: Annotated[
        list[str] | None,
        typer.Option(
            "--property", "-p", help="What to explain; may be repeated. Default: formation_energy."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="Bundled model or archive; may be repeated."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write: everything as .json, or the shares as a table: .csv, .parquet or "
            ".xlsx; errors.csv is put beside it.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Picture: .png, .svg or .pdf; of several explanations, NAME-2.png and so on."
        ),
    ] = None,
    recursive: Recursive = False,
    species: Species = "",
    device: Device = "cpu",
) -> None:
    """Say why a model predicts what it predicts: shares that add up to the prediction.

    By channel and distance, by atom and by pair of elements; how the prediction depends on strain
    and positions; and the nearest known crystals. Crystals that cannot be used are listed with the
    reason and skipped; the exit code is then 3.
    """
    from potnet.explanation import explainers
    from potnet.sheet.files import check_format

    check_suffix("--plot", plot, *PICTURES)
    errors = None
    for option, file in (("--output", output), ("--plot", plot)):
        if file is not None:
            check_output(file, inputs=paths, option=option)
    if output is not None:
        check_format(output)
        errors = errors_beside(output)
    chosen = explainers(properties or (), model or ())
    for explainer in chosen:
        explainer.predictor.to(device)
    failures: list[Failure] = []
    n_done = 0
    with ExitStack() as stack:
        write = _writer(stack, output)
        progress = stack.enter_context(show_progress("Explaining"))
        items = counted(structures(paths, recursive, species, (output,)), progress)
        for found in _explanations(chosen, items, failures):
            if output is None or n_done < SHOWN:
                _show(found)
            write(found)
            if plot is not None:
                _draw(found, plot if n_done == 0 else plot.with_stem(f"{plot.stem}-{n_done + 1}"))
            n_done += 1
    if output is not None:
        if n_done > SHOWN:
            typer.echo(f"... {n_done} explanations in all.")
        typer.echo(f"{n_done} explanations: {output}")
    if errors is not None:
        write_failures(failures, errors)
    finish(failures, errors)


def _explanations(
    chosen: Sequence[Explainer], items: Iterator[Crystal | Failure], failures: list[Failure]
) -> Iterator[Explanation]:
    """Yield explanations, crystal by crystal; failures go to the list, each once."""
    for item in items:
        for explainer in chosen:
            for found in explainer.stream([item]):
                if not isinstance(found, Failure):
                    yield found
                elif found not in failures:
                    failures.append(found)


def _writer(stack: ExitStack, output: Path | None) -> Any:
    """Return what adds an explanation to the file, if there is one."""
    from potnet.explanation import COLUMNS
    from potnet.sheet.files import open_table

    if output is None:
        return lambda found: None
    if output.suffix.lower() == ".json":
        table = stack.enter_context(open_table(output))
        return lambda found: table.write(found.to_dict())
    table = stack.enter_context(open_table(output, COLUMNS))

    def write(found: Explanation) -> None:
        for record in found.records():
            table.write(record)

    return write


def _draw(found: Explanation, path: Path) -> None:
    from potnet.files import atomic_write
    from potnet.report import explanation_plot
    from potnet.report.plots import DPI

    figure = explanation_plot(found)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format=path.suffix[1:].lower(), dpi=DPI)
    typer.echo(f"Picture: {path}", err=True)


# --------------------------------------------------------------------------------- on the terminal


def _show(found: Explanation) -> None:
    """Show an explanation in tables."""
    p, unit = found.prediction, found.unit
    interval = "" if math.isnan(p.lower) else f" ({p.lower:.4g} to {p.upper:.4g})"
    value = f"{p.prediction:.4g}{interval} {p.unit}".rstrip()
    typer.echo(f"{found.id}: {found.formula}, {found.property} {value}, by {found.model}")
    for flag in p.flags:
        typer.echo(f"Doubtful: {flag}")
    typer.echo(f"Shares in {unit}" + (f" ({found.space}):" if found.space else ":"))
    _show_sum(found)
    _show_channels(found)
    _show_sites(found)
    pairs = found.by_element_pair
    if len(pairs) > 1:
        _show_shares("pair of elements", ["all"], [(name, [x]) for name, x in pairs.items()])
    _show_sensitivity(found)
    _show_known(found)
    typer.echo("")


def _show_sum(found: Explanation) -> None:
    """Show the terms that add up to the total."""
    rows = [("composition, without surroundings", [found.composition])]
    rows += [(f"  of it reference of {k}", [x]) for k, x in found.references.items()]
    rows.append(("surroundings", [found.surroundings]))
    if len(found.parts) > 1:
        name = f"combination of {len(found.parts)} networks, less their mean"
        rows.append((name, [found.combination]))
    rows.append(("total", [found.total]))
    _show_shares("term", ["share"], rows)
    typer.echo(f"Left over by the integral: {found.residual:.1e} ({found.n_points} points).\n")


def _show_channels(found: Explanation) -> None:
    """Show channels by distance; of several networks also how far they are apart."""
    columns = [*found.distances, "all"]
    table = [[*row, sum(row)] for row in found.by_channel.tolist()]
    table.append([sum(column) for column in zip(*table, strict=True)])
    if len(found.parts) > 1:
        columns.append("spread")
        about = {share.kind: share for share in found.shares() if share.name == "all"}
        spreads = [share.spread for share in found.shares() if share.kind == "channel"]
        for row, spread in zip(table, (*spreads, about["surroundings"].spread), strict=True):
            row.append(spread)
    names = (*found.channels, "all")
    _show_shares("channel", columns, list(zip(names, table, strict=True)))


def _show_sites(found: Explanation) -> None:
    """Show the sites with their atoms, as many as people read."""
    totals, moves = found.by_atom.sum(1), found.sensitivity.atoms
    sites = list(zip(found.elements, found.sites, strict=True))
    numbers = _numbers([[totals[site[0]], totals[site].sum()] for _, site in sites])
    rows = []
    for (element, site), shares in zip(sites[:SHOWN_ROWS], numbers, strict=False):
        listed = ", ".join(map(str, site[:6].tolist())) + (", ..." if len(site) > 6 else "")
        rows.append([element, listed, *shares, _length(float(moves[site[0]]))])
    per_length = f"{found.prediction.unit}/Å".removeprefix("/") or "per Å"
    show_table(["site", "atoms", "share of one", "all", f"slope ({per_length})"], rows)
    if len(sites) > SHOWN_ROWS:
        typer.echo(f"... {len(sites)} sites in all. Write them with --output FILE.json.")
    typer.echo("")


def _show_sensitivity(found: Explanation) -> None:
    from potnet.explanation.explanation import VOIGT

    s, unit = found.sensitivity, found.prediction.unit
    typer.echo(f"1 % more volume: {0.01 * s.volume:+.3g} {unit}".rstrip())
    (strains,) = _numbers([(0.01 * s.strain).tolist()])
    components = (f"{name} {x}" for name, x in zip(VOIGT, strains, strict=True))
    typer.echo(f"1 % of strain: {', '.join(components)}\n")


def _show_known(found: Explanation) -> None:
    if found.same:
        names = ", ".join(f"{known.id} ({known.formula})" for known in found.same)
        typer.echo(f"Known: {names}")
    show_nearest(found.known)


def _length(x: float) -> str:
    return f"{x:.3g}" if x > NEGLIGIBLE else "0"


def _show_shares(
    first: str, header: Sequence[str], rows: Sequence[tuple[str, Sequence[float]]]
) -> None:
    numbers = _numbers([values for _, values in rows])
    show_table(
        [first, *header], [[name, *row] for (name, _), row in zip(rows, numbers, strict=True)]
    )
    typer.echo("")


def _numbers(rows: Sequence[Sequence[float]]) -> list[list[str]]:
    """Return numbers with their signs, all to the same place: four digits of the largest."""
    largest = max((abs(x) for row in rows for x in row), default=0.0)
    places = max(0, 3 - math.floor(math.log10(largest))) if largest > 0 else 0
    return [
        ["0" if abs(x) <= NEGLIGIBLE * largest else f"{x:+.{places}f}" for x in row] for row in rows
    ]
