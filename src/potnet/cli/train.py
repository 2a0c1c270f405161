"""``potnet train``: a model from a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from potnet.cli.app import Data, app, given, kept
from potnet.cli.terminal import finish, show_metrics, training_progress, write_failures
from potnet.errors import ConfigError
from potnet.files import check_output_folder

if TYPE_CHECKING:
    from potnet.data import Dataset
    from potnet.training import Callback, TrainingConfig


def _show_settings(wanted: bool) -> None:
    if wanted:
        from potnet.training.config import described

        for name, default, meaning in described():
            typer.echo(f"{name} = {default}\n    {meaning}")
        raise typer.Exit


@app.command(rich_help_panel="Models")
def train(
    data: Data,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder of the run.")
    ],
    target: Annotated[
        list[str] | None,
        typer.Option("-t", "--target", metavar="NAME", help="Column to learn; repeatable."),
    ] = None,
    unit: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=UNIT", help="Unit for a target; repeatable."),
    ] = None,
    source_unit: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=UNIT", help="Its unit in DATA, if not there."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML or JSON; flags win over it.")
    ] = None,
    network: Annotated[
        str | None, typer.Option(metavar="NAME", help="completenet, potnet, or another's.")
    ] = None,
    finetune: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A model to go on from.")
    ] = None,
    transform: Annotated[
        str | None, typer.Option(metavar="WORD", help="none, log10, binary, classes ...")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Passes over the training crystals.")
    ] = None,
    members: Annotated[
        int | None, typer.Option(metavar="N", help="Networks from different seeds.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="random, k-fold,NAME=VALUE; a file."),
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Of everything.")] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="auto, cpu, cuda or mps.")
    ] = None,
    devices: Annotated[
        int | None, typer.Option(metavar="N", help="Processes on each machine.")
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(metavar="N", help="Machines, each with torchrun.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any setting; repeatable."),
    ] = None,
    settings: Annotated[
        bool,
        typer.Option(
            "--settings", callback=_show_settings, is_eager=True, help="List all settings."
        ),
    ] = False,
    folds: Annotated[
        int | None, typer.Option(metavar="N", help="Test N folds, then learn from all.")
    ] = None,
    learning_curve: Annotated[
        bool, typer.Option("--learning-curve", help="How many more crystals?")
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write its log, too.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on, perhaps for more epochs.")
    ] = False,
    export_now: Annotated[
        bool, typer.Option("--export-now", help="With --resume: the model of now.")
    ] = False,
) -> None:
    """Train a model, test it, and write a report.

    The model is in the folder "model" of the output and works like a bundled one.
    """
    from potnet.training import TensorBoard

    flags = {
        "targets": target,
        "network": network,
        "finetune": finetune,
        "transform": transform,
        "epochs": epochs,
        "members": members,
        "split": None if split is None else split_settings(split),
        "seed": seed,
        "device": device,
        "devices": devices,
        "n_nodes": nodes,
    }
    chosen = _chosen_settings(config, setting or [], flags)
    several = [
        flag for flag, on in (("--folds", folds), ("--learning-curve", learning_curve)) if on
    ]
    _check_alone(several, chosen, resume=resume, export_now=export_now)
    check_output_folder(output, option="--output")
    dataset = _opened(data, chosen, unit or [], source_unit or [])
    callbacks = [TensorBoard()] if tensorboard else []
    if several:
        _series(dataset, chosen, output, n_folds=folds, callbacks=callbacks)
    else:
        _one_run(dataset, chosen, output, callbacks, resume=resume, export_now=export_now)


def _chosen_settings(
    config: Path | None, assignments: Sequence[str], flags: Mapping[str, Any]
) -> TrainingConfig:
    """Return the settings of a file, over them those of ``--set``, over these those of flags."""
    from potnet.training import TrainingConfig

    told = settings_from(assignments) | {k: v for k, v in flags.items() if v is not None}
    return TrainingConfig.read(config, **told) if config else TrainingConfig(**told)


def _check_alone(
    several: Sequence[str], config: TrainingConfig, *, resume: bool, export_now: bool
) -> None:
    """Raise where options of several runs, or of the model of now, do not go together."""
    if len(several) > 1 or (export_now and (several or not resume)):
        got = [*several, *(["--export-now without --resume"] if export_now else [])]
        raise ConfigError(
            "train: --folds, --learning-curve and --resume --export-now each go alone, got "
            f"{' and '.join(got)}. Choose one."
        )
    if several and config.devices * config.n_nodes > 1:
        raise ConfigError(
            f"train: {several[0]} must have one process, got {config.devices * config.n_nodes}. "
            "Train the folds one after the other, or each by a command of its own (--split)."
        )


def _opened(
    data: str, config: TrainingConfig, units: Sequence[str], source_units: Sequence[str]
) -> Dataset:
    from potnet.data import open as open_dataset
    from potnet.targets import column_of

    columns = tuple(dict.fromkeys(column_of(name) for name in config.targets))
    return open_dataset(
        given(data),
        # Rows with words for numbers are refused then; a column of times is no target.
        targets=columns if columns and not config.split.column else None,
        units=units_from(units),
        source_units=units_from(source_units),
        on_error="skip",
    )


def _one_run(
    dataset: Dataset,
    config: TrainingConfig,
    output: Path,
    callbacks: Sequence[Callback],
    *,
    resume: bool,
    export_now: bool,
) -> None:
    """Train one model and say what came of it."""
    from potnet.report import training_report
    from potnet.training import train as run

    on = (
        f"What was learned is in {output}: the same command with --resume goes on, with "
        "--resume --export-now it writes the model of now."
    )
    with kept(on), training_progress() as report:
        result = run(
            dataset,
            config,
            output,
            resume=resume,
            on_error="skip",
            progress=report,
            callbacks=callbacks,
            export_now=export_now,
        )
    if not result.metrics:
        return  # the first process of the run says what came of it
    page = training_report(output)
    show_metrics(result.metrics.get("test") or result.metrics["val"], dataset.units)
    typer.echo(f"Model:  {result.model}\nReport: {page}")
    finish(result.failures, output / "errors.csv")


def _series(
    dataset: Dataset,
    config: TrainingConfig,
    output: Path,
    *,
    n_folds: int | None,
    callbacks: Sequence[Callback],
) -> None:
    """Run all folds, or a learning curve if no number of folds is given."""
    from potnet.report import curve_report, folds_report
    from potnet.training import CrossValidation, cross_validate, learning_curve

    told: dict[str, Any] = {"on_error": "skip", "callbacks": callbacks}
    with kept(f"What was learned is in {output}: the same command goes on."):
        with training_progress() as report:
            told["progress"] = report
            if n_folds is None:
                found = learning_curve(dataset, config, output, **told)
            else:
                found = cross_validate(dataset, config, output, n_folds=n_folds, **told)
        if isinstance(found, CrossValidation):
            page = folds_report(found)
            show_metrics(found.metrics, dataset.units)
        else:
            page = curve_report(found, dataset.units)
            for name, law in found.laws.items():
                typer.echo(law.sentence(name))
    typer.echo(f"Model:  {found.model}\nReport: {page}")
    write_failures(found.failures, output / "errors.csv")
    finish(found.failures, output / "errors.csv")


def settings_from(assignments: Sequence[str]) -> dict[str, Any]:
    """Return settings from ``NAME=VALUE`` texts, the values read as YAML."""
    import yaml

    settings = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        try:
            settings[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not equals:
            raise ConfigError(
                f"train: a setting must be NAME=VALUE with a YAML value, got {text!r}. Correct it."
            )
    return settings


def units_from(assignments: Sequence[str]) -> dict[str, str]:
    """Return the units in ``TARGET=UNIT`` texts."""
    parts = [text.rpartition("=") for text in assignments]
    if wrong := next((text for text in assignments if "=" not in text), None):
        raise ConfigError(f"train: a unit must be TARGET=UNIT, got {wrong!r}. Correct it.")
    return {name.strip(): unit.strip() for name, _, unit in parts}


def split_settings(text: str) -> dict[str, Any]:
    """Return the settings in ``KIND[,NAME=VALUE...]``, or of a split file by its name.

    >>> split_settings("k-fold,fold=2,by=composition")
    {'fold': 2, 'by': 'composition', 'kind': 'k-fold'}
    >>> split_settings("k-fold,folds=10")
    {'n_folds': 10, 'kind': 'k-fold'}
    """
    kind, *rest = text.split(",")
    if kind.endswith(".json"):
        return {"kind": "file", "path": text}
    settings = settings_from(rest)
    if "folds" in settings:  # as people say it
        settings["n_folds"] = settings.pop("folds")
    return settings | {"kind": kind.strip()}
