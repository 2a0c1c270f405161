"""Writing files: whole or not at all, where the caller said, and nowhere else.

Before a long piece of work, :func:`check_output` says whether its result can be written. A file
that :func:`atomic_write` writes takes its place only when it is complete. What is not an ordinary
file, a device or a pipe, is written straight, since nothing can take its place.
"""

from __future__ import annotations

import csv
import errno
import os
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from potnet.errors import FAILURE_COLUMNS, ConfigError, Failure
from potnet.text import csv_cell

AnyPath = str | os.PathLike[str]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def as_path(path: object, name: str) -> Path:
    """Return ``path`` as a Path.

    Args:
        path: Text, or an object that stands for a path.
        name: Of the argument, for the message.

    Raises:
        ConfigError: If it is something else, or nothing that the system can name a file by.
    """
    try:
        found = Path(path)  # pyright: ignore[reportArgumentType]
        os.fsencode(found)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"`{name}` must be a path that this system can have, got {type(path).__name__} "
            f"{str(path)[:60]!r}. Give text or a Path."
        ) from error
    return found


def check_output(path: AnyPath, *, inputs: Iterable[AnyPath] = (), option: str = "output") -> Path:
    """Return ``path`` if a file can be written there, before any work is done for it.

    A missing folder is made.

    Args:
        path: The file to be written.
        inputs: Files that are read; the output must not be one of them.
        option: Name of the setting, for messages.

    Raises:
        ConfigError: If it is a folder or an input, or if its folder takes no files.
    """
    path = Path(path)
    if path.is_dir():
        raise ConfigError(f"`{option}` must be a file, got the folder {path}. Name a file in it.")
    for item in inputs:
        if path.exists() and Path(item).exists() and path.samefile(item):
            raise ConfigError(
                f"`{option}` must not be what is read, got {path} for both. Choose another name."
            )
    if _is_stream(path):
        return path
    target = _followed(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".tmp")
        os.close(handle)
        os.unlink(temporary)
    except OSError as error:
        raise ConfigError(
            f"`{option}` must lie in a folder that takes new files, got {path}: {error.strerror}. "
            "Choose another place."
        ) from None
    if target.exists() and not _replaceable(target):
        raise ConfigError(
            f"`{option}` must not be another user's file in a folder for all, got {path}. "
            "Choose another name."
        )
    return path


def check_output_folder(path: AnyPath, *, option: str = "output") -> Path:
    """Return ``path`` if files can be written into that folder, which is made if it is missing.

    Raises:
        ConfigError: If it is a file, or takes no files.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise ConfigError(f"`{option}` must be a folder, got the file {path}. Choose another name.")
    check_output(path / ".potnet", option=option)
    return path


def check_own_table(path: AnyPath, header: str) -> None:
    """Raise unless ``path`` is missing, empty, or a table that begins with the line ``header``.

    Lists that are written beside a result, such as ``errors.csv``, have names that the user did
    not choose; a file of the user's own under such a name stays.

    Raises:
        ConfigError: If another file is there.
    """
    path = Path(path)
    if not path.exists() or _is_stream(path):
        return
    with open(path, "rb") as file:
        first = file.read(len(header.encode()) + 1)
    if first and first.rstrip(b"\r\n") != header.encode():
        raise ConfigError(
            f"{path}: must be a list that potnet wrote or be free, got another file. "
            "Rename it, or choose another folder for the output."
        )


@contextmanager
def atomic_write(path: AnyPath, mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
    """Open a file that takes its place under ``path`` only when it is complete.

    The text or bytes go to a temporary file in the same folder; leaving the block without an
    exception flushes it to the disk and renames it, so that a reader, or a run after a crash,
    finds the old content or the new one and never a part. An exception leaves nothing behind. A
    link is followed; a file that was there keeps its permissions; a device or pipe is written
    straight.

    Args:
        path: The file to write; its folder must exist.
        mode: ``"w"`` for UTF-8 text with ``\\n`` line ends, ``"wb"`` for bytes.

    Yields:
        The open file object.

    Raises:
        OSError: If the folder does not exist or cannot be written to; it names ``path``.
    """
    path = Path(path)
    text: dict[str, Any] = {} if mode == "wb" else {"encoding": "utf-8", "newline": "\n"}
    if _is_stream(path):
        with naming(path), open(path, mode, **text) as file:
            yield file
        return
    target = _followed(path)
    try:
        handle, temporary = tempfile.mkstemp(
            dir=target.parent, prefix=f".{target.name[:100]}.", suffix=".tmp"
        )
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None
    try:
        with naming(path), open(handle, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _permissions(target))
        try:
            os.replace(temporary, target)
        except OSError as error:
            raise type(error)(error.errno, error.strerror, str(path)) from None
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


@contextmanager
def naming(path: AnyPath) -> Iterator[None]:
    """Let an error that there is no room say for which file there is none."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _NO_ROOM:
            raise type(error)(error.errno, error.strerror, str(path)) from None
        raise


def write_failures(failures: Iterable[Failure], path: AnyPath) -> None:
    """Write a table of what was skipped."""
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FAILURE_COLUMNS)
        writer.writerows([csv_cell(f.id), f.stage, csv_cell(f.reason)] for f in failures)


def end_on_termination() -> None:
    """Let SIGTERM end this process as an exception does, so that nothing half-written stays.

    For programs; a library leaves signals to its caller.
    """
    if os.name == "posix" and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@contextmanager
def exclusive(path: str | os.PathLike[str], refusal: Exception) -> Iterator[None]:
    """Hold the file ``path``, made if missing, for this process alone.

    The system lets go of it when the process ends, however it ends.

    Raises:
        refusal: If another process holds it.
        OSError: If the folder does not exist or cannot be written to.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            if os.name == "posix":
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                import msvcrt

                msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except (BlockingIOError, PermissionError):  # of POSIX and of Windows
            raise refusal from None
        yield
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Make the renames inside ``folder`` survive a power cut (where the system can)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(folder: Path) -> None:
    """Delete what writers that were killed left in ``folder``; nobody may be writing there."""
    for path in folder.glob(".*.tmp"):
        path.unlink()


def _is_stream(path: Path) -> bool:
    """Whether ``path`` is a device, a pipe, or one of this process's open files."""
    if os.path.abspath(path).startswith(("/dev/std", "/dev/fd/", "/proc/")):
        return True
    return path.exists() and not path.is_file() and not path.is_dir()


def _followed(path: Path) -> Path:
    """Return where a link leads, also if there is nothing yet."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _replaceable(path: Path) -> bool:
    """Whether this user may put another file in the place of ``path``."""
    if os.name != "posix" or not path.parent.stat().st_mode & stat.S_ISVTX:
        return True
    return os.geteuid() in (0, path.stat().st_uid, path.parent.stat().st_uid)


def _permissions(path: Path) -> int:
    """Return the mode of the file ``path``, or the one that a new file gets.

    ``mkstemp`` makes private files.
    """
    if path.exists():
        return stat.S_IMODE(path.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
