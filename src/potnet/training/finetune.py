"""The network that training begins with: random, or one that has learned something before."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from potnet.errors import ConfigError
from potnet.models import archive, registry
from potnet.models.card import OriginCard
from potnet.models.contract import Network
from potnet.models.selection import target_axes
from potnet.training.config import TrainingConfig


def first_network(config: TrainingConfig, n_targets: int, *, index: int = 0) -> Network:
    """Return the network of a member before its first step.

    Without ``config.finetune`` its weights are random. With it, they are those of a trained model,
    but for the outputs, which belong to the targets and stay random.

    Args:
        config: Settings of the run.
        n_targets: Numbers predicted for each crystal.
        index: Which member; the members of a trained model take turns.

    Raises:
        ConfigError: If the network or a setting of it does not fit the model to begin with.
        ModelError: If that model cannot be loaded.
    """
    if config.finetune is None:
        return registry.build(config.network, config.network_settings, n_targets)
    trained, card = archive.load(config.finetune)
    if card.network != config.network:
        raise ConfigError(
            f"training config: `network` must be that of `finetune`, {card.network}, got "
            f"{config.network}. Set it, or begin with another model."
        )
    settings = {**card.settings, **config.network_settings}
    network = registry.build(config.network, settings, n_targets)
    known = trained[index % len(trained)]
    if network.features != known.features:
        raise ConfigError(
            f"training config: `network_settings` must keep the features of {config.finetune}, got "
            f"{config.network_settings['features']!r}. Leave `features` out."
        )
    weights = _shared(known)
    if _shapes(weights) != _shapes(_shared(network)):
        raise ConfigError(
            f"training config: `network_settings` must keep the shape of {config.finetune}, got "
            f"{config.network_settings}. Change only what has no weights, such as `dropout`."
        )
    network.load_state_dict(weights, strict=False)
    return network


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
