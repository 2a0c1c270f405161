"""The sheet as a function over batches of Ray Data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from potnet.io import Piece
from potnet.io.parquet import read_row
from potnet.sheet import COLUMNS, SheetMaker
from potnet.sheet.files import arrow_schema
from potnet.sheet.pipeline import SheetWork

if TYPE_CHECKING:
    import pyarrow


class Predictor:
    """What ``Dataset.map_batches`` of Ray Data calls: rows of crystals in, rows of the sheet out.

    Each actor loads the models once::

        ds = ray.data.read_parquet("s3://bucket/crystals/")
        ds = ds.map_batches(
            potnet.cluster.Predictor,
            fn_constructor_kwargs={"models": ["mp-formation-energy"]},
            batch_size=1024,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=64),
        )
        ds.write_parquet("s3://bucket/predicted/")

    The columns that it reads are those of :mod:`potnet.io.parquet`. A crystal that cannot be used
    has a row with its ``id`` and, in the column ``failure``, the reason.

    Args:
        models: Bundled models or archives; those of the sheet if none are named.
        properties: Rows that are wanted; all if none are named.
        device: Where to compute.
        batch_size: Most crystals that are computed together.
    """

    def __init__(
        self,
        models: Sequence[str] = (),
        properties: Sequence[str] = (),
        *,
        device: str = "cpu",
        batch_size: int = 64,
    ) -> None:
        self._work = SheetWork(SheetMaker(models, properties, device=device))
        self._size = batch_size

    def __call__(self, batch: Any) -> pyarrow.Table:
        """Return the rows of all crystals of a batch: a table of Arrow, or columns by name."""
        import pyarrow

        columns = batch.to_pydict() if isinstance(batch, pyarrow.Table) else batch
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        records: list[dict[str, Any]] = []
        for start in range(0, len(rows), self._size):
            some = enumerate(rows[start : start + self._size], start + 1)
            task = tuple(Piece("", read_row, (row, k, "batch", "row")) for k, row in some)
            for outcome in self._work(task):
                records += [row.record() for row in outcome.rows]
                records += [{"id": f.id, "failure": f.reason} for f in outcome.failures]
        return pyarrow.Table.from_pylist(records, arrow_schema((*COLUMNS, "failure")))
