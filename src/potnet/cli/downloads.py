"""``potnet datasets get`` and ``info``: public datasets on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from potnet.cli.datasets import group

if TYPE_CHECKING:
    from rich.progress import TaskID

Name = Annotated[str, typer.Argument(metavar="NAME", help="A name that potnet datasets lists.")]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder of downloads; else that of POTNET_CACHE, or the system's usual one."),
]


@group.command()
def get(
    name: Name,
    given: Annotated[
        list[Path] | None,
        typer.Option("--from", metavar="FILE", help="A copy to take instead; may be repeated."),
    ] = None,
    cache: Cache = None,
) -> None:
    """Download a public dataset, or take it from a copy, and check it.

    A download that was interrupted goes on where it was. Nothing else in potnet uses the network.
    """
    from potnet.data.public.local import fetch, public_dataset

    if cache is not None:
        os.environ["POTNET_CACHE"] = str(cache.absolute())
    found = public_dataset(name)
    with _transfers() as report:
        arrived = fetch(found, given=given or (), report=report)
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
    from potnet.data.public.local import folder_of, is_here, public_dataset

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


def here(name: str) -> list[str]:
    """Return where the dataset ``name`` is, and how large."""
    from potnet.data.public.catalogue import PUBLIC_DATASETS
    from potnet.data.public.local import is_here, size_of

    if name not in PUBLIC_DATASETS:
        return ["in the package", ""]
    size = size_of(PUBLIC_DATASETS[name])
    return [
        "here" if is_here(PUBLIC_DATASETS[name]) else "not here",
        "?" if size is None else _size(size),
    ]


def licence(name: str) -> str:
    """Return under which terms the dataset ``name`` is, without the sentences."""
    from potnet.data.public.catalogue import PUBLIC_DATASETS

    return PUBLIC_DATASETS[name].licence if name in PUBLIC_DATASETS else "CC BY 4.0"


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


@contextmanager
def _transfers() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show a bar per file on the terminal; stay silent in a pipe or a log."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done, total=total)

        yield show
