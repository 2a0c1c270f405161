"""How sure a model may be of each prediction: intervals that adapt, and familiarity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from potnet.calibration.conformal import conformal_halfwidth
from potnet.calibration.difficulty import Difficulty
from potnet.calibration.evidence import Contents, Evidence
from potnet.calibration.familiarity import Familiarity

FEWEST = 100  # crystals below which widths are constant
N_FOLDS = 10
PER_BAND = 150  # crystals for each factor of the width
MAX_BANDS = 5
LEAST = 1e-6  # factor of a width, so that it has a logarithm
AGREED = 0.003  # standard deviations within which networks count as agreeing


@dataclass(frozen=True)
class Judgement:
    """How sure a model may be of its predictions for some crystals.

    Attributes:
        halfwidths: Half the width of the intervals of each target, standardised, shape (n,); None
            where it is constant or there is none.
        familiarity: Share of the crystals held out that are as far from training or farther, (n,).
        excess: What makes crystals unfamiliar, in the order of ``familiarity.COMPONENTS``: 0 is
            the median of the crystals held out, 1 far, shape (n, 4).
    """

    halfwidths: tuple[NDArray[np.float64] | None, ...]
    familiarity: NDArray[np.float64]
    excess: NDArray[np.float64]


@dataclass(frozen=True)
class Output:
    """What the calibration must know of an output of a network.

    Attributes:
        floor: Standardised output below which all outputs mean the same; -inf if there is none.
        companion: Place of the output that is the chance of this quantity to be there at all, -1
            if there is none.
        has_interval: False for what says itself how sure it is, a probability.
    """

    floor: float = -np.inf
    companion: int = -1
    has_interval: bool = True


@dataclass(frozen=True)
class Width:
    """Half the width of an interval, from the difficulty of a prediction.

    Attributes:
        difficulty: The unscaled half-width.
        knots: Logarithms of difficulties, rising, shape (n_bands,).
        factors: Logarithm of what the difficulty is multiplied with there, shape (n_bands,).
        hinges: Where the slope in the prediction may change, shape (n_hinges,).
    """

    difficulty: Difficulty
    knots: NDArray[np.float64]
    factors: NDArray[np.float64]
    hinges: NDArray[np.float64]

    def of(self, columns: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return half-widths, standardised, shape (n,)."""
        sizes = self.difficulty.of(columns, shares)
        return sizes * np.exp(np.interp(np.log(sizes), self.knots, self.factors))


