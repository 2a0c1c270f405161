"""Checkpoints of a running training: one file each, whole or not at all.

A checkpoint is one safetensors file: the tensors (weights, averaged weights, best weights,
optimizer) and, as JSON in its header, everything else. Two files take turns, so that the older
one is still there when the newer one is damaged.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from potnet.errors import DataError
from potnet.files import atomic_write

FORMAT = 2
SLOTS = ("a", "b")

_log = logging.getLogger(__name__)


@dataclass
class Checkpoint:
    """State of one network's training after a whole number of epochs.

    Attributes:
        tensors: Named tensors on any device.
        state: Whatever JSON can hold; has at least ``run`` (fingerprint of what is trained on
            what) and ``epoch`` (number of epochs done).
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)

    def put(self, prefix: str, tensors: dict[str, Tensor]) -> None:
        """Add ``tensors`` under ``prefix.name``."""
        self.tensors |= {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}

    def get(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors that :meth:`put` added under ``prefix``."""
        start = f"{prefix}."
        return {k.removeprefix(start): v for k, v in self.tensors.items() if k.startswith(start)}


def write_checkpoint(folder: Path, name: str, checkpoint: Checkpoint) -> None:
    """Write ``checkpoint`` over the older of the two files of ``name``."""
    epoch = checkpoint.state["epoch"]
    # Copies, because safetensors refuses tensors that share memory (the best may be the current).
    tensors = {k: v.detach().cpu().clone().contiguous() for k, v in checkpoint.tensors.items()}
    header = {"format": FORMAT, "checksum": checksum(tensors), **checkpoint.state}
    content = save(tensors, {"potnet": json.dumps(header)})
    with atomic_write(_oldest(folder, name, epoch), "wb") as file:
        file.write(content)


def read_checkpoint(folder: Path, name: str, *, run: str) -> Checkpoint | None:
    """Return the newest readable checkpoint of ``name``, or None if there is no file.

    Args:
        folder: Where the checkpoints are.
        name: Which network's.
        run: Fingerprint that the checkpoint must carry.

    Raises:
        DataError: If files are there but none of them can be used.
    """
    found, faults = [], []
    for path in _paths(folder, name):
        if not path.exists():
            continue
        try:
            found.append(_read(path, run))
        except DataError as error:
            faults.append(str(error))
    if faults and not found:
        raise DataError(faults[0])
    for fault in faults:
        _log.warning("%s Continuing from the checkpoint before it.", fault)
    return max(found, key=lambda checkpoint: checkpoint.state["epoch"], default=None)


def _paths(folder: Path, name: str) -> list[Path]:
    return [folder / f"{name}-{slot}.safetensors" for slot in SLOTS]


def _oldest(folder: Path, name: str, epoch: int) -> Path:
    """Return the file to write next: a missing or damaged one, else the one further back."""

    def age(path: Path) -> int:
        try:
            written = _header(path)["epoch"]
        except DataError:
            return -1
        return -1 if written >= epoch else written

    return min(_paths(folder, name), key=age)


def _header(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["potnet"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise DataError(
            f"{path}: must be a whole checkpoint, got a damaged one ({error}). "
            "Delete it, or start again in a new folder."
        ) from None
    if header["format"] != FORMAT:
        raise DataError(
            f"{path}: format must be {FORMAT}, got {header['format']}. "
            "Continue with the version of potnet that wrote it."
        )
    return header


def _read(path: Path, run: str) -> Checkpoint:
    header = _header(path)
    if header["run"] != run:
        raise DataError(
            f"{path}: must belong to this run, got one of other data or settings. "
            "Give the same dataset and settings, or start in a new folder."
        )
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if checksum(tensors) != header["checksum"]:
        raise DataError(
            f"{path}: must be a whole checkpoint, got changed bytes. "
            "Delete it, or start again in a new folder."
        )
    return Checkpoint(tensors, header)


def checksum(tensors: Mapping[str, Tensor]) -> int:
    """Return the CRC-32 of all bytes of tensors, in the order of their names."""
    value = 0
    for key in sorted(tensors):
        value = zlib.crc32(tensors[key].numpy().reshape(-1).view(np.uint8).data, value)
    return value


def optimizer_tensors(optimizer: Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of the optimizer's state by ``parameter name/quantity``."""
    return {
        f"{name}/{key}": value
        for name, parameter in module.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(optimizer: Optimizer, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put back what :func:`optimizer_tensors` took."""
    for name, parameter in module.named_parameters():
        start = f"{name}/"
        state = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
        if state:
            optimizer.state[parameter] = {k: v.to(parameter.device) for k, v in state.items()}
