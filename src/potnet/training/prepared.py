"""A dataset made ready for training: divided, computed into features, its targets scaled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from potnet.data.dataset import Dataset, take
from potnet.data.splits import Split, make_split
from potnet.errors import DataError, Failure
from potnet.features import Batch
from potnet.parallel import all_memory
from potnet.targets import Scale, Transform, fit_scales, normalised, settled
from potnet.training.batches import HeldFeatures, Loader, StreamedFeatures
from potnet.training.config import TrainingConfig
from potnet.training.feature_folder import FeatureFolder
from potnet.training.features import Survey, survey
from potnet.training.finetune import NOTHING

if TYPE_CHECKING:
    from potnet.features.contract import Features
    from potnet.models.contract import Network

# Of the machine's memory that features may take. Joining and shuffling them takes it again.
HELD_SHARE = 1 / 8


@dataclass(frozen=True)
class Prepared:
    """A dataset ready for training: everything below is indexed like ``dataset``.

    Attributes:
        dataset: Crystals that have features and a part in the split.
        split: Their parts.
        scales: How each target is scaled.
        loader: Their features with standardised targets.
        standardised: Targets as the network should predict them, nan where unknown, shape
            (n, n_targets).
        references: The function of the composition with which a network that has one begins,
            standardised, shape (n_references, n_targets).
        failures: Crystals that were left out.
        kept: The scales by output, where both are those of the model to begin with.
        classes: The classes of each column that is learned as such.
        weights: How much each crystal counts, 1 on average in training, shape (n,), if not alike.
    """

    dataset: Dataset
    split: Split
    scales: tuple[Scale, ...]
    loader: Loader
    standardised: NDArray[np.float64]
    references: NDArray[np.float64]
    failures: tuple[Failure, ...]
    kept: Mapping[str, Scale] = field(default_factory=dict)
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    weights: NDArray[np.float64] | None = None

    def mean(
        self, values: NDArray[np.float64], part: Literal["val", "test"]
    ) -> NDArray[np.float64]:
        """Return the mean of the known values over the crystals of a part, by target."""
        if self.weights is None:
            return np.nanmean(values, axis=0)
        shares = np.isfinite(values) * self.weights[getattr(self.split, part)][:, None]
        return np.nansum(values * shares, axis=0) / shares.sum(0)

    def physical(self, predicted: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return standardised predictions in the units of the targets, shape (n, n_targets)."""
        columns = zip(self.scales, predicted.T, strict=True)
        values = np.stack([scale.physical(column) for scale, column in columns], axis=1)
        return normalised(values, self.scales, self.classes)

    def errors(
        self, predicted: NDArray[np.float64], part: Literal["val", "test"]
    ) -> NDArray[np.float64]:
        """Return standardised predictions of a part less its targets, shape (n, n_targets)."""
        return settled(self.scales, predicted) - self.standardised[getattr(self.split, part)]

    def values(self, scale: Scale, part: Literal["val", "test"]) -> NDArray[np.float64]:
        """Return the targets of a part as given, nan where unknown, shape (n,)."""
        return self.dataset.targets[scale.name][getattr(self.split, part)]


