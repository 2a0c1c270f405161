"""Make ``src/latticesums/compiled/shipped``: what numba makes of the compiled sums, as LLVM's code.

    python scripts/make_kernels.py [--check]

Run it after any change of the compiled sources; a test asks for it. With ``--check`` nothing is
written, and the exit code is 1 if something would change. The code is for x86-64 with AVX2 and
Linux; it is optimised, and what is left of numba is its arithmetic: the only names that it needs
are those of the C library.
"""

import argparse
import json
import lzma
import os
import sys

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

from latticesums.compiled.jit import part, signature
from latticesums.compiled.kernels import KERNELS, Kernel, sources
from latticesums.compiled.machine_code import SHIPPED

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
_TYPES = {"i": "i64", "x": "double", "I": "ptr", "X": "ptr"}


def compiled(kernel: Kernel) -> "llvm.ModuleRef":
    """Return the module of a kernel, reduced to what the kernel needs."""
    function = part(kernel.python(""))
    expected = signature(kernel)
    function.compile(expected.args)
    found = function.overloads[expected.args]
    if found.signature.return_type != expected.return_type:
        raise TypeError(f"{kernel.name} returns {found.signature.return_type}")
    module = llvm.parse_assembly(function.inspect_llvm(expected.args))
    module.link_in(llvm.parse_assembly(_entry(kernel, found.fndesc.llvm_func_name)))
    entry = f"latticesums_{kernel.name}"
    for thing in [*module.functions, *module.global_variables]:
        if not thing.is_declaration and thing.name != entry:
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
        raise ValueError(f"{kernel.name} needs {', '.join(sorted(foreign))}")
    return module


def _entry(kernel: Kernel, inner: str) -> str:
    """Return the code of a function in C's way that calls one in numba's."""
    kinds = [_TYPES[letter] for letter in kernel.arguments]
    given = ", ".join(f"{kind} %a{k}" for k, kind in enumerate(kinds))
    return f"""
declare i32 @"{inner}"(ptr, ptr, {", ".join(kinds)})
define i64 @latticesums_{kernel.name}({given}) {{
  %value = alloca i64
  %error = alloca ptr
  %status = call i32 @"{inner}"(ptr %value, ptr %error, {given})
  %found = load i64, ptr %value
  ret i64 %found
}}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, say what would change")
    check = parser.parse_args().check
    made = {
        "triple": llvm.get_process_triple(),
        "llvm": list(llvm.llvm_version_info),
        "sources": sources(),
    }
    files = {"made.json": (json.dumps(made, indent=1) + "\n").encode()}
    for kernel in KERNELS.values():
        code = compiled(kernel).as_bitcode()
        files[f"{kernel.name}.bc.xz"] = lzma.compress(code, preset=9 | lzma.PRESET_EXTREME)
    SHIPPED.mkdir(exist_ok=True)
    changed = []
    for name, content in files.items():
        path = SHIPPED / name
        if not path.exists() or path.read_bytes() != content:
            changed.append(name)
            if not check:
                path.write_bytes(content)
        print(f"{name:30} {len(content):9,} bytes{'  changed' if name in changed else ''}")
    return int(check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
