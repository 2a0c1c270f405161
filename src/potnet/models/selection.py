"""Some of a model's targets as a model of their own, with the weights of no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel

from potnet.errors import ModelError
from potnet.models.card import ModelCard
from potnet.models.unset import build_unset
from potnet.targets import excluding

if TYPE_CHECKING:
    from potnet.models.contract import Network


def select(
    members: Sequence[Network], card: ModelCard, targets: Sequence[str]
) -> tuple[list[Network], ModelCard]:
    """Return networks that predict only ``targets``, in this order, and the card of them.

    Args:
        members: Networks with an output for each target of ``card``; they stay as they are.
        card: Their card.
        targets: Names of targets; one that stands twice becomes two outputs.

    Raises:
        ModelError: If the card has no such target.
    """
    places = torch.tensor(_places(card, targets))
    axes = target_axes(card.network, card.settings)
    selected = []
    for member in members:
        state = member.state_dict()
        for name, axis in axes.items():
            state[name] = state[name].index_select(axis, places.to(state[name].device))
        network = build_unset(card.network, card.settings, len(places))
        network.load_state_dict(state)
        selected.append(network.eval())
    return selected, select_card(card, targets)


def target_axes(name: str, settings: Mapping[str, Any] | BaseModel) -> dict[str, int]:
    """Return the tensors of a network that belong to single targets, and the axis of the targets.

    Args:
        name: The network's name in the registry.
        settings: Its settings.
    """
    # They show in the shapes of networks with one target or two.
    one, two = (build_unset(name, settings, n).state_dict() for n in (1, 2))
    return {
        tensor: axis
        for tensor in one
        for axis, sizes in enumerate(zip(one[tensor].shape, two[tensor].shape, strict=True))
        if sizes == (1, 2)
    }


def select_card(card: ModelCard, targets: Sequence[str]) -> ModelCard:
    """Return what ``card`` says of ``targets`` alone.

    Raises:
        ModelError: If the card has no such target.
    """
    places = _places(card, targets)
    dropped = {target.name for target in card.targets} - set(targets)
    update = {
        "targets": tuple(card.targets[k] for k in places),
        "bundled": {},
        "metrics": {
            part: {name: m for name, m in found.items() if name not in dropped}
            if isinstance(found, dict)
            else found
            for part, found in card.metrics.items()
        },
        "golden": tuple(
            golden.model_copy(update={"prediction": tuple(golden.prediction[k] for k in places)})
            for golden in card.golden
        ),
    }
    return card.model_copy(update=update)


def _places(card: ModelCard, targets: Sequence[str]) -> list[int]:
    names = [target.name for target in card.targets]
    for name in targets:
        if name not in names:
            raise ModelError(
                f"select: `targets` must be among those of the model ({', '.join(names)}), got "
                f"{name!r}. Choose from these."
            )
    places = [names.index(name) for name in targets]
    for together in excluding([target.scale for target in card.targets]):
        if 0 < len(found := set(together.tolist()) & set(places)) < len(together):
            raise ModelError(
                f"select: `targets` must hold all classes of a column, whose probabilities belong "
                f"together, got {len(found)} of {len(together)}. Select "
                f"{', '.join(names[k] for k in together)}."
            )
    return places
