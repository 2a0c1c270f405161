"""The process in which ASE reads: started as a script, without potnet, and with limits.

It takes one request a line (the path of a file, its format or nothing) and answers with a line
for each structure, then one that ends the answer. What it reads is foreign, so it may open no
other file than the one requested and those of Python, write nothing, start nothing and connect to
nothing; an audit hook refuses the rest, whatever code asks for it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

SPARE_BYTES = 1024**3  # of memory, beside what ASE itself needs
# What no reader needs: to start something, to connect, to change files, to load libraries.
_CLOSED = ("subprocess.", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.fork")
_CLOSED += ("socket.", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink")
_CLOSED += ("os.truncate", "os.chmod", "os.chown", "shutil.")

_open_path = ""  # the one file that may be read


def _guard(event: str, args: tuple[Any, ...]) -> None:
    if event == "open":
        path, mode, flags = args
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
        if isinstance(path, int) or (not writes and _may_be_read(os.fsdecode(path))):
            return
        if os.fsdecode(path) == os.devnull:
            return
        raise PermissionError(f"the file names another one, {os.fsdecode(path)[:200]!r}")
    if event == "sqlite3.connect" and os.path.abspath(os.fsdecode(args[0])) != _open_path:
        raise PermissionError("the file names another database")
    if event.startswith(_CLOSED):
        raise PermissionError(f"the file asks for {event}")


def _may_be_read(path: str) -> bool:
    path = os.path.abspath(path)
    libraries = {sys.prefix, sys.base_prefix, sys.exec_prefix, *filter(None, sys.path)}
    is_code = path.endswith((".py", ".pyc", ".so", ".pyd", ".dll", ".pth", ".json", ".csv", ".txt"))
    return path == _open_path or (
        is_code and any(path.startswith(os.path.join(folder, "")) for folder in libraries)
    )


def _limit() -> None:
    """Bound the memory of this process and the size of files that it writes, where it can be."""
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + SPARE_BYTES, size + SPARE_BYTES))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError):
        return  # not Linux: the parent still bounds the time


def _structures(path: str, format: str | None, allowed: list[str]) -> Iterator[dict[str, Any]]:
    from ase.io import iread
    from ase.io.formats import UnknownFileTypeError, filetype

    if format is None:
        try:
            format = filetype(path, guess=False)
        except UnknownFileTypeError:
            format = ""
        if format not in allowed:
            yield {"format": format}
            return
    for atoms in iread(path, index=":", format=format, do_not_split_by_at_sign=True):
        results = getattr(atoms.calc, "results", None) or {}
        yield {
            "numbers": atoms.get_atomic_numbers().tolist(),
            "positions": atoms.get_positions().tolist(),
            "cell": atoms.cell.array.tolist(),
            "pbc": atoms.pbc.tolist(),
            "info": dict(atoms.info),
            "results": {k: v for k, v in results.items() if isinstance(v, float)},
        }


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _said(error: Exception) -> str:
    what = str(error).strip().rstrip(".")[:300]
    return f"{type(error).__name__} ({what})" if what else type(error).__name__


def _text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _text_keys(item) for key, item in value.items()}
    return value


def main() -> None:
    """Answer requests until there are no more."""
    global _open_path
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):  # readers that ask or print find nobody
        os.dup2(null, stream)
    import warnings

    import ase.io  # noqa: F401

    warnings.simplefilter("ignore")
    _limit()
    sys.addaudithook(_guard)
    for line in requests:
        request = json.loads(line)
        _open_path = request["path"]
        try:
            for found in _structures(request["path"], request["format"], request["allowed"]):
                answers.write(json.dumps(_text_keys(found), default=_plain) + "\n")
        except Exception as error:  # noqa: BLE001  (the wall's other side: the parent says it)
            answers.write(json.dumps({"error": _said(error)}) + "\n")
        answers.write('{"end": true}\n')
        answers.flush()


if __name__ == "__main__":
    main()
