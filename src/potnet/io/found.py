"""What reading a file gives: crystals and reasons, and the wall that keeps one from the others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeVar

from potnet.crystal import Crystal
from potnet.errors import StructureError

Item = TypeVar("Item")
Found = tuple[str, Crystal | StructureError]  # the id, and what was found under it

# Each part can match in one way only, so that a failure is known after one walk along the word.
NUMBER = re.compile(
    r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eEdD][+-]?\d+)?|[+-]?(?:nan|inf)", re.ASCII | re.I
)

_LINE_END = re.compile(r"\r\n?|\n")


def lines_of(text: str) -> list[str]:
    r"""Return the lines of a text as editors and other programs count them.

    ``str.splitlines`` ends one at other characters too, such as the three dots of Windows read as
    Latin-1.

    >>> lines_of("Fe2O3\x85 old\r\n1.0\r4 0 0\n")
    ['Fe2O3\x85 old', '1.0', '4 0 0']
    """
    lines = _LINE_END.split(text)
    return lines if lines[-1] else lines[:-1]


class NoStructure(StructureError):
    """A data block that holds text only, such as the publication block of a paper."""


def attempt(name: str, where: str, build: Callable[[], Crystal]) -> Found:
    """Return the crystal that ``build`` returns under its own id or else ``name``, or the reason.

    Args:
        name: The id of a crystal that has none, and of a reason.
        where: File, and place in it, for the message.
        build: Reads one crystal; whatever it raises becomes the reason.
    """
    for found in walled(_only(name, build), name, where):
        return found
    raise AssertionError("a wall always yields what it was asked to build")


def _only(name: str, build: Callable[[], Crystal]) -> Iterator[Found]:
    crystal = build()
    name = crystal.id or name
    yield name, crystal if crystal.id == name else crystal.replace(id=name)


def walled(found: Iterator[Item | Found], name: str, where: str) -> Iterator[Item | Found]:
    """Pass on what is found; whatever goes wrong ends it with a reason instead of an exception.

    The one place in reading where every exception is caught. A file is foreign text, and parsers
    of others read a part of it: no list of their exceptions is complete, and a wrong file must
    never cost the other files of a run. ``KeyboardInterrupt`` and the like pass.
    """
    try:
        yield from found
    except StructureError as error:
        yield name, error
    except Exception as error:  # noqa: BLE001
        what = str(error).strip() or "no more to say"
        yield (
            name,
            StructureError(
                f"{where}: the file must be readable, got {type(error).__name__} ({what[:300]}). "
                "Check that it is what its name says, or convert it to CIF."
            ),
        )
