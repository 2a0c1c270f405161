"""The exceptions that potnet raises for what a caller can mend.

Every message follows one template: *where: `name` must RULE, got VALUE. What to do.*
"""

from dataclasses import dataclass


class PotNetError(Exception):
    """Base of every error that potnet raises on purpose."""


class StructureError(PotNetError, ValueError):
    """A crystal, or the file it came from, cannot be used as it is."""


class DataError(PotNetError, ValueError):
    """A dataset (its targets, ids, splits or files) cannot be used as it is."""


class ConfigError(PotNetError, ValueError):
    """A setting has a value that cannot be used."""


class ModelError(PotNetError, ValueError):
    """A model archive is unknown, damaged or does not fit what is asked of it."""


@dataclass(frozen=True)
class Failure:
    """One item that could not be processed, as ``errors.csv`` lists it.

    Attributes:
        id: File or dataset id of the item.
        stage: What was being done: "read", "features" or "predict".
        reason: One sentence: where, which rule, what value, what to do.
    """

    id: str
    stage: str
    reason: str
