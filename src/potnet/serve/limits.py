"""How much one request may ask for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How much one request may ask for.

    Attributes:
        body: Bytes of a request.
        structures: Crystals of a request.
        atoms: Atoms of a crystal.
        seconds: Until a request, or the next line of a stream, is given up.
        waiting: Requests that compute or wait for it; more are sent away.
        held: Bytes of all requests that are here at the same time; more are sent away.
    """

    body: int = 32 * 1024**2
    structures: int = 1000
    atoms: int = 1000
    seconds: float = 120.0
    waiting: int = 256
    held: int = 256 * 1024**2
