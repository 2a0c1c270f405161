"""Extended XYZ: a crystal per frame, with its targets among the keys of the comment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from potnet.data.readers.rows import ID_COLUMNS, Row, Rows
from potnet.errors import Failure, StructureError


def read_extxyz(path: Path) -> Rows:
    """Yield the frames."""
    from potnet.io import scan

    for number, item in enumerate(scan([path])):
        if isinstance(item, Failure):
            yield StructureError(item.reason)
            continue
        info = {k: v for k, v in item.info.items() if not isinstance(v, Mapping)}
        key = next((key for key in ID_COLUMNS if key in info), None)
        id = item.id or str(number) if key is None else str(info[key])
        values = {k: v for k, v in info.items() if k not in (*ID_COLUMNS, "split")}
        split = info.get("split")
        yield Row(f"{path.name}, frame {number}", id, item, values, split)
