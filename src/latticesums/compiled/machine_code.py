"""The compiled functions, however they come: shipped as LLVM's code, or compiled by numba here.

What numba makes of the sources takes it half a minute. So the package brings it along, optimised
for x86-64 with AVX2, and LLVM alone turns it into machine code, once and in a second or two. Where
it does not fit, because of another machine, an older LLVM or a changed source, numba compiles.
`scripts/make_kernels.py` writes what is shipped. Other packages may ship code of theirs in the same
way: :func:`shipped` finds it, :func:`as_function` calls it.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import lzma
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from latticesums.compiled.kernels import HERE, KERNELS, sources
from latticesums.compiled.seals import sealed_content, write_sealed

SHIPPED = HERE / "shipped"
#: What the machine must have for the code that is shipped.
FEATURES = ("avx2", "fma", "bmi2")
_TYPES: dict[str, Any] = {
    "i": ctypes.c_int64,
    "x": ctypes.c_double,
    "I": ctypes.c_void_p,
    "J": ctypes.c_void_p,
    "X": ctypes.c_void_p,
    "F": ctypes.c_void_p,
}


@cache
def kernel(name: str) -> Callable[..., int]:
    """Return a compiled function of ``KERNELS``, ready to be called with numbers and addresses."""
    address = _shipped(name)
    if address is None:
        from latticesums.compiled.jit import compiled  # numba is imported where it is needed

        address = compiled(name)
    return as_function(address, KERNELS[name].arguments)


def as_function(address: int, arguments: str) -> Callable[..., int]:
    """Return machine code as a function of arguments that letters describe, as in ``Kernel``."""
    return ctypes.CFUNCTYPE(ctypes.c_int64, *(_TYPES[letter] for letter in arguments))(address)


_engines: list[Any] = []  # machine code lives as long as its engine


def _shipped(name: str) -> int | None:
    return shipped(name, SHIPPED, sources(), package="latticesums")


def shipped(name: str, folder: Path, fingerprint: str, *, package: str) -> int | None:
    """Return the address of a shipped kernel, or None where it does not fit.

    Args:
        name: What the kernel is called.
        folder: Where it is, beside ``made.json``.
        fingerprint: Of the sources of which it should have been made.
        package: With what the name of its function begins.
    """
    import llvmlite.binding as llvm

    made = json.loads((folder / "made.json").read_text(encoding="utf-8"))
    host = llvm.get_host_cpu_features()
    if (
        llvm.get_process_triple() != made["triple"]
        or llvm.llvm_version_info < tuple(made["llvm"])
        or not all(host.get(feature) for feature in FEATURES)
        or made["sources"] != fingerprint
    ):
        return None
    code = (folder / f"{name}.bc.xz").read_bytes()
    machine = f"{llvm.llvm_version_info} {llvm.get_host_cpu_name()} {host.flatten()}"
    key = hashlib.sha256(machine.encode() + code).hexdigest()[:16]
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=host.flatten(),
        opt=3,
        reloc="default",
        codemodel="jitdefault",
        jit=True,
    )
    stored = _stored(f"{name}-{key}.o", lambda: _emitted(target, lzma.decompress(code)))
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
    engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(stored))
    engine.finalize_object()
    _engines.append(engine)
    return engine.get_function_address(f"{package}_{name}")


def _emitted(target: Any, bitcode: bytes) -> bytes:
    """Return machine code."""
    import llvmlite.binding as llvm

    _say_once()
    return target.emit_object(llvm.parse_bitcode(bitcode))


@cache
def _say_once() -> None:
    logging.getLogger("latticesums").info(
        "Preparing the lattice sums for this machine: seconds, once."
    )


def _stored(name: str, make: Callable[[], bytes]) -> bytes:
    """Return a file of the first folder that takes it, or what it would hold where none does."""
    for folder in _folders():
        content = sealed_content(folder / name)
        if content is not None:
            return content
    content = make()
    for folder in _folders():
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as own:
                path = Path(own) / name
                with path.open("wb") as file:
                    write_sealed(file, content)
                path.replace(folder / name)
            break
    return content


def _folders() -> list[Path]:
    """Return where machine code may be kept: where numba would, too."""
    named = os.environ.get("NUMBA_CACHE_DIR")
    if named:
        return [Path(named)]
    folders = [HERE / "__pycache__"]
    with suppress(RuntimeError):  # whoever has no home has no cache there
        folders.append(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"))
        folders[-1] /= "latticesums"
    return folders
