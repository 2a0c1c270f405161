"""The container keeps to what good containers do; it is built where there is a builder."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Dockerfile").read_text("utf-8")
LINES = [
    line for line in re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", TEXT)).splitlines() if line
]
STEPS = [tuple(line.split(maxsplit=1)) for line in LINES]


def steps(name: str) -> list[str]:
    return [rest for word, rest in STEPS if word == name]


def test_images_are_slim_and_of_one_version() -> None:
    for image in steps("FROM"):
        tag = image.split()[0].partition(":")[2]
        assert re.fullmatch(r"\d+\.\d+\.\d+-slim-\w+", tag), image


def test_the_process_is_not_root_and_is_told_of_signals() -> None:
    last = max(k for k, (word, _) in enumerate(STEPS) if word == "FROM")
    words = [word for word, _ in STEPS[last:]]
    (user,) = (rest for word, rest in STEPS[last:] if word == "USER")
    assert int(user) > 0
    assert "RUN" not in words[words.index("USER") :], "nothing is installed by the user"
    assert json.loads(steps("ENTRYPOINT")[-1])[:2] == ["potnet", "serve"], "no shell in between"


def test_it_is_asked_whether_it_is_well_on_the_port_that_it_listens_on() -> None:
    (check,) = steps("HEALTHCHECK")
    (port,) = steps("EXPOSE")
    assert f"127.0.0.1:{port}/health" in check
    entry = json.loads(steps("ENTRYPOINT")[-1])
    assert entry[entry.index("--port") + 1] == port
    assert entry[entry.index("--host") + 1] == "0.0.0.0"


@pytest.mark.parametrize(
    "bad", ["ADD ", "sudo ", ":latest", "curl ", "| sh", "chmod 777", "apt-get upgrade", "TOKEN="]
)
def test_nothing_is_done_that_linters_warn_of(bad: str) -> None:
    assert bad not in "\n".join(LINES)


def test_nothing_is_kept_that_pip_downloaded() -> None:
    assert any("PIP_NO_CACHE_DIR=1" in rest for rest in steps("ENV"))
    assert "download.pytorch.org/whl/cpu" in TEXT, "no CUDA on a machine without a GPU"


def test_all_that_is_copied_exists_and_is_not_ignored() -> None:
    kept = re.findall(r"(?m)^!(.+)$", (ROOT / ".dockerignore").read_text("utf-8"))
    for copied in steps("COPY"):
        if copied.startswith("--from"):
            continue
        for name in copied.split()[:-1]:
            assert (ROOT / name).exists(), name
            assert any(name == one or name.startswith(f"{one}/") for one in kept), name
