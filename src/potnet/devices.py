"""Where networks compute: devices by name, refused where there is none."""

from __future__ import annotations

import torch

from potnet.errors import ConfigError


def device(name: str | torch.device) -> torch.device:
    """Return the device ``name``: "cpu", "cuda", "cuda:1", "mps"; "auto" is a GPU if there is one.

    Raises:
        ConfigError: If this machine, or this torch, has no such device.
    """
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(_has_mps())}
    if not isinstance(name, str | torch.device):
        raise ConfigError(
            f"device: it must be a name, got {type(name).__name__} {str(name)[:60]!r}. Use 'auto'."
        )
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if there[kind]))
    try:
        found = torch.device(name)
    except (RuntimeError, TypeError):
        found = None
    if found is None or (found.index or 0) >= there.get(found.type, 0):
        known = ", ".join(kind for kind, n in there.items() if n)
        raise ConfigError(
            f"device: it must be one that this machine and its torch have ({known}), got "
            f"{str(name)[:60]!r}. Choose one of these."
        )
    return found


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
