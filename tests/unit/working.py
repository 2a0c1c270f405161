"""What the workers of test_parallel.py do; they import it by its name."""

import logging
import os
import signal
import sys
import time
from pathlib import Path


def squared(number: int) -> int:
    return number * number


def process_of(_: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def refuse(number: int) -> int:
    if number == 7:
        raise ValueError("seven")
    return number


def say(number: int) -> int:
    logging.getLogger("potnet").info("number %d", number)
    return number


class Deadly:
    """Ends its process over some numbers: always, or the first time.

    Args:
        always: Numbers that always do.
        once: Numbers that do so once.
        folder: Where to remember.
    """

    def __init__(self, folder: Path, always: set[int], once: set[int]) -> None:
        self._folder, self._always, self._once = folder, always, once

    def __call__(self, numbers: list[int]) -> list[int]:
        for number in numbers:
            mark = self._folder / str(number)
            if number in self._always or (number in self._once and not mark.exists()):
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return [number * number for number in numbers]


def never_loaded() -> None:
    raise RuntimeError("cannot be loaded")


class Unloadable:
    """Cannot be made where it is sent."""

    def __reduce__(self) -> tuple:
        return never_loaded, ()

    def __call__(self, number: int) -> int:
        return number


def loaded(name: str) -> bool:
    import torch  # noqa: F401

    return name in sys.modules


def answered(question: str) -> str:
    return os.environ[question]


class Needing:
    """Can be made only where :func:`answer` was called before."""

    def __reduce__(self) -> tuple:
        return answered, ("POTNET_ANSWER",)


def answer() -> None:
    os.environ["POTNET_ANSWER"] = "42"


class Told:
    """Returns what it was made with."""

    def __init__(self, needing: Needing) -> None:
        self.needing = needing

    def __call__(self, _: int) -> str:
        return str(self.needing)
