"""From what models say of a crystal to the rows of its sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from potnet.crystal.layers import VACUUM
from potnet.prediction import UNFAMILIAR_FLAG
from potnet.sheet.derived import Interval, poisson_ratio, pugh_ratio, young_modulus
from potnet.sheet.facts import Facts
from potnet.sheet.properties import ADVISED, HULL, PROPERTIES, property_of, threshold_of
from potnet.sheet.rows import Row
from potnet.targets import most_probable

if TYPE_CHECKING:
    from potnet.known import KnownCrystal
    from potnet.prediction import Prediction
    from potnet.stability import Hull

OF_THE_BULK = ("bulk-modulus", "shear-modulus")  # mean nothing where a cell holds vacuum
ROUNDING = 1e-6  # eV per atom: as little is above hull only by rounding
DISAGREEMENT = 0.1  # eV: a gap that large where there is probably none is worth a flag
_DERIVED = {
    "young_modulus": (young_modulus, "GPa"),
    "poisson_ratio": (poisson_ratio, ""),
    "pugh_ratio": (pugh_ratio, ""),
}
_PLACES = {name: place for place, name in enumerate(PROPERTIES)}


@dataclass(frozen=True)
class Findings:
    """All that is known and said of one crystal.

    Attributes:
        id: Of the crystal.
        facts: What was read off it.
        predictions: What each model says, by name. A model that does not apply says nothing.
        is_layered: Whether the crystal consists of layers.
        parts: What it consists of, in words: molecules, chains, layers, a network.
        vacuum: Between the layers of a layered crystal, in Å; 0 if there is none.
        known: The same crystal in the index, the likest first.
        hull: What competes with it, if energies above hull are wanted.
    """

    id: str
    facts: Facts
    predictions: Mapping[str, Sequence[Prediction]]
    is_layered: bool = False
    parts: str = ""
    vacuum: float = 0.0
    known: Sequence[KnownCrystal] = ()
    hull: Hull | None = None


def compose(found: Findings) -> list[Row]:
    """Return the rows of a crystal: properties of the sheet in their order, then the others."""
    rows: list[Row] = []
    for model, predictions in found.predictions.items():
        rows += _rows_of_model(found, model, predictions)
    advised = {row.property: row for row in rows if row.model in ADVISED}
    if "formation_energy" in advised and found.hull is not None:
        advised["energy_above_hull"] = _above_hull(advised["formation_energy"], found.hull)
    if "bulk_modulus" in advised and "shear_modulus" in advised:
        advised |= _derived(advised["bulk_modulus"], advised["shear_modulus"])
    if "highest_phonon_frequency" in advised and "has_band_gap" in advised:
        row = advised["highest_phonon_frequency"]
        if advised["has_band_gap"].value < 0.5:
            flag = "probably a metal, training had crystals with a gap"
            advised[row.property] = replace(row, flags=(*row.flags, flag))
    sheet = sorted(advised.values(), key=lambda row: _PLACES[row.property])
    others = [row for row in rows if row.model not in ADVISED]
    facts = found.facts
    about = (found.id, facts.formula, facts.n_atoms, facts.space_group)
    density = Row(*about, "density", facts.density, unit="g/cm^3", note=_as_read(found))
    referred = [_with_reference(row, found) for row in sheet]
    is_sheet = not found.predictions or any(model in ADVISED for model in found.predictions)
    return [density, *referred, *others] if is_sheet else others


def _as_read(found: Findings) -> str:
    parts = f"as read; consists of {found.parts}" if found.parts else "as read"
    return f"{parts}, with {found.vacuum:.3g} Å of vacuum" if found.vacuum else parts


def _rows_of_model(found: Findings, model: str, predictions: Sequence[Prediction]) -> list[Row]:
    """Return a row for each output of a model, a gap in agreement with its probability."""
    facts = found.facts
    about = (found.id, facts.formula, facts.n_atoms, facts.space_group)
    if model == "exfoliation-energy" and not found.is_layered:
        note = "does not apply: the crystal does not consist of layers"
        return [_row(about, model, "exfoliation_en", Interval(math.nan), "meV/atom", (), note)]
    rows = {}
    for said in predictions:
        values = Interval(said.prediction, said.lower, said.upper)
        flags = said.flags
        if found.vacuum and model in OF_THE_BULK:
            flags = (*flags, f"of the cell with its {found.vacuum:.3g} Å of vacuum")
        row = _row(about, model, said.property, values, said.unit, flags)
        if model == "exfoliation-energy":
            row = replace(row, note=f"of a single layer, in {VACUUM:g} Å of vacuum")
        rows[said.property] = row
    for target in most_probable({name: row.value for name, row in rows.items()}):
        rows[target] = replace(rows[target], note="the most probable")
    for question, target, threshold in filter(None, map(threshold_of, tuple(rows))):
        if target in rows:
            rows[target] = agreeing(rows[target], rows[question], threshold)
    return list(rows.values())


def _row(
    about: tuple[str, str, int, str],
    model: str,
    target: str,
    values: Interval,
    unit: str,
    flags: tuple[str, ...],
    note: str = "",
) -> Row:
    named = property_of(model, target)
    return Row(*about, named.name, *values, unit, named.level, model, flags, note=note)


def agreeing(size: Row, chance: Row, threshold: float) -> Row:
    """Return the row of a quantity in agreement with the probability that it is there at all.

    The value is the median of what both say together: zero where nothing is more probable than
    something, else not below the threshold of the question. The lower end is zero unless something
    is there with 95 %.

    Args:
        size: How large it is, if it is there.
        chance: Probability that it is larger than ``threshold``.
        threshold: Of the question.
    """
    lower = size.lower if math.isnan(size.lower) else max(size.lower, 0.0)
    if chance.value < 0.95 and not math.isnan(lower):
        lower = 0.0
    if chance.value >= 0.5:
        value = max(size.value, threshold)
        # The ends of an interval enclose the value; max leaves nan as it is.
        return replace(size, value=value, lower=min(lower, value), upper=max(size.upper, value))
    flags = size.flags
    if size.value > DISAGREEMENT:
        flags = (*flags, f"probably none, though {size.value:.2g} {size.unit} if there is one")
    return replace(size, value=0.0, lower=lower, flags=flags)


def _above_hull(energy: Row, hull: Hull) -> Row:
    """Return the row of the energy above hull from that of the formation energy."""
    found = hull.above(energy.formula, energy.value, energy.lower, energy.upper)
    mixture = found.decomposition
    flags = energy.flags
    if mixture.unknown:
        flags = (*flags, f"no phase is known of {', '.join(mixture.unknown)}")
    own = len(mixture.phases) == 1
    verb = "a stable phase is known of" if own else "decomposes into"
    return replace(
        energy,
        property="energy_above_hull",
        value=found.energy_above_hull,
        lower=found.lower,
        upper=found.upper,
        level_of_theory=HULL,
        flags=flags,
        note=f"{verb} {mixture}; {mixture.snapshot}",
    )


def _derived(bulk: Row, shear: Row) -> dict[str, Row]:
    """Return what follows from both moduli."""
    moduli = [Interval(row.value, row.lower, row.upper) for row in (bulk, shear)]
    flags = tuple(dict.fromkeys((*bulk.flags, *shear.flags)))
    rows = {}
    for name, (function, unit) in _DERIVED.items():
        value, lower, upper = function(*moduli)
        rows[name] = replace(
            shear,
            property=name,
            value=value,
            lower=lower,
            upper=upper,
            unit=unit,
            model=f"{bulk.model}, {shear.model}",
            flags=flags,
            note="isotropic, from both moduli",
        )
    return rows


def _with_reference(row: Row, found: Findings) -> Row:
    """Return the row with what is known of this very crystal, from the likest that has it.

    A crystal with a reference is not unfamiliar, if its layers need not be moved to be that: the
    networks of the sheet have learned from the
    data that it is from, of which their archives hold a part to measure distances.
    """
    for known in found.known:
        value = _reference(row, known, found.hull)
        if not math.isnan(value):
            note = "; ".join(filter(None, (_known_as(known), row.note)))
            flags = row.flags
            if known.stretch == 1:
                flags = tuple(flag for flag in flags if not flag.startswith(UNFAMILIAR_FLAG))
            return replace(row, reference=value, note=note, flags=flags)
    return row


def _known_as(known: KnownCrystal) -> str:
    more = 100 * (known.stretch - 1)
    how = f", layers {abs(more):.0f} % {'farther apart' if more > 0 else 'closer'}" if more else ""
    return f"known: {known.id}{how}"


def _reference(row: Row, known: KnownCrystal, hull: Hull | None) -> float:
    """Return the known value of a property of the sheet, nan if there is none."""
    if row.property == "energy_above_hull" and hull is not None:
        above = hull.above(row.formula, known.formation_energy).energy_above_hull
        return 0.0 if abs(above) < ROUNDING else above
    if row.property in _DERIVED:
        function, _ = _DERIVED[row.property]
        moduli = Interval(known.bulk_modulus), Interval(known.shear_modulus)
        return function(*moduli).value
    return {
        "formation_energy": known.formation_energy,
        "band_gap": known.gap,
        "has_band_gap": float(not known.is_metal),
        "bulk_modulus": known.bulk_modulus,
        "shear_modulus": known.shear_modulus,
    }.get(row.property, math.nan)
