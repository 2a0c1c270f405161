"""A download ends with the right file or one sentence, whatever the server does."""

import gzip
import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pytest
from servers import Answer, serving

from potnet.data.public import cache, transfer
from potnet.data.public.cache import Receipt, cache_folder, check, get
from potnet.data.public.transfer import Patience, Remote
from potnet.errors import DataError

PATIENCE = Patience(timeout=0.4, attempts=3, pause=0.01, max_pause=1.0, min_rate=1e4)
BODY = b"PK\x03\x04" + np.random.default_rng(0).bytes(60_000)
TAG = {"ETag": '"one"'}


def remote(server, body=BODY, **kwargs):
    kwargs.setdefault("sha256", hashlib.sha256(body).hexdigest())
    kwargs.setdefault("urls", (f"{server.url}/set",))
    return Remote("set.bin", starts=b"PK\x03\x04", format="zip archive", **kwargs)


def fetch(file, folder, **kwargs):
    return get(file, folder, patience=kwargs.pop("patience", PATIENCE), **kwargs)


def names(folder):
    """Return what lies in the folder, without the lock."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_a_file_arrives_whole_with_a_receipt_and_nothing_else(tmp_path):
    shown = []
    with serving(Answer(BODY)) as server:
        path, receipt = fetch(remote(server), tmp_path, report=lambda *at: shown.append(at))
        assert receipt.url == f"{server.url}/set"
    assert path.read_bytes() == BODY
    assert (receipt.size, receipt.pinned) == (len(BODY), True)
    assert Receipt.read(path) == receipt
    assert names(tmp_path) == ["set.bin", "set.bin.receipt.json"]
    assert shown[0] == (0, len(BODY))
    assert shown[-1] == (len(BODY), len(BODY))


def test_a_file_in_the_cache_is_not_fetched_again(tmp_path):
    with serving(Answer(BODY)) as server:
        fetch(remote(server), tmp_path)
        fetch(remote(server), tmp_path)
        assert len(server.requests) == 1


TRANSIENT = {
    "500": [Answer(status=500)],
    "503": [Answer(status=503, headers={"Retry-After": "0"})],
    "429 until a date": [
        Answer(status=429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})
    ],
    "a guard that answers 202": [Answer(status=202)],
    "nothing": [Answer(b"")],
    "a cut without a version": [Answer(BODY, cut=20_000)],
    "a cut with a version": [Answer(BODY, cut=20_000, headers=TAG)],
    "two cuts": [Answer(BODY, cut=20_000, headers=TAG), Answer(BODY, cut=7_000, headers=TAG)],
    "a stall": [Answer(BODY, pause=1.0, headers=TAG)],
    "a trickle": [Answer(BODY, pause=0.05, headers=TAG)],
    "a cut of an answer without length": [
        Answer(BODY, cut=20_000, headers={"Content-Length": None, "Transfer-Encoding": "chunked"})
    ],
    "another part than asked": [
        Answer(BODY, cut=20_000, headers=TAG),
        Answer(BODY, headers=TAG | {"Content-Range": f"bytes 5-9/{len(BODY)}"}),
    ],
    "a range without a place": [
        Answer(BODY, cut=20_000, headers=TAG),
        Answer(BODY, headers=TAG | {"Content-Range": "bytes"}),
    ],
    "a shorter file than before": [
        Answer(BODY, cut=20_000, headers=TAG),
        Answer(status=416, headers={"Content-Range": "bytes */10"}),
    ],
}


@pytest.mark.parametrize("answers", TRANSIENT.values(), ids=TRANSIENT)
def test_what_passes_is_waited_for(tmp_path, answers):
    with serving(*answers, Answer(BODY, headers=TAG)) as server:
        path, _ = fetch(remote(server), tmp_path)
        assert len(server.requests) == len(answers) + 1
    assert path.read_bytes() == BODY


def test_a_cut_download_goes_on_where_it_stopped(tmp_path):
    with serving(Answer(BODY, cut=20_000, headers=TAG), Answer(BODY, headers=TAG)) as server:
        fetch(remote(server), tmp_path)
        assert server.requests[1]["Range"] == "bytes=20000-"
        assert server.requests[1]["If-Range"] == '"one"'


def test_a_server_that_knows_no_ranges_is_started_over(tmp_path):
    with serving(Answer(BODY, cut=20_000), Answer(BODY, ranges=False)) as server:
        path, _ = fetch(remote(server), tmp_path)
        assert "Range" in server.requests[1]
    assert path.read_bytes() == BODY


def test_a_file_that_changed_meanwhile_is_started_over(tmp_path):
    other = BODY[:-1] + bytes([BODY[-1] ^ 1])
    changed = {"ETag": '"two"'}
    with serving(Answer(other, cut=20_000, headers=TAG), Answer(BODY, headers=changed)) as server:
        path, _ = fetch(remote(server), tmp_path)
    assert path.read_bytes() == BODY


def test_without_version_or_fingerprint_nothing_is_joined(tmp_path):
    body = archive(b"{}")
    with serving(Answer(body, cut=30), Answer(body)) as server:
        path, receipt = fetch(remote_zip(server), tmp_path)
        assert "Range" not in server.requests[1]
    assert path.read_bytes() == body
    assert not receipt.pinned


def test_a_wrong_piece_in_the_middle_is_fetched_again_once(tmp_path):
    """A server without versions changes the file between the two halves."""
    other = bytes(byte ^ 1 for byte in BODY)
    part = tmp_path / ".set.bin.part"
    with serving(Answer(b"PK\x03\x04" + other[4:], cut=20_000), Answer(status=404)) as server:
        with pytest.raises(DataError, match="answered 404"):
            fetch(remote(server), tmp_path)
        assert part.stat().st_size == 20_000
        file = remote(server)
        server.answers = [Answer(BODY)]
        path, _ = fetch(file, tmp_path)
    assert path.read_bytes() == BODY


FINAL = {
    "404": ([Answer(status=404)], "answered 404 Not Found"),
    "403": ([Answer(status=403)], "answered 403 Forbidden"),
    "500 for ever": ([Answer(status=500)], r"answered 500 .*\(3 times\)"),
    "nothing for ever": ([Answer(b"")], r"sent nothing \(3 times\)"),
    "a web page": (
        [Answer(b"<!DOCTYPE html>", headers={"Content-Type": "text/html"})],
        r"sent text/html that starts with b'<!DOCTYPE html>', which is no zip archive",
    ),
    "a wrong file": ([Answer(b"PK\x03\x04" + b"x" * 60_000)], "must have the SHA-256"),
    "too much": ([Answer(BODY + b"more")], "must have the SHA-256"),
    "a circle": (
        [Answer(status=302, headers={"Location": "/set"})],
        "answered 302 .*infinite loop",
    ),
    "a local file": (
        [Answer(status=302, headers={"Location": "file:///etc/passwd"})],
        "'file:///etc/passwd' is not allowed",
    ),
    "an unsafe server": (
        [Answer(status=302, headers={"Location": "ftp://127.0.0.1/set"})],
        "redirects from http to ftp, which is not safe",
    ),
    "a wait of an hour": (
        [Answer(status=503, headers={"Retry-After": "3600"})],
        r"answered 503 .* asks to wait 3600 s",
    ),
    "a date in an hour": (
        [
            lambda _: Answer(
                status=503,
                headers={"Retry-After": format_datetime(datetime.now(UTC) + timedelta(hours=1))},
            )
        ],
        r"asks to wait 3[56]\d\d s",
    ),
}


@pytest.mark.parametrize(("answers", "message"), FINAL.values(), ids=FINAL)
def test_what_does_not_pass_ends_in_one_sentence(tmp_path, answers, message):
    with serving(*answers) as server, pytest.raises(DataError, match=message):
        fetch(remote(server), tmp_path)
    assert "set.bin" not in names(tmp_path)


def test_a_length_that_was_pinned_is_checked_before_anything_is_sent(tmp_path):
    with serving(Answer(BODY)) as server, pytest.raises(DataError, match="announced 60004 bytes"):
        fetch(remote(server, size=999), tmp_path)


def test_a_server_that_is_not_there_is_a_sentence(tmp_path):
    with serving(Answer(BODY)) as server:
        file = remote(server)
    with pytest.raises(DataError, match=r"failed: ConnectionRefusedError .*\(3 times\)"):
        fetch(file, tmp_path)


def test_another_address_steps_in(tmp_path):
    with serving(Answer(status=404)) as broken, serving(Answer(BODY)) as mirror:
        urls = (f"{broken.url}/set", f"{mirror.url}/set")
        _, receipt = fetch(remote(broken, urls=urls), tmp_path)
        assert receipt.url == urls[1]


def test_redirects_are_followed_and_ranges_survive_them(tmp_path):
    with serving(Answer(BODY, cut=20_000, headers=TAG), Answer(BODY, headers=TAG)) as store:
        there = Answer(status=302, headers={"Location": f"{store.url}/blob"})
        with serving(there) as front:
            fetch(remote(front), tmp_path)
        assert [request["path"] for request in store.requests] == ["/blob", "/blob"]
        assert store.requests[1]["Range"] == "bytes=20000-"


def test_a_safe_connection_is_never_left_for_an_open_one():
    request = transfer.Request("https://figshare.com/files/1")
    with pytest.raises(transfer._Useless, match="redirects from https to http"):
        transfer._Redirects().redirect_request(request, None, 302, "", {}, "http://a.org/1")


def test_a_proxy_from_the_environment_is_used(tmp_path, monkeypatch):
    with serving(Answer(BODY)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        fetch(remote(proxy, urls=("http://data.invalid/set",)), tmp_path)
        assert proxy.requests[0]["path"] == "http://data.invalid/set"


def test_a_full_disk_is_told_before_the_download(tmp_path, monkeypatch):
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: usage)
    message = "must have room for 0 MB more, got 0 MB free"
    with serving(Answer(BODY)) as server, pytest.raises(DataError, match=message):
        fetch(remote(server), tmp_path)


def test_a_disk_that_fills_up_keeps_what_is_there(tmp_path, monkeypatch):
    write = io.FileIO.write

    def full(path, mode="r", **kwargs):
        return Full(path, mode)

    class Full(io.FileIO):
        def write(self, content):
            if self.tell() + len(content) > 30_000:
                write(self, content[: 30_000 - self.tell()])
                raise OSError(28, "No space left on device")
            return write(self, content)

    with serving(Answer(BODY, headers=TAG)) as server:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", full)
            with pytest.raises(DataError, match="the disk must have room for more"):
                transfer.download(remote(server), tmp_path / "part", patience=PATIENCE)
        assert (tmp_path / "part").stat().st_size == 30_000
        transfer.download(remote(server), tmp_path / "part", patience=PATIENCE)
        assert server.requests[-1]["Range"] == "bytes=30000-"
    assert (tmp_path / "part").read_bytes() == BODY


def test_the_generators_of_the_caller_are_left_alone(tmp_path):
    import random

    random.seed(1)
    state = random.getstate()
    with serving(Answer(status=500), Answer(BODY)) as server:
        fetch(remote(server), tmp_path)
    assert random.getstate() == state


# ------------------------------------------------------------------------ several processes


def run_get(server, folder):
    code = (
        "import sys; from pathlib import Path\n"
        "from potnet.data.public.cache import get\n"
        "from potnet.data.public.transfer import Remote\n"
        "file = Remote('set.bin', (sys.argv[1],), sys.argv[2], starts=b'PK')\n"
        "get(file, Path(sys.argv[3]))\n"
    )
    digest = hashlib.sha256(BODY).hexdigest()
    return subprocess.Popen([sys.executable, "-c", code, f"{server.url}/set", digest, str(folder)])


def test_two_processes_download_once(tmp_path):
    with serving(Answer(BODY, pause=0.001)) as server:
        processes = [run_get(server, tmp_path) for _ in range(2)]
        assert [process.wait(60) for process in processes] == [0, 0]
        assert len(server.requests) == 1
    assert (tmp_path / "set.bin").read_bytes() == BODY


def test_a_killed_download_is_resumed(tmp_path):
    part = tmp_path / ".set.bin.part"
    with serving(Answer(BODY, pause=0.005, headers=TAG), Answer(BODY, headers=TAG)) as server:
        process = run_get(server, tmp_path)
        deadline = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size > 1000):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        have = part.stat().st_size
        assert not (tmp_path / "set.bin").exists()
        path, _ = fetch(remote(server), tmp_path)
        assert server.requests[1]["Range"] == f"bytes={have}-"
    assert path.read_bytes() == BODY
    assert names(tmp_path) == ["set.bin", "set.bin.receipt.json"]


def test_threads_of_one_process_download_once(tmp_path):
    with serving(Answer(BODY, pause=0.001)) as server:
        file = remote(server)
        threads = [threading.Thread(target=fetch, args=(file, tmp_path)) for _ in range(3)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert len(server.requests) == 1


# ------------------------------------------------------------- files whose hash is not known


def archive(content):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("set.json", content)
    return packed.getvalue()


def remote_zip(server):
    return Remote("set.zip", (f"{server.url}/set",), starts=b"PK\x03\x04", format="zip archive")


def test_an_unknown_fingerprint_is_taken_from_the_first_download_and_holds(tmp_path):
    first, second = archive(b"[1]"), archive(b"[2]")
    with serving(Answer(first), Answer(second)) as server:
        path, receipt = fetch(remote_zip(server), tmp_path)
        assert not receipt.pinned
        assert receipt.sha256 == hashlib.sha256(first).hexdigest()
        path.unlink()
        with pytest.raises(
            DataError, match=f"must have the SHA-256 {receipt.sha256} that came on 2"
        ):
            fetch(remote_zip(server), tmp_path)
    assert not path.exists()


def test_a_file_that_changes_in_the_cache_is_noticed(tmp_path):
    with serving(Answer(archive(b"[1]"))) as server:
        file = remote_zip(server)
        path, _ = fetch(file, tmp_path)
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="changed or damaged: delete it"):
        check(file, path)


@pytest.mark.parametrize("place", [40, -30])
def test_an_archive_of_unknown_fingerprint_must_agree_with_its_own_checksums(tmp_path, place):
    content = bytearray(archive(b"[" + b"1," * 2000 + b"1]"))
    content[place] ^= 1
    with serving(Answer(bytes(content))) as server, pytest.raises(DataError, match="a whole zip"):
        fetch(remote_zip(server), tmp_path)
    assert names(tmp_path) == []


def test_a_stream_that_was_cut_is_noticed_without_a_length(tmp_path):
    body = gzip.compress(np.random.default_rng(0).bytes(5000))
    answer = Answer(body, cut=4000, headers={"Content-Length": None})
    with serving(answer) as server:
        file = Remote("set.gz", (f"{server.url}/set",), starts=b"\x1f\x8b", format="gzip file")
        with pytest.raises(DataError, match="a whole gzip file, got Compressed file ended"):
            fetch(file, tmp_path)


# ----------------------------------------------------------------- machines without network


def test_a_copy_serves_where_there_is_no_network(tmp_path):
    (tmp_path / "from-a-colleague").write_bytes(BODY)
    with serving(Answer(status=500)) as server:
        copy = tmp_path / "from-a-colleague"
        path, receipt = fetch(remote(server), tmp_path / "cache", given=copy)
        assert server.requests == []
    assert path.read_bytes() == BODY
    assert receipt.url == str(copy)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BODY[:-1], "must have the SHA-256"),
        (None, "must be a file, got none"),
    ],
)
def test_a_wrong_copy_is_refused_and_leaves_nothing(tmp_path, content, message):
    copy = tmp_path / "copy"
    if content is not None:
        copy.write_bytes(content)
    with serving(Answer(BODY)) as server, pytest.raises(DataError, match=message):
        fetch(remote(server), tmp_path / "cache", given=copy)
    assert names(tmp_path / "cache") == []


def test_a_copy_of_unknown_fingerprint_must_have_the_format(tmp_path):
    copy = tmp_path / "set.json"
    copy.write_text("[]")
    with serving(Answer(b"")) as server, pytest.raises(DataError, match="must be a zip archive"):
        fetch(remote_zip(server), tmp_path / "cache", given=copy)


# ------------------------------------------------------------------------------- the folder


@pytest.mark.parametrize(
    ("platform", "variables", "folder"),
    [
        ("linux", {"POTNET_CACHE": "/big/disk"}, "/big/disk"),
        ("linux", {"XDG_CACHE_HOME": "/home/me/xdg"}, "/home/me/xdg/potnet"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/potnet"),
        ("linux", {}, "/home/me/.cache/potnet"),
        ("darwin", {}, "/home/me/Library/Caches/potnet"),
        ("win32", {"LOCALAPPDATA": "/users/me/local"}, "/users/me/local/potnet/Cache"),
    ],
)
def test_the_cache_is_where_the_system_keeps_such_things(monkeypatch, platform, variables, folder):
    for name in ("POTNET_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cache.sys, "platform", platform)
    assert cache_folder() == Path(folder)
