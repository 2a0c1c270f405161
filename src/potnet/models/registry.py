"""The networks by name. A new network is one more class in the tuple below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from potnet.errors import ConfigError
from potnet.models.completenet import CompleteNet
from potnet.models.potnet import PotNet

Network = CompleteNet | PotNet

NETWORKS: dict[str, type[Network]] = {network.name: network for network in (CompleteNet, PotNet)}


def build(
    name: str, settings: Mapping[str, Any] | BaseModel | None = None, n_targets: int = 1
) -> Network:
    """Return a new network with random weights.

    Args:
        name: One of ``NETWORKS``.
        settings: Settings of that network, or the part of them that differs from the defaults.
        n_targets: Numbers predicted for each crystal.

    Raises:
        ConfigError: If there is no such network, or a setting is unknown or has a wrong value.
    """
    checked = settings_of(name, settings)
    network: Any = NETWORKS[name]
    return network(checked, n_targets)


def settings_of(name: str, settings: Mapping[str, Any] | BaseModel | None = None) -> BaseModel:
    """Return all settings of a network, those that are not given with their defaults.

    Arguments and errors are those of :func:`build`.
    """
    if name not in NETWORKS:
        raise ConfigError(
            f"networks: `name` must be one of {', '.join(NETWORKS)}, got {name!r}. "
            "Choose one of them."
        )
    try:
        return NETWORKS[name].Settings.model_validate(settings or {})
    except ValidationError as error:
        raise ConfigError(
            f"{name}: `settings` must fit the network: {first_fault(error)}. Correct this setting."
        ) from error


def first_fault(error: ValidationError) -> str:
    """Return where the first fault is, what it is, and what was found, in one line."""
    fault = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in fault["loc"]) or "the whole"
    found = repr(fault["input"])
    found = found if len(found) <= 60 else f"{found[:57]}..."
    return f"`{place}`: {fault['msg'][0].lower()}{fault['msg'][1:]}, got {found}"
