"""The network that training begins with: random, or one that has learned something before."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potnet.data.dataset import Dataset, take
from potnet.data.splits import make_split
from potnet.data.units import conversion
from potnet.errors import ConfigError, DataError
from potnet.models import archive, registry
from potnet.models.card import OriginCard, TargetCard
from potnet.models.contract import Network
from potnet.models.descriptors import MAX_NUMBER
from potnet.models.evidence import combined
from potnet.models.selection import select, target_axes
from potnet.targets import (
    Asked,
    Scale,
    Transform,
    compositions,
    in_units,
    is_probability,
    transform_of,
)
from potnet.training.config import FEW_CRYSTALS, TrainingConfig
from potnet.training.features import compute_features
from potnet.training.sameness import tells

_log = logging.getLogger(__name__)

NOTHING: Mapping[str, Scale] = MappingProxyType({})  # is kept
NOTHING_ALIKE: Mapping[str, str] = MappingProxyType({})

# Of going on with the same quantity: of 3e-4 and a third and three times as much, the only one with
# which 200 crystals gained anything (formation energies of another functional).
LEARNING_RATE, EPOCHS = 3e-4, 20
BATCH_SIZE = 16  # of up to so many crystals, which make few steps otherwise:
FEW_STEPS = 2_000
MOST_ASKED = 200  # crystals by which an output is recognised as the target

# Networks that learn a small dataset together (``benchmarks/results/defaults.json``).
SEVERAL = 3


def first_network(
    config: TrainingConfig, n_targets: int, *, index: int = 0, kept: Mapping[str, Scale] = NOTHING
) -> Network:
    """Return the network of a member before its first step.

    Without ``config.finetune`` its weights are random. With it, they are those of a trained model,
    but for the outputs, which belong to the targets and stay random unless they are kept.

    Args:
        config: Settings of the run.
        n_targets: Numbers predicted for each crystal.
        index: Which member; the members of a trained model take turns.
        kept: What :func:`kept_scales` gives.

    Raises:
        ConfigError: If the network or a setting of it does not fit the model to begin with.
        ModelError: If that model cannot be loaded.
    """
    if config.finetune is None:
        return registry.build(config.network, config.network_settings, n_targets)
    trained, card = archive.read(config.finetune)
    if card.network != config.network:
        raise ConfigError(
            f"training config: `network` must be that of `finetune`, {card.network}, got "
            f"{config.network}. Set it, or begin with another model."
        )
    if kept:
        trained, card = select(trained, card, list(kept))
    settings = {**card.settings, **config.network_settings}
    network = registry.build(config.network, settings, n_targets)
    known = trained[index % len(trained)]
    if network.features != known.features:
        raise ConfigError(
            f"training config: `network_settings` must keep the features of {config.finetune}, got "
            f"{config.network_settings['features']!r}. Leave `features` out."
        )
    weights = known.state_dict() if kept else _shared(known)
    if _shapes(weights) != _shapes(network.state_dict() if kept else _shared(network)):
        raise ConfigError(
            f"training config: `network_settings` must keep the shape of {config.finetune}, got "
            f"{config.network_settings}. Change only what has no weights, such as `dropout`."
        )
    network.load_state_dict(weights, strict=bool(kept))
    return network


def outputs_alike(config: TrainingConfig, dataset: Dataset) -> Mapping[str, str]:
    """Return the outputs of the model to begin with that are targets computed in another way.

    Such as by another functional. Asked is which output tells most of the values, and whether it
    tells enough (:func:`~potnet.training.sameness.tells`), if there is a target that the model does
    not have by name.

    Returns:
        The output of each such target; none if one of them has none, or two have the same.
    """
    if config.finetune is None:
        return {}
    known = {card.name: card for card in archive.read_card(config.finetune).targets}
    names = config.targets or tuple(dataset.targets)
    new = [name for name in names if name not in known]
    outputs = [
        name for name, card in known.items()
        if name not in names and not is_probability(card.transform)
    ]  # fmt: skip
    if not new or len(new) > len(outputs) or not dataset.targets.keys() >= set(new):
        return {}
    said, rows = _said(config, dataset, new, outputs)
    few = dataset.subset(rows)
    shares = compositions(few, MAX_NUMBER + 1)
    found: dict[str, str] = {}
    for name in new:
        scores = {}
        for output, column in zip(outputs, said.T, strict=True):
            if _may_be(known[output], config, dataset, name):
                scale = known[output].scale
                values = scale.standardise(in_units(few, {name: scale.unit}).targets[name])
                is_known = np.isfinite(values)
                about = column[is_known], values[is_known], shares[is_known]
                scores[output] = tells(*about, scale.floor)
        best = max(scores, key=lambda output: scores[output], default="")
        if best in ("", *found.values()) or not scores[best] > 0:
            return {}
        found[name] = best
    for name, output in found.items():
        _log.warning(
            "%s begins as %s of %s, which tells more of it than the composition.",
            name, output, config.finetune,
        )  # fmt: skip
    return found


def kept_scales(
    config: TrainingConfig,
    dataset: Dataset,
    transforms: Mapping[str, Transform],
    alike: Mapping[str, str] = NOTHING_ALIKE,
) -> Mapping[str, Scale]:
    """Return the scales of the model to begin with, if it predicts what is to be learned.

    It does if it has all targets by name, or as what ``alike`` says, transformed alike, in a unit
    that theirs can become. Then its output layer, its units and its scales are kept: training
    begins with what it predicts.

    Args:
        config: Settings of the run.
        dataset: What is learned from.
        transforms: The targets, each with its transform.
        alike: What :func:`outputs_alike` returns.

    Returns:
        The scale of each target by the output of the model that it begins with, in the order of
        ``transforms``; nothing if the outputs are not kept.
    """
    if config.finetune is None:
        return NOTHING
    known = {card.name: card for card in archive.read_card(config.finetune).targets}
    found = {}
    for name, transform in transforms.items():
        card, unit = known.get(alike.get(name, name)), dataset.units.get(name, "")
        if card is None or card.transform != transform or not _becomes(name, unit, card.unit):
            return NOTHING
        found[card.name] = replace(card.scale, name=name)
    return found


def _said(
    config: TrainingConfig, dataset: Dataset, names: Sequence[str], outputs: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return what the model says of some training crystals, standardised, and their rows."""
    trained, card = archive.read(str(config.finetune), verify=False)
    split, _ = make_split(dataset, config.split, names)
    is_known = np.any([np.isfinite(dataset.targets[name][split.train]) for name in names], 0)
    rows = split.train[is_known]
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:MOST_ASKED])
    crystals = take(dataset.crystals, rows)
    batch, kept, _ = compute_features(trained[0].features, crystals, on_error="skip")
    members, card = select(trained, card, outputs)
    with torch.inference_mode():
        said = np.stack([member(batch).double().numpy() for member in members])
    return combined(said, card.combine), rows[kept]


