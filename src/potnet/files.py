"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal


@contextmanager
def atomic_write(path: str | os.PathLike[str], mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
    """Open a file that takes its place under ``path`` only when it is complete.

    The text or bytes go to a temporary file in the same folder; leaving the block without an
    exception flushes it to the disk and renames it, so that a reader, or a run after a crash,
    finds the old content or the new one and never a part. An exception leaves nothing behind.

    Args:
        path: The file to write; its folder must exist.
        mode: ``"w"`` for UTF-8 text with ``\\n`` line ends, ``"wb"`` for bytes.

    Yields:
        The open file object.

    Raises:
        OSError: If the folder does not exist or cannot be written to.
    """
    path = Path(path)
    text: dict[str, Any] = {} if mode == "wb" else {"encoding": "utf-8", "newline": "\n"}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with open(handle, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _permissions())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def exclusive(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the file ``path``, made if missing, for this process alone.

    The system lets go of it when the process ends, however it ends.

    Raises:
        BlockingIOError: If another process holds it.
        OSError: If the folder does not exist or cannot be written to.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if os.name == "posix":
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            try:
                msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            except PermissionError as error:
                raise BlockingIOError(*error.args) from None
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


def _permissions() -> int:
    """Return the mode that an ordinary new file gets; ``mkstemp`` makes private ones."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
