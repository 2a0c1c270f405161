"""Extended XYZ: a crystal per frame, with its targets among the keys of the comment."""

from __future__ import annotations

from pathlib import Path

from potnet.data.readers.ase_db import UNITS
from potnet.data.readers.rows import ID_COLUMNS, Row, Rows
from potnet.data.readers.text import lines_of, open_text
from potnet.errors import StructureError
from potnet.io.extxyz import parse_extxyz


def read_extxyz(path: Path) -> Rows:
    """Yield the frames."""
    with open_text(path) as file:
        found = parse_extxyz(lines_of(file, path.name), path.name, "")
        for index, (name, item) in enumerate(found):
            if isinstance(item, StructureError):
                yield item
                continue
            key = next((key for key in ID_COLUMNS if key in item.info), None)
            id = name.removeprefix("#") or str(index) if key is None else item.info[key]
            values = {k: v for k, v in item.info.items() if k not in (key, "split")}
            place = f"{path.name}, frame {index}"
            yield Row(place, id, item, values, item.info.get("split"), units=UNITS)
