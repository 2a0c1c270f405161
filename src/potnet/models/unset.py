"""Networks whose weights are about to be loaded: built without random ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from potnet.errors import ConfigError
from potnet.models.registry import build

if TYPE_CHECKING:
    from pydantic import BaseModel

    from potnet.models.contract import Network

_RANDOM = {nn.init.kaiming_uniform_, nn.init.uniform_, nn.init.normal_}
_NEW = {torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn}


def build_unset(
    name: str,
    settings: Mapping[str, Any] | BaseModel | None,
    n_targets: int,
    *,
    most: int | None = None,
) -> Network:
    """Return what :func:`potnet.models.registry.build` does, but for its random weights.

    They hold whatever was in memory: all of them must be loaded. The caller's random numbers stay
    as they were.

    Args:
        name: The network's name in the registry.
        settings: Its settings.
        n_targets: Numbers predicted for each crystal.
        most: Numbers that its tensors may hold in all.

    Raises:
        ConfigError: If there is no such network, a setting is wrong, or it would hold more numbers
            than it may: before they fill memory.
    """
    with torch.random.fork_rng(devices=[]), _Unset(most):
        return build(name, settings, n_targets)


class _Unset(TorchFunctionMode):
    """Leaves out what draws weights, and counts what new tensors hold."""

    def __init__(self, most: int | None) -> None:
        super().__init__()
        self.left = math.inf if most is None else most

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _RANDOM:
            return args[0] if args else kwargs["tensor"]
        if func in _NEW:
            sizes = args[0] if args and isinstance(args[0], list | tuple) else args
            self.left -= math.prod(size for size in sizes if isinstance(size, int))
            if self.left < 0:
                raise ConfigError("`settings` must be those of the weights, got larger ones.")
        return func(*args, **(kwargs or {}))
