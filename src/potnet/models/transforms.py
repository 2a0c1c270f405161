"""What is done to a target before it is standardised, and how it is undone."""

from __future__ import annotations

import math
from typing import Any, Literal

#: ``none``; ``log10`` for values that span orders of magnitude; ``nonnegative`` for values of
#: which many are exactly zero, such as gaps: an output below zero means zero; ``yes-no`` for
#: values of 0 and 1: the output is a logit, the prediction the probability of 1.
Transform = Literal["none", "log10", "nonnegative", "yes-no"]


def restored(x: Any, transform: Transform) -> Any:
    """Return the predictions that outputs ``x`` stand for; arrays and tensors alike."""
    if transform == "log10":
        return 10.0**x
    if transform == "nonnegative":
        return x.clip(0)
    if transform == "yes-no":
        return 1 / (1 + math.e**-x)
    return x
