"""From crystals to explanations."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from potnet.crystal import Crystal
from potnet.crystal.elements import SYMBOLS
from potnet.crystal.layers import single_layer
from potnet.errors import ConfigError, Failure, ModelError, PotNetError, StructureError
from potnet.explanation.explanation import Explanation, Sensitivity
from potnet.explanation.path import TOLERANCE, Slopes, mean_slopes
from potnet.features.by_distance import ByDistance, by_distance, edges_in_words
from potnet.features.complete import CompleteFeatures
from potnet.files import as_path
from potnet.known import KnownCrystal, load_known
from potnet.models.evidence import combined
from potnet.prediction import Predictor, load
from potnet.prediction.structures import as_structures
from potnet.sheet.properties import BUNDLED, property_of
from potnet.sheet.stream import LAYERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from potnet.models.contract import Network

EDGES = (3.0, 5.0, 8.0)
"""Distances in Å at which shares are divided."""
MAX_ATOMS = 200
"""Most atoms in the primitive cell of a crystal: time and memory grow with their square."""
N_KNOWN = 5
OUTPUTS = {p.name: model for (model, _), p in BUNDLED.items() if p.is_advised} | {
    "has_band_gap": "mp-band-gap"
}
"""Properties of the sheet that a model predicts itself, each with the model."""
UNITS = {"none": "{}", "nonnegative": "{}", "log10": "log10({})", "binary": "logit",
         "class": "logit"}  # fmt: skip


class Explainer:
    """Says why a model predicts what it predicts.

    Args:
        model: A predictor, the name of a bundled model, or an archive.
        properties: Those that are wanted, by their standard names or as the model calls them; all
            if none are named.
        edges: Distances in Å at which shares are divided, ascending.
        tolerance: Largest difference of the sum of all shares from the prediction, in standard
            deviations of what the model learned.
        n_known: How many known crystals are named; 0 for none.

    Raises:
        ModelError: If there is no such model, or its network does not read complete sums.
        ConfigError: If the model has no such property, or the edges do not ascend.
    """

    def __init__(
        self,
        model: Predictor | str | os.PathLike[str],
        properties: Sequence[str] = (),
        *,
        edges: Sequence[float] = EDGES,
        tolerance: float = TOLERANCE,
        n_known: int = N_KNOWN,
    ) -> None:
        self.name = "" if isinstance(model, Predictor) else str(as_path(model, "model"))
        self.predictor = model if isinstance(model, Predictor) else load(model)
        self.features = _complete(self.predictor)
        names = [target.name for target in self.predictor.card.targets]
        #: Targets of the model that are explained, each with its standard name.
        self.properties = {name: property_of(self.name, name).name for name in names}
        if properties:
            self.properties = _chosen(self.properties, properties)
        self.edges = tuple(float(edge) for edge in edges)
        if not all(0 < a < b for a, b in zip(self.edges, [*self.edges[1:], 1e3], strict=False)):
            raise ConfigError(
                f"explain: `edges` must ascend from above 0 to below 1000 Å, got {self.edges}. "
                "Give distances such as 3, 5, 8."
            )
        self.tolerance, self.n_known = tolerance, n_known

    def stream(
        self, crystals: Iterable[Any], *, on_error: Literal["raise", "skip"] = "skip"
    ) -> Iterator[Explanation | Failure]:
        """Yield an explanation for each property of each crystal, or a failure in its place.

        Args:
            crystals: Structures of any kind, or failures of reading them, which are passed on.
            on_error: "raise" stops at the first crystal that cannot be used.

        Raises:
            StructureError: If a crystal cannot be used and ``on_error`` is "raise".
            ModelError: If a network gives a number that is not finite and ``on_error`` is "raise".
        """
        for index, item in enumerate(crystals):
            if isinstance(item, Failure):
                if on_error == "raise":
                    raise StructureError(item.reason)
                yield item
                continue
            try:
                crystal = Crystal.from_any(item)
                found = self.explain(crystal if crystal.id else crystal.replace(id=str(index)))
            except PotNetError as error:
                if on_error == "raise":
                    raise
                name = getattr(item, "id", "") or str(index)
                stage = "features" if isinstance(error, StructureError) else "predict"
                yield Failure(name, stage, str(error))
            else:
                yield from found

    def explain(self, crystal: Any) -> list[Explanation]:
        """Return an explanation for each property of one crystal.

        Args:
            crystal: A structure of any kind.

        Raises:
            StructureError: If the crystal cannot be used, or its primitive cell has more than
                ``MAX_ATOMS`` atoms.
            ModelError: If a network gives a number that is not finite.
        """
        crystal = Crystal.from_any(crystal)
        if self.name == LAYERS:
            crystal = single_layer(crystal)
        cell = self.features.reduced(crystal)
        if cell.n_atoms > MAX_ATOMS:
            raise StructureError(
                f"{crystal.id or 'crystal'}: the primitive cell must have at most {MAX_ATOMS} "
                f"atoms to be explained, got {cell.n_atoms}. Predict it without an explanation."
            )
        predictions = {row.property: row for row in self.predictor.predict([crystal])}
        sums = by_distance(self.features, cell, self.edges)
        copies = np.arange(crystal.n_atoms)
        if self.features.primitive:
            copies = crystal.copies(self.features.symmetry_tolerance)
        gradients = {g.property: g for g in self.predictor.gradients(cell)}
        same, nearest = self._known(crystal)
        labels = sums.nodes[copies]
        sites = tuple(np.flatnonzero(labels == site) for site in range(labels.max() + 1))
        return [
            Explanation(
                crystal=crystal,
                prediction=predictions[name],
                model=self.name,
                property=standard,
                sites=sites,
                sensitivity=Sensitivity.of(gradients[name], copies),
                known=nearest,
                same=same,
                **self._shares(cell, sums, name),
            )
            for name, standard in self.properties.items()
        ]

    def _known(self, crystal: Crystal) -> tuple[tuple[KnownCrystal, ...], tuple[KnownCrystal, ...]]:
        """Return known crystals that are this one, and the nearest ones."""
        if not self.n_known:
            return (), ()
        known = load_known()
        return tuple(known.match(crystal)), tuple(known.nearest(crystal, self.n_known))

    def _shares(self, cell: Crystal, sums: ByDistance, name: str) -> dict[str, Any]:
        """Return what an explanation holds of one target, in its unit."""
        card = self.predictor.card
        place = [target.name for target in card.targets].index(name)
        target = card.targets[place]
        batch = sums.batch.to(self.predictor.device)
        with self.predictor.in_double() as members:
            ways = [mean_slopes(member, batch, place, self.tolerance) for member in members]
            references = _references(members, cell.numbers, place)
        outputs = np.array([way.full for way in ways])
        whole = float(combined(outputs, card.combine))
        channels = tuple(dict.fromkeys(self.features.kinds))
        return {
            "transform": target.transform,
            "unit": UNITS[target.transform].format(target.unit),
            "total": whole * target.std + target.mean,
            "compositions": np.array([way.bare for way in ways]) * target.std + target.mean,
            "references": {symbol: value * target.std for symbol, value in references.items()},
            "combination": (whole - float(outputs.mean())) * target.std,
            "residual": float(np.mean([way.residual for way in ways])) * target.std,
            "n_points": max(way.n_points for way in ways),
            "channels": channels,
            "distances": edges_in_words(self.edges),
            "parts": np.stack([self._parts(sums, way, channels) for way in ways]) * target.std,
        }

    def _parts(self, sums: ByDistance, way: Slopes, channels: Sequence[str]) -> NDArray[np.float64]:
        """Return the shares of one network, (n_nodes, n_nodes, n_channels, n_distances)."""
        shares = (way.slopes.cpu() * sums.parts).numpy()
        kinds = np.array(self.features.kinds)
        grouped = np.stack([shares[:, :, kinds == channel].sum(2) for channel in channels], 2)
        n = int(sums.nodes.max()) + 1
        return np.moveaxis(grouped.reshape(len(shares), n, n, len(channels)), 0, -1)


def explain(
    crystals: Any,
    model: Predictor | str | os.PathLike[str] = "mp-formation-energy",
    *,
    properties: Sequence[str] = (),
    edges: Sequence[float] = EDGES,
    n_known: int = N_KNOWN,
) -> list[Explanation]:
    """Return why a model predicts what it predicts: one explanation per crystal and property.

    Args:
        crystals: One structure or any number of them: Crystal, ASE Atoms, pymatgen Structure,
            JARVIS Atoms or their dictionaries.
        model: A predictor, the name of a bundled model, or an archive.
        properties: Those that are wanted, by their standard names or as the model calls them; all
            if none are named.
        edges: Distances in Å at which shares are divided, ascending.
        n_known: How many known crystals are named; 0 for none.

    Raises:
        StructureError: If a crystal cannot be used.
        ModelError: If there is no such model, or its network does not read complete sums.
        ConfigError: If the model has no such property, or the edges do not ascend.
    """
    explainer = Explainer(model, properties, edges=edges, n_known=n_known)
    items = as_structures(crystals, "explain")
    return [found for found in explainer.stream(items, on_error="raise")
            if isinstance(found, Explanation)]  # fmt: skip


def explainers(
    properties: Sequence[str] = (), models: Sequence[str] = (), **options: Any
) -> list[Explainer]:
    """Return what explains some properties of the sheet, or of some models.

    Args:
        properties: Those that are wanted; the formation energy, or all of the models that are
            named, if none are.
        models: Bundled models or archives; those of the sheet if none are named.
        options: Passed on to each :class:`Explainer`.

    Raises:
        ConfigError: If a property is not one that a model predicts itself.
        ModelError: As :class:`Explainer`.
    """
    if models:
        return [Explainer(model, properties, **options) for model in models]
    wanted: dict[str, list[str]] = {}
    for name in properties or ("formation_energy",):
        if name not in OUTPUTS:
            raise ConfigError(
                f"explain: a property must be one that a model predicts itself "
                f"({', '.join(OUTPUTS)}), got {name!r}. Ask for what it follows from, or name a "
                "model."
            )
        wanted.setdefault(OUTPUTS[name], []).append(name)
    return [Explainer(model, names, **options) for model, names in wanted.items()]


def _chosen(known: dict[str, str], properties: Sequence[str]) -> dict[str, str]:
    """Return the targets that ``properties`` name, by either name, in that order."""
    targets = {standard: name for name, standard in known.items()} | {name: name for name in known}
    if unknown := [name for name in properties if name not in targets]:
        raise ConfigError(
            f"explain: a property of this model must be one of {', '.join(known.values())}, got "
            f"{', '.join(unknown)}. Name one of these."
        )
    return {targets[name]: known[targets[name]] for name in properties}


def _complete(predictor: Predictor) -> CompleteFeatures:
    """Return the features of a model that can be explained."""
    features = predictor.features
    if not isinstance(features, CompleteFeatures):
        raise ModelError(
            "explain: the network must read complete sums (CompleteFeatures), whose channels and "
            f"distances add up, got {predictor.card.network}. Use a model of the network "
            "completenet."
        )
    return features


def _references(
    members: Sequence[Network], numbers: NDArray[np.int64], place: int
) -> dict[str, float]:
    """Return what the linear part of the composition adds for each element, standardised."""
    tables = [m.references.weight[:, place].cpu() for m in members if m.references is not None]
    if len(tables) < len(members):
        return {}
    elements, counts = np.unique(numbers, return_counts=True)
    per_formula = np.gcd.reduce(counts) / counts.sum()
    found = {}
    for number, count in zip(elements.tolist(), counts.tolist(), strict=True):
        rows = [(number, 1.0), (number + len(SYMBOLS), per_formula)]
        values = [
            sum(float(table[row]) * factor for row, factor in rows if row < len(table))
            for table in tables
        ]
        found[SYMBOLS[number]] = float(np.mean(values)) * count / int(counts.sum())
    return found
