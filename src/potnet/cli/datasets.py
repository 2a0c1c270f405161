"""``potnet datasets``: those that have a name, and what can be done with one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from potnet.cli.app import SKIPPED, Commands, Data, app, check_suffix, given, kept
from potnet.cli.terminal import finish, show_progress, show_table
from potnet.errors import ConfigError
from potnet.files import check_output, check_output_folder

Name = Annotated[str, typer.Argument(metavar="NAME", help="A name that potnet datasets lists.")]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder of downloads; else that of POTNET_CACHE, or the system's usual one."),
]


BY = "crystal, composition, chemical-system, prototype or cluster"
KINDS = "random, published, k-fold, nested, element, time, given, or a word of --by"


group = typer.Typer(cls=Commands)
app.add_typer(group, name="datasets", rich_help_panel="Data")


@group.callback(invoke_without_command=True)
def datasets(context: typer.Context) -> None:
    """List the datasets that have a name, fetch them, divide any dataset."""
    if context.invoked_subcommand is not None:
        return
    from potnet import data

    rows = [
        [name, about, *_here(name), _licence(name)] for name, about in data.named_datasets().items()
    ]
    show_table(["name", "what it is", "where", "size", "licence"], rows)


@group.command()
def get(
    name: Name,
    copies: Annotated[
        list[Path] | None,
        typer.Option("--from", metavar="FILE", help="A copy to take instead; may be repeated."),
    ] = None,
    cache: Cache = None,
) -> None:
    """Download a public dataset, or take it from a copy, and check it.

    A download that was interrupted goes on where it was. Nothing else in potnet uses the network.
    """
    from potnet.data.public.cache import fetch, public_dataset

    if cache is not None:
        os.environ["POTNET_CACHE"] = str(cache.absolute())
    found = public_dataset(name)
    with kept("What has arrived is kept: the same command goes on."), _transfers() as report:
        arrived = fetch(found, given=copies or (), report=report)
    for path, receipt in arrived:
        trust = "as potnet knows it" if receipt.pinned else "taken on trust when it came first"
        typer.echo(f"{path}: {_size(receipt.size)}, SHA-256 {receipt.sha256}, {trust}")
    if not all(receipt.pinned for _, receipt in arrived):
        typer.echo("potnet knows no SHA-256 of these files: compare with that of others.")
    typer.echo(f"Licence: {found.licence}\nCite: {found.citation}")
    if cache is not None:
        typer.echo(f"Set POTNET_CACHE={cache.absolute()} so that other commands find it.")


@group.command()
def info(name: Name) -> None:
    """Say all that is known about a public dataset."""
    from potnet.data.public.cache import folder_of, is_here, public_dataset

    found = public_dataset(name)
    split = found.official.text if found.official else "none: choose one, see potnet datasets split"
    lines = {
        "what": found.about,
        "targets": ", ".join(f"{target} ({unit})" for target, unit in found.targets.items()),
        "rows": " or ".join(map(str, found.counts)) or "not known",
        "split": split,
        "licence": found.licence,
        "cite": found.citation,
        "note": found.note,
        "folder": f"{folder_of(found)} ({'here' if is_here(found) else 'not here'})",
    }
    for file in found.files:
        lines[file.name] = " or ".join(file.urls)
        lines[f"{file.name}, SHA-256"] = file.sha256 or "not known; the first download counts"
    for key, text in lines.items():
        if text:
            typer.echo(f"{key}: {text}")


@group.command()
def split(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON file to write.")],
    kind: Annotated[str, typer.Option("--kind", "-k", help=f"{KINDS}.")] = "random",
    by: Annotated[str | None, typer.Option(help=f"What stays in one part: {BY}.")] = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", "-t", help="Leave out crystals that have none of these."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the shuffle.")] = None,
    train: Annotated[float | None, typer.Option(help="Share, or number, that trains.")] = None,
    val: Annotated[float | None, typer.Option(help="Share that validates.")] = None,
    test: Annotated[float | None, typer.Option(help="Share that tests.")] = None,
    n_folds: Annotated[int | None, typer.Option("--folds", help="Number of folds.")] = None,
    fold: Annotated[int | None, typer.Option(help="Fold that tests, from 0.")] = None,
    inner_folds: Annotated[int | None, typer.Option(help="Folds of the rest; for nested.")] = None,
    inner_fold: Annotated[int | None, typer.Option(help="Inner fold that validates.")] = None,
    element: Annotated[
        list[str] | None,
        typer.Option("--element", "-e", help="Test on crystals with it; may be repeated."),
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="Years or dates; for time. Default: numbers in the ids.")
    ] = None,
    n_clusters: Annotated[int | None, typer.Option("--clusters", help="How many clusters.")] = None,
) -> None:
    """Divide a dataset and write the ids of each part to a file.

    potnet train takes the file: --split FILE. The same settings give the same file.
    """
    from importlib.metadata import version

    from potnet.data import make_split
    from potnet.data import open as open_dataset
    from potnet.training import TrainingConfig

    named = {
        "kind": kind,
        "by": by,
        "seed": seed,
        "train": train,
        "val": val,
        "test": test,
        "n_folds": n_folds,
        "fold": fold,
        "inner_folds": inner_folds,
        "inner_fold": inner_fold,
        "elements": tuple(element or ()) or None,
        "column": column,
        "n_clusters": n_clusters,
    }
    check_suffix("--output", output, ".json")
    check_output(output, inputs=[data], option="--output")
    chosen = {name: value for name, value in named.items() if value is not None}
    config = TrainingConfig(split=chosen).split
    dataset = open_dataset(given(data), on_error="skip")
    absent = next((name for name in target or () if name not in dataset.targets), None)
    if absent is not None:
        raise ConfigError(
            f"split: `--target` must be a column of numbers ({', '.join(dataset.targets)}), got "
            f"{absent!r}. Correct the name."
        )
    made, left_out = make_split(dataset, config, tuple(target or ()))
    rule = config.model_dump(mode="json")
    about = {
        "data": dataset.name,
        "targets": target or [],
        "rule": rule,
        "potnet": version("potnet"),
    }
    made.write(output, dataset.ids, about=about)
    sizes = ", ".join(f"{size} {part}" for part, size in made.sizes.items())
    typer.echo(f"{sizes}: {output}")
    finish([*dataset.failures, *left_out], None)


@group.command()
def build(
    source: Data,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of Parquet files to write.")
    ],
    target: Annotated[
        list[str] | None,
        typer.Option("--target", "-t", help="Column of numbers; may be repeated. Default: all."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read crystals.")] = 1,
) -> None:
    """Read a dataset once into a folder of Parquet files, which any command takes as its data.

    A build that was interrupted goes on where it was. What cannot be used is listed in
    _errors.csv of the folder; the exit code is then 3.
    """
    from potnet.data import build as build_folder

    check_output_folder(output, option="--output")
    source = given(source)
    on = "What was read is kept: the same command goes on."
    with kept(on), show_progress("Reading") as bars:

        def show(done: int, total: int | None) -> None:
            bars.update(bars.task_ids[0], completed=done, total=total)

        folder = build_folder(source, output, targets=target or (), workers=workers, progress=show)
    typer.echo(f"{len(folder)} crystals: {output}")
    if folder.failures:
        typer.echo(f"{len(folder.failures)} skipped: {output / '_errors.csv'}", err=True)
        raise typer.Exit(SKIPPED)


@group.command()
def verify(
    path: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder that `build` made.")],
) -> None:
    """Read every byte of a folder that was built and compare it with what was written."""
    from potnet.data import ParquetFolder

    folder = ParquetFolder(path)
    with show_progress("Verifying") as bars:

        def show(done: int, total: int) -> None:
            bars.update(bars.task_ids[0], completed=done, total=total)

        faults = folder.verify(show)
    for fault in faults:
        typer.echo(fault)
    if faults:
        raise typer.Exit(1)
    typer.echo(f"{len(folder)} crystals, {len(folder.failures)} failures, version {folder.version}")
    if not folder.is_complete:
        typer.echo("Not all of its source is in it yet: build it again to go on.")


def _here(name: str) -> list[str]:
    """Return where the dataset ``name`` is, and how large."""
    from potnet.data.public.cache import is_here, size_of
    from potnet.data.public.catalogue import PUBLIC_DATASETS

    if name not in PUBLIC_DATASETS:
        return ["in the package", ""]
    size = size_of(PUBLIC_DATASETS[name])
    return [
        "here" if is_here(PUBLIC_DATASETS[name]) else "not here",
        "?" if size is None else _size(size),
    ]


def _licence(name: str) -> str:
    """Return under which terms the dataset ``name`` is, without the sentences."""
    from potnet.data.public.catalogue import PUBLIC_DATASETS

    return PUBLIC_DATASETS[name].licence if name in PUBLIC_DATASETS else "CC BY 4.0"


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


@contextmanager
def _transfers() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show a bar for each file."""
    with show_progress(transfers=True) as bars:
        tasks: dict[str, Any] = {}

        def show(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done, total=total)

        yield show
