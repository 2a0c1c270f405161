"""The networks by name: potnet's own, those registered here, and those of installed packages."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from potnet.errors import ConfigError

if TYPE_CHECKING:
    from potnet.models.contract import Network

#: Packages name networks of theirs in this group of entry points: ``name = "module:Class"``.
GROUP = "potnet.networks"

# Imported when they are asked for: a prediction needs one of them.
_BUILT_IN = {
    "completenet": "potnet.models.completenet:CompleteNet",
    "potnet": "potnet.models.potnet:PotNet",
}
_registered: dict[str, type[Network]] = {}

NetworkClass = TypeVar("NetworkClass", bound="type[Network]")


def register(network: NetworkClass) -> NetworkClass:
    """Make the class ``network`` known under its name in this process; return it.

    Raises:
        ConfigError: If the name is that of one of potnet's own networks.
    """
    if network.name in _BUILT_IN:
        raise ConfigError(
            f"networks: `name` must not be that of a network of potnet, got {network.name!r}. "
            "Choose another one."
        )
    _registered[network.name] = network
    return network


def networks() -> list[str]:
    """Return the names of all networks that can be built here."""
    found = {entry.name for entry in entry_points(group=GROUP)}
    return [*_BUILT_IN, *sorted(found.union(_registered).difference(_BUILT_IN))]


def find(name: str) -> type[Network]:
    """Return the class of the network ``name``.

    Raises:
        ConfigError: If there is no such network, or the package that has it cannot be imported.
    """
    if name in _registered:
        return _registered[name]
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        return getattr(import_module(module), attribute)
    entry = next(iter(entry_points(group=GROUP, name=name)), None)
    if entry is None:
        raise ConfigError(
            f"networks: `name` must be one of {', '.join(networks())}, got {name!r}. "
            "Choose one of them, or install the package that has it."
        )
    return _loaded(entry)


def _loaded(entry: EntryPoint) -> type[Network]:
    from potnet.models.contract import Network

    try:
        found = entry.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"networks: {entry.name!r} of {entry.value} must be importable, got {error}. "
            "Install the package that has it again."
        ) from error
    if not (isinstance(found, type) and issubclass(found, Network) and found.name == entry.name):
        raise ConfigError(
            f"networks: {entry.value} must be a potnet.models.contract.Network whose name is "
            f"{entry.name!r}, got {found!r}. Correct the entry point of its package."
        )
    return found


def build(
    name: str, settings: Mapping[str, Any] | BaseModel | None = None, n_targets: int = 1
) -> Network:
    """Return a new network with random weights.

    Args:
        name: One of :func:`available`.
        settings: Settings of that network, or the part of them that differs from the defaults.
        n_targets: Numbers predicted for each crystal.

    Raises:
        ConfigError: If there is no such network, or a setting is unknown or has a wrong value.
    """
    return find(name)(settings_of(name, settings), n_targets)


def settings_of(name: str, settings: Mapping[str, Any] | BaseModel | None = None) -> BaseModel:
    """Return all settings of a network, those that are not given with their defaults.

    Arguments and errors are those of :func:`build`.
    """
    network = find(name)
    try:
        return network.Settings.model_validate(settings or {})
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
