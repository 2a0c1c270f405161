"""Targets: their names, what is done to their values, and how networks see them.

A target is a column of a dataset, or a question of yes or no about one. ``gap > 0.01`` is a
*binary* target, 1 where the column ``gap`` is above the threshold and 0 where it is not. A column
of true and false is one, too, and a column of *classes* is one for each of them: ``phase = cubic``
is 1 where the column ``phase`` says cubic; their probabilities are one distribution. Values are
transformed, then standardised by the training crystals (:class:`Scale`); a prediction goes the way
back.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from potnet.crystal.compositions import Compositions, normal_equations, some_at_a_time
from potnet.crystal.elements import SYMBOLS
from potnet.errors import ConfigError, DataError

if TYPE_CHECKING:
    from potnet.data.dataset import Dataset

#: ``none``; ``log10`` for values that span orders of magnitude; ``nonnegative`` for values of
#: which many are exactly zero, such as gaps: an output below zero means zero; ``binary`` for
#: values of 0 and 1: the output is a logit, the prediction the probability of 1; ``class`` for one
#: of several classes of which each crystal has one: the probabilities are the softmax of all their
#: outputs.
Transform = Literal["none", "log10", "nonnegative", "binary", "class"]

#: What settings may ask for: ``auto`` is ``binary`` for a column in which 0 and 1 stand and nothing
#: else, and ``none`` for others; ``classes`` takes each value of a column for a class.
Asked = Literal["none", "log10", "nonnegative", "binary", "auto", "classes"]

# Words that archives and settings held for a transform before.
_FORMER_WORDS = {"yes-no": "binary"}

# What the values of a target must be for a transform, in words and as a test.
_RULES: dict[Transform, tuple[str, Callable[[NDArray[np.float64]], NDArray[np.bool_]]]] = {
    "none": ("a number", np.isfinite),
    "log10": ("positive", lambda values: values > 0),
    "nonnegative": ("zero or more", lambda values: values >= 0),
    "binary": ("0 or 1", lambda values: (values == 0) | (values == 1)),
    "class": ("0 or 1", lambda values: (values == 0) | (values == 1)),
}

_log = logging.getLogger(__name__)

_BY_THRESHOLD = re.compile(r"(\S.*) > ([-+0-9.eE]+)")

MOST_CLASSES = 50  # of a column
RARE = 0.1  # Share of the training crystals below which a class is said to be rare.
LARGEST = 1e100  # Numbers whose squares, and those of their inverses, are numbers still.
RIDGE = 0.1  # Crystals of one element that a reference of 0 counts for.
EXPLAINED = 0.8  # Share of the variance that a function of the composition has to explain to pay.


# ------------------------------------------------------------------------------------------ names


def column_of(name: str) -> str:
    """Return the column that the target ``name`` is made from: itself, unless it is binary."""
    parts = _by_threshold(name)
    return parts[0] if parts else name


def is_binary(name: str) -> bool:
    """Return whether ``name`` has the form ``COLUMN > NUMBER``."""
    return _by_threshold(name) is not None


def class_target(column: str, word: str) -> str:
    """Return the name of the binary target that asks whether ``column`` says ``word``."""
    return f"{column} = {word}"


def classes_in(dataset: Dataset, column: str) -> tuple[str, ...]:
    """Return the classes that a column of words or numbers holds, in order."""
    texts = _as_words(dataset, column)
    words = sorted(set(texts[texts != ""].tolist()))
    return tuple(sorted(words, key=float) if column not in dataset.words else words)


def groups(
    names: Sequence[str], classes: Mapping[str, Sequence[str]]
) -> dict[str, NDArray[np.int64]]:
    """Return where the targets of each column of classes stand among ``names``, in order.

    Columns are left out of which not every class is there.
    """
    place = {name: k for k, name in enumerate(names)}
    asked = {column: [class_target(column, word) for word in of] for column, of in classes.items()}
    return {
        column: np.array([place[name] for name in targets])
        for column, targets in asked.items()
        if all(name in place for name in targets)
    }


def normalised(
    values: NDArray[np.float64], scales: Sequence[Scale], classes: Mapping[str, Sequence[str]]
) -> NDArray[np.float64]:
    """Return predictions, shape (n, n_targets), whose probabilities of the classes sum to 1.

    Args:
        values: Each target for itself, as :meth:`Scale.physical` gives it.
        scales: The targets.
        classes: The classes of each column.
    """
    values = values.copy()
    for places in groups([scale.name for scale in scales], classes).values():
        chances = values[:, places]
        # All may round to zero; then all are as probable.
        chances = np.maximum(chances, np.finfo(float).tiny)
        if scales[places[0]].transform == "class":  # The odds are the exponentials of the logits.
            chances = chances / np.maximum(1 - chances, np.finfo(float).eps / 2)
        values[:, places] = chances / chances.sum(1, keepdims=True)
    return values


def is_probability(transform: Transform) -> bool:
    """Return whether what is predicted of a target is a probability."""
    return transform in ("binary", "class")


def excluding(scales: Sequence[Scale]) -> list[NDArray[np.int64]]:
    """Return the places of the targets that exclude each other, column by column."""
    columns: dict[str, list[int]] = {}
    for place, scale in enumerate(scales):
        if scale.transform == "class":
            columns.setdefault(scale.name.rpartition(" = ")[0], []).append(place)
    return [np.array(places) for places in columns.values()]


def most_probable(values: Mapping[str, float]) -> list[str]:
    """Return the targets that are the most probable class of their column.

    >>> most_probable({"phase = cubic": 0.7, "phase = other": 0.3, "gap > 0": 0.9})
    ['phase = cubic']
    """
    columns: dict[str, list[str]] = {}
    for name in values:
        column, separator, _ = name.rpartition(" = ")
        if separator:
            columns.setdefault(column, []).append(name)
    several = (names for names in columns.values() if len(names) > 1)
    return [max(names, key=lambda name: values[name]) for names in several]


def with_binary_targets(dataset: Dataset, names: Iterable[str]) -> Dataset:
    """Return ``dataset`` with a column for each binary target in ``names`` that it has none for.

    A binary target is in the parts of the split in which its column is, and has no unit.
    """
    targets, splits = dict(dataset.targets), dict(dataset.splits)
    for name in names:
        found = None if name in targets else _binary_column(dataset, name)
        if found is None:
            continue
        column, targets[name] = found
        if column in splits:
            splits[name] = splits[column]
    if len(targets) == len(dataset.targets):
        return dataset
    return replace(dataset, targets=targets, splits=splits)


def _binary_column(dataset: Dataset, name: str) -> tuple[str, NDArray[np.float64]] | None:
    """Return the column of a binary target and its values, None where there is no such target."""
    from potnet.data.record import yes_or_no  # a prediction has no dataset

    if name in dataset.words:
        known = {word: yes_or_no(word) for word in set(dataset.words[name].tolist()) if word}
        if not known or None in known.values():
            return None
        values = [known.get(word) for word in dataset.words[name].tolist()]
        return name, np.array(values, dtype=np.float64)
    if (parts := _by_threshold(name)) and parts[0] in dataset.targets:
        column, threshold = parts
        values = dataset.targets[column]
        return column, np.where(np.isfinite(values), values > threshold, np.nan)
    column, _, word = name.rpartition(" = ")
    if column in dataset.words or column in dataset.targets:
        texts = _as_words(dataset, column)
        return column, np.where(texts == "", np.nan, texts == word)
    return None


def _as_words(dataset: Dataset, column: str) -> NDArray[np.str_]:
    if column in dataset.words:
        return dataset.words[column]
    values = dataset.targets[column].tolist()
    return np.array(["" if math.isnan(value) else f"{value:.12g}" for value in values])


def in_units(dataset: Dataset, wanted: Mapping[str, str]) -> Dataset:
    """Return ``dataset`` with the targets that ``wanted`` names in the units it says.

    Where a unit is not known, the numbers stay, with a word.

    Raises:
        DataError: If a known unit cannot become the one that is wanted.
    """
    from potnet.data.units import Unit, conversion  # a prediction has no dataset

    targets, units = dict(dataset.targets), dict(dataset.units)
    for name, unit in wanted.items():
        has = units.get(name, "")
        if not has or not unit or has == unit:
            continue
        if Unit.parse(has) is None or Unit.parse(unit) is None:
            _log.warning(
                "Target %s is in %s and wanted in %s: taken as the same, for one of them is not "
                "known.", name, has, unit,
            )  # fmt: skip
            continue
        convert = conversion(name, has, unit)
        counts = (crystal.n_atoms for crystal in dataset.crystals)
        values = zip(targets[name].tolist(), counts, strict=True)
        targets[name] = np.array([convert(value, n_atoms) for value, n_atoms in values])
        units[name] = unit
    return dataset if units == dataset.units else replace(dataset, targets=targets, units=units)


@dataclass(frozen=True)
class Chosen:
    """What is to be learned of a dataset.

    Attributes:
        dataset: With the binary targets.
        transforms: The targets, each with its transform.
        classes: The classes of each column that is learned as such; each is a target.
        names: The columns and binary targets that were asked for, or found.
    """

    dataset: Dataset
    transforms: dict[str, Transform]
    classes: dict[str, tuple[str, ...]]
    names: tuple[str, ...]


def chosen_targets(
    dataset: Dataset, names: Sequence[str], transform: Asked | Mapping[str, Asked]
) -> Chosen:
    """Return the targets to learn, each with its transform.

    Args:
        dataset: What is learned from.
        names: Columns of it, or binary targets; if empty, all columns of numbers, or the one
            column of words where there are none.
        transform: One for all, or one for each of some; see :func:`transform_of`.

    Raises:
        ConfigError: If one is not in the dataset, or the dataset has none.
        DataError: If a value does not fit the transform, such as one below zero for a logarithm,
            or a column does not divide the crystals into classes.
    """
    names = tuple(names) or tuple(dataset.targets) or _only_words(dataset)
    dataset = with_binary_targets(dataset, names)
    asked = [*names, *(transform if isinstance(transform, Mapping) else ())]
    unknown = [name for name in asked if name not in {*dataset.targets, *dataset.words}]
    if unknown:
        known = ", ".join(dict.fromkeys([*dataset.targets, *dataset.words]))
        raise ConfigError(
            f"training config: `targets` must be columns of the dataset ({known or 'it has none'})"
            f", got {unknown}. Correct the names."
        )
    classes = {
        name: _checked_classes(dataset, name)
        for name in names
        if name not in dataset.targets or transform_of(name, transform) == "classes"
    }
    transforms: dict[str, Transform] = {}
    for name in names:
        if name in classes:
            transforms |= dict.fromkeys((class_target(name, w) for w in classes[name]), "class")
        else:
            transforms[name] = _resolved(dataset, name, transform_of(name, transform))
    dataset = with_binary_targets(dataset, transforms)
    for name, word in transforms.items():
        _require_fit(dataset, name, word)
    return Chosen(dataset, transforms, classes, names)


def _only_words(dataset: Dataset) -> tuple[str, ...]:
    """Return the only column of words, which is the target where no column holds numbers."""
    if len(dataset.words) == 1:
        _log.warning("No column holds numbers; %r is learned, as classes.", *dataset.words)
        return tuple(dataset.words)
    if dataset.words:
        raise ConfigError(
            "training config: `targets` must name one of the columns where none holds numbers, got "
            f"none of {', '.join(dataset.words)}. Name it, such as --target."
        )
    first = dataset.crystals[0].info.items()
    cells = ", ".join(f"{name} = {str(value)[:30]!r}" for name, value in list(first)[:3])
    raise ConfigError(
        "training config: the dataset must have a column of numbers, or of words that repeat, got "
        f"{cells or 'none'}. Write plain numbers, and units in the header."
    )


def _checked_classes(dataset: Dataset, column: str) -> tuple[str, ...]:
    found = classes_in(dataset, column)
    n_known = int((_as_words(dataset, column) != "").sum())
    if not 2 <= len(found) <= min(MOST_CLASSES, max(2, n_known // 2)):
        shown = ", ".join(map(repr, found[:3])) + (" ..." if len(found) > 3 else "")
        raise DataError(
            f"{dataset.name or 'dataset'}: target {column!r} must have 2 to {MOST_CLASSES} classes "
            f"of several crystals each, got {len(found)} of {n_known} crystals"
            f"{f': {shown}' if shown else ''}. Choose another column, or join classes."
        )
    return found


def _resolved(dataset: Dataset, name: str, asked: Asked) -> Transform:
    """Return the transform of a target of numbers."""
    if asked != "auto" and asked != "classes":
        return asked
    values = dataset.targets[name]
    kinds = set(np.unique(values[np.isfinite(values)])[:3].tolist())
    return "binary" if kinds == {0.0, 1.0} or name in dataset.words else "none"


def _require_fit(dataset: Dataset, name: str, word: Transform) -> None:
    """Raise unless the values of a target can be computed with, and fit its transform."""
    values = dataset.targets[name]
    rule, fits = _RULES[word]
    size = np.abs(values)
    beyond = np.flatnonzero((size > LARGEST) | ((size > 0) & (size < 1 / LARGEST)))
    if len(beyond):
        raise DataError(
            f"{dataset.name or 'dataset'}: target {name!r} must be between {1 / LARGEST:g} and "
            f"{LARGEST:g} in size, or 0, got {values[beyond[0]]:g} for "
            f"{dataset.ids[beyond[0]]!r}. Correct it, or give it in another unit."
        )
    bad = np.flatnonzero(np.isfinite(values) & ~fits(values))
    if len(bad):
        raise DataError(
            f"{dataset.name or 'dataset'}: target {name!r} must be {rule} for {word}, got "
            f"{values[bad[0]]} for {dataset.ids[bad[0]]!r} ({len(bad)} such). "
            "Leave these crystals out, or use transform: none."
        )


def _by_threshold(name: str) -> tuple[str, float] | None:
    """Return the column and the threshold of a binary target, None for any other name."""
    match = _BY_THRESHOLD.fullmatch(name)
    try:
        return (match[1], float(match[2])) if match else None
    except ValueError:
        return None


# ------------------------------------------------------------------------------------- transforms


def transform_of(name: str, transform: Asked | Mapping[str, Asked]) -> Asked:
    """Return how the values of the target ``name`` are to be transformed.

    Args:
        name: The target.
        transform: What the settings say: one word for all, or one for each of some. A binary
            target has its own.
    """
    if is_binary(name):
        return "binary"
    if isinstance(transform, Mapping):
        return transform.get(name, "auto")
    return transform


def present_word(transform: Any) -> Any:
    """Return the word of today for a transform that was written down before; all else as it is."""
    return _FORMER_WORDS.get(transform, transform) if isinstance(transform, str) else transform


def transformed(values: NDArray[np.float64], transform: Transform) -> NDArray[np.float64]:
    """Return ``values`` after ``transform``."""
    return np.log10(values) if transform == "log10" else values


def restored(x: Any, transform: Transform) -> Any:
    """Return the predictions that outputs ``x`` stand for; arrays and tensors alike."""
    if transform == "log10":
        return 10.0**x
    if transform == "nonnegative":
        return x.clip(0)
    if is_probability(transform):
        return 1 / (1 + math.e**-x)
    return x


# ----------------------------------------------------------------------------------------- scales


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
        physical_mean: Of the training targets as given, the baseline to beat; nan where unknown.
    """

    name: str
    unit: str
    transform: Transform
    mean: float
    std: float
    physical_mean: float = math.nan

    def standardise(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return physical ``values`` (nan allowed) as the network should predict them."""
        return (transformed(values, self.transform) - self.mean) / self.std

    def physical(self, outputs: Any, *, shift: Any = 0.0) -> Any:
        """Return the predictions that ``outputs`` of a network stand for; arrays and tensors alike.

        Args:
            outputs: Standardised outputs of any shape.
            shift: Added to the transformed values, such as half the width of an interval: a number,
                or one for each output.
        """
        return restored(outputs * self.std + self.mean + shift, self.transform)

    def settled(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``outputs`` as they count beside standardised targets."""
        if is_probability(self.transform):
            return self.physical(outputs)
        return np.maximum(outputs, self.floor)

    @property
    def floor(self) -> float:
        """Output below which all outputs mean the same: zero of a target that is never below."""
        return -self.mean / self.std if self.transform == "nonnegative" else -math.inf


def settled(scales: Sequence[Scale], outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``outputs``, shape (n, n_targets), as they count beside standardised targets."""
    columns = zip(scales, outputs.T, strict=True)
    found = np.stack([scale.settled(column) for scale, column in columns], axis=1)
    for places in excluding(scales):
        logits = outputs[:, places]
        odds = np.exp(logits - logits.max(1, keepdims=True))
        found[:, places] = odds / odds.sum(1, keepdims=True)
    return found


def compositions(dataset: Dataset, n_columns: int = 2 * len(SYMBOLS)) -> NDArray[np.float64]:
    """Return :class:`Compositions` of all crystals, written out: shape (n, n_columns)."""
    return Compositions.of(dataset.crystals, n_columns)[:]


def fit_references(
    composition: NDArray[np.float64] | Compositions, values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the linear function of the composition that explains ``values``, and what it leaves.

    Ridge regression: an element that is rare or not there keeps a small reference. Where the
    function explains too little of the values it is zero: what it gets wrong, a network would have
    to learn.

    Args:
        composition: Shares of the elements, shape (n, n_elements); looked at ``AT_ONCE`` at a
            time.
        values: Values less their mean, shape (n,).

    Returns:
        One reference for each element, shape (n_elements,), and the values less the function
        fitted to all others (Allen 1974), or few crystals would look easy, shape (n,).
    """
    blocks = some_at_a_time(len(values))
    normal, projected = normal_equations(composition, values)
    normal += RIDGE * np.eye(len(normal))
    references = np.asarray(np.linalg.solve(normal, projected), np.float64)
    left = np.empty(len(values))
    for rows in blocks:
        part = composition[rows]
        own = np.einsum("nk,nk->n", part, np.linalg.solve(normal, part.T).T)
        left[rows] = (values[rows] - part @ references) / (1 - own)
    if (left**2).sum() > (1 - EXPLAINED) * (values**2).sum():
        return np.zeros_like(references), values
    return references, left


def fit_scales(
    dataset: Dataset,
    transforms: Mapping[str, Transform],
    train: NDArray[np.int64],
    n_references: int,
) -> tuple[tuple[Scale, ...], NDArray[np.float64]]:
    """Return the scales of some targets from the crystals at ``train`` and no others.

    Args:
        dataset: Crystals with their targets.
        transforms: The targets, each with its transform.
        train: Rows of the training crystals.
        n_references: How many columns of :class:`Compositions` the network multiplies with
            references.

    Returns:
        A scale for each target, and the standardised references of :func:`fit_references`, shape
        (n_references, n_targets).

    Raises:
        DataError: If a target is known for none of the training crystals.
    """
    shares = Compositions.of(dataset.crystals, n_references)
    found = [fit_scale(dataset, name, word, train, shares) for name, word in transforms.items()]
    return tuple(scale for scale, _ in found), np.stack([r for _, r in found], axis=1)


def fit_scale(
    dataset: Dataset,
    name: str,
    transform: Transform,
    train: NDArray[np.int64],
    composition: Compositions,
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
    if values.min() == values.max():
        _log.warning(
            "Target %s is %g for all %d training crystals where it is known: there is nothing to "
            "learn but this number.", name, values[0], len(values),
        )  # fmt: skip
    if is_probability(transform):  # The output is a logit, which has no scale of its own.
        share = float(values.mean())
        if 0 < min(share, 1 - share) < RARE:
            _log.warning(
                "Target %s: only %.2g %% of the %d training crystals are %s. Judge it by F1 and "
                "ROC-AUC; always the same answer is right as often as most.",
                name, 100 * min(share, 1 - share), len(values), "1" if share < 0.5 else "0",
            )  # fmt: skip
        scale = Scale(name, dataset.units[name], transform, 0.0, 1.0, share)
        return scale, np.zeros(composition.n_columns)
    scaled = transformed(values, transform)
    mean, largest = float(scaled.mean()), float(np.abs(scaled).max())
    references, left = fit_references(composition.subset(train[known]), scaled - mean)
    std = float(left.std())
    std = std if std > 1e-12 * largest else 1.0
    scale = Scale(name, dataset.units[name], transform, mean, std, float(values.mean()))
    return scale, references / std