@dataclass(frozen=True)
class Calibration:
    """What a model learned from crystals held out about how sure it may be.

    Attributes:
        familiarity: How far from training a crystal is.
        outputs: What is known of each output.
        widths: Of the interval of each output; None where it is constant or there is none.
    """

    familiarity: Familiarity
    outputs: tuple[Output, ...]
    widths: tuple[Width | None, ...]

    @classmethod
    def fit(
        cls,
        states: NDArray[np.float32],
        trained: Contents,
        held_out: Evidence,
        errors: NDArray[np.float64],
        outputs: Sequence[Output],
        *,
        level: float,
    ) -> Calibration:
        """Return the calibration on crystals held out.

        Args:
            states: Of up to ``familiarity.MAX_POINTS`` training crystals, chosen at random.
            trained: All training crystals.
            held_out: Crystals that no network was trained on.
            errors: Of the predictions for these, standardised, nan where unknown, shape
                (n, n_targets).
            outputs: What is known of each target.
            level: Share of crystals that an interval should cover.
        """
        familiarity = Familiarity.fit(states, trained, held_out)
        components = familiarity.components(held_out)
        new = cls(familiarity, tuple(outputs), (None,) * len(outputs))
        widths = [
            new._fit_width(k, held_out, components, np.abs(errors[:, k]), level)
            for k in range(len(outputs))
        ]
        return replace(new, widths=tuple(widths))

    def judge(self, evidence: Evidence) -> Judgement:
        """Return how sure the model may be of each crystal."""
        components = self.familiarity.components(evidence)
        halfwidths = [
            None
            if width is None
            else width.of(self._columns(k, evidence, components, width.hinges), evidence.shares)
            for k, width in enumerate(self.widths)
        ]
        excess = self.familiarity.excess(components)
        return Judgement(tuple(halfwidths), self.familiarity.of(excess), excess)

    def with_width(
        self,
        k: int,
        width: Width,
        held_out: Evidence,
        errors: NDArray[np.float64],
        *,
        level: float,
    ) -> Calibration:
        """Return the calibration with a width of target ``k`` that other networks have measured.

        Where few crystals are held out, networks that left out others, fold by fold, know better
        where errors are large. How large they are is what the crystals held out say.

        Args:
            k: The target.
            width: What the others say.
            held_out: Crystals that no network was trained on, and ``width`` not fitted to.
            errors: Of their predictions, standardised, nan where unknown, shape (n,).
            level: Share of crystals that an interval should cover.
        """
        known = np.isfinite(errors)

        def with_factor(factor: float) -> Calibration:
            scaled = replace(width, factors=width.factors + np.log(max(factor, LEAST)))
            return replace(self, widths=(*self.widths[:k], scaled, *self.widths[k + 1 :]))

        half = with_factor(1.0).judge(held_out[known]).halfwidths[k]
        factor = None if half is None else conformal_halfwidth(errors[known] / half, level)
        return self if factor is None else with_factor(factor)

    def select(self, places: Sequence[int]) -> Calibration:
        """Return the calibration of some targets; without its companion one has constant width."""
        outputs, widths = [], []
        for place in places:
            output, width = self.outputs[place], self.widths[place]
            if output.companion >= 0:
                is_there = output.companion in places
                width = width if is_there else None
                companion = list(places).index(output.companion) if is_there else -1
                output = replace(output, companion=companion)
            outputs.append(output)
            widths.append(width)
        return replace(self, outputs=tuple(outputs), widths=tuple(widths))

    def _fit_width(
        self,
        k: int,
        held_out: Evidence,
        components: NDArray[np.float64],
        errors: NDArray[np.float64],
        level: float,
    ) -> Width | None:
        known = np.isfinite(errors)
        if not self.outputs[k].has_interval or known.sum() < FEWEST:
            return None
        evidence, errors = held_out[known], errors[known]
        settled = np.maximum(evidence.outputs[:, k], self.outputs[k].floor)
        hinges = np.unique(np.quantile(settled, [0.25, 0.5, 0.75]))
        columns = self._columns(k, evidence, components[known], hinges)
        shares = evidence.shares
        sizes = np.empty(len(errors))
        folds = folds_of(shares)
        for fold in range(folds.max() + 1):
            rest, out = folds != fold, folds == fold
            difficulty = Difficulty.fit(columns[rest], shares[rest], errors[rest], level)
            sizes[out] = difficulty.of(columns[out], shares[out])
        knots, factors = _bands(sizes, errors / sizes, level)
        factor = conformal_halfwidth(
            errors / (sizes * np.exp(np.interp(np.log(sizes), knots, factors))), level
        )
        if factor is None:
            return None
        final = Difficulty.fit(columns, shares, errors, level)
        return Width(final, knots, factors + np.log(max(factor, LEAST)), hinges)

    def _columns(
        self,
        k: int,
        evidence: Evidence,
        components: NDArray[np.float64],
        hinges: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Return numbers that say how hard the target ``k`` of crystals is, (n, n_columns)."""
        output, value = self.outputs[k], evidence.outputs[:, k]
        settled = np.maximum(value, output.floor)
        columns = [value, settled, *(np.maximum(settled - hinge, 0) for hinge in hinges)]
        columns += [np.log(evidence.n_atoms), (evidence.shares > 0).sum(1), *components.T]
        columns.append(np.log(evidence.spreads[:, k] + AGREED))
        if output.companion >= 0:
            logit = evidence.outputs[:, output.companion].clip(-8, 8)
            chance = 1 / (1 + np.exp(-logit))
            columns += [logit, np.sqrt(chance * (1 - chance)), chance]
        return np.stack(columns, axis=1)

    def arrays(self) -> dict[str, NDArray]:
        """Return all numbers by name."""
        found = {f"familiarity.{k}": v for k, v in self.familiarity.arrays().items()}
        floors = [(output.floor, output.companion, output.has_interval) for output in self.outputs]
        found["outputs"] = np.array(floors, np.float64)
        for k, width in enumerate(self.widths):
            if width is not None:
                found |= {f"width{k}.{name}": getattr(width, name) for name in _OF_WIDTH}
                found |= {
                    f"width{k}.difficulty.{n}": v for n, v in width.difficulty.arrays().items()
                }
        return found

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray]) -> Calibration:
        """Return the calibration of :meth:`arrays`.

        Raises:
            KeyError: If numbers are missing.
            ValueError: If they do not fit together.
        """
        for name, values in arrays.items():
            if np.isnan(values).any():
                raise ValueError(f"{name} is not a number")
        outputs = tuple(
            Output(float(floor), int(companion), bool(has_interval))
            for floor, companion, has_interval in arrays["outputs"]
        )
        widths = []
        for k in range(len(outputs)):
            own = _under(arrays, f"width{k}.")
            difficulty = _under(own, "difficulty.")
            widths.append(
                Width(Difficulty.from_arrays(difficulty), *(own[name] for name in _OF_WIDTH))
                if own
                else None
            )
        familiarity = Familiarity.from_arrays(_under(arrays, "familiarity."))
        return cls(familiarity, outputs, tuple(widths))


_OF_WIDTH = ("knots", "factors", "hinges")


def _under(arrays: Mapping[str, NDArray], prefix: str) -> dict[str, NDArray]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def folds_of(shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number of the fold of each crystal; those of one composition stay together."""
    _, group = np.unique(shares.round(6), axis=0, return_inverse=True)
    group = group.ravel()
    order = np.random.default_rng(0).permutation(group.max() + 1)
    return order[group] % min(N_FOLDS, len(order))


def _bands(
    sizes: NDArray[np.float64], ratios: NDArray[np.float64], level: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return logarithms of difficulties and the factor that ``level`` of the crystals there need.

    Crystals are ordered by difficulty and cut into bands: where all errors of a band are larger
    than the difficulty says, or smaller, its intervals must know it.
    """
    n = max(1, min(MAX_BANDS, len(sizes) // PER_BAND))
    order = np.argsort(sizes, kind="stable")
    knots = [np.log(sizes[rows]).mean() for rows in np.array_split(order, n)]
    quantiles = [np.quantile(ratios[rows], level) for rows in np.array_split(order, n)]
    return np.array(knots), np.log(np.maximum(quantiles, LEAST))
