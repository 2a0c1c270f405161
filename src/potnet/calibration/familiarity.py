"""How far a crystal is from those that a model was trained on, beside crystals held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from potnet.calibration.evidence import Contents, Evidence, ManyContents
from potnet.crystal.compositions import normal_equations, some_at_a_time

MAX_POINTS = 3000  # training crystals that are kept
N_AXES = 16
N_NEAREST = 5
N_LEVELS = 201  # quantiles that are kept of the held-out crystals
COMPONENTS = ("distance", "remainder", "volume", "support")
# Quantile of each over the crystals held out that counts as far. Volumes differ for good reasons
# too (MgO is dense, and well known): of these only the outermost tell.
FAR = (0.95, 0.95, 0.99, 0.95)


@dataclass(frozen=True)
class Familiarity:
    """The training crystals in short, and how far from them crystals held out are.

    Four numbers say how far a crystal is: the logarithm of the mean distance to the nearest
    training crystals in the space of the networks' states, the logarithm of what that space leaves
    of its state, how its volume differs from what its elements need in the training crystals, and
    how few of these have its rarest element. Each is measured in units of the crystals held out;
    the largest counts.

    Attributes:
        centre: Mean state of the training crystals, shape (n_states,).
        axes: Principal axes of their states in units of the spread, shape (n_states, N_AXES).
        points: Some of the training crystals along these axes, shape (n_points, N_AXES).
        volume: Mean logarithm of the volume per atom, shape (1,).
        volumes: What each element adds to it, shape (N_ELEMENTS,).
        counts: Training crystals with each element, shape (N_ELEMENTS,).
        middle: Median of the components over the crystals held out, shape (4,).
        spread: From there to the quantile ``FAR``, shape (4,).
        levels: Quantiles of the largest component over the crystals held out, shape (N_LEVELS,).
    """

    centre: NDArray[np.float64]
    axes: NDArray[np.float64]
    points: NDArray[np.float64]
    volume: NDArray[np.float64]
    volumes: NDArray[np.float64]
    counts: NDArray[np.float64]
    middle: NDArray[np.float64]
    spread: NDArray[np.float64]
    levels: NDArray[np.float64]

    @classmethod
    def fit(
        cls, states: NDArray[np.float32], trained: Contents | ManyContents, held_out: Evidence
    ) -> Familiarity:
        """Return the familiarity with the crystals ``trained``.

        Args:
            states: Of up to ``MAX_POINTS`` of them, chosen at random, shape (n_points, n_states).
            trained: Of all of them.
            held_out: Crystals that were not trained on.
        """
        centre = _as_stored(states.mean(0, dtype=np.float64), np.float32)
        _, sizes, rows = np.linalg.svd(states - centre, full_matrices=False)
        spreads = sizes[:N_AXES] / np.sqrt(len(states))
        kept = spreads > 1e-6 * max(spreads.max(initial=0), 1e-9)
        axes = _as_stored(rows[:N_AXES][kept].T / _softened(spreads[kept]), np.float16)
        logs = np.log(trained.volumes)
        normal, projected = normal_equations(trained.shares, logs - logs.mean())
        volumes = np.asarray(np.linalg.solve(normal + np.eye(len(normal)), projected), np.float64)
        counts = sum((trained.shares[rows] > 0).sum(0) for rows in some_at_a_time(len(logs)))
        new = cls(
            centre,
            axes,
            _as_stored((states - centre) @ axes, np.float16),
            np.array([logs.mean()]),
            volumes,
            np.asarray(counts, np.float64),
            np.zeros(len(COMPONENTS)),
            np.ones(len(COMPONENTS)),
            np.zeros(N_LEVELS),
        )
        components = new.components(held_out)
        middle = np.median(components, axis=0)
        far = [np.quantile(column, q) for column, q in zip(components.T, FAR, strict=True)]
        spread = np.array(far) - middle
        spread = np.where(spread > 1e-9, spread, 1.0)
        largest = ((components - middle) / spread).max(1)
        levels = np.quantile(largest, np.linspace(0, 1, N_LEVELS))
        return cls(**(new._plain() | {"middle": middle, "spread": spread, "levels": levels}))

    def components(self, evidence: Evidence) -> NDArray[np.float64]:
        """Return the four numbers of ``COMPONENTS`` for each crystal, shape (n, 4)."""
        return self.seen(evidence, 0)[0]

    def seen(
        self, evidence: Evidence, n_near: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the components, and the nearest points, the nearest first, shape (n, n_near)."""
        places = self.places(evidence)
        squares = self._squares(places)
        near = np.log(self._distances(squares) + 1e-3)
        components = np.column_stack([near, self.others(evidence, places)])
        n_near = min(n_near, len(self.points))
        if not n_near:
            return components, np.zeros((len(evidence), 0), np.int64)
        rows = np.argpartition(squares, n_near - 1, axis=1)[:, :n_near]
        order = np.argsort(np.take_along_axis(squares, rows, 1), axis=1, kind="stable")
        return components, np.take_along_axis(rows, order, 1)

    def others(self, evidence: Evidence, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the components but for the distance, which is 0 for points, shape (n, 3).

        Args:
            evidence: The crystals.
            places: Where they lie, as :meth:`places` returns it.
        """
        logs = np.log(evidence.volumes) - self.volume - evidence.shares @ self.volumes
        counts = np.where(evidence.shares > 0, self.counts, np.inf).min(1)
        left = np.log(self._remainders(evidence.states, places) + 1e-3)
        return np.stack([left, np.abs(logs), -np.log1p(counts)], axis=1)

    def places(self, evidence: Evidence) -> NDArray[np.float64]:
        """Return where crystals lie along the axes, shape (n, N_AXES)."""
        return (evidence.states - self.centre) @ self.axes

    def excess(self, components: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return components in units of the crystals held out: 0 the median, 1 ``FAR``, (n, 4)."""
        return (components - self.middle) / self.spread

    def of(self, excess: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return which share of the crystals held out is as far from training or farther, (n,)."""
        # Turned around, so that of equal levels the first counts: as far or farther.
        return np.interp(-excess.max(1), -self.levels[::-1], np.linspace(0, 1, N_LEVELS))

    def _squares(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the squares of the distances to all points, shape (n, n_points)."""
        return (places**2).sum(1)[:, None] + (self.points**2).sum(1) - 2 * places @ self.points.T

    def _distances(self, squares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean distance to the nearest points, shape (n,)."""
        if not squares.size:
            return np.zeros(len(squares))
        n = min(N_NEAREST, squares.shape[1])
        nearest = np.partition(squares, n - 1, axis=1)[:, :n]
        return np.sqrt(np.maximum(nearest, 0)).mean(1)

    def _remainders(
        self, states: NDArray[np.float32], places: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return how much of each state, relative to its size, the axes leave, shape (n,)."""
        if not self.axes.size:
            return np.zeros(len(states))
        away = states - self.centre
        lengths = (self.axes**2).sum(0)  # the axes are orthogonal, but not of length 1
        left = (away**2).sum(1) - (places**2 / lengths).sum(1)
        return np.sqrt(np.maximum(left, 0))

    def _plain(self) -> dict[str, NDArray[np.float64]]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def arrays(self) -> dict[str, NDArray]:
        """Return the numbers by name, as small as they may be."""
        small = {"points": np.float16, "centre": np.float32, "axes": np.float16}
        return {k: v.astype(small.get(k, np.float64)) for k, v in asdict(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray]) -> Familiarity:
        """Return the familiarity of :meth:`arrays`.

        Raises:
            KeyError: If numbers are missing.
            ValueError: If their shapes do not fit together.
        """
        new = cls(**{f.name: np.asarray(arrays[f.name], np.float64) for f in fields(cls)})
        shapes = (new.axes.shape, new.points.shape[1:], new.volumes.shape, new.levels.shape)
        n = new.axes.shape[-1]
        if shapes != ((len(new.centre), n), (n,), new.counts.shape, (N_LEVELS,)):
            raise ValueError("the shapes of its numbers do not fit together")
        return new


def _as_stored(values: NDArray, kind: type) -> NDArray[np.float64]:
    return np.ascontiguousarray(values.astype(kind), np.float64)


def _softened(spreads: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return units of the axes: between one for all and the spread of each."""
    return np.sqrt(spreads * spreads[:1])
