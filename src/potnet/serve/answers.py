"""What is computed for an answer, with models that are read once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

from potnet.crystal import Crystal
from potnet.errors import ConfigError, Failure
from potnet.serve import records
from potnet.serve.reading import Limits, read_texts

if TYPE_CHECKING:
    from potnet.sheet import SheetMaker

LANDSCAPE_POINTS = 121  # along an edge
N_NEAREST = 8
EPSILON = 2.0**-52


class Answers:
    """Everything that is computed. Threads may share it."""

    def __init__(self) -> None:
        self._turn = threading.Lock()

    @cached_property
    def _loaded(self) -> SheetMaker:
        from potnet.sheet import SheetMaker

        return SheetMaker()

    @property
    def maker(self) -> SheetMaker:
        """What makes sheets; read by the first who asks, while the others wait."""
        with self._turn:
            return self._loaded

    def sheets(self, items: Sequence[Crystal | Failure]) -> list[list[dict[str, Any]]]:
        """Return for each item its records: a sheet, failures, or both."""
        _one_thread()
        outcomes = self.maker.each(items, batch_size=max(1, len(items)))
        return [
            [
                records.failure(found) if isinstance(found, Failure) else records.sheet(found)
                for found in outcome
            ]
            for outcome in outcomes
        ]

    def checked(self, items: Sequence[Crystal | Failure]) -> list[dict[str, Any]]:
        """Return what was read, without any prediction."""
        return [
            records.failure(item) if isinstance(item, Failure) else records.facts(item)
            for item in items
        ]

    def sums(
        self, crystal: Crystal, potentials: Sequence[str], tolerance: float, per: str = "pair"
    ) -> dict[str, Any]:
        """Return the sums of all pairs of atoms of a crystal.

        Args:
            crystal: The crystal.
            potentials: Their names.
            tolerance: Largest absolute error of the sum of a pair.
            per: "pair", or "atom": what all others, and its own images, give at each atom.

        Raises:
            ConfigError: If a potential or the tolerance cannot be used.
        """
        from latticesums import unit_of
        from potnet.sums import lattice_sums, parse_potential

        _one_thread()
        chosen = [parse_potential(text) for text in potentials]
        found = lattice_sums(crystal, chosen, tolerance=tolerance)
        values, bound = found.values, found.error_bound
        if per == "atom":
            # The bounds add up, and so does what adding rounds away.
            rounding = crystal.n_atoms * EPSILON * abs(values).sum(1).max(0, initial=0.0)
            values, bound = values.sum(1), crystal.n_atoms * bound + rounding
        return {
            "id": crystal.id,
            "potentials": list(found.potentials),
            "units": [unit_of(potential) for potential in chosen],
            "values": values.tolist(),
            "error_bound": bound.tolist(),
        }

    def nearest(self, crystal: Crystal, n: int = N_NEAREST) -> dict[str, Any]:
        """Return the ``n`` nearest known crystals with what is known of them.

        Raises:
            StructureError: If the crystal is not periodic in all three directions.
        """
        from potnet.known import load_known

        known = load_known()
        return records.nearest(
            known.nearest(crystal, n), known.match(crystal), self._known_examples
        )

    def stability(
        self, formula: str, energy: float, lower: float | None, upper: float | None
    ) -> dict[str, Any]:
        """Return how far a formation energy lies above the hull, and the hull to be drawn.

        Raises:
            StructureError: If this is no formula.
        """
        from potnet.crystal import SYMBOLS
        from potnet.crystal.formula import parse_formula
        from potnet.stability import diagram, load_hull

        hull, nan = load_hull(), float("nan")
        elements = tuple(SYMBOLS[number] for number in parse_formula(formula))
        found = hull.above(
            formula, energy, nan if lower is None else lower, nan if upper is None else upper
        )
        drawn = diagram(hull, elements) if 2 <= len(elements) <= 3 else None
        return records.stability(found, drawn)

    def landscape(
        self, crystal: Crystal, potential: str, plane: Sequence[int] | None
    ) -> dict[str, Any]:
        """Return a potential of all atoms on a plane through the crystal.

        Raises:
            ConfigError: If the potential or the plane cannot be used.
        """
        from potnet.report.landscape import NEAR, landscape
        from potnet.report.section import miller_section

        _one_thread()
        section = None if plane is None else miller_section(crystal, plane)
        found = landscape(crystal, [potential], section=section, n=LANDSCAPE_POINTS)
        return records.landscape(found, NEAR)

    def explain(self, crystal: Crystal, name: str) -> dict[str, Any]:
        """Return why a property of a crystal is predicted as it is.

        Args:
            crystal: The crystal.
            name: Of the property; one that a model of the sheet predicts itself.

        Raises:
            StructureError: If the crystal cannot be explained.
            ConfigError: If no model predicts this.
        """
        from potnet.explanation import Explainer
        from potnet.sheet.properties import BUNDLED

        sources = {p.name: source for source, p in BUNDLED.items() if p.is_advised}
        if name not in sources or sources[name][0] not in self.maker.predictors:
            raise ConfigError(
                f"explain: `property` must be one of {', '.join(sources)}, got {name}. "
                "Choose another."
            )
        _one_thread()
        model, target = sources[name]
        (found,) = Explainer(self.maker.predictors[model], [target]).explain(crystal)
        said = found.to_dict()
        # What grows with the square of the atoms, or was sent, is not sent back.
        kept = {key: value for key, value in said.items() if key not in ("pairs", "crystal")}
        return kept | {"model": model, "property": name}

    @cached_property
    def _known_examples(self) -> dict[str, str]:
        """Names of the examples by the ids of the known crystals that they are."""
        from potnet.known import load_known

        reads = read_texts(list(examples().items()), Limits())
        crystals = [read.item for read in reads if not isinstance(read.item, Failure)]
        names = zip(examples(), crystals, strict=True)
        return {same.id: name for name, item in names for same in load_known().match(item)}

    @cached_property
    def distributions(self) -> dict[str, Any]:
        """How values of known crystals are distributed, by property."""
        from potnet.known import distributions

        return {name: asdict(one) for name, one in distributions().items()}

    @cached_property
    def models(self) -> list[dict[str, Any]]:
        """The bundled models: name, what they predict, and what they have learned from."""
        from potnet.models import archive, available

        def described(name: str) -> dict[str, Any]:
            card = archive.read_card(name)
            targets = [{"name": t.name, "unit": t.unit} for t in card.targets]
            return {"name": name, "predicts": targets, "trained_on": card.data.name}

        return [described(name) for name in available()]


def _one_thread() -> None:
    """Let torch use one thread of this thread.

    Batches are small, so that several take more time than they save, and sums over several have
    other last digits than those of ``potnet predict``.
    """
    import torch

    torch.set_num_threads(1)


def examples() -> dict[str, str]:
    """Return the example crystals, text by name.

    Raises:
        ConfigError: If the package has none.
    """
    from potnet.demo import examples as folder

    found = {path.name: path.read_text("utf-8") for path in sorted(folder().iterdir())}
    if not found:
        raise ConfigError("serve: the package must hold examples, got none. Install it again.")
    return found
