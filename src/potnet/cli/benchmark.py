"""``potnet benchmark``: exact crystals and folds, and tables that compare like with like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from potnet.cli.app import Commands, app, kept
from potnet.cli.terminal import show_table, training_progress
from potnet.cli.train import settings_from
from potnet.errors import ConfigError
from potnet.files import check_output_folder

if TYPE_CHECKING:
    from potnet.benchmark import Contestant, Suite, TableRow


class SuitesAndCommands(Commands):
    """``potnet benchmark NAME`` is short for ``potnet benchmark run NAME``."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["run", *args]
        return super().resolve_command(ctx, args)


group = typer.Typer(
    cls=SuitesAndCommands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Measure networks on exact crystals and folds: potnet benchmark SUITE -o FOLDER.",
)
app.add_typer(group, name="benchmark", rich_help_panel="Data")


@group.command()
def run(
    name: Annotated[
        str, typer.Argument(metavar="SUITE", help="A suite (see suites), or a sweep in YAML.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder; a run goes on in it.")],
    data: Annotated[
        str, typer.Option(help="File of the data, or its name where there is a network.")
    ] = "",
    network: Annotated[
        str | None,
        typer.Option(help="completenet, potnet, or the dumb ones: composition, mean."),
    ] = None,
    rival: Annotated[
        str, typer.Option(metavar="COMMAND", help="Another program; see the documentation.")
    ] = "",
    title: Annotated[str, typer.Option("--name", help="What tables call this row.")] = "",
    config: Annotated[
        Path | None, typer.Option(help="Settings in YAML or JSON; flags win over it.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; may be repeated."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training crystals.")] = None,
    budget: Annotated[
        float | None,
        typer.Option(help="Seconds of each training (of the CPU) that decide the epochs."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", "-t", help="One of the suite's; may be repeated. Default: all."),
    ] = None,
    folds: Annotated[str, typer.Option(help="Some folds: 0,1. Default: all.")] = "",
    most: Annotated[
        int | None,
        typer.Option(min=20, help="Crystals of a fold to learn from, validation among them."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Networks that predict together.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="One run of a sweep; may be repeated.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings side by side.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Processes that make features.")] = 1,
    test: Annotated[
        bool, typer.Option("--test/--no-test", help="Score the test, or validation alone.")
    ] = True,
) -> None:
    """Train and score a network on a suite, or all runs of a sweep.

    Finished trainings are kept: the same command continues after an interruption. Choose settings
    with --no-test; a test fold is for the row that is reported.
    """
    from dataclasses import replace

    from potnet.benchmark import run as run_benchmark
    from potnet.benchmark.opened import open_suite
    from potnet.benchmark.suites import get
    from potnet.benchmark.table import write_table

    settings = settings_from(setting or [])
    if epochs is not None:
        settings["epochs"] = epochs
    is_sweep = Path(name).suffix in (".yaml", ".yml")
    if is_sweep:
        suite, data, rows = _sweep(name, data, output, settings, only or ())
    else:
        contestant = _contestant(network, rival, title, config, settings, budget)
        suite, rows = get(name), [_row(title or contestant.network, contestant, output)]
    check_output_folder(output, option="--output")
    opened = open_suite(replace(suite, most=most or 0), data)
    for note in opened.notes:
        typer.echo(note)
    with kept("What is finished is kept: the same command goes on."), training_progress() as bars:
        found = run_benchmark(
            opened,
            rows,
            source=data or opened.suite.download,
            features=output / "features",
            targets=target or (),
            folds=_numbers(folds),
            n_seeds=seeds,
            jobs=jobs,
            workers=workers,
            score_test=test,
            say=typer.echo,
            progress=bars,
        )
    folders = [row.folder for row in rows]
    path, table = write_table(list(zip(folders, found, strict=True)), output / "table")
    _show(table)
    typer.echo(f"Table: {path}")


@group.command()
def compare(
    first: Annotated[Path, typer.Argument(help="Predictions: CSV with id, target, prediction.")],
    second: Annotated[Path, typer.Argument(help="The same crystals by something else.")],
    combine: Annotated[str, typer.Option(help="mean or median of several seeds.")] = "mean",
) -> None:
    """Compare two tables of predictions crystal by crystal."""
    from potnet.benchmark.predictions import read_predictions
    from potnet.benchmark.statistics import compare as compare_predictions

    if combine not in ("median", "mean"):
        raise ConfigError(
            f"compare: `--combine` must be mean or median, got {combine}. Choose one."
        )
    found = compare_predictions(read_predictions(first), read_predictions(second), combine=combine)
    lines = [
        ["crystals in both", str(found.n)],
        ["only in the first, in the second", f"{found.only_first}, {found.only_second}"],
        ["MAE of the first", f"{found.mae_first:.5g}"],
        ["MAE of the second", f"{found.mae_second:.5g}"],
        ["first minus second", f"{found.difference:+.4g}"],
        ["its 95 % interval", f"{found.low:+.4g} to {found.high:+.4g}"],
        ["p (signs permuted)", f"{found.p_value:.3g}"],
        ["first is closer on", f"{100 * found.wins:.0f} % of the crystals"],
        ["", found.verdict],
    ]
    show_table(["paired comparison", ""], lines)


@group.command()
def table(
    sources: Annotated[
        list[Path], typer.Argument(help="Outputs of run, or the .json of tables, on one suite.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="STEM of STEM.json, STEM.md and STEM/.")
    ],
) -> None:
    """Join rows of one suite, each compared with the first, whose predictions are kept."""
    from potnet.benchmark.table import read_rows, write_table

    found = [row for source in sources for row in read_rows(source)]
    path, joined = write_table(found, output, keep=True)
    _show(joined)
    typer.echo(f"Table: {path}")


@group.command()
def suites() -> None:
    """List the suites."""
    from potnet.benchmark import SUITES

    rows = [
        [suite.name, suite.what, ", ".join(task.target for task in suite.tasks), suite.download]
        for suite in SUITES.values()
    ]
    show_table(["suite", "what it is", "targets", "download"], rows)


def _contestant(
    network: str | None,
    rival: str,
    title: str,
    config: Path | None,
    settings: dict[str, Any],
    budget: float | None,
) -> Contestant:
    from potnet.benchmark.contestants import Composition, Mean, Network
    from potnet.benchmark.external import External
    from potnet.training import TrainingConfig

    if rival:
        return External(title or "rival", rival, settings, budget)
    dumb = {kind.network: kind for kind in (Composition, Mean)}
    if network in dumb:
        if settings or config or budget:
            raise ConfigError(
                f"benchmark: `network` {network} must have no settings, got some. Leave them out."
            )
        return dumb[network]()
    if network is not None:
        settings["network"] = network
    chosen = TrainingConfig.read(config, **settings) if config else TrainingConfig(**settings)
    return Network(chosen, budget)


def _sweep(
    path: str, data: str, output: Path, settings: dict[str, Any], only: Sequence[str]
) -> tuple[Suite, str, list[TableRow]]:
    """Return the suite, the data and the rows of a sweep."""
    from dataclasses import replace

    from potnet.benchmark.contestants import Network
    from potnet.benchmark.suites import get
    from potnet.benchmark.sweep import read_sweep

    sweep = read_sweep(path, **settings)
    unknown = [name for name in only if name not in sweep.configs]
    if unknown:
        raise ConfigError(
            f"{path}: `--only` must name runs ({', '.join(sweep.configs)}), got {unknown[0]!r}. "
            "Correct the name."
        )
    rows = [
        _row(name, Network(config), output / name)
        for name, config in sweep.configs.items()
        if not only or name in only
    ]
    suite = get(sweep.suite)
    return replace(suite, what=sweep.what or suite.what), data or sweep.data, rows


def _row(name: str, contestant: Contestant, folder: Path) -> TableRow:
    from potnet.benchmark import TableRow

    return TableRow(name, contestant, folder)


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ConfigError(
            f"benchmark: `--folds` must be numbers like 0,1, got {text!r}. Correct it."
        ) from None


def _show(table: dict[str, Any]) -> None:
    from potnet.benchmark.table import cells_by_target

    for target, header, rows in cells_by_target(table):
        typer.echo(target)
        show_table(header, rows)
