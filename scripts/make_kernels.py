"""Make what is shipped of the compiled sums and messages: what numba makes of them, as LLVM's code.

    python scripts/make_kernels.py [--check]

It goes to ``src/latticesums/compiled/shipped`` and ``src/potnet/models/shipped``. Run it after any
change of the compiled sources; a test asks for it. With ``--check`` nothing is
written, and the exit code is 1 if something would change. The code is for x86-64 with AVX2 and
Linux; it is optimised, and what is left of numba is its arithmetic: the only names that it needs
are those of the C library.
"""

import argparse
import json
import lzma
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# numba walks through sets: with another order, the same code has other bytes.
if os.environ.get("PYTHONHASHSEED") != "0":
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"PYTHONHASHSEED": "0"})

# before numba is imported: the machine for which code is made, not the one that makes it
os.environ["NUMBA_CPU_NAME"] = "haswell"
os.environ["NUMBA_CPU_FEATURES"] = (
    "+avx,+avx2,+bmi,+bmi2,+cx16,+f16c,+fma,+fxsr,+lzcnt,+movbe,+popcnt,+sahf,+sse,+sse2,+sse3,"
    "+sse4.1,+sse4.2,+ssse3,+xsave"
)

import llvmlite.binding as llvm
import numba

from latticesums.compiled.jit import part, signature
from latticesums.compiled.kernels import KERNELS, sources
from latticesums.compiled.machine_code import SHIPPED
from potnet.models import message_kernels, messages

#: What the C library may be asked for.
KNOWN = {
    "ceil",
    "cos",
    "erfc",
    "exp",
    "floor",
    "log",
    "log2",
    "memcpy",
    "memset",
    "pow",
    "sin",
    "sqrt",
}
_TYPES = {"i": "i64", "x": "double", "I": "ptr", "J": "ptr", "X": "ptr", "F": "ptr"}


def compiled(function: Any, symbol: str, arguments: str) -> "llvm.ModuleRef":
    """Return the module of a kernel, reduced to what the kernel needs.

    Args:
        function: What numba is to compile.
        symbol: What the function is to be called.
        arguments: A letter for each.
    """
    expected = signature(arguments)
    function.compile(expected.args)
    found = function.overloads[expected.args]
    if found.signature.return_type != expected.return_type:
        raise TypeError(f"{symbol} returns {found.signature.return_type}")
    module = llvm.parse_assembly(function.inspect_llvm(expected.args))
    module.link_in(llvm.parse_assembly(_entry(symbol, arguments, found.fndesc.llvm_func_name)))
    for thing in [*module.functions, *module.global_variables]:
        if not thing.is_declaration and thing.name != symbol:
            thing.linkage = llvm.Linkage.internal
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    machine = llvm.Target.from_default_triple().create_target_machine()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options())
    passes.run(module, builder)
    module.verify()
    needed = {f.name for f in module.functions if f.is_declaration}
    foreign = {name for name in needed if not name.startswith("llvm.")} - KNOWN
    if foreign:
        raise ValueError(f"{symbol} needs {', '.join(sorted(foreign))}")
    return module


def _entry(symbol: str, arguments: str, inner: str) -> str:
    """Return the code of a function in C's way that calls one in numba's."""
    kinds = [_TYPES[letter] for letter in arguments]
    given = ", ".join(f"{kind} %a{k}" for k, kind in enumerate(kinds))
    return f"""
declare i32 @"{inner}"(ptr, ptr, {", ".join(kinds)})
define i64 @{symbol}({given}) {{
  %value = alloca i64
  %error = alloca ptr
  %status = call i32 @"{inner}"(ptr %value, ptr %error, {given})
  %found = load i64, ptr %value
  ret i64 %found
}}
"""


def files_of(
    package: str, functions: Mapping[str, tuple[Callable[..., int], str]], fingerprint: str
) -> dict[str, bytes]:
    """Return the files that a package ships.

    Args:
        package: With what the names of its functions begin.
        functions: What numba is to compile, and the letters of its arguments.
        fingerprint: Of the sources.
    """
    made = {
        "triple": llvm.get_process_triple(),
        "llvm": list(llvm.llvm_version_info),
        "sources": fingerprint,
    }
    files = {"made.json": (json.dumps(made, indent=1) + "\n").encode()}
    for name, (function, arguments) in functions.items():
        code = compiled(function, f"{package}_{name}", arguments).as_bitcode()
        files[f"{name}.bc.xz"] = lzma.compress(code, preset=9 | lzma.PRESET_EXTREME)
    return files


def update(folder: Path, files: Mapping[str, bytes], *, check: bool) -> bool:
    """Write the files that changed, unless this is a check; return whether any did."""
    folder.mkdir(exist_ok=True)
    changed = False
    for name, content in files.items():
        path = folder / name
        is_new = not path.exists() or path.read_bytes() != content
        if is_new and not check:
            path.write_bytes(content)
        print(f"{name:30} {len(content):9,} bytes{'  changed' if is_new else ''}")
        changed |= is_new
    return changed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, say what would change")
    check = parser.parse_args().check
    sums = {name: (part(k.python("")), k.arguments) for name, k in KERNELS.items()}
    changed = update(SHIPPED, files_of("latticesums", sums, sources()), check=check)
    options = {"error_model": "numpy", "_nrt": False, "no_cpython_wrapper": True}
    fast = numba.njit(no_cfunc_wrapper=True, **options, **message_kernels.FAST)
    loops = {
        name: (fast(getattr(message_kernels, name)), arguments)
        for name, arguments in messages.KERNELS.items()
    }
    changed |= update(
        messages.SHIPPED, files_of("potnet", loops, messages.fingerprint()), check=check
    )
    return int(check and changed)


if __name__ == "__main__":
    sys.exit(main())
