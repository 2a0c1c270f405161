"""The cache of public datasets: which are here, how others come, how files are known again."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from potnet.data.public.catalogue import PUBLIC_DATASETS, PublicDataset
from potnet.data.public.transfer import PATIENCE, Patience, Remote, Report, download, forget
from potnet.errors import DataError
from potnet.files import atomic_write, sync_folder

VARIABLE = "POTNET_CACHE"


def public_dataset(name: str) -> PublicDataset:
    """Return the public dataset called ``name``.

    Raises:
        DataError: If there is none.
    """
    if name not in PUBLIC_DATASETS:
        raise DataError(
            f"{name}: a public dataset must be one of {', '.join(PUBLIC_DATASETS)}, got another "
            "name. Correct it."
        )
    return PUBLIC_DATASETS[name]


def folder_of(found: PublicDataset) -> Path:
    """Return the folder of the cache where the files of a public dataset are kept."""
    return cache_folder() / "datasets" / found.folder


def is_here(found: PublicDataset) -> bool:
    """Return whether all files of a public dataset are in the cache; they are not looked into."""
    return all((folder_of(found) / file.name).exists() for file in found.files)


def size_of(found: PublicDataset) -> int | None:
    """Return the bytes of a public dataset: of its files in the cache, or as they are known."""
    if is_here(found):
        return sum((folder_of(found) / file.name).stat().st_size for file in found.files)
    sizes = [file.size for file in found.files if file.size is not None]
    return sum(sizes) if len(sizes) == len(found.files) else None


def files_of(found: PublicDataset) -> list[Path]:
    """Return the files of a public dataset in the cache; nothing is fetched, or looked into.

    Raises:
        DataError: If one is not there.
    """
    folder = folder_of(found)
    if not is_here(found):
        raise DataError(
            f"{found.name}: the data must be in {folder}, got none or not all. Download them with "
            f"`potnet datasets get {found.name}` (a machine without network: add --from FILE)."
        )
    return [folder / file.name for file in found.files]


def checked_files(found: PublicDataset) -> list[Path]:
    """Return the files of a public dataset in the cache, each checked against its fingerprint.

    Raises:
        DataError: If one is not there, or was changed.
    """
    paths = files_of(found)
    for file, path in zip(found.files, paths, strict=True):
        check(file, path)
    return paths


def fetch(
    found: PublicDataset,
    *,
    given: Sequence[Path] = (),
    patience: Patience = PATIENCE,
    report: Callable[[str, int, int | None], None] = lambda *_: None,
) -> list[tuple[Path, Receipt]]:
    """Bring the files of a public dataset into the cache, and return them with their receipts.

    Args:
        found: The dataset.
        given: Copies to take instead of a download: one for each file, by name; where the
            dataset is one file, of any name.
        patience: How long servers are given.
        report: Called with the name of a file, the bytes that are there and their final number.

    Raises:
        DataError: If a file cannot be had, or is another one than expected.
    """
    copies = _copies(found, given)
    folder = folder_of(found)
    arrived = []
    for file in found.files:

        def tell(done: int, total: int | None, name: str = file.name) -> None:
            report(name, done, total)

        arrived.append(
            get(file, folder, given=copies.get(file.name), patience=patience, report=tell)
        )
    return arrived


def _copies(found: PublicDataset, given: Sequence[Path]) -> dict[str, Path]:
    if len(given) == len(found.files) == 1:
        return {found.files[0].name: given[0]}
    copies = {path.name: path for path in given}
    names = [file.name for file in found.files]
    if given and (len(copies) != len(given) or set(copies) != set(names)):
        raise DataError(
            f"{found.name}: `--from` must name the files {', '.join(names)}, got "
            f"{', '.join(path.name for path in given)}. Repeat it for each of them."
        )
    return copies


def cache_folder() -> Path:
    """Return the folder of downloads: that of ``POTNET_CACHE``, or the usual one of the system.

    The three rules are short, so that no dependency is needed for them.
    """
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        return Path(base) / "potnet" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "potnet"
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "potnet"


@dataclass(frozen=True)
class Receipt:
    """What is written down about a file when it arrives.

    Attributes:
        url: Where it came from, or the path it was copied from.
        size: Bytes.
        sha256: Fingerprint; the file is checked against it whenever it is opened.
        pinned: Whether potnet knew the fingerprint before. If not, it was taken on trust from the
            first download, and holds for every later one.
        arrived: When, as an ISO date in UTC.
    """

    url: str
    size: int
    sha256: str
    pinned: bool
    arrived: str

    @staticmethod
    def read(path: Path) -> Receipt | None:
        """Return the receipt of the file ``path``; None if there is none."""
        try:
            content = json.loads(_receipt_of(path).read_text("utf-8"))
            return Receipt(**content)
        except FileNotFoundError:
            return None
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{_receipt_of(path)}: must be a receipt that potnet wrote, {error}. "
                "Delete it, and download the file again."
            ) from None


def get(
    remote: Remote,
    folder: Path,
    *,
    given: Path | None = None,
    patience: Patience = PATIENCE,
    report: Report = lambda *_: None,
) -> tuple[Path, Receipt]:
    """Return a file of the cache, downloading it if it is not there.

    Only one process brings a file; others wait for it, and find it. The file appears whole and
    checked, or not at all.

    Args:
        remote: The file.
        folder: Where it is kept.
        given: A copy to take instead of a download.
        patience: How long servers are given.
        report: Called with the bytes that are there and their final number, if it is known.

    Raises:
        DataError: If it cannot be had, or is another file than expected.
    """
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / remote.name
    with FileLock(folder / f".{remote.name}.lock"):
        if path.exists() and given is None:
            return path, check(remote, path)
        part = folder / f".{remote.name}.part"
        if given is None:
            sha256, source = _arrived(remote, part, path, patience, report)
        else:
            sha256, source = _copied(given, remote, part, path), str(given.resolve())
        _sync(part)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        size, pinned = part.stat().st_size, remote.sha256 is not None
        receipt = Receipt(source, size, sha256, pinned, now)
        with atomic_write(_receipt_of(path)) as file:
            json.dump(asdict(receipt), file, indent=1)
        os.replace(part, path)
        sync_folder(folder)
        forget(part)
    return path, receipt


def check(remote: Remote, path: Path) -> Receipt:
    """Return the receipt of a file in the cache, after a look at every byte of the file.

    Raises:
        DataError: If the file is not the one that the receipt, or potnet itself, describes.
    """
    receipt = Receipt.read(path)
    expected = remote.sha256 or (receipt.sha256 if receipt else None)
    found = fingerprint(path)
    if receipt is None or found != expected:
        wanted = f"have the SHA-256 {expected}" if expected else "have a receipt beside it"
        raise DataError(
            f"{path}: the file must {wanted}, got {found}. It was changed or damaged: delete it, "
            "and download it again."
        )
    return receipt


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _arrived(
    remote: Remote, part: Path, path: Path, patience: Patience, report: Report
) -> tuple[str, str]:
    """Download to ``part`` and return the fingerprint, which was checked, and the address."""
    resumed = part.exists()
    while True:
        url = download(remote, part, patience=patience, report=report)
        try:
            return _accepted(remote, part, path), url
        except DataError:
            forget(part)
            if not resumed:
                raise
        resumed = False  # The bytes of an interrupted download may be what was wrong: once more.


def _copied(given: Path, remote: Remote, part: Path, path: Path) -> str:
    """Copy a file to ``part`` and return the fingerprint, which was checked."""
    forget(part)
    if not given.is_file():
        raise DataError(f"{given}: must be a file, got none. Check the path.")
    try:
        shutil.copyfile(given, part)
        return _accepted(remote, part, path, shown=given)
    except (OSError, DataError):
        forget(part)
        raise


def _accepted(remote: Remote, part: Path, path: Path, shown: Path | None = None) -> str:
    """Return the fingerprint of a file that is the right one.

    Without a known fingerprint, that of an earlier download holds; without that, the file must at
    least have its size, its first bytes and the checksums of its format.
    """
    shown = shown or path
    size = part.stat().st_size
    if remote.size is not None and size != remote.size:
        raise DataError(
            f"{shown}: the file must have {remote.size} bytes, got {size}. It is another version, "
            f"or was cut: take {remote.urls[0]}."
        )
    found = fingerprint(part)
    earlier = Receipt.read(path)
    expected = remote.sha256 or (earlier.sha256 if earlier else None)
    if expected is not None and found != expected:
        known = "potnet knows" if remote.sha256 else f"came on {earlier.arrived if earlier else ''}"
        raise DataError(
            f"{shown}: the file must have the SHA-256 {expected} that {known}, got {found}. "
            "It is another version or damaged: results would not compare."
        )
    with part.open("rb") as file:
        start = file.read(len(remote.starts))
    if start != remote.starts:
        raise DataError(
            f"{shown}: the file must be a {remote.format}, got one that starts with {start!r}. "
            f"Take it as it comes from {remote.urls[0]}."
        )
    if expected is None:
        _check_container(part, remote, shown)
    return found


def _check_container(part: Path, remote: Remote, shown: Path) -> None:
    """Raise unless a compressed file agrees with the checksums inside it."""
    try:
        if remote.name.endswith(".zip"):
            with zipfile.ZipFile(part) as archive:
                bad = archive.testzip()
            if bad is not None:
                raise zipfile.BadZipFile(f"bad checksum of {bad}")
        elif remote.name.endswith(".gz"):
            with gzip.open(part) as file:
                while file.read(1 << 20):
                    pass
        elif remote.name.endswith(".pkl"):
            with part.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                if file.read() != b".":
                    raise EOFError("one that does not end")
    except (zipfile.BadZipFile, EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{shown}: the file must be a whole {remote.format}, got {error}. Fetch it again."
        ) from None


def _sync(part: Path) -> None:
    with part.open("rb+") as file:
        os.fsync(file.fileno())


def _receipt_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.receipt.json")
