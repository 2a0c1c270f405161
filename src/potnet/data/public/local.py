"""The public datasets on this machine: which are here, and how the others come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from potnet.data.public.cache import Receipt, cache_folder, check, get
from potnet.data.public.catalogue import PUBLIC_DATASETS, PublicDataset
from potnet.data.public.transfer import PATIENCE, Patience
from potnet.errors import DataError

Report = Callable[[str, int, int | None], None]


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
    report: Report = lambda *_: None,
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
