"""Use potnet where machines are hostile, and see that it predicts or says in a sentence why not.

    python scripts/smoke.py

Each case runs the installed command in a process of its own, as an ordinary user where this one
is root: without a home, without a locale, with packages and disk that cannot be written, with a
full disk, with little memory, and with streams that are closed. Cases that this system cannot make
are named as left out.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

POTNET = [sys.executable, "-m", "potnet"]
NOBODY = 65534
GIGABYTE = 1024**3


@dataclass
class Case:
    """A machine, what is done on it, and what must come of it.

    Attributes:
        environment: Variables that differ; None takes one away.
        wrap: Commands that come before.
        line: A line of shell to run, with ``{potnet}``, ``{salt}`` and ``{place}`` in it.
        codes: Exit codes that are right.
        said: What must be among the output.
        prepare: Makes the place.
    """

    name: str
    line: str = "{potnet} predict {salt} --model bulk-modulus"
    environment: dict[str, str | None] = field(default_factory=dict)
    wrap: tuple[str, ...] = ()
    codes: tuple[int, ...] = (0,)
    said: str = "bulk_modulus"
    prepare: Callable[[Path], object] | None = None


FULL = "{potnet} predict {salt} --model bulk-modulus -o {place}/full/out.csv"
CASES = [
    Case("as it is"),
    Case("no HOME", environment={"HOME": None, "XDG_CACHE_HOME": None}),
    Case("HOME that is missing", environment={"HOME": "/nonexistent"}),
    Case("LC_ALL=C", environment={"LC_ALL": "C", "PYTHONUTF8": None}),
    Case("LC_ALL=POSIX", environment={"LC_ALL": "POSIX", "PYTHONUTF8": None}),
    Case("ASCII output", environment={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}),
    Case("no cache of numba", environment={"NUMBA_CACHE_DIR": "/proc/nowhere"}),
    Case("1 GB of memory", wrap=("prlimit", f"--rss={GIGABYTE}", f"--data={GIGABYTE}")),
    Case("read-only disk", wrap=("unshare", "--mount", "sh", "-c", "READONLY")),
    Case("full disk", line=FULL, codes=(1,), said="No space left on device"),
    Case("closed output", line="{potnet} predict {salt} >&-", codes=(1,), said="--output"),
    Case(
        "closed output, a file named",
        line="{potnet} predict {salt} --model bulk-modulus -o {place}/out.csv >&-; "
        "cat {place}/out.csv",
    ),
    Case("output read by head", line="{potnet} predict {salt} | head -1", said="prediction"),
    Case("no streams at all", line="{potnet} models <&- >&- 2>&-", said=""),
]
