"""The application: how mistakes are told, and what several commands take."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from potnet.errors import Failure, PotNetError

if TYPE_CHECKING:
    from potnet.crystal import Crystal

# Exit code where some items were skipped.
SKIPPED = 3


class Commands(TyperGroup):
    """Commands whose users see one sentence where they made a mistake, never a stack trace."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # "potnet ... | head" is no mistake; the framework ends it quietly.
        except (PotNetError, OSError) as error:
            typer.echo(f"potnet: {_sentence(error)}", err=True)
            raise typer.Exit(1) from None


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Predict properties of crystals from complete interatomic potentials.",
)

Structures = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH...",
        help="Structure files (CIF, POSCAR, extxyz, XSF, JSON, .gz), folders, patterns, or what "
        "potnet datasets build wrote.",
    ),
]
Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A dataset by name (see potnet datasets), or a file or folder of your own.",
    ),
]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="Enter the folders inside folders.")
]
Species = Annotated[
    str,
    typer.Option("--species", help='Elements of POSCAR files that do not say them: "Na Cl".'),
]
Device = Annotated[str, typer.Option(help='Where to compute: "cpu", "cuda", "cuda:1".')]


def structures(paths: list[str], recursive: bool, species: str = "") -> Iterator[Crystal | Failure]:
    """Yield the crystals of datasets that were built, then those of files, folders and patterns."""
    from potnet.data import ParquetFolder
    from potnet.io import scan

    files = []
    for path in paths:
        if ParquetFolder.exists(path):
            folder = ParquetFolder(path)
            yield from map(folder.crystal, range(len(folder)))
        else:
            files.append(path)
    if files:
        symbols = species.replace(",", " ").split()
        yield from scan(files, recursive=recursive, species=symbols)


def _show_version(wanted: bool) -> None:
    if wanted:
        import potnet

        typer.echo(f"potnet {potnet.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Predict properties of crystals from complete interatomic potentials."""
    from potnet.files import end_on_termination

    end_on_termination()
    for name in ("potnet", "latticesums"):
        log = logging.getLogger(name)
        if not any(isinstance(handler, _Spoken) for handler in log.handlers):
            log.addHandler(_Spoken())
            log.setLevel(logging.INFO)


class _Spoken(logging.Handler):
    """Says on the terminal what the library notes, such as why a first call takes long."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(f"potnet: {record.getMessage()}", err=True)
