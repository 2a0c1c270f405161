"""The command line, one module per command.

Whatever is slow to import is imported inside the commands, so that ``potnet --help`` is quick.
Exit codes: 0 all is well, 1 failure, 2 wrong usage, 3 done but some items were skipped, 130 stopped
by Ctrl-C.
"""

from potnet.cli import predict, explain, check, convert, sums  # noqa: F401, I001  (as in the help)
from potnet.cli import serve  # noqa: F401
from potnet.cli import train, evaluate, datasets, benchmark, bundled  # noqa: F401
from potnet.cli.app import app

__all__ = ["app"]
