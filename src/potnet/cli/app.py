"""The application: how mistakes are told, and what several commands take."""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from potnet.errors import ConfigError, Failure, PotNetError
from potnet.text import printable

if TYPE_CHECKING:
    from potnet.crystal import Crystal
    from potnet.data import ParquetFolder
    from potnet.io import Piece

# Exit codes beside 0, 1 (failure) and 2 (wrong usage): done but for some items; stopped by Ctrl-C.
SKIPPED = 3
INTERRUPTED = 130


class Commands(TyperGroup):
    """Commands whose users see one sentence where they made a mistake, never a stack trace."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        _repair_streams()
        return super().main(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()  # a full disk is told here, not when the interpreter ends
            return result
        except BrokenPipeError:
            _end_quietly()
        except KeyboardInterrupt:
            raise _failed("stopped.", INTERRUPTED) from None
        except (PotNetError, OSError) as error:
            raise _failed(_sentence(error)) from None
        except MemoryError:
            raise _failed("out of memory. Close other programs, or give less at a time.") from None
        except RuntimeError as error:
            if "allocate" not in str(error) and "out of memory" not in str(error):
                raise
            raise _failed("out of memory. Lower --batch-size, or give less at a time.") from None


def _failed(sentence: str, code: int = 1) -> typer.Exit:
    """Say why the command ends, and return what ends it."""
    with contextlib.suppress(OSError):  # standard error may be closed or full as well
        typer.echo(f"potnet: {printable(sentence)}", err=True)
    return typer.Exit(code)


def _end_quietly() -> NoReturn:
    """End after ``potnet ... | head``: no mistake, and nobody reads on."""
    # What is still in the buffer would fail once more when the interpreter ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    raise typer.Exit(1) from None


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


@contextlib.contextmanager
def kept(what: str) -> Iterator[None]:
    """Say on Ctrl-C what is kept and how to go on, and end with code 130."""
    try:
        yield
    except KeyboardInterrupt:
        raise _failed(f"stopped. {what}", INTERRUPTED) from None


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


Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes; the result does not depend on it. Default: all cores."),
]


def checked_device(name: str | None) -> str | None:
    """Return the name of a device that this machine has."""
    if name not in (None, "cpu"):  # anything else needs torch to tell
        from potnet.devices import device

        device(name)
    return name


Device = Annotated[
    str, typer.Option(callback=checked_device, help="Where to compute: cpu, cuda, cuda:1 or mps.")
]


def symbols_of(species: str) -> list[str]:
    """Return the symbols that ``--species`` names."""
    return species.replace(",", " ").split()


class Sources:
    """The parts of built datasets, then of files, folders, patterns and standard input.

    Args:
        paths: What the user names.
        recursive: Whether to enter the folders inside folders.
        species: Symbols for POSCAR files that do not say them.
        without: Files and folders that are passed over: what the command writes.
    """

    def __init__(
        self,
        paths: Sequence[str],
        recursive: bool,
        species: str = "",
        without: Iterable[Path | None] = (),
    ) -> None:
        from potnet.io import Pieces

        files = [given(path) for path in paths]
        self._folders: list[ParquetFolder] = []
        if any(os.path.isdir(path) for path in files):
            from potnet.data import ParquetFolder

            named = files
            files = [path for path in named if not ParquetFolder.exists(path)]
            self._folders = [ParquetFolder(path) for path in named if ParquetFolder.exists(path)]
        self._files = Pieces(
            files,
            recursive=recursive,
            species=symbols_of(species),
            without=[path for path in without if path is not None],
        )

    def __iter__(self) -> Iterator[Piece]:
        from potnet.io import Piece

        for folder in self._folders:
            for record in folder:
                # Only where two folders have the same id.
                yield Piece.of(f"{folder.path}#{record.id}", record.id, record.crystal)
        yield from self._files

    @property
    def total(self) -> int | None:
        """About how many parts there are; None where nobody knows yet."""
        in_files = self._files.total
        return None if in_files is None else sum(map(len, self._folders)) + in_files


def structures(
    paths: Sequence[str], recursive: bool, species: str = "", without: Iterable[Path | None] = ()
) -> Iterator[Crystal | Failure]:
    """Yield the crystals of :class:`Sources`, and why others cannot be used."""
    from potnet.io import crystals_in

    return crystals_in(Sources(paths, recursive, species, without))


def given(path: str) -> str:
    """Return ``path``, or for "-" that of a file with what standard input says.

    The format of standard input is told by what it begins with: CIF, JSON, XSF, extxyz, a table
    with commas, else POSCAR.
    """
    if path != "-":
        return path
    if sys.stdin is None or sys.stdin.isatty():
        raise ConfigError("-: standard input must be a file or a pipe, got a terminal. Name files.")
    from potnet.io.files import suffix_of

    content = sys.stdin.buffer.read()
    folder = tempfile.TemporaryDirectory(prefix="potnet-")
    atexit.register(folder.cleanup)
    copy = Path(folder.name, f"stdin{suffix_of(content)}")
    copy.write_bytes(content)
    return str(copy)


def check_suffix(option: str, path: Path | None, *suffixes: str) -> None:
    """Raise if a file is to get a name that promises another format than one of ``suffixes``.

    Raises:
        ConfigError: If the suffix is none of them; a device or pipe may have any name.
    """
    if path is None or path.suffix.lower() in suffixes or (path.exists() and not path.is_file()):
        return
    *others, last = suffixes
    names = f"{', '.join(others)} or {last}" if others else last
    raise ConfigError(f"`{option}` must end in {names}, got {path}. Rename it.")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"potnet {version('potnet')}")
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
    warnings.showwarning = _say_warning
    for name in ("potnet", "latticesums"):
        log = logging.getLogger(name)
        if not any(isinstance(handler, _Spoken) for handler in log.handlers):
            log.addHandler(_Spoken())
            log.setLevel(logging.INFO)


def _repair_streams() -> None:
    """Make up for standard streams that are closed, or cannot encode what is written."""
    for number in range(3):  # else the next file to be opened would be standard output
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _say_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Say in a line what some library warns of."""
    typer.echo(f"potnet: {printable(message, limit=300)}", err=True)


class _Spoken(logging.Handler):
    """Says on the terminal what the library notes, such as why a first call takes long."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(f"potnet: {record.getMessage()}", err=True)
