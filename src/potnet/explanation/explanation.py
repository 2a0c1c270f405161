"""The explanation of one prediction: shares of all kinds, and what stands beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from potnet.crystal.elements import SYMBOLS
from potnet.crystal.formula import reduced_formula

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from potnet.crystal import Crystal
    from potnet.known import KnownCrystal
    from potnet.prediction import Gradients, Prediction
    from potnet.targets import Transform

VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")


@dataclass(frozen=True)
class Sensitivity:
    """First derivatives of a prediction, in its unit.

    Attributes:
        strain: By the six components of strain in the order of ``VOIGT``, along the axes in which
            the crystal was given; shears are engineering strains (twice the tensor's component),
            shape (6,).
        volume: By the logarithm of the volume: a third of the trace. Times 0.01 it is the change
            for one percent of volume, the shape being kept.
        atoms: Length of the derivative by the position of each atom, per Å, shape (n_atoms,).
    """

    strain: NDArray[np.float64]
    volume: float
    atoms: NDArray[np.float64]

    @classmethod
    def of(cls, gradients: Gradients, copies: NDArray[np.int64]) -> Sensitivity:
        """Return the sensitivity of a crystal from the gradients of its primitive cell.

        Args:
            gradients: Of the primitive cell.
            copies: Atom of the primitive cell that each atom is a copy of, shape (n_atoms,).
        """
        s = gradients.strain
        strain = np.array([s[0, 0], s[1, 1], s[2, 2], s[1, 2], s[0, 2], s[0, 1]])
        lengths = np.linalg.norm(gradients.positions, axis=1)
        # A prediction is a mean over the atoms: moving one of several copies does so much less.
        return cls(strain, float(np.trace(s)) / 3, lengths[copies] * len(lengths) / len(copies))

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers, as JSON stores them."""
        return {
            "strain": dict(zip(VOIGT, self.strain.tolist(), strict=True)),
            "volume": self.volume,
            "atoms": self.atoms.tolist(),
        }


SPACES = {
    "none": "",
    "nonnegative": "before values below zero are set to zero",
    "log10": "decimal logarithm",
    "binary": "logit, the logarithm of the odds",
    "class": "logit, the logarithm of the odds but for a constant of all classes",
}
COLUMNS = ("id", "property", "kind", "name", "channel", "distance", "share", "spread", "unit")


class Share(NamedTuple):
    """What something adds to a prediction.

    Attributes:
        kind: What kind of thing: "composition", "channel and distance", "atom" and so on.
        name: Which one.
        channel: Which channel alone, "" for all of them.
        distance: Which range of distances alone, "" for all of them.
        share: What it adds, in the unit of the explanation.
        spread: Standard deviation of the share over the networks of the model; nan if it has one.
    """

    kind: str
    name: str
    channel: str
    distance: str
    share: float
    spread: float


@dataclass(frozen=True)
class Explanation:
    """Why a model predicts what it predicts for one crystal.

    ``composition + combination + residual + surroundings`` is ``total``, and ``surroundings`` is
    the sum of ``parts``. All are in ``unit``, the unit of the numbers that the network learned:
    the logarithm of a property that is learned so, the logit of a probability.

    Attributes:
        crystal: What was explained: the crystal as given, or a single layer of it where the model
            is one of single layers.
        prediction: The prediction itself, with its interval and flags.
        model: Name of the model; "" for one that has none.
        property: Standard name of the property; the model's own name where there is none.
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
        sensitivity: How the prediction depends on strain and positions.
        known: The nearest known crystals.
        same: Known crystals that are this one.
    """

    crystal: Crystal
    prediction: Prediction
    model: str
    property: str
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
    sensitivity: Sensitivity
    known: tuple[KnownCrystal, ...] = ()
    same: tuple[KnownCrystal, ...] = ()

    def __repr__(self) -> str:
        p = self.prediction
        value = f"{self.property} = {p.prediction:.4g} {p.unit}".rstrip()
        return (
            f"<Explanation: {p.id or self.formula}, {value}; composition "
            f"{self.composition:.4g}, surroundings {self.surroundings:.4g}>"
        )

    @cached_property  # `property` is a field
    def id(self) -> str:
        """Id of the crystal."""
        return self.prediction.id

    @cached_property
    def formula(self) -> str:
        """Reduced formula, the electropositive element first."""
        numbers, counts = np.unique(self.crystal.numbers, return_counts=True)
        return reduced_formula(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))

    @cached_property
    def n_atoms(self) -> int:
        """Atoms of the crystal."""
        return self.crystal.n_atoms

    @cached_property
    def space(self) -> str:
        """What the total is besides the property in its unit, in words; "" for nothing."""
        return SPACES[self.transform]

    @cached_property
    def composition(self) -> float:
        """What the composition alone would be predicted to have, in ``unit``."""
        return float(self.compositions.mean())

    @cached_property
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
            SYMBOLS[number]: float(totals[self.crystal.numbers == number].sum())
            for number in np.unique(self.crystal.numbers).tolist()
        }

    @cached_property
    def by_element_pair(self) -> dict[str, float]:
        """What pairs of elements add, whichever of the two receives."""
        return {pair: float(x.mean()) for pair, x in self._of_element_pairs().items()}

    @cached_property
    def elements(self) -> list[str]:
        """Symbol of each site's element."""
        return [self.crystal.symbols[atoms[0]] for atoms in self.sites]

    def shares(self) -> list[Share]:
        """Return all shares in one table. Those of one kind add up; kinds are views of the same."""
        rows = [
            Share("composition", "all", "", "", *_about(self.compositions)),
            *(
                Share("reference", symbol, "", "", value, np.nan)
                for symbol, value in self.references.items()
            ),
            Share("surroundings", "all", "", "", *_about(self.parts.sum((1, 2, 3, 4)))),
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
        symbols = np.array(self.crystal.symbols)
        for symbol in self.by_element:
            values = _about(atoms[:, symbols == symbol].sum(1))
            rows.append(Share("element", symbol, "", "", *values))
        for pair, values in self._of_element_pairs().items():
            rows.append(Share("pair of elements", pair, "", "", *_about(values)))
        for k, symbol in enumerate(symbols):
            rows.append(Share("atom", f"{symbol} {k}", "", "", *_about(atoms[:, k])))
        return rows

    def records(self) -> list[dict[str, Any]]:
        """Return the shares as rows of a table with ``COLUMNS``; None where there is no spread."""
        about = {"id": self.id, "property": self.property, "unit": self.unit}
        rows = (about | share._asdict() for share in self.shares())
        return [{name: _plain(row[name]) for name in COLUMNS} for row in rows]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain lists and numbers, as JSON stores them."""
        p, crystal = self.prediction, self.crystal
        return {
            "id": self.id,
            "formula": self.formula,
            "n_atoms": self.n_atoms,
            "crystal": {
                "numbers": crystal.numbers.tolist(),
                "positions": crystal.positions.tolist(),
                "cell": crystal.cell.tolist(),
            },
            "model": self.model,
            "property": self.property,
            "target": p.property,
            "value": p.prediction,
            "lower": _plain(p.lower),
            "upper": _plain(p.upper),
            "value_unit": p.unit,
            "flags": list(p.flags),
            "familiarity": _plain(p.familiarity),
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
            **self._views(),
            "sensitivity": self.sensitivity.as_dict(),
            "known": [_plain_known(known) for known in self.known],
            "same": [_plain_known(known) for known in self.same],
        }

    def _views(self) -> dict[str, Any]:
        """Return the shares of the surroundings, seen in several ways."""
        channels, distances, table = self.channels, self.distances, self.by_channel
        atoms = zip(self.crystal.symbols, self.by_atom.tolist(), strict=True)
        sites = zip(self.elements, self.sites, strict=True)
        return {
            "channels": list(channels),
            "distances": list(distances),
            "by_channel_and_distance": table.tolist(),
            "by_channel": dict(zip(channels, table.sum(1).tolist(), strict=True)),
            "by_distance": dict(zip(distances, table.sum(0).tolist(), strict=True)),
            "by_element": self.by_element,
            "by_element_pair": self.by_element_pair,
            "atoms": [
                {
                    "index": k,
                    "element": element,
                    "share": sum(row),
                    "by_channel": dict(zip(channels, row, strict=True)),
                }
                for k, (element, row) in enumerate(atoms)
            ],
            "sites": [{"element": element, "atoms": site.tolist()} for element, site in sites],
            "pairs": [
                {"to": i, "from": j, "by_channel": dict(zip(channels, row, strict=True))}
                for i, rows in enumerate(self.by_pair.tolist())
                for j, row in enumerate(rows)
            ],
            "shares": [
                {name: _plain(value) for name, value in share._asdict().items()}
                for share in self.shares()
            ],
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


def _about(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """Return mean and standard deviation over the networks."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else np.nan
    return float(np.mean(values)), spread


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it: nothing for what is not a number."""
    return None if isinstance(value, float) and value != value else value


def _plain_known(known: KnownCrystal) -> dict[str, Any]:
    return {name: _plain(value) for name, value in asdict(known).items()}
