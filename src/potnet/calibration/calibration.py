"""How sure a model may be of each prediction: intervals that adapt, and familiarity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from potnet.calibration.conformal import conformal_halfwidth
from potnet.calibration.evidence import Contents, Evidence, ManyContents
from potnet.calibration.familiarity import Familiarity
from potnet.calibration.width import NEIGHBOURS, POINT, Learned, Width, excess, under

FEWEST = 100  # crystals below which widths are constant
AGREED = 0.003  # standard deviations within which networks count as agreeing


@dataclass(frozen=True)
class Judgement:
    """How sure a model may be of its predictions for some crystals.

    Attributes:
        halfwidths: How far the ends of the intervals of each target are below and above the
            prediction, standardised, shape (2, n); None where the width is constant or there is no
            interval.
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
class Answers:
    """What a model says of crystals, and by how much it is wrong.

    Attributes:
        seen: The crystals.
        errors: What is predicted less what is true, standardised, nan where that is unknown, shape
            (n, n_targets).
    """

    seen: Evidence
    errors: NDArray[np.float64]


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
        trained: Contents | ManyContents,
        held_out: Evidence,
        errors: NDArray[np.float64],
        outputs: Sequence[Output],
        *,
        level: float,
        training: Answers | None = None,
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
            training: Of training crystals, whose first are those of ``states``; it says where
                errors are large, too.
        """
        familiarity = Familiarity.fit(states, trained, held_out)
        new = cls(familiarity, tuple(outputs), (None,) * len(outputs))
        widths = [
            new._fit_width(k, held_out, errors[:, k], training, len(states), level)
            for k in range(len(outputs))
        ]
        return replace(new, widths=tuple(widths))

    def judge(self, evidence: Evidence) -> Judgement:
        """Return how sure the model may be of each crystal."""
        components, near = self.familiarity.seen(evidence, NEIGHBOURS[-1])
        halfwidths = [
            None
            if width is None
            else width.of(
                self._columns(k, evidence, components, near, width.hinges, width.learned),
                evidence.shares,
            )
            for k, width in enumerate(self.widths)
        ]
        far = self.familiarity.excess(components)
        return Judgement(tuple(halfwidths), self.familiarity.of(far), far)

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
            scaled = width.times(factor)
            return replace(self, widths=(*self.widths[:k], scaled, *self.widths[k + 1 :]))

        halves = with_factor(1.0).judge(held_out[known]).halfwidths[k]
        if halves is None:
            return self
        factor = conformal_halfwidth(excess(errors[known], np.maximum(halves, POINT)), level)
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
        errors: NDArray[np.float64],
        training: Answers | None,
        n_points: int,
        level: float,
    ) -> Width | None:
        known = np.isfinite(errors)
        if not self.outputs[k].has_interval or known.sum() < FEWEST:
            return None
        evidence = held_out[known]
        settled = np.maximum(evidence.outputs[:, k], self.outputs[k].floor)
        hinges = np.unique(np.quantile(settled, [0.25, 0.5, 0.75]))
        learned = None
        if training is not None and n_points >= NEIGHBOURS[-1]:
            learned = self._fit_learned(k, training, hinges, n_points, level)
        components, near = self.familiarity.seen(evidence, NEIGHBOURS[-1])
        columns = self._columns(k, evidence, components, near, hinges, learned)
        return Width.fit(columns, evidence.shares, errors[known], hinges, learned, level)

    def _fit_learned(
        self, k: int, training: Answers, hinges: NDArray[np.float64], n_points: int, level: float
    ) -> Learned | None:
        seen = training.seen
        others = self.familiarity.others(seen, self.familiarity.places(seen))
        plain = self._plain_columns(k, seen, others, hinges)
        columns = self._columns_of_training(plain, seen)
        settled = np.maximum(seen.outputs[:, k], self.outputs[k].floor)
        return Learned.fit(columns, seen.shares, settled, training.errors[:, k], n_points, level)

    def _columns(
        self,
        k: int,
        evidence: Evidence,
        components: NDArray[np.float64],
        near: NDArray[np.int64],
        hinges: NDArray[np.float64],
        learned: Learned | None,
    ) -> NDArray[np.float64]:
        """Return numbers that say how hard the target ``k`` of crystals is, (n, n_columns)."""
        distance, others = components[:, :1], components[:, 1:]
        plain = self._plain_columns(k, evidence, others, hinges)
        parts = [distance, plain]
        if learned is not None:
            columns = self._columns_of_training(plain, evidence)
            settled = np.maximum(evidence.outputs[:, k], self.outputs[k].floor)
            parts.append(learned.columns(columns, evidence.shares, settled, near))
        # Beside its logarithm, which tells little of those that are far apart. It stands last:
        # archives from before do not ask for it.
        parts.append(evidence.spreads[:, k : k + 1])
        return np.hstack(parts)

    def _plain_columns(
        self,
        k: int,
        evidence: Evidence,
        others: NDArray[np.float64],
        hinges: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Return those that mean the same for training crystals, near which is one: themselves."""
        output, value = self.outputs[k], evidence.outputs[:, k]
        settled = np.maximum(value, output.floor)
        columns = [*others.T]
        columns += [value, settled, *(np.maximum(settled - hinge, 0) for hinge in hinges)]
        columns += [np.log(evidence.n_atoms), (evidence.shares > 0).sum(1)]
        columns.append(np.log(evidence.spreads[:, k] + AGREED))
        if output.companion >= 0:
            logit = evidence.outputs[:, output.companion].clip(-8, 8)
            chance = 1 / (1 + np.exp(-logit))
            columns += [logit, np.sqrt(chance * (1 - chance)), chance]
        return np.stack(columns, axis=1)

    def _columns_of_training(
        self, plain: NDArray[np.float64], evidence: Evidence
    ) -> NDArray[np.float64]:
        """Return what the difficulty of training crystals is a function of."""
        places = self.familiarity.places(evidence)
        return np.hstack([plain, places, np.abs(places)])

    def arrays(self) -> dict[str, NDArray]:
        """Return all numbers by name."""
        found = {f"familiarity.{k}": v for k, v in self.familiarity.arrays().items()}
        floors = [(output.floor, output.companion, output.has_interval) for output in self.outputs]
        found["outputs"] = np.array(floors, np.float64)
        for k, width in enumerate(self.widths):
            if width is not None:
                found |= {f"width{k}.{name}": v for name, v in width.arrays().items()}
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
        own = [under(arrays, f"width{k}.") for k in range(len(outputs))]
        widths = [Width.from_arrays(found) if found else None for found in own]
        familiarity = Familiarity.from_arrays(under(arrays, "familiarity."))
        return cls(familiarity, outputs, tuple(widths))
