"""Where tables of a cluster are read and written: any address that fsspec knows.

A table takes its place when it is complete. On a file system that is a rename; an object store
shows an object when all of it has arrived.
"""

from __future__ import annotations

import os
import posixpath
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from potnet.errors import ConfigError
from potnet.files import sync_folder
from potnet.io import kind_of, plain_name

# Stores whose objects appear whole; to rename there is to copy.
OBJECT_STORES = frozenset(
    ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "r2")
)
# Under which key file systems of fsspec say when a file was written.
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "created")


@dataclass(frozen=True)
class Source:
    """A file that is read as one shard.

    Attributes:
        address: Where it is, for any machine.
        name: Of its table, without the ending.
        modified: When it was written, in seconds; 0 where nobody knows.
    """

    address: str
    name: str
    modified: float


def file_system(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it; a local path becomes absolute.

    Raises:
        ConfigError: If there is none for it here.
    """
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"{address}: the address must be one that fsspec opens, got {error}. Install the "
            "library that it names, on every machine, or correct the address."
        ) from None


def is_local(fs: Any) -> bool:
    """Whether a file system is that of the machine."""
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def find_sources(inputs: Iterable[str], *, recursive: bool = False) -> list[Source]:
    """Return the files that ``inputs`` stand for, in order: files, folders, patterns.

    The table of a file has its path below the folder that was named, or below the part of the
    pattern that has no wildcards. ``recursive`` enters the folders inside folders.

    Raises:
        ConfigError: If an input stands for none, or two files would have the same table.
    """
    found: list[Source] = []
    for text in inputs:
        fs, path = file_system(text)
        root, infos = _listed(fs, path, None if recursive else 1)
        for place in sorted(infos):
            name = posixpath.relpath(place, root)
            if not any(part.startswith((".", "_")) for part in name.split("/")):
                address = place if is_local(fs) else fs.unstrip_protocol(place)
                found.append(
                    Source(address, name.removesuffix(".parquet"), _modified(infos[place]))
                )
        if not infos:
            raise ConfigError(
                f"{text}: an input must be a file, a folder with structure files or a pattern "
                "that fits some, got none. Check the address."
            )
    counts = Counter(source.name for source in found)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ConfigError(
            f"cluster: each input must have a table of its own, got two for {twice[0]}. "
            "Give the folder above them, or run once for each."
        )
    return found


def _listed(fs: Any, path: str, depth: int | None) -> tuple[str, dict[str, Any]]:
    """Return the folder to which names are relative, and all files with what is known of them."""
    if any(sign in path for sign in "*?["):
        fixed = path[: min(path.index(sign) for sign in "*?[" if sign in path)]
        found = fs.glob(path, detail=True)
        return posixpath.dirname(fixed), {p: i for p, i in found.items() if i["type"] == "file"}
    try:
        info = fs.info(path)
    except FileNotFoundError:
        return path, {}
    if info["type"] == "file":
        return posixpath.dirname(path), {path: info}
    found = fs.find(path, maxdepth=depth, detail=True)
    return path, {p: i for p, i in found.items() if kind_of(plain_name(p))}


def _modified(info: dict[str, Any]) -> float:
    """Return when a file was written, in seconds, by what its file system says."""
    value = next((info[key] for key in _TIMES if info.get(key)), 0.0)
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return value.timestamp() if isinstance(value, datetime) else float(value)


@contextmanager
def local_copy(address: str) -> Iterator[Path]:
    """Yield a file of this machine with the content of ``address``: itself where it is here."""
    fs, path = file_system(address)
    if is_local(fs):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="potnet-") as folder:
        copy = Path(folder, posixpath.basename(path))
        fs.get_file(path, str(copy))
        yield copy


class OutputFolder:
    """A folder of tables at an address.

    Args:
        address: The folder.

    Raises:
        ConfigError: If nothing can open the address.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._fs, self._path = file_system(address)
        #: The folder, where it is one of this machine.
        self.local = Path(self._path) if is_local(self._fs) else None

    def listed(self) -> dict[str, float]:
        """Return when each file in it was written, by its path in it."""
        if not self._fs.exists(self._path):
            return {}
        found = self._fs.find(self._path, detail=True)
        return {posixpath.relpath(path, self._path): _modified(found[path]) for path in found}

    def read(self, name: str) -> str:
        """Return the text of a file, empty if there is none."""
        path = f"{self._path}/{name}"
        return self._fs.cat_file(path).decode() if self._fs.exists(path) else ""

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a file to be made, which takes its place as ``name`` after the block."""
        place = f"{self._path}/{name}"
        with tempfile.TemporaryDirectory(prefix="potnet-") as folder:
            made = Path(folder, posixpath.basename(name))
            yield made
            self._put(made, place)

    def _put(self, made: Path, place: str) -> None:
        above, last = posixpath.split(place)
        self._fs.makedirs(above, exist_ok=True)
        if OBJECT_STORES & {self._fs.protocol, *self._fs.protocol}:
            self._fs.put_file(str(made), place)
            return
        other = f"{above}/.{last[:100]}.{uuid.uuid4().hex[:12]}.tmp"
        self._fs.put_file(str(made), other)
        if self.local is None:
            self._fs.mv(other, place)
            return
        with open(other, "rb") as file:
            os.fsync(file.fileno())
        os.replace(other, place)
        sync_folder(Path(above))

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        if self._fs.exists(f"{self._path}/{name}"):
            self._fs.rm_file(f"{self._path}/{name}")


Kind = Literal["csv", "parquet"]