def prepare(
    dataset: Dataset,
    transforms: Mapping[str, Transform],
    network: Network,
    config: TrainingConfig,
    device: torch.device,
    *,
    on_error: Literal["raise", "skip"],
    progress: Callable[[int, int], None] | None = None,
    batch: Batch | None = None,
    kept: Mapping[str, Scale] = NOTHING,
    classes: Mapping[str, tuple[str, ...]] | None = None,
    weights: NDArray[np.float64] | None = None,
) -> Prepared:
    """Divide ``dataset``, compute its features and scale its targets.

    If the network has references, the linear function of the composition with which it begins is
    not counted into the standard deviations.

    Args:
        dataset: Crystals and targets.
        transforms: The targets to learn, each with its transform.
        network: One that will be trained, for its features and references.
        config: Settings of the run.
        device: Where minibatches are wanted.
        on_error: What happens when a crystal has no features.
        progress: Called with the number of crystals done and their total.
        batch: The features of all crystals, if they are there already.
        kept: Scales to take instead of those of the training crystals.
        classes: The classes of each column that is learned as such.
        weights: How much each crystal of ``dataset`` counts, shape (n,); alike if None.

    Raises:
        DataError: If the split cannot be made, or leaves a target without known values.
        StructureError: If a crystal has no features and ``on_error`` is "raise".
        ConfigError: If ``batch`` is of features with other settings than the network's.
    """
    names = tuple(transforms)
    split, unknown = make_split(dataset, config.split, names)
    _require_targets(dataset, names, split)
    rows = np.sort(np.concatenate([split.train, split.val, split.test]))
    if batch is None:
        crystals = take(dataset.crystals, rows)
        told = {"on_error": on_error, "workers": config.workers, "progress": progress}
        told["most_bytes"] = _most_bytes(config)
        if config.feature_folder is None:
            found = survey(network.features, crystals, **told)
        else:
            found = FeatureFolder(config.feature_folder, network.features).survey(crystals, **told)
    else:
        found = Survey.of(_rows_of(batch, rows, len(dataset), network.features))
    failures = (*dataset.failures, *unknown, *found.failures)
    dataset, split = _kept(dataset, split, rows[found.kept])
    if weights is not None:
        weights = weights[rows[found.kept]]
        weights = weights / weights[split.train].mean()
    _require_targets(dataset, names, split)
    n_references = 0 if network.references is None else network.references.num_embeddings
    scales, references = fit_scales(dataset, transforms, split.train, n_references)
    if kept:
        means = [scale.physical_mean for scale in scales]
        scales = tuple(
            replace(scale, physical_mean=mean)
            for scale, mean in zip(kept.values(), means, strict=True)
        )
    standardised = np.stack([s.standardise(dataset.targets[s.name]) for s in scales], axis=1)
    loader = _loader(network.features, dataset, found, standardised, config, device)
    if weights is not None:
        loader.weigh(weights)
    return Prepared(
        dataset=dataset,
        split=split,
        scales=scales,
        loader=loader,
        standardised=standardised,
        references=references,
        failures=failures,
        kept=kept,
        classes=classes or {},
        weights=weights,
    )


def _kept(dataset: Dataset, split: Split, rows: NDArray[np.int64]) -> tuple[Dataset, Split]:
    """Return the crystals at ``rows`` alone, and their parts."""
    place = np.full(len(dataset), -1)
    place[rows] = np.arange(len(rows))
    parts = (place[part] for part in (split.train, split.val, split.test))
    return dataset.subset(rows), Split(*(part[part >= 0] for part in parts))


def _loader(
    features: Features,
    dataset: Dataset,
    found: Survey,
    standardised: NDArray[np.float64],
    config: TrainingConfig,
    device: torch.device,
) -> Loader:
    if found.batch is not None:
        return HeldFeatures(found, standardised, device, config.max_pairs)

    def compute(rows: NDArray[np.int64]) -> Batch:
        return features([dataset.crystals[k] for k in rows.tolist()])

    get = found.read or compute
    return StreamedFeatures(get, found, standardised, device, config.max_pairs, config.workers)


def _most_bytes(config: TrainingConfig) -> float:
    """Return the size of features that a process may hold in memory."""
    if config.feature_memory is not None:
        return config.feature_memory * 2**30
    return HELD_SHARE * all_memory() / config.devices


def _require_targets(dataset: Dataset, names: Sequence[str], split: Split) -> None:
    """Raise unless every target is known for a training and for a validation crystal."""
    for name in names:
        for part in ("train", "val"):
            if not np.isfinite(dataset.targets[name][getattr(split, part)]).any():
                raise DataError(
                    f"split: target {name!r} must be known for a crystal in {part}, got none. "
                    "Check the column and the split."
                )


def _rows_of(batch: Batch, rows: NDArray[np.int64], n: int, features: Features) -> Batch:
    """Return the crystals ``rows`` of features that were computed elsewhere."""
    if not isinstance(batch, Batch):
        raise DataError(
            f"train: `batch` must be of features, got {type(batch).__name__}. "
            "Compute it from dataset.crystals."
        )
    batch.require(features, "train")
    if len(batch) != n:
        raise DataError(
            f"train: `batch` must hold the {n} crystals of the dataset, got {len(batch)}. "
            "Compute it from dataset.crystals."
        )
    return batch[torch.from_numpy(rows)]
