"""Structures as OPTIMADE servers send them, with the properties that a provider adds."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from potnet.crystal import number_of
from potnet.data.readers.rows import RawRecord
from potnet.errors import DataError, StructureError

_NEEDED = ("lattice_vectors", "cartesian_site_positions", "species_at_sites", "species")


def is_resource(record: Any) -> bool:
    """Return whether a record is a structure of OPTIMADE."""
    return isinstance(record, Mapping) and isinstance(record.get("attributes"), Mapping)


def row_of_resource(resource: Mapping[str, Any], place: str) -> RawRecord:
    """Return the row of a resource; properties whose name begins with ``_`` may be targets.

    Raises:
        DataError: If an attribute that the structure needs was not sent.
        StructureError: If the structure is disordered or not periodic.
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
    values = dict(_flat({k: v for k, v in attributes.items() if k.startswith("_")}))
    info = {k: v for k, v in attributes.items() if not k.startswith("_") and _is_scalar(v)}
    try:
        structure = _structure(attributes, place)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, StructureError):
            raise
        raise DataError(
            f"{place}: the attributes must be those of OPTIMADE, got {type(error).__name__}: "
            f"{error}. Download the response again."
        ) from error
    return RawRecord(place, resource.get("id", ""), structure, values, info=info)


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


def _structure(attributes: Mapping[str, Any], place: str) -> dict[str, Any]:
    features = attributes.get("structure_features") or []
    disorder = [name for name in features if name in ("disorder", "assemblies", "implicit_atoms")]
    if disorder or attributes.get("assemblies"):
        raise StructureError(
            f"{place}: the structure must be ordered and complete, got the feature "
            f"{(disorder or ['assemblies'])[0]!r}. Replace it by an ordered model."
        )
    numbers = {}
    for species in attributes["species"]:
        name, symbols = species["name"], species["chemical_symbols"]
        shares = species.get("concentration", [1.0])
        whole = len(symbols) == len(shares) == 1 and abs(shares[0] - 1) <= 1e-3
        if not whole or species.get("attached"):
            raise StructureError(
                f"{place}: `species` {name!r} must be one element with concentration 1, got "
                f"{', '.join(f'{s} {c}' for s, c in zip(symbols, shares, strict=False))}. "
                "Replace the disordered sites by an ordered model."
            )
        numbers[name] = number_of(symbols[0], f"{place}: species {name!r}")
    sites = attributes["species_at_sites"]
    stated = attributes.get("nsites")
    if stated is not None and stated != len(sites):
        raise StructureError(
            f"{place}: `nsites` must be the number of sites, got {stated} for {len(sites)}. "
            "Download the response again."
        )
    return {
        "numbers": [numbers[name] for name in sites],
        "positions": attributes["cartesian_site_positions"],
        "cell": attributes["lattice_vectors"],
        "pbc": attributes.get("dimension_types") or True,
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the items of nested mappings, with points between the keys."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float))
