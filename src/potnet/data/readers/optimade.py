"""Structures as OPTIMADE servers send them, with the properties that a provider adds."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from potnet.data.readers.rows import RawRecord
from potnet.errors import DataError

_NEEDED = ("lattice_vectors", "cartesian_site_positions", "species_at_sites", "species")


def is_resource(record: Any) -> bool:
    """Return whether a record is a structure of OPTIMADE."""
    return isinstance(record, Mapping) and isinstance(record.get("attributes"), Mapping)


def row_of_resource(resource: Mapping[str, Any], place: str) -> RawRecord:
    """Return the row of a resource; properties whose name begins with ``_`` may be targets.

    Raises:
        DataError: If an attribute that the structure needs was not sent.
    """
    attributes = resource["attributes"]
    if resource.get("type", "structures") != "structures":
        raise DataError(
            f"{place}: a resource must be of type structures, got {str(resource['type'])[:60]!r}. "
            "Ask the structures endpoint."
        )
    absent = next((name for name in _NEEDED if attributes.get(name) is None), None)
    if absent:
        raise DataError(
            f"{place}: a structure must have `{absent}`, got none. Name it in response_fields."
        )
    provided = {k: v for k, v in attributes.items() if k.startswith("_")}
    standard = {k: v for k, v in attributes.items() if not k.startswith("_")}
    info = {k: v for k, v in standard.items() if isinstance(v, (str, int, float))}
    structure = {"type": "structures", "attributes": standard}
    return RawRecord(place, resource.get("id", ""), structure, dict(_flat(provided)), info=info)


def check_response(head: Mapping[str, Any], place: str) -> None:
    """Raise if a response reports an error; warn if it is one page of several.

    Warns:
        UserWarning: If there is more data on the server.
    """
    errors = head.get("errors")
    if errors:
        detail = errors[0] if isinstance(errors, list) else errors
        raise DataError(
            f"{place}: the response must hold structures, got the error {str(detail)[:200]}. "
            "Correct the request."
        )
    meta, links = head.get("meta"), head.get("links")
    more = isinstance(meta, Mapping) and meta.get("more_data_available")
    if more or (isinstance(links, Mapping) and links.get("next")):
        warnings.warn(
            f"{place}: the response is one page of several (`more_data_available`). "
            "Download the others too, and join them.",
            stacklevel=2,
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the items of nested mappings, with points between the keys."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
