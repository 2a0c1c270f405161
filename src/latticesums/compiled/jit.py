"""How the sums are compiled by numba: as parts of each other, with arrays that nobody counts."""

import contextlib
import logging
from typing import Any

import numba as nb
from numba.core import event, types
from numba.core.ccallback import CFunc
from numba.core.sigutils import normalize_signature
from numba.extending import register_jitable

from latticesums.compiled.cache import checked
from latticesums.compiled.kernels import KERNELS, sources

# No "reassoc" and no "nnan": sums keep their order, so every run gives the same bits. Arrays lie in
# memory that Python gave, so their references are not counted ("nrt"): half of the code.
_OPTIONS: dict[str, Any] = {
    "error_model": "numpy",
    "fastmath": {"contract", "nsz", "arcp"},
    "_nrt": False,
}
_TYPES = {
    "i": types.int64,
    "x": types.float64,
    "I": types.CPointer(types.int64),
    "J": types.CPointer(types.int32),
    "X": types.CPointer(types.float64),
    "F": types.CPointer(types.float32),
}
_njit: Any = nb.njit

#: Compile a function that only compiled code calls; it is stored as a part of what calls it.
part: Any = _njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **_OPTIONS)

#: Let compiled code call a function that stays as it is for Python.
shared: Any = register_jitable(**_OPTIONS)


def signature(arguments: str) -> Any:
    """Return what a kernel takes and returns, as numba's types."""
    return types.int64(*(_TYPES[letter] for letter in arguments))


def entry(function: Any, types: Any, **options: Any) -> Any:
    """Return ``function`` compiled for C, from the disk where a folder takes the compiled code.

    numba raises where it finds none: a read-only package without a home is no mistake.
    """
    compiled = CFunc(function, normalize_signature(types), {}, _OPTIONS | options)
    with contextlib.suppress(RuntimeError):
        compiled.enable_caching()
        checked(compiled)
    compiled.compile()
    return compiled


def compiled(name: str) -> int:
    """Return the address of a kernel that numba compiles, or finds on the disk.

    numba compares nothing but the file of the function itself and its closure, so the function
    closes over the fingerprint of all sources.
    """
    found = entry(KERNELS[name].python(sources()), signature(KERNELS[name].arguments))
    _kept.append(found)
    return found.address


_kept: list[Any] = []  # machine code lives as long as its function


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
