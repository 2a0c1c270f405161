"""``potnet datasets split``: who trains, who validates, who tests, in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from potnet.cli.app import Data
from potnet.cli.datasets import group
from potnet.cli.terminal import finish
from potnet.errors import ConfigError

BY = "crystal, composition, chemical-system, prototype or cluster"
KINDS = "random, published, k-fold, nested, element, time, given, or a word of --by"


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
    import potnet
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
    given = {name: value for name, value in named.items() if value is not None}
    config = TrainingConfig(split=given).split
    dataset = open_dataset(data, on_error="skip")
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
        "potnet": potnet.__version__,
    }
    made.write(output, dataset.ids, about=about)
    sizes = ", ".join(f"{size} {part}" for part, size in made.sizes.items())
    typer.echo(f"{sizes}: {output}")
    finish([*dataset.failures, *left_out], None)
