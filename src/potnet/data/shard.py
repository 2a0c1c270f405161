"""Records as a table of Arrow, in memory or in one Parquet file that any other tool opens.

====================  =========================  ==================================================
column                type                       content
====================  =========================  ==================================================
``id``                string                     name of the crystal
``numbers``           list of uint8              atomic numbers
``positions``         list of lists of double    Cartesian coordinates, Å
``cell``              list of lists of double    three lattice vectors, Å
``pbc``               list of bool               directions that repeat
a target              double                     its values, null where missing
``split``             string                     label for all targets, null where there is none
``split of TARGET``   string                     label for one target
``info``              string                     what else the source says, as a JSON object
``crystal_info``      string                     ``info`` of the crystal, as a JSON object
====================  =========================  ==================================================

A target whose name one of these has is kept as ``target NAME``. The metadata of the schema hold,
under ``potnet``, a JSON object: names and units of the targets, and what could not become a record.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from potnet.crystal import Crystal
from potnet.data.record import Record, words_of
from potnet.errors import DataError, Failure
from potnet.io.json_files import dumps

FORMAT = 2  # 1 was a folder of safetensors files
GROUP = 256  # records of a row group, which is read at a time


def _list(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", kind))  # as files name it


_CRYSTAL = {
    "id": pa.string(),
    "numbers": _list(pa.uint8()),
    "positions": _list(_list(pa.float64())),
    "cell": _list(_list(pa.float64())),
    "pbc": _list(pa.bool_()),
}
_TEXTS = ("split", "info", "crystal_info")
_SPLIT_OF, _TARGET = "split of ", "target "

Part = tuple[str, int, int]


@dataclass(frozen=True)
class About:
    """What is known of the records of a shard beside their table.

    Attributes:
        units: Unit of each target, "" where it is not known, in the order of the columns.
        splits: Names of the splits: that of a target, or "" for all targets.
        words: Columns of ``info``: a target of the same name is no number somewhere.
        failures: What could not become a record.
        parts: Rows of sources that the shard holds: (source, first row, row after the last).
        first: Records before this shard.
    """

    units: Mapping[str, str] = field(default_factory=dict)
    splits: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    parts: tuple[Part, ...] = ()
    first: int = 0

    def dumps(self) -> bytes:
        """Return it as JSON."""
        failures = [[f.id, f.stage, f.reason] for f in self.failures]
        return json.dumps({"format": FORMAT, **vars(self), "failures": failures}).encode()

    @staticmethod
    def loads(text: bytes) -> About:
        """Return what :meth:`dumps` wrote.

        Raises:
            DataError: If it is of another format.
            ValueError, KeyError, TypeError, AttributeError: If it is something else.
        """
        found = json.loads(text)
        if found["format"] != FORMAT:
            raise DataError(
                f"format must be {FORMAT}, got {str(found['format'])[:20]}. Read it with the "
                "version of potnet that wrote it, or build the folder again."
            )
        return About(
            {str(name): str(unit) for name, unit in found["units"].items()},
            tuple(map(str, found["splits"])),
            tuple(map(str, found["words"])),
            tuple(Failure(*map(str, failure)) for failure in found["failures"]),
            tuple((str(source), int(a), int(b)) for source, a, b in found["parts"]),
            int(found["first"]),
        )


@dataclass(frozen=True, eq=False)
class Shard:
    """Records, what failed between them, and where they come from.

    Attributes:
        table: The columns listed above.
        about: What stands beside them.
        where: Their file, for messages.
    """

    table: pa.Table
    about: About = About()
    where: str = "records"

    def __len__(self) -> int:
        return self.table.num_rows

    @staticmethod
    def of(items: Iterable[Record | Failure], parts: Sequence[Part] = ()) -> Shard:
        """Return ``items`` as a shard.

        Raises:
            DataError: If a target has two units, or information of a record is not plain data.
        """
        items = list(items)
        records = [item for item in items if isinstance(item, Record)]
        crystals = [record.crystal for record in records]
        labels = [_labels(record) for record in records]
        targets = tuple(dict.fromkeys(name for record in records for name in record.targets))
        splits = tuple(dict.fromkeys(name for one in labels for name in one))
        columns: dict[str, Any] = {
            "id": pa.array([record.id for record in records], pa.string()),
            "numbers": _lists([c.numbers for c in crystals], np.uint8),
            "positions": _lists_of_vectors([c.positions for c in crystals]),
            "cell": _lists_of_vectors([c.cell for c in crystals]),
            "pbc": _lists([c.pbc for c in crystals], np.bool_),
        }
        for name in targets:
            values = np.array([record.targets.get(name, np.nan) for record in records], float)
            columns[target_column(name)] = pa.array(values, mask=np.isnan(values))
        for name in splits:
            found = [one.get(name) or None for one in labels]
            columns[_split_column(name)] = pa.array(found, pa.string())
        columns["info"] = _objects([record.info for record in records])
        columns["crystal_info"] = _objects([crystal.info for crystal in crystals])
        known = merged_units(record.units for record in records)
        about = About(
            {name: known.get(name, "") for name in targets},
            splits,
            tuple(sorted({name for record in records for name in record.info})),
            tuple(item for item in items if isinstance(item, Failure)),
            tuple(parts),
        )
        table = pa.table(columns)
        fields = [pa.field(f.name, _CRYSTAL.get(f.name, f.type)) for f in table.schema]
        return Shard(table.cast(pa.schema(fields)), about)

    @staticmethod
    def cat(shards: Sequence[Shard]) -> Shard:
        """Return the records of ``shards`` one after the other."""
        abouts = [shard.about for shard in shards]
        names = dict.fromkeys(name for about in abouts for name in about.units)
        known = merged_units(about.units for about in abouts)
        about = About(
            {name: known.get(name, "") for name in names},
            tuple(dict.fromkeys(name for about in abouts for name in about.splits)),
            tuple(sorted({word for about in abouts for word in about.words})),
            tuple(failure for about in abouts for failure in about.failures),
            _joined_parts(part for about in abouts for part in about.parts),
            abouts[0].first,
        )
        table = pa.concat_tables([shard.table for shard in shards], promote_options="default")
        return Shard(table.combine_chunks(), about).ordered()

    def ordered(self) -> Shard:
        """Return the shard with its columns in the order of the table above."""
        return replace(self, table=self.table.select(list(columns_of(self.about))))

    def without(self, rows: Mapping[int, Failure]) -> Shard:
        """Return the shard without the records at ``rows``, which are failures instead."""
        if not rows:
            return self
        keep = np.ones(len(self), bool)
        keep[list(rows)] = False
        about = replace(self.about, failures=(*self.about.failures, *rows.values()))
        return Shard(self.table.filter(pa.array(keep)), about)

    def as_parquet(self) -> bytes:
        """Return the content of a Parquet file of the shard, the same for the same records."""
        table = self.table.replace_schema_metadata({"potnet": self.about.dumps()})
        doubles = ["positions.list.element.list.element", "cell.list.element.list.element"]
        doubles += [field.name for field in table.schema if field.type == pa.float64()]
        settings: dict[str, Any] = {
            "compression": "zstd",
            "compression_level": 1,
            "use_dictionary": [f.name for f in table.schema if f.type == pa.string()],
            # Bytes of equal weight lie together, which packs doubles better.
            "column_encoding": dict.fromkeys(doubles, "BYTE_STREAM_SPLIT"),
            "write_statistics": False,
        }
        sink = pa.BufferOutputStream()
        parquet.write_table(table, sink, row_group_size=GROUP, **settings)
        return sink.getvalue().to_pybytes()

    # ------------------------------------------------------------------------------ reading

    @property
    def ids(self) -> list[str]:
        """Ids of all records."""
        return self._texts["id"]

    @cached_property
    def _texts(self) -> dict[str, list[Any]]:
        return {k: self.table[k].to_pylist() for k in ("id", "info", "crystal_info")}

    @cached_property
    def n_bytes(self) -> int:
        """Size in memory."""
        return self.table.nbytes

    @cached_property
    def arrays(self) -> _Arrays:
        """The crystals as flat arrays."""
        return _Arrays.of(self.table, self.where)

    def require_crystals(self) -> None:
        """Raise ``DataError`` if the records are no crystals, as in a file of somebody else."""
        self.arrays  # noqa: B018

    def crystal(self, row: int) -> Crystal:
        """Return the crystal of record ``row`` with the words of its row, as datasets have it.

        Its arrays are its own: whoever keeps one crystal keeps no shard.
        """
        info = self._object("crystal_info", row) | words_of(self._object("info", row))
        return self.arrays.crystal(row, self.ids[row], info)

    def record(self, row: int) -> Record:
        """Return record ``row``."""
        values = {name: self.table[target_column(name)][row].as_py() for name in self.about.units}
        labels = {name: self.table[_split_column(name)][row].as_py() for name in self.about.splits}
        labels = {name: label for name, label in labels.items() if label}
        id = self.ids[row]
        return Record(
            id,
            self.arrays.crystal(row, id, self._object("crystal_info", row)),
            {name: value for name, value in values.items() if value is not None},
            labels[""] if list(labels) == [""] else (labels or None),
            self._object("info", row),
            {name: unit for name, unit in self.about.units.items() if unit},
        )

    def _object(self, column: str, row: int) -> dict[str, Any]:
        text = self._texts[column][row]
        if not text:
            return {}
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise DataError(
                f"{self.where}: `{column}` must be a JSON object, got {text[:60]!r}. "
                "Build the folder again."
            )
        return found


@dataclass(frozen=True)
class _Arrays:
    """Crystals one after the other: views into a table, but for the small ones.

    Attributes:
        ends: Place of the first atom of each crystal, and of the end, shape (n + 1,).
        numbers: Atomic numbers, shape (n_atoms,).
        positions: Å, shape (n_atoms, 3).
        cells: Å, shape (n, 3, 3).
        pbc: Shape (n, 3).
    """

    ends: NDArray[np.int64]
    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cells: NDArray[np.float64]
    pbc: NDArray[np.bool_]

    @staticmethod
    def of(table: pa.Table, where: str) -> _Arrays:
        try:
            columns = {name: _one(table[name]) for name in _CRYSTAL}
            counts = _lengths(columns["numbers"])
            atoms, vectors = columns["positions"].flatten(), columns["cell"].flatten()
            three = (_lengths(x) for x in (atoms, vectors, columns["cell"], columns["pbc"]))
            fits = np.array_equal(_lengths(columns["positions"]), counts) and counts.all()
            if not fits or any((lengths != 3).any() for lengths in three):
                raise ValueError("lists whose lengths do not fit")
            numbers = _values(columns["numbers"]).astype(np.int64)
            positions = _values(atoms).reshape(-1, 3)
            cells = _values(vectors).reshape(-1, 3, 3)
            pbc = _values(columns["pbc"]).reshape(-1, 3)
            if not ((numbers > 0) & (numbers < 119)).all():
                raise ValueError("an atomic number that no element has")
            if not (np.isfinite(positions).all() and np.isfinite(cells).all()):
                raise ValueError("a coordinate that is not finite")
            if not (np.abs(np.linalg.det(cells)) > 0).all():
                raise ValueError("lattice vectors that span no volume")
        except ValueError as error:
            raise DataError(
                f"{where}: must hold crystals, got {error}. Build the folder again."
            ) from None
        ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return _Arrays(ends, numbers, positions, cells, pbc)

    def crystal(self, row: int, id: str, info: Mapping[str, Any]) -> Crystal:
        start, stop = self.ends[row], self.ends[row + 1]
        return Crystal.restored(
            self.numbers[start:stop].copy(),
            self.positions[start:stop].copy(),
            self.cells[row].copy(),
            self.pbc[row].copy(),
            id,
            info,
        )


def columns_of(about: About) -> dict[str, pa.DataType]:
    """Return the columns of a table and their types."""
    targets = {target_column(name): pa.float64() for name in about.units}
    texts = (*map(_split_column, about.splits), "info", "crystal_info")
    return {**_CRYSTAL, **targets, **dict.fromkeys(texts, pa.string())}


def target_column(name: str) -> str:
    """Return the column of the target ``name``."""
    taken = name in (*_CRYSTAL, *_TEXTS) or name.startswith((_SPLIT_OF, _TARGET))
    return f"{_TARGET}{name}" if taken else name


def _split_column(name: str) -> str:
    return f"{_SPLIT_OF}{name}" if name else "split"


def split_labels(table: pa.Table, name: str) -> list[str]:
    """Return the labels of a split, "" where there are none, one for each row."""
    column = _split_column(name)
    if column not in table.column_names:
        return [""] * table.num_rows
    return [label or "" for label in table[column].to_pylist()]


def split_columns(names: Iterable[str]) -> list[str]:
    """Return the columns of the splits ``names``."""
    return [_split_column(name) for name in names]


def merged_units(found: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return the units of all of ``found``.

    Raises:
        DataError: If two of them differ about a target.
    """
    units: dict[str, str] = {}
    for one in found:
        for name, unit in one.items():
            if unit and units.setdefault(name, unit) != unit:
                raise DataError(
                    f"records: target {name!r} must have one unit, got {units[name]!r} and "
                    f"{unit!r}. Convert the values, or rename one of the columns."
                )
    return units


