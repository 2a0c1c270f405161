"""The exceptions that potnet raises for what a caller can mend.

Every message follows one template: *where: `name` must RULE, got VALUE. What to do.*
"""

from dataclasses import dataclass

from potnet.text import printable

MAX_MESSAGE = 1_000  # characters; what a broken file holds must not flood a terminal or a table


class PotNetError(Exception):
    """Base of every error that potnet raises on purpose.

    Args:
        message: One sentence or two. What cannot be printed is written as an escape, and the
            middle of a very long message is left out.
    """

    def __init__(self, message: object = "") -> None:
        text = str(message)
        if len(text) > MAX_MESSAGE:
            text = f"{text[: MAX_MESSAGE // 2]} [...] {text[-MAX_MESSAGE // 2 :]}"
        super().__init__("\n".join(printable(line) for line in text.split("\n")))


class StructureError(PotNetError, ValueError):
    """A crystal, or the file it came from, cannot be used as it is."""


class DataError(PotNetError, ValueError):
    """A dataset (its targets, ids, splits or files) cannot be used as it is."""


class ConfigError(PotNetError, ValueError):
    """A setting has a value that cannot be used."""


class ModelError(PotNetError, ValueError):
    """A model archive is unknown, damaged or does not fit what is asked of it."""


def as_refusal(where: str, error: Exception) -> PotNetError:
    """Return the sentence for an item that ``error`` came of; one of ours is that already."""
    if isinstance(error, PotNetError):
        return error
    what = " ".join(str(error).split())[:300] or "no more to say"
    return ModelError(
        f"{where}: it must be computable here, got {type(error).__name__}: {what}. "
        "Leave it out, or give the computer what it lacks."
    )


FAILURE_COLUMNS = ("id", "stage", "reason")
"""Columns of every table of failures, in the order of the fields of :class:`Failure`."""


@dataclass(frozen=True)
class Failure:
    """One item that could not be processed, as ``errors.csv`` lists it.

    Attributes:
        id: File or dataset id of the item.
        stage: What was being done: "read", "features", "predict" or "sheet".
        reason: One sentence: where, which rule, what value, what to do.
    """

    id: str
    stage: str
    reason: str
