"""What stands beside the Parquet files of a dataset: the manifest, what failed, who may write.

Their names begin with an underscore, so that tools that read all of a folder pass them over.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from potnet.data.shard import FORMAT
from potnet.errors import DataError, Failure
from potnet.files import atomic_write, exclusive, remove_leftovers

MANIFEST = "_potnet.json"
ERRORS = "_errors.csv"
LOCK = "_lock"


def writing(path: Path) -> ExitStack:
    """Return the entered right to write into the folder ``path``.

    Raises:
        DataError: If another process has it.
    """
    with ExitStack() as stack:
        refusal = DataError(
            f"{path}: only one process may write into a folder, got a second one. "
            "Wait until the first has ended."
        )
        stack.enter_context(exclusive(path / LOCK, refusal))
        remove_leftovers(path)
        return stack.pop_all()


def read_manifest(path: Path) -> dict[str, Any]:
    """Return what is known of the dataset in the folder ``path``.

    Raises:
        DataError: If the folder is not one that potnet wrote, or of another format.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text("utf-8"))
        found = manifest["format"]
        kinds = {"name": str, "source": str, "licence": str, "records": int}
        kinds |= {"sha256": dict, "sources": dict}
        if found == FORMAT and not all(isinstance(manifest[k], v) for k, v in kinds.items()):
            raise TypeError(found)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise DataError(
            f"{path}: a dataset of Parquet files must have a readable {MANIFEST}, got none. Check "
            "the path, or build the folder again."
        ) from None
    if found != FORMAT:
        raise DataError(
            f"{path}: format must be {FORMAT}, got {str(found)[:20]}. Read it with the version of "
            "potnet that wrote it, or build the folder again."
        )
    return manifest


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Put down what is known of the dataset in the folder ``path``."""
    with atomic_write(path / MANIFEST) as file:
        json.dump(manifest, file, indent=1)


def write_errors(path: Path, failures: Sequence[Failure]) -> None:
    """List what is not in the dataset in the folder ``path``."""
    with atomic_write(path / ERRORS) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "stage", "reason"])
        writer.writerows([f.id, f.stage, f.reason] for f in failures)
