"""A quick start of the commands that predict: most of it is torch's own."""

from __future__ import annotations

import atexit
import gc
import sys
from types import ModuleType

# Read by torch's compiler and by tensors without memory, which import it by themselves. It takes
# two fifths of `import torch`.
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
