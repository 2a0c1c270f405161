"""The command line, one module per command.

Whatever is slow to import is imported inside the commands, so that ``potnet --help`` is quick.
Exit codes: 0 all is well, 1 failure, 2 wrong usage, 3 done but some items were skipped.
"""

from potnet.cli import predict, train, evaluate, check, sums, models, datasets, demo, benchmark  # noqa: F401, I001  (the order of the help)
from potnet.cli import convert, downloads, split  # noqa: F401, I001  (convert, and parts of datasets)
from potnet.cli.app import app

__all__ = ["app"]
