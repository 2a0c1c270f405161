"""Official splits of public datasets, made again by the rules that made them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from potnet.data.splits.by_crystal import published_split, shuffled_folds, stratified_folds
from potnet.data.splits.split import PARTS

Labels = NDArray[np.str_] | dict[str, NDArray[np.str_]]

MATBENCH_SEED = 18012019


class Official(Protocol):
    """A rule that divides the rows of a public dataset as its authors did."""

    @property
    def text(self) -> str:
        """The rule in a few words."""
        ...

    def labels(self, values: Mapping[str, NDArray[np.float64]], files: NDArray[np.int64]) -> Labels:
        """Return the labels of all rows, or those for each target.

        Args:
            values: The targets of all rows in the order of the files, nan where unknown, also of
                rows whose crystal cannot be used: they count in the shuffle.
            files: Number of the file that each row is from, shape (n,).
        """
        ...


@dataclass(frozen=True)
class PublishedShuffle:
    """The shuffle of the published method over the rows with a value of the target.

    Attributes:
        shares: Of train, val and test; whole numbers count rows.
    """

    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)

    @property
    def text(self) -> str:
        shares = "/".join(f"{share:g}" for share in self.shares)
        return f"published shuffle, seed 123, {shares}"

    def labels(self, values: Mapping[str, NDArray[np.float64]], files: NDArray[np.int64]) -> Labels:
        found = {}
        for name, column in values.items():
            known = np.flatnonzero(np.isfinite(column))
            labels = np.full(len(column), "", dtype="<U5")
            if len(known):
                split = published_split(len(known), shares=self.shares)
                for part in PARTS:
                    labels[known[getattr(split, part)]] = part
            found[name] = labels
        return found


@dataclass(frozen=True)
class MatBenchFolds:
    """The five folds of MatBench v0.1, labelled fold0 to fold4.

    Attributes:
        stratified: Whether the classes of the target are spread evenly over the folds.
    """

    stratified: bool = False

    @property
    def text(self) -> str:
        return "5 folds of MatBench v0.1"

    def labels(self, values: Mapping[str, NDArray[np.float64]], files: NDArray[np.int64]) -> Labels:
        if self.stratified:
            (classes,) = values.values()
            folds = stratified_folds(classes, seed=MATBENCH_SEED)
        else:
            folds = shuffled_folds(len(files), seed=MATBENCH_SEED)
        return np.array([f"fold{fold}" for fold in folds])


@dataclass(frozen=True)
class OneFileEach:
    """Files for train, val and test, in this order."""

    text: str = "one file each for train, val and test"

    def labels(self, values: Mapping[str, NDArray[np.float64]], files: NDArray[np.int64]) -> Labels:
        return np.array(PARTS)[files]
