"""Extended XYZ: a crystal per frame, with its targets among the keys of the comment."""

from __future__ import annotations

from functools import partial
from itertools import chain
from pathlib import Path

from potnet.crystal import Crystal
from potnet.data.readers.ase_db import UNITS
from potnet.data.readers.rows import ID_COLUMNS, RawRecord, RawRecords, walled
from potnet.data.readers.text import lines_of, open_text
from potnet.errors import StructureError
from potnet.io.extxyz import frames_of, read_frame


def read_extxyz(path: Path) -> RawRecords:
    """Yield the frames."""
    with open_text(path) as file:
        frames = frames_of(lines_of(file, path.name))
        found = chain.from_iterable(read_frame(*given, path.name, "") for given in frames)
        for index, (name, item) in enumerate(found):
            if isinstance(item, StructureError):
                yield item
                continue
            place = f"{path.name}, frame {index}"
            yield walled(partial(_row, item, name, index, place), place)


def _row(crystal: Crystal, name: str, index: int, place: str) -> RawRecord:
    info = crystal.info
    key = next((key for key in ID_COLUMNS if key in info), None)
    id = name.removeprefix("#") or str(index) if key is None else info[key]
    values = {k: v for k, v in info.items() if k not in (key, "split")}
    return RawRecord(place, id, crystal, values, info.get("split"), units=UNITS)
