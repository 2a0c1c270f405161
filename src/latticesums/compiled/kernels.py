"""Which functions are compiled for Python to call, and of which sources."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Kernel:
    """A compiled function that Python calls.

    Attributes:
        name: Its name.
        module: The room of ``latticesums.compiled`` whose function ``kernel`` returns it in Python.
        arguments: A letter for each: i an integer, x a number, I and X the addresses of some, J
            and F those of short integers and of numbers in single precision. It returns an integer.
    """

    name: str
    module: str
    arguments: str

    def python(self, fingerprint: str) -> Callable[..., int]:
        """Return the function as it was written, closed over a fingerprint of all sources."""
        return import_module(f"latticesums.compiled.{self.module}").kernel(fingerprint)


KERNELS = {
    kernel.name: kernel
    for kernel in (
        Kernel("evaluate", "evaluate", "IXXIi"),
        Kernel("list_neighbours", "neighbours", "iiiixXXXXXIX"),
        Kernel("add_directed_shells", "directed", "iiiiiixXXIIIXXXXXIXIi"),
        Kernel("pull_shells", "shell_slopes", "iiiiIXXXXXXXXXIi"),
        Kernel("image_shells", "image_shells", "iiiixxxXXIIXXXXXXXXXIi"),
        Kernel("pull_image_shells", "image_slopes", "iiiiIIXXXXXXXX"),
        Kernel("list_terms", "terms", "iiiiiXXIXXXXXIXXIXXIXIXIi"),
        Kernel("add_terms", "pair_values", "iiiiiiIIIIXXIXXXXXXIi"),
        Kernel("pull_terms", "pair_slopes", "iiiiiiIIIIXXXXXIXXXXXXIi"),
        Kernel("add_charges", "charge_sums", "iiiiIIIXXXXXXIXXXXXXXXXIi"),
    )
}


def sources() -> str:
    """Return a fingerprint of all compiled code, which changes when any file of it does."""
    plain = {
        "__init__",
        "cache",
        "calls",
        "kernels",
        "machine_code",
        "seals",
        "sums",
    }  # not compiled
    files = [file for file in sorted(HERE.glob("*.py")) if file.stem not in plain]
    files += [HERE.parent / name for name in ("bounds.py", "lattice.py")]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
