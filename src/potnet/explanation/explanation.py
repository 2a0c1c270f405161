"""The explanation of one prediction: shares of all kinds, and what stands beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from potnet.crystal.elements import SYMBOLS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from potnet.explanation.sensitivity import Sensitivity
    from potnet.known import KnownCrystal
    from potnet.prediction import Prediction
    from potnet.targets import Transform

SPACES = {
    "none": "",
    "nonnegative": "before values below zero are set to zero",
    "log10": "decimal logarithm",
    "binary": "logit, the logarithm of the odds",
}
COLUMNS = ("id", "property", "unit", "of", "name", "channel", "distance", "share", "spread")


class Share(NamedTuple):
    """What something adds to a prediction.

    Attributes:
        of: What kind of thing: "composition", "channel and distance", "atom" and so on.
        name: Which one.
        channel: Which channel alone, "" for all of them.
        distance: Which range of distances alone, "" for all of them.
        value: The share, in the unit of the explanation.
        spread: Standard deviation of the share over the networks of the model; nan if it has one.
    """

    of: str
    name: str
    channel: str
    distance: str
    value: float
    spread: float


@dataclass(frozen=True)
class Explanation:
    """Why a model predicts what it predicts for one crystal.

    ``composition + combination + residual + surroundings`` is ``total``, and ``surroundings`` is
    the sum of ``parts``. All are in ``unit``, the unit of the numbers that the network learned:
    the logarithm of a property that is learned so, the logit of a probability.

    Attributes:
        prediction: The prediction itself, with its interval and flags.
        model: Name of the model.
        formula: Of the crystal.
        numbers: Atomic number of each atom as given, shape (n_atoms,).
        transform: What makes a prediction of the total.
        unit: Unit of the shares and of the total.
        total: What is explained: all networks of the model combined, in ``unit``.
        compositions: Output of each network for the composition without surroundings, the zero of
            the explanation, shape (n_members,).
        references: The linear part of it: what each element adds, by symbol; {} if there is none.
        combination: What the model's combination of its networks (their median, as a rule) differs
            from their mean, of which all other numbers are.
        residual: What the integral leaves of the total.
        n_points: Points of the integral.
        channels: Names of the channels.
        distances: Names of the ranges of distances.
        sites: Atoms of each site, as given. Atoms on one site are equivalent.
        parts: Shares by network, receiving site, sending site, channel and distance.
        sensitivity: How the prediction depends on strain and positions; None if the network has
            no derivatives.
        known: The nearest known crystals.
        same: Known crystals that are this one.
    """

    prediction: Prediction
    model: str
    formula: str
    numbers: NDArray[np.int64]
    transform: Transform
    unit: str
    total: float
    compositions: NDArray[np.float64]
    references: dict[str, float]
    combination: float
    residual: float
    n_points: int
    channels: tuple[str, ...]
    distances: tuple[str, ...]
    sites: tuple[NDArray[np.int64], ...]
    parts: NDArray[np.float64]
    sensitivity: Sensitivity | None = None
    known: tuple[KnownCrystal, ...] = ()
    same: tuple[KnownCrystal, ...] = ()

    def __repr__(self) -> str:
        p = self.prediction
        value = f"{p.property} = {p.prediction:.4g} {p.unit}".rstrip()
        return (
            f"<Explanation: {p.id or self.formula}, {value}; composition "
            f"{self.composition:.4g}, surroundings {self.surroundings:.4g}>"
        )

    @property
    def id(self) -> str:
        """Id of the crystal."""
        return self.prediction.id

    @property
    def n_atoms(self) -> int:
        """Atoms of the crystal as given."""
        return len(self.numbers)

    @property
    def space(self) -> str:
        """What the total is besides the property in its unit, in words; "" for nothing."""
        return SPACES[self.transform]

    @property
    def composition(self) -> float:
        """What the composition alone would be predicted to have, in ``unit``."""
        return float(self.compositions.mean())

    @property
    def surroundings(self) -> float:
        """What all sums add together, in ``unit``."""
        return float(self.parts.sum((1, 2, 3, 4)).mean())

    @cached_property
    def by_channel(self) -> NDArray[np.float64]:
        """Shares by channel and distance, shape (n_channels, n_distances)."""
        return self.parts.sum((1, 2)).mean(0)

    @cached_property
    def by_pair(self) -> NDArray[np.float64]:
        """Shares by receiving site, sending site and channel, (n_sites, n_sites, n_channels)."""
        return self.parts.sum(4).mean(0)

    @cached_property
    def by_atom(self) -> NDArray[np.float64]:
        """Shares by atom as given and channel, shape (n_atoms, n_channels).

        Half of what a pair adds is of either atom. The larger the cell, the smaller the share of
        one atom of it.
        """
        return self._of_atoms().mean(0)

    @cached_property
    def by_element(self) -> dict[str, float]:
        """What the atoms of each element add together; references are not in it."""
        totals = self.by_atom.sum(1)
        return {
            SYMBOLS[number]: float(totals[self.numbers == number].sum())
            for number in np.unique(self.numbers).tolist()
        }

    @property
    def elements(self) -> list[str]:
        """Symbol of each site's element."""
        return [SYMBOLS[int(self.numbers[atoms[0]])] for atoms in self.sites]

    def shares(self) -> list[Share]:
        """Return all shares in one table. Those of one kind add up; kinds are views of the same."""
        rows = [
            Share("composition", "all", "", "", *_about(self.compositions)),
            *(
                Share("reference", symbol, "", "", value, np.nan)
                for symbol, value in self.references.items()
            ),
            Share("combination", "all", "", "", self.combination, np.nan),
            Share("residual", "all", "", "", self.residual, np.nan),
            Share("total", "all", "", "", self.total, np.nan),
        ]
        by_channel = self.parts.sum((1, 2))
        for c, channel in enumerate(self.channels):
            rows.append(Share("channel", channel, channel, "", *_about(by_channel[:, c].sum(1))))
            for d, distance in enumerate(self.distances):
                values = _about(by_channel[:, c, d])
                rows.append(Share("channel and distance", "all", channel, distance, *values))
        for d, distance in enumerate(self.distances):
            rows.append(
                Share("distance", distance, "", distance, *_about(by_channel[:, :, d].sum(1)))
            )
        atoms = self._of_atoms().sum(2)
        symbols = np.array([SYMBOLS[number] for number in self.numbers.tolist()])
        for symbol in self.by_element:
            values = _about(atoms[:, symbols == symbol].sum(1))
            rows.append(Share("element", symbol, "", "", *values))
        for pair, values in self._of_element_pairs().items():
            rows.append(Share("pair of elements", pair, "", "", *_about(values)))
        for k, symbol in enumerate(symbols):
            rows.append(Share("atom", f"{symbol} {k}", "", "", *_about(atoms[:, k])))
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain lists and numbers, as JSON stores them."""
        p = self.prediction
        pairs = self.by_pair
        elements, of_atoms = self.elements, self.by_atom.sum(1).tolist()
        return {
            "id": self.id,
            "formula": self.formula,
            "n_atoms": self.n_atoms,
            "model": self.model,
            "property": p.property,
            "value": p.prediction,
            "lower": _plain(p.lower),
            "upper": _plain(p.upper),
            "value_unit": p.unit,
            "flags": list(p.flags),
            "transform": self.transform,
            "unit": self.unit,
            "space": self.space,
            "total": self.total,
            "composition": self.composition,
            "references": self.references,
            "surroundings": self.surroundings,
            "combination": self.combination,
            "residual": self.residual,
            "n_networks": len(self.parts),
            "n_points": self.n_points,
            "channels": list(self.channels),
            "distances": list(self.distances),
            "by_channel_and_distance": self.by_channel.tolist(),
            "by_channel": dict(zip(self.channels, self.by_channel.sum(1).tolist(), strict=True)),
            "by_distance": dict(zip(self.distances, self.by_channel.sum(0).tolist(), strict=True)),
            "by_element": self.by_element,
            "by_element_pair": {k: float(v.mean()) for k, v in self._of_element_pairs().items()},
            "atoms": [
                {
                    "index": k,
                    "element": SYMBOLS[number],
                    "share": share,
                    "by_channel": dict(zip(self.channels, channels, strict=True)),
                }
                for k, (number, share, channels) in enumerate(
                    zip(self.numbers.tolist(), of_atoms, self.by_atom.tolist(), strict=True)
                )
            ],
            "sites": [
                {"element": element, "atoms": atoms.tolist()}
                for element, atoms in zip(elements, self.sites, strict=True)
            ],
            "pairs": [
                {"to": i, "from": j, "by_channel": dict(zip(self.channels, row, strict=True))}
                for i, rows in enumerate(pairs.tolist())
                for j, row in enumerate(rows)
            ],
            "shares": [
                {name: _plain(value) for name, value in share._asdict().items()}
                for share in self.shares()
            ],
            "sensitivity": None if self.sensitivity is None else self.sensitivity.as_dict(),
            "known": [_plain_known(known) for known in self.known],
            "same": [_plain_known(known) for known in self.same],
        }

    def _of_atoms(self) -> NDArray[np.float64]:
        """Return shares by network, atom as given and channel."""
        parts = self.parts.sum(4)
        of_sites = (parts.sum(2) + parts.sum(1)) / 2
        found = np.zeros((len(parts), self.n_atoms, parts.shape[3]))
        for site, atoms in enumerate(self.sites):
            found[:, atoms] = of_sites[:, site, None] / len(atoms)
        return found

    def _of_element_pairs(self) -> dict[str, NDArray[np.float64]]:
        """Return what pairs of elements add, whichever receives, for each network."""
        totals: dict[str, NDArray[np.float64]] = {}
        parts, elements = self.parts.sum((3, 4)), self.elements
        for i, one in enumerate(elements):
            for j, other in enumerate(elements):
                name = "-".join(sorted((one, other)))
                totals[name] = totals.get(name, 0.0) + parts[:, i, j]
        return totals


def records(explanations: Iterable[Explanation]) -> Iterable[dict[str, Any]]:
    """Yield the shares of explanations as rows of one table, with ``COLUMNS``."""
    for found in explanations:
        about = (found.id, found.prediction.property, found.unit)
        for share in found.shares():
            yield dict(zip(COLUMNS, (*about, *share), strict=True))


def _about(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """Return mean and standard deviation over the networks."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else np.nan
    return float(np.mean(values)), spread


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it: nothing for what is not a number."""
    return None if isinstance(value, float) and value != value else value


def _plain_known(known: KnownCrystal) -> dict[str, Any]:
    return {name: _plain(value) for name, value in asdict(known).items()}
