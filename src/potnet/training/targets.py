"""Targets as the network sees them: transformed, then standardised by the training crystals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potnet.data.dataset import Dataset
from potnet.errors import ConfigError, DataError
from potnet.models.elements import MAX_NUMBER
from potnet.models.transforms import Transform, restored
from potnet.training.config import TrainingConfig

# What the values of a target must be for a transform, in words and as a test.
_RULES: dict[Transform, tuple[str, Callable[[NDArray[np.float64]], NDArray[np.bool_]]]] = {
    "none": ("a number", np.isfinite),
    "log10": ("positive", lambda values: values > 0),
    "nonnegative": ("zero or more", lambda values: values >= 0),
    "yes-no": ("0 or 1", lambda values: (values == 0) | (values == 1)),
}

RIDGE = 0.1  # Crystals of one element that a reference of 0 counts for.
EXPLAINED = 0.8  # Share of the variance that a function of the composition has to explain to pay.


@dataclass(frozen=True)
class Scale:
    """How one target is scaled.

    Attributes:
        name: The target.
        unit: Its unit.
        transform: Applied first.
        mean: Of the transformed training targets.
        std: Of the transformed training targets, less the linear function of the composition
            with which the network begins (1 if nothing is left).
        physical_mean: Of the training targets as given; the baseline to beat.
    """

    name: str
    unit: str
    transform: Transform
    mean: float
    std: float
    physical_mean: float

    def standardise(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return physical ``values`` (nan allowed) as the network should predict them."""
        return (transformed(values, self.transform) - self.mean) / self.std

    def physical(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the predictions that ``outputs`` of a network stand for."""
        return restored(outputs * self.std + self.mean, self.transform)

    def settled(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``outputs`` as they count beside standardised targets."""
        if self.transform == "yes-no":
            return self.physical(outputs)
        return np.maximum(outputs, self.floor)

    @property
    def floor(self) -> float:
        """Output below which all outputs mean the same: zero of a target that is never below."""
        return -self.mean / self.std if self.transform == "nonnegative" else -math.inf


def transformed(values: NDArray[np.float64], transform: Transform) -> NDArray[np.float64]:
    """Return ``values`` after ``transform``."""
    return np.log10(values) if transform == "log10" else values


def chosen_targets(dataset: Dataset, config: TrainingConfig) -> tuple[str, ...]:
    """Return the names of the targets to learn.

    Raises:
        ConfigError: If one is not in the dataset, or the dataset has none.
        DataError: If a logarithm is asked of a value that is not positive.
    """
    names = config.targets or tuple(dataset.targets)
    asked = [*names, *(config.transform if isinstance(config.transform, dict) else ())]
    unknown = [name for name in asked if name not in dataset.targets]
    if unknown or not names:
        raise ConfigError(
            f"training config: `targets` must be columns of the dataset "
            f"({', '.join(dataset.targets) or 'it has none'}), got {unknown or list(names)}. "
            "Correct the names."
        )
    for name in names:
        transform, values = config.transform_of(name), dataset.targets[name]
        rule, fits = _RULES[transform]
        bad = np.flatnonzero(np.isfinite(values) & ~fits(values))
        if len(bad):
            raise DataError(
                f"{dataset.name or 'dataset'}: target {name!r} must be {rule} for {transform}, got "
                f"{values[bad[0]]} for {dataset.ids[bad[0]]!r} ({len(bad)} such). "
                "Leave these crystals out, or use transform: none."
            )
    return tuple(names)


def compositions(dataset: Dataset) -> NDArray[np.float64]:
    """Return what references of the elements are multiplied with.

    Returns:
        The share of each element in each crystal, and beside them the same divided by the atoms in
        the reduced formula, shape (n, 2 * (MAX_NUMBER + 1)).
    """
    counts = np.stack([np.bincount(c.numbers, minlength=MAX_NUMBER + 1) for c in dataset.crystals])
    n_atoms = counts.sum(1, keepdims=True)
    shares = counts / n_atoms
    return np.hstack([shares, shares * np.gcd.reduce(counts, axis=1, keepdims=True) / n_atoms])


def fit_references(
    composition: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the linear function of the composition that explains ``values``, and what it leaves.

    Ridge regression: an element that is rare or not there keeps a small reference. Where the
    function explains too little of the values it is zero: what it gets wrong, a network would have
    to learn.

    Args:
        composition: Shares of the elements, shape (n, n_elements).
        values: Values less their mean, shape (n,).

    Returns:
        One reference for each element, shape (n_elements,), and the values less the function
        fitted to all others (Allen 1974), or few crystals would look easy, shape (n,).
    """
    normal = composition.T @ composition + RIDGE * np.eye(composition.shape[1])
    references = np.asarray(np.linalg.solve(normal, composition.T @ values), np.float64)
    own = np.einsum("nk,nk->n", composition, np.linalg.solve(normal, composition.T).T)
    left = (values - composition @ references) / (1 - own)
    if (left**2).sum() > (1 - EXPLAINED) * (values**2).sum():
        return np.zeros_like(references), values
    return references, left


def fit_scale(
    dataset: Dataset,
    name: str,
    transform: Transform,
    train: NDArray[np.int64],
    composition: NDArray[np.float64],
) -> tuple[Scale, NDArray[np.float64]]:
    """Return the scale of target ``name`` from the crystals at ``train`` and no others.

    Beside it stand the standardised references of :func:`fit_references`, one for each column of
    ``composition``.
    """
    values = dataset.targets[name][train]
    known = np.isfinite(values)
    values = values[known]
    if not len(values):
        raise DataError(
            f"{dataset.name or 'dataset'}: target {name!r} must be known for a training "
            "crystal, got none. Check the column and the split."
        )
    if transform == "yes-no":  # The output is a logit, which has no scale of its own.
        scale = Scale(name, dataset.units[name], transform, 0.0, 1.0, float(values.mean()))
        return scale, np.zeros(composition.shape[1])
    scaled = transformed(values, transform)
    mean, largest = float(scaled.mean()), float(np.abs(scaled).max())
    references, left = fit_references(composition[train][known], scaled - mean)
    std = float(left.std())
    std = std if std > 1e-12 * max(1.0, largest) else 1.0
    scale = Scale(name, dataset.units[name], transform, mean, std, float(values.mean()))
    return scale, references / std
