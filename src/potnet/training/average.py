"""The moving average of a network's weights, which generalises better than the last weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from potnet.models.contract import Network

# The one call that moves a list of tensors; torch's own averages use it too.
foreach_lerp = torch._foreach_lerp_  # pyright: ignore[reportPrivateImportUsage]


class WeightAverage:
    """Exponential moving average of the parameters of ``network``.

    The decay warms up as min(decay, (1 + t) / (10 + t)) with the step t, so that the first random
    weights are soon forgotten. Buffers, such as the statistics of normalisation, are copied: they
    are averages already. Unlike torch's ``AveragedModel`` the step is counted on the host, which
    never makes a GPU wait, and all parameters move in one call.

    Attributes:
        network: The network that carries the averages, without gradients.
        steps: Updates so far.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.network = copy.deepcopy(network)
        self.network.requires_grad_(False).eval()
        self.decay = decay
        self.steps = 0
        self._parameters: list[Tensor] = list(self.network.parameters())
        self._buffers = list(self.network.buffers())
        self._live_parameters: list[Tensor] = list(network.parameters())
        self._live_buffers = list(network.buffers())

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages towards the present weights."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        foreach_lerp(self._parameters, self._live_parameters, 1 - decay)
        self.steps += 1

    @torch.no_grad()
    def copy_buffers(self) -> None:
        """Take over the buffers; needed before the average is evaluated."""
        for mine, live in zip(self._buffers, self._live_buffers, strict=True):
            mine.copy_(live)