def _may_be(card: TargetCard, config: TrainingConfig, dataset: Dataset, name: str) -> bool:
    """Return whether unit, transform and values of a target may be those of an output."""
    values, asked = dataset.targets[name], transform_of(name, config.transform)
    is_chance = asked == "auto" and set(np.unique(values[np.isfinite(values)])) <= {0.0, 1.0}
    return (
        asked in ("auto", card.transform)
        and not is_chance
        and _takes(card.transform, np.nanmin(values, initial=np.inf))
        and _becomes(name, dataset.units.get(name, ""), card.unit)
    )


def resolved(config: TrainingConfig, kept: Mapping[str, Scale], n_crystals: int) -> TrainingConfig:
    """Return ``config`` with what was not set by the caller as the task wants it.

    Few crystals are learned by several networks, unless the cost was named. Every network of a
    model to begin with goes on, and where it goes on with what it predicts already, it takes small
    steps, and few epochs.
    """
    defaults: dict[str, Any] = {}
    if kept:
        defaults |= {"learning_rate": LEARNING_RATE, "epochs": EPOCHS}
        defaults |= {"batch_size": BATCH_SIZE} if n_crystals <= FEW_STEPS else {}
    update = {k: v for k, v in defaults.items() if k not in config.model_fields_set}
    if config.members is None:
        update["members"] = _members(config, n_crystals)
    return TrainingConfig(**config.to_dict() | update)


def _members(config: TrainingConfig, n_crystals: int) -> int:
    if config.finetune is not None:
        return len(archive.read(config.finetune)[0])
    # Who says how long to train says what it may cost: that is not multiplied.
    is_small = n_crystals <= FEW_CRYSTALS and "epochs" not in config.model_fields_set
    return SEVERAL if is_small else 1


def transforms_asked(
    config: TrainingConfig, dataset: Dataset, alike: Mapping[str, str] = NOTHING_ALIKE
) -> Asked | dict[str, Asked]:
    """Return the transforms of the settings; a column is transformed as in the model to begin with.

    Of these only logarithms and what is never negative, where the values allow it and nobody says
    otherwise.

    Args:
        config: Settings of the run.
        dataset: What is learned from.
        alike: What :func:`outputs_alike` returns.
    """
    if config.finetune is None or config.transform != "auto":
        return config.transform
    known = {card.name: card.transform for card in archive.read_card(config.finetune).targets}
    found: dict[str, Asked] = {}
    for name, values in dataset.targets.items():
        transform = known.get(alike.get(name, name), "none")
        lowest = np.nanmin(values, initial=np.inf)
        if transform in ("log10", "nonnegative") and _takes(transform, lowest):
            found[name] = transform
    return found


def _takes(transform: Transform, lowest: float) -> bool:
    """Return whether a transform takes values of which ``lowest`` is the least."""
    return {"log10": lowest > 0, "nonnegative": lowest >= 0}.get(transform, True)


def _becomes(name: str, unit: str, wanted: str) -> bool:
    try:
        return unit in ("", wanted) or conversion(name, unit, wanted) is not None
    except DataError:
        return False


def origin_card(config: TrainingConfig) -> OriginCard:
    """Return what to say of ``config.finetune`` on the card of the model that comes of it.

    Raises:
        ConfigError: If training begins with random weights.
        ModelError: If the model to begin with cannot be read.
    """
    if config.finetune is None:
        raise ConfigError("training config: `finetune` must be a model, got null. Set it.")
    card = archive.read_card(config.finetune)
    path = Path(config.finetune)
    # A run leaves its archive in a folder of this name; the run's own says more.
    name = path.parent.name if path.name == "model" else path.name
    return OriginCard(name=name, weights_sha256=card.weights_sha256, data=card.data)


def _shared(network: Network) -> dict[str, Tensor]:
    """Return the tensors that belong to no single target."""
    own = target_axes(network.name, network.settings)
    return {name: tensor for name, tensor in network.state_dict().items() if name not in own}


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
