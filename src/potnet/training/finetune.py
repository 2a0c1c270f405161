"""The network that training begins with: random, or one that has learned something before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from potnet.data.dataset import Dataset
from potnet.data.units import conversion
from potnet.errors import ConfigError, DataError
from potnet.models import archive, registry
from potnet.models.card import OriginCard
from potnet.models.contract import Network
from potnet.models.selection import select, target_axes
from potnet.targets import Scale, Transform
from potnet.training.config import FEW_CRYSTALS, TrainingConfig

# Of going on with the same quantity: small steps, unharmful in three trials on JARVIS, not tuned.
LEARNING_RATE, EPOCHS = 3e-4, 30

# Networks that learn a small dataset together (``benchmarks/results/defaults.json``).
SEVERAL = 3


def first_network(
    config: TrainingConfig, n_targets: int, *, index: int = 0, kept: Sequence[Scale] = ()
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
        trained, card = select(trained, card, [scale.name for scale in kept])
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
) -> tuple[Scale, ...]:
    """Return the scales of the model to begin with, if it predicts the very targets to learn.

    It does if it has all of them by name, transformed alike, in a unit that theirs can become.
    Then its output layer, its units and its scales are kept: training begins with what it predicts.
    """
    if config.finetune is None:
        return ()
    known = {card.name: card for card in archive.read_card(config.finetune).targets}
    for name, transform in transforms.items():
        card, unit = known.get(name), dataset.units.get(name, "")
        if card is None or card.transform != transform or not _becomes(name, unit, card.unit):
            return ()
    return tuple(known[name].scale for name in transforms)


def resolved(config: TrainingConfig, kept: Sequence[Scale], n_crystals: int) -> TrainingConfig:
    """Return ``config`` with what was not set by the caller as the task wants it.

    Few crystals are learned by several networks, unless the cost was named. Every network of a
    model to begin with goes on, and where it goes on with what it predicts already, it takes small
    steps, and few epochs.
    """
    defaults: dict[str, Any] = {}
    if kept:
        defaults |= {"learning_rate": LEARNING_RATE, "epochs": EPOCHS}
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
