"""Where datasets come from: those that have a name, and files and folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from potnet.data.parquet_folder import ParquetFolder
from potnet.data.public.cache import checked_files, files_of
from potnet.data.public.catalogue import PUBLIC_DATASETS, PublicDataset
from potnet.data.public.rows import public_rows
from potnet.data.readers import FORMATS, TABLE, stem_of
from potnet.data.readers.rows import RawRecords
from potnet.data.readers.text import plain_name
from potnet.errors import DataError

EMBEDDED_FOLDER = Path(__file__).parent / "embedded"

Source = str | os.PathLike[str]


_ELASTIC = (
    "Elastic properties of 1,181 inorganic compounds: M. de Jong et al., Charting the complete "
    "elastic properties of inorganic crystalline compounds, Sci. Data 2, 150009 (2015), "
    "doi:10.1038/sdata.2015.9; Materials Project (www.materialsproject.org). Bulk and shear "
    "modulus are Voigt-Reuss-Hill averages. Taken from elastic_tensor.csv of matminer 0.3.9."
)

_ELASTIC_LICENCE = (
    "Data: Materials Project, CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/). File: "
    "matminer 0.3.9, Copyright (c) 2015, The Regents of the University of California, through "
    "Lawrence Berkeley National Laboratory, modified BSD licence."
)


@dataclass(frozen=True)
class Origin:
    """Where a named dataset lies, and what its file does not say.

    Attributes:
        path: Its file.
        about: One line about it.
        units: Unit of each target.
        source: Where it comes from, and whom to name.
        licence: What may be done with it.
        rows: Its rows with the columns that were asked for, where the file alone is not enough.
    """

    path: Path
    about: str
    units: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    licence: str = ""
    rows: Callable[[Sequence[str]], RawRecords] | None = None


ORIGINS = {
    "elastic": Origin(
        EMBEDDED_FOLDER / "elastic.jsonl.gz",
        "1,181 inorganic crystals with bulk and shear modulus (VRH, GPa)",
        {"bulk_modulus": "GPa", "shear_modulus": "GPa"},
        _ELASTIC,
        _ELASTIC_LICENCE,
    )
}


def named_datasets() -> dict[str, str]:
    """Return the datasets that have a name, and one line about each.

    Those with a colon, and qmof, are not part of the package: see ``potnet datasets get``.
    """
    return {name: about.about for name, about in (ORIGINS | PUBLIC_DATASETS).items()}


def is_dataset(source: Source) -> bool:
    """Return whether a source is a named dataset, a table, or a folder with one or built.

    Anything else, a folder without ``id_prop.csv`` included, may still hold structure files.
    """
    path = Path(source)
    if str(source) in named_datasets() or path.name == TABLE or ParquetFolder.exists(source):
        return True
    if path.is_dir():
        return (path / TABLE).is_file()
    return Path(plain_name(path)).suffix.lower() in FORMATS


def origin_of(source: Source) -> Origin:
    """Return where a source lies: a name, or a path."""
    if str(source) in ORIGINS:
        return ORIGINS[str(source)]
    if str(source) in PUBLIC_DATASETS:
        return _public(PUBLIC_DATASETS[str(source)])
    path = Path(source)
    if not path.exists():
        raise DataError(
            f"{source}: a dataset must have a name that `potnet datasets` lists, or be an existing "
            "file or folder, got neither. Check the path."
        )
    return Origin(path, "", source=path.name)


def _public(found: PublicDataset) -> Origin:
    """Return where a public dataset lies in the cache; its files are checked when they are read."""
    return Origin(
        files_of(found)[0],
        found.about,
        units=found.targets,
        source=f"{found.citation}; {', '.join(file.urls[0] for file in found.files)}",
        licence=found.licence,
        rows=lambda wanted: public_rows(found, checked_files(found), wanted),
    )


def name_of(source: Source) -> str:
    """Return what the dataset of a source is called."""
    return str(source) if str(source) in named_datasets() else stem_of(origin_of(source).path)
