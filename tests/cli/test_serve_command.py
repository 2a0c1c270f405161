"""``potnet serve`` as a process: soon there, and gone when what runs is done."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from potnet.serve.schemas import SALT

POTNET = Path(sys.executable).with_name("potnet")


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen, str]]:
    """A server and its address."""
    started = [str(POTNET), "serve", "--no-browser", "--port", "0"]
    with subprocess.Popen(started, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        told = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", told)
        assert found, told
        yield process, found[0]
        process.kill()


def ask(url: str, body: object = None) -> dict:
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(asked, timeout=250) as answer:
        return json.load(answer)


def test_the_page_is_there_before_torch_is_imported() -> None:
    code = "import sys, potnet.serve as s; s.make_app(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_stop_lets_what_runs_finish(server) -> None:
    process, url = server
    while not ask(f"{url}health")["is_warm"]:
        time.sleep(0.2)
    found: list[dict] = []
    body = {"structures": [SALT] * 60}
    client = threading.Thread(target=lambda: found.append(ask(f"{url}predict", body)))
    client.start()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{url}metrics") as answer:
            if b"potnet_waiting 1" in answer.read():
                break
    process.send_signal(signal.SIGTERM)
    client.join()
    assert len(found[0]["crystals"]) == 60
    assert process.wait(60) in (0, 128 + signal.SIGTERM)
