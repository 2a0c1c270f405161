"""Where networks compute: torch, quickly, and devices by name, refused where there is none."""

from __future__ import annotations

import atexit
import gc
import sys
from types import ModuleType
from typing import TYPE_CHECKING

from potnet.errors import ConfigError

if TYPE_CHECKING:
    import torch

# Two fifths of `import torch`, which its compiler and tensors without memory import by themselves.
_DEFERRED = "torch._meta_registrations"


def import_torch() -> None:
    """Import torch without what no prediction reads, and spare the collector of garbage its walks.

    What is left out is left to the first that imports it. Nothing happens where torch is there.
    """
    if "torch" in sys.modules:
        return
    atexit.register(gc.freeze)  # at the end of the process nothing is searched for circles
    gc.disable()  # modules that are imported are no garbage
    sys.modules[_DEFERRED] = ModuleType(_DEFERRED)
    try:
        import torch
    finally:
        del sys.modules[_DEFERRED]
        gc.enable()
    name = _DEFERRED.rpartition(".")[2]
    if hasattr(torch, name):
        delattr(torch, name)


def device(name: str | torch.device) -> torch.device:
    """Return the device ``name``: "cpu", "cuda", "cuda:1", "mps"; "auto" is a GPU if there is one.

    Raises:
        ConfigError: If this machine, or this torch, has no such device.
    """
    import torch

    has_mps = torch.backends.mps.is_available()
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(has_mps)}
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