def _labels(record: Record) -> Mapping[str, str]:
    split = record.split
    return split if isinstance(split, Mapping) else {"": split} if split else {}


def _lists(arrays: Sequence[NDArray[Any]], kind: Any) -> pa.ListArray:
    values = np.concatenate([np.empty(0, kind), *arrays]).astype(kind)
    return pa.ListArray.from_arrays(_ends([len(array) for array in arrays]), pa.array(values))


def _lists_of_vectors(arrays: Sequence[NDArray[np.float64]]) -> pa.ListArray:
    values = np.concatenate([np.empty((0, 3)), *arrays]).ravel()
    vectors = pa.ListArray.from_arrays(_ends([3] * (len(values) // 3)), pa.array(values))
    return pa.ListArray.from_arrays(_ends([len(array) for array in arrays]), vectors)


def _ends(lengths: Sequence[int]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))


def _objects(found: Sequence[Mapping[str, Any]]) -> pa.Array:
    return pa.array([dumps(dict(one)) if one else None for one in found], pa.string())


def _one(column: pa.ChunkedArray) -> Any:
    """Return a column in one piece, without nulls."""
    if column.null_count:
        raise ValueError("nulls in a column")
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _lengths(lists: Any) -> NDArray[np.int64]:
    """Return the lengths of lists, -1 for what is no list."""
    return lists.value_lengths().fill_null(-1).to_numpy(zero_copy_only=False)


def _values(lists: Any) -> NDArray[Any]:
    """Return what stands in lists, one after the other."""
    values = lists.flatten()
    if values.null_count:
        raise ValueError("nulls in a list")
    return values.to_numpy(zero_copy_only=False)


def _joined_parts(parts: Iterable[Part]) -> tuple[Part, ...]:
    joined: list[Part] = []
    for source, start, stop in parts:
        if joined and joined[-1][0] == source and joined[-1][2] == start:
            joined[-1] = (source, joined[-1][1], stop)
        else:
            joined.append((source, start, stop))
    return tuple(joined)
