"""How the sums are compiled, and how numba is told that a source file has changed."""

import contextlib
import hashlib
import logging
from pathlib import Path
from typing import Any

import numba as nb
from numba.core import event
from numba.extending import register_jitable

from latticesums.compiled.cache import checked

# No "reassoc" and no "nnan": sums keep their order, so every run gives the same bits.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "nsz", "arcp"},
}
_njit: Any = nb.njit

#: Compile a function that only compiled code calls; it is stored as a part of what calls it.
part: Any = _njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **_OPTIONS)

#: Let compiled code call a function that stays as it is for Python.
shared: Any = register_jitable(**_OPTIONS)


# Functions that Python calls are stored on disk. numba compares nothing but the file of the
# function itself and its closure: an entry must close over :func:`sources`.
def entry(function: Any) -> Any:
    """Return ``function`` compiled, from the disk where a folder takes the compiled code.

    numba raises where it finds none: a read-only package without a home is no mistake.
    """
    compiled = _njit(no_cfunc_wrapper=True, **_OPTIONS)(function)
    with contextlib.suppress(RuntimeError):
        compiled.enable_caching()
        checked(compiled)
    return compiled


def sources() -> str:
    """Return a fingerprint of all compiled code, which changes when any file of it does."""
    here = Path(__file__).parent
    plain = {"__init__.py", "cache.py", "sums.py", "support.py"}  # not compiled
    files = [file for file in sorted(here.glob("*.py")) if file.name not in plain]
    files += [here.parent / name for name in ("bounds.py", "lattice.py")]
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
