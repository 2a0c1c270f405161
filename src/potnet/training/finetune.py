"""The network that training begins with: random, or one that has learned something before."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from torch import Tensor

from potnet.data.dataset import Dataset, take
from potnet.data.splits import make_split
from potnet.data.units import conversion
from potnet.errors import ConfigError, DataError
from potnet.models import archive, registry
from potnet.models.card import OriginCard
from potnet.models.contract import Network
from potnet.models.selection import select, target_axes
from potnet.prediction import Predictor
from potnet.targets import Asked, Scale, Transform, is_probability
from potnet.training.config import FEW_CRYSTALS, TrainingConfig
from potnet.training.features import compute_features

_log = logging.getLogger(__name__)

NOTHING: Mapping[str, Scale] = MappingProxyType({})  # is kept

# Of going on with the same quantity: of 3e-4 and a third and three times as much, the only one with
# which 200 crystals gained anything (formation energies of another functional).
LEARNING_RATE, EPOCHS = 3e-4, 20
BATCH_SIZE = 16  # of up to so many crystals, which make few steps otherwise:
FEW_STEPS = 2_000
AS_ANOTHER = 0.8  # correlation from which an output is the target, computed in another way
FEWEST_ASKED, MOST_ASKED = 10, 200  # crystals for this correlation

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


def kept_scales(
    config: TrainingConfig, dataset: Dataset, transforms: Mapping[str, Transform]
) -> Mapping[str, Scale]:
    """Return the scales of the model to begin with, if it predicts what is to be learned.

    It does if it has all targets by name, transformed alike, in a unit that theirs can become. A
    single target that it does not have by name may be what it predicts, computed in another way,
    such as by another functional: then values and predictions go together. In either case its
    output layer, its units and its scales are kept: training begins with what it predicts.

    Returns:
        The scale of each target by the output of the model that it begins with, in the order of
        ``transforms``; nothing if the outputs are not kept.
    """
    if config.finetune is None:
        return NOTHING
    known = {card.name: card for card in archive.read_card(config.finetune).targets}
    names = {name: name for name in transforms}
    if len(transforms) == 1 and not known.keys() & names.keys():
        names = {name: _as_another(config, dataset, name) or name for name in names}
    found = {}
    for name, transform in transforms.items():
        card, unit = known.get(names[name]), dataset.units.get(name, "")
        if card is None or card.transform != transform or not _becomes(name, unit, card.unit):
            return NOTHING
        found[card.name] = replace(card.scale, name=name)
    return found


def _as_another(config: TrainingConfig, dataset: Dataset, name: str) -> str | None:
    """Return the one output of the model that the target ``name`` goes together with."""
    trained, card = archive.read(str(config.finetune), verify=False)
    outputs = [target.name for target in card.targets if not is_probability(target.transform)]
    if len(outputs) != 1:
        return None
    split, _ = make_split(dataset, config.split, [name])
    rows = split.train[np.isfinite(dataset.targets[name][split.train])]
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:MOST_ASKED])
    crystals = take(dataset.crystals, rows)
    batch, kept, _ = compute_features(trained[0].features, crystals, on_error="skip")
    values = dataset.targets[name][rows[kept]]
    if len(values) < FEWEST_ASKED or values.std() == 0:
        return None
    said = Predictor(*select(trained, card, outputs)).predict_values(batch)[:, 0]
    together = float(np.corrcoef(said, values)[0, 1])
    if not together >= AS_ANOTHER:
        return None
    _log.warning(
        "%s begins as %s of %s, with which it goes together (correlation %.3f).",
        name, outputs[0], config.finetune, together,
    )  # fmt: skip
    return outputs[0]


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


def transforms_asked(config: TrainingConfig, dataset: Dataset) -> Asked | dict[str, Asked]:
    """Return the transforms of the settings; a column is transformed as in the model to begin with.

    Of these only logarithms and what is never negative, where the values allow it and nobody says
    otherwise.
    """
    if config.finetune is None or config.transform != "auto":
        return config.transform
    least = {name: np.nanmin(values, initial=np.inf) for name, values in dataset.targets.items()}
    found: dict[str, Asked] = {}
    for card in archive.read_card(config.finetune).targets:
        lowest = least.get(card.name, -np.inf)
        if (card.transform == "log10" and lowest > 0) or (
            card.transform == "nonnegative" and lowest >= 0
        ):
            found[card.name] = card.transform
    return found


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
