"""Use potnet where machines are hostile, and see that it predicts or says in a sentence why not.

    python scripts/smoke.py

Each case runs the installed command in a process of its own: without a home, without a locale, with
everything read-only, with a full disk, with little memory, as an ordinary user, and with streams
that are closed. A case that this system cannot make is named as left out.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

POTNET = shlex.join([sys.executable, str(Path(sys.executable).with_name("potnet"))])
SALT = Path(__file__).resolve().parents[1] / "examples" / "crystals" / "NaCl.cif"
PREDICT = f"{POTNET} predict {SALT} --model bulk-modulus"
NOBODY = "65534"
MOUNT = "unshare --mount" if os.name == "posix" and os.geteuid() == 0 else "unshare -r --mount"


@dataclass
class Case:
    """A machine, what is done on it, and what must come of it.

    Attributes:
        name: What is hostile.
        line: A line of shell; ``$PLACE`` is an empty folder.
        code: The exit code that is right.
        said: What must be among the output.
        environment: Variables that differ; None takes one away.
        needs: A line of shell that succeeds where the case can be made.
    """

    name: str
    line: str = PREDICT
    code: int = 0
    said: str = "bulk_modulus"
    environment: dict[str, str | None] = field(default_factory=dict)
    needs: str = "true"


def inside(prepare: str, line: str) -> str:
    """Return a line that runs ``line`` where ``prepare`` has changed what is mounted."""
    return f"{MOUNT} sh -c {shlex.quote(f'{prepare} && {line}')}"


READ_ONLY = "mount -o remount,bind,ro /"
if not sys.executable.startswith("/tmp/"):  # where it would hide what is tried
    READ_ONLY += " && (test ! -d /tmp || mount -t tmpfs -o ro none /tmp)"
FULL = "mount -t tmpfs -o size=8k none $PLACE && head -c 8192 /dev/zero >$PLACE/rest"
AS_NOBODY = f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups"
CASES = [
    Case("nothing"),
    Case("no HOME", environment={"HOME": None, "XDG_CACHE_HOME": None}),
    Case("a HOME that is missing", environment={"HOME": "/nonexistent"}),
    Case("LC_ALL=C", environment={"LC_ALL": "C"}),
    Case("LC_ALL=POSIX", environment={"LC_ALL": "POSIX"}),
    Case("ASCII output", environment={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}),
    Case("a cache that cannot be made", environment={"NUMBA_CACHE_DIR": "/proc/nowhere"}),
    Case("1 GB of memory", f"prlimit --data={1024**3} {PREDICT}", needs="prlimit --version"),
    Case("an ordinary user", f"{AS_NOBODY} {PREDICT}", needs=f"{AS_NOBODY} {POTNET} --version"),
    Case("everything read-only", inside(READ_ONLY, PREDICT), needs=inside(READ_ONLY, "true")),
    Case(
        "a full disk",
        inside(FULL, f"{PREDICT} -o $PLACE/out.csv"),
        1,
        "No space left on device",
        needs=inside(FULL, "true"),
    ),
    Case("a full output", f"{PREDICT} >/dev/full", 1, "No space left", needs="test -e /dev/full"),
    Case("a closed output", f"{PREDICT} >&-", 1, "--output"),
    Case("a closed output, and a file", f"{PREDICT} -o $PLACE/out.csv >&-; cat $PLACE/out.csv"),
    Case("a reader that leaves at once", f"{PREDICT} | true", said=""),
    Case("a reader that leaves", f"{PREDICT} | head -1", said="id,formula"),
    Case("no streams", f"{POTNET} models <&- >&- 2>&-; echo done", said="done"),
]


def main() -> None:
    """Try every case and print a table; the exit code is 1 if one went wrong."""
    wrong = 0
    for case in CASES:
        if shutil.which("bash") is None or run(case.needs, {}).returncode:
            print(f"left out  {case.name}")
            continue
        done = run(case.line, case.environment)
        fault = judge(case, done)
        wrong += bool(fault)
        print(f"{'WRONG' if fault else 'well':9} {case.name}{fault}", flush=True)
    sys.exit(bool(wrong))


def run(line: str, changes: dict[str, str | None]) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in an empty folder."""
    environment = {k: v for k, v in (os.environ | changes).items() if v is not None}
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o777)
        return subprocess.run(
            ["bash", "-c", line],
            cwd="/",
            env=environment | {"PLACE": place},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )


def judge(case: Case, done: subprocess.CompletedProcess[str]) -> str:
    """Return what is wrong with an outcome, or nothing."""
    output = done.stdout + done.stderr
    if re.search("Traceback|Exception ignored|Aborted|Segmentation", output):
        return f": a trace\n{output}"
    if done.returncode != case.code or case.said not in output:
        return f": exit code {done.returncode}, {output!r}"
    return ""


if __name__ == "__main__":
    main()
