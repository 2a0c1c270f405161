"""How the sums are compiled, and how numba is told that a source file has changed."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import numba as nb
from numba.core import event

# No "reassoc" and no "nnan": sums keep their order, so every run gives the same bits.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "nsz", "arcp"},
}
_njit: Any = nb.njit

#: Compile a function that only compiled code calls; it is stored as a part of what calls it.
part: Any = _njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **_OPTIONS)

#: Compile a function that Python calls, and store it on disk. numba compares nothing but the
#: file of the function itself and its closure: an entry must close over :func:`sources`.
entry: Any = _njit(cache=True, no_cfunc_wrapper=True, **_OPTIONS)


def sources() -> str:
    """Return a fingerprint of all compiled code, which changes when any file of it does."""
    files = sorted(Path(__file__).parent.glob("[!_]*.py"))  # the interface is not compiled
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


class _Notice(event.Listener):
    """Logs once that a call takes longer because something of this package is compiled."""

    def __init__(self) -> None:
        self.is_given = False

    def on_start(self, event: event.Event) -> None:
        function = getattr((event.data or {}).get("dispatcher"), "py_func", None)
        ours = getattr(function, "__module__", "").startswith("latticesums.")
        if ours and not self.is_given:
            self.is_given = True
            logging.getLogger("latticesums").info(
                "Compiling the lattice sums for this machine: half a minute, once."
            )

    def on_end(self, event: event.Event) -> None:
        """Do nothing: the call goes on."""


event.register("numba:compile", _Notice())
