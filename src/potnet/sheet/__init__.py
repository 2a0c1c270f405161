"""The sheet: what a scientist asks of a crystal, a row for each property."""

from potnet.sheet.properties import ADVISED, PROPERTIES
from potnet.sheet.rows import COLUMNS, Row, Sheet, wide_record
from potnet.sheet.stream import CrystalSheet, SheetMaker, all_models, make_sheet

__all__ = [
    "ADVISED",
    "COLUMNS",
    "PROPERTIES",
    "CrystalSheet",
    "Row",
    "Sheet",
    "SheetMaker",
    "all_models",
    "make_sheet",
    "wide_record",
]
