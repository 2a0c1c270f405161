"""Hostile requests over real connections: each gets a clear answer, or an end, and harms nobody."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

import uvicorn

from potnet.serve import Limits, make_app
from potnet.serve.protocol import Protocol
from potnet.serve.schemas import POSCAR

TOKEN = "s3cret"
HOST = b"Host: localhost\r\n"
BODY_LIMIT = 100_000
pytestmark = pytest.mark.timeout(120)


class Hasty(Protocol):
    head_seconds = 1.0


class Server:
    """A server in a thread, whose models are not read."""

    def __init__(self, **given: Any) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        config = uvicorn.Config(
            make_app(**given),
            lifespan="off",
            log_level="critical",
            http=Hasty,
            ws="none",
            limit_concurrency=100,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )
        self._thread.start()

    def send(self, *parts: bytes, pause: float = 0.0, wait: float = 30.0) -> bytes:
        """Return all that comes back until the server closes or has nothing more to say."""
        with socket.create_connection(("127.0.0.1", self.port)) as line:
            line.settimeout(wait)
            found = b""
            try:
                for part in parts:
                    line.sendall(part)
                    time.sleep(pause)
                while more := line.recv(65536):
                    found += more
                    if _is_whole(found):
                        line.settimeout(0.3)  # a second answer would come at once
            except (TimeoutError, ConnectionError):
                pass
            return found

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)


def _is_whole(found: bytes) -> bool:
    head, _, body = found.partition(b"\r\n\r\n")
    length = [line for line in head.lower().splitlines() if line.startswith(b"content-length:")]
    if length:
        return len(body) >= int(length[0].partition(b":")[2])
    return body.endswith(b"0\r\n\r\n")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server(limits=Limits(body=BODY_LIMIT, structures=5, atoms=40, seconds=60))
    yield running
    running.close()


@pytest.fixture(scope="module")
def hasty() -> Iterator[Server]:
    """One that waits a second for whatever it is."""
    running = Server(limits=Limits(body=BODY_LIMIT, seconds=1.0))
    yield running
    running.close()


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    running = Server(token=TOKEN)
    yield running
    running.close()


def get(path: str | bytes, *lines: str, host: str = "localhost", method: str = "GET") -> bytes:
    target = path if isinstance(path, bytes) else path.encode()
    head = [f"Host: {host}", *lines]
    return b"%s %s HTTP/1.1\r\n%s\r\n\r\n" % (
        method.encode(),
        target,
        "\r\n".join(head).encode("latin-1"),
    )


def post(path: str, body: bytes, *lines: str, kind: str = "application/json") -> bytes:
    head = [f"Content-Type: {kind}", f"Content-Length: {len(body)}", *lines]
    return get(path, *head, method="POST") + body


def framed(path: str, framing: str, body: bytes) -> bytes:
    """Return a request whose body is framed as somebody says."""
    return get(path, "Content-Type: application/json", *framing.split("\n"), method="POST") + body


def check_of(content: str, name: str = "") -> bytes:
    return post("/check", json.dumps({"structures": [{"name": name, "content": content}]}).encode())


def statuses(found: bytes) -> list[int]:
    lines = found.split(b"HTTP/1.1 ")
    return [int(line[:3]) for line in lines[1:] if line[:3].isdigit()]


CHUNKED = "Transfer-Encoding: chunked"
ONE = b"5\r\nhello\r\n"
HEALTH = get("/health")
SOME = json.dumps({"structures": [{"name": "a.vasp", "content": POSCAR}]}).encode()
UPGRADE = ("Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA==")
NDARRAY = '{"cell": {"__ndarray__": [[99999, 99999], "float64", [1]]}, "numbers": [1]}'

# What is sent, and the status that is right.
ROWS: dict[str, tuple[bytes, int]] = {
    # What is no HTTP, or not quite.
    "noise": (bytes(range(256)) * 4, 400),
    "greeting of TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64, 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/2 with prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/3.0": (b"GET /health HTTP/3.0\r\n" + HOST + b"\r\n", 505),
    "HTTP/1.0 without a host": (b"GET /health HTTP/1.0\r\n\r\n", 421),
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", 400),
    "two hosts": (get("/health", "Host: evil.example"), 400),
    "zero byte in a header": (get("/health", "X-A: a\0b"), 400),
    "space before a colon": (get("/health", "X-A : b"), 400),
    "head of 200 kB": (get("/health", "X-A: " + "a" * 200_000), 400),
    "10,000 headers": (get("/health", *(f"X-{k}: abcdefgh" for k in range(10_000))), 400),
    "space in the method": (b"GE T /health HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "method of 1,000 letters": (get("/health", method="A" * 1000), 405),
    # How long a body is.
    "chunks beyond the limit": (
        framed("/check", CHUNKED, (b"2710\r\n" + b"x" * 10_000 + b"\r\n") * 11 + b"0\r\n\r\n"),
        413,
    ),
    "chunk of no size": (framed("/check", CHUNKED, b"zz\r\nhello\r\n0\r\n\r\n"), 400),
    "chunk of negative size": (framed("/check", CHUNKED, b"-5\r\nhello\r\n0\r\n\r\n"), 400),
    "chunks of gzip": (framed("/check", "Transfer-Encoding: gzip, chunked", ONE), 400),
    "two lengths": (framed("/check", "Content-Length: 5\nContent-Length: 6", b"hello"), 400),
    "length and chunks": (framed("/check", f"Content-Length: 5\n{CHUNKED}", b"0\r\n\r\n"), 400),
    "length in words": (framed("/check", "Content-Length: five", b"hello"), 400),
    "length too short": (framed("/check", "Content-Length: 2", SOME), 422),
    "too much, with leave asked": (
        framed("/check", f"Content-Length: {BODY_LIMIT + 1}\nExpect: 100-continue", b""),
        413,
    ),
    # Whom it is for.
    "host with a dot": (get("/health", host="localhost."), 421),
    "host as a number": (get("/health", host="2130706433"), 421),
    "host in hexadecimal": (get("/health", host="0x7f.1"), 421),
    "IPv6 with IPv4 in it": (get("/health", host="[::ffff:127.0.0.1]"), 421),
    "IPv6 half open": (get("/health", host="[::1"), 421),
    "host with two ports": (get("/health", host="localhost:80:80"), 421),
    "port in words": (get("/health", host="localhost:evil.example"), 421),
    "own IPv6": (get("/health", host="[::1]:8765"), 200),
    "own name in capitals": (get("/health", host="LOCALHOST:1"), 200),
    "absolute address of another": (get("http://evil.example/health"), 404),
    "proxy is wanted": (get("evil.example:443", method="CONNECT"), 404),
    "forwarded for another": (get("/health", "X-Forwarded-Host: evil.example"), 200),
    "origin that begins like ours": (get("/health", "Origin: http://localhost.evil.example"), 403),
    "origin without a scheme": (get("/health", "Origin: //localhost"), 403),
    "origin of a file": (get("/health", "Origin: file://"), 403),
    # Paths and methods.
    "asterisk": (get("*", method="OPTIONS"), 404),
    "TRACE": (get("/health", method="TRACE"), 405),
    "PATCH": (get("/predict", method="PATCH"), 405),
    "other method in a header": (
        get("/predict", "X-HTTP-Method-Override: POST"),
        405,
    ),
    "two slashes": (get("//health"), 404),
    "slash behind": (get("/health/"), 404),
    "another host as a path": (get("//evil.example/%2e%2e"), 404),
    "zero byte in a path": (get("/static/page.js%00.png"), 404),
    "dots in code": (get("/static/%252e%252e/app.py"), 404),
    "backslashes": (get("/static/..%5c..%5capp.py"), 404),
    "folder of scripts": (get("/static/"), 404),
    "file as a folder": (get("/static/page.js/"), 200),
    "path of 20,000 letters": (get("/static/" + "a" * 20_000), 404),
    "path that is no text": (get("/static/%ff%fe"), 404),
    "line ends in a path": (get("/nothing%0d%0aSet-Cookie:%20a=b"), 404),
    "query of 30 kB": (get("/health?a=" + "b" * 30_000), 200),
    "body of a GET": (get("/health", "Content-Length: 5") + b"hello", 200),
    # What is asked for in another way.
    "WebSocket": (get("/health", "Upgrade: websocket", *UPGRADE), 200),
    "WebSocket from elsewhere": (
        get("/health", "Upgrade: websocket", "Origin: https://evil.example", *UPGRADE),
        403,
    ),
    "HTTP/2 by upgrade": (get("/health", "Connection: Upgrade", "Upgrade: h2c"), 200),
    # What the body is.
    "5,000 parts of a form": (
        post("/check", b"--x\r\n\r\na\r\n" * 5000, kind="multipart/form-data; boundary=x"),
        415,
    ),
    "forms in forms": (
        post(
            "/check",
            b"--x\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n" * 50,
            kind="multipart/mixed; boundary=x",
        ),
        415,
    ),
    "two kinds of content": (post("/check", SOME, kind="application/json, text/plain"), 415),
    "zstd": (post("/check", b"\x28\xb5\x2f\xfd", "Content-Encoding: zstd"), 415),
    "packed twice": (post("/check", b"x", "Content-Encoding: gzip, br"), 415),
    "deflate": (post("/check", b"x\x9c", "Content-Encoding: deflate"), 415),
    "integer of 5,000 digits": (post("/stability", b'{"formula": ' + b"9" * 5000 + b"}"), 400),
    "infinity": (post("/stability", b'{"formula": "NaCl", "formation_energy": Infinity}'), 422),
    "lists in lists in lists": (
        post("/check", b'{"structures": ' + b"[" * 500 + b"]" * 500 + b"}"),
        422,
    ),
    "objects in objects": (post("/check", b'{"structures":' * 900 + b"1" + b"}" * 900), 422),
    "half of a character in a formula": (
        post("/stability", b'{"formula": "\\ud800", "formation_energy": 0}'),
        422,
    ),
    "zero byte in a formula": (
        post("/stability", b'{"formula": "Na\\u0000Cl", "formation_energy": 0}'),
        422,
    ),
    "formula of brackets": (
        post("/stability", b'{"formula": "' + b"(" * 99 + b'", "formation_energy": 0}'),
        422,
    ),
    "amount of 10^99": (post("/stability", b'{"formula": "Na1e99", "formation_energy": 0}'), 422),
    "name of an attribute": (post("/check", b'{"structures": [], "__class__": "x"}'), 422),
    "no JSON after JSON": (post("/check", SOME + b"x"), 422),
    "true as a text": (post("/check", b'{"structures": [{"content": true}]}'), 422),
    # What a text is.
    "10^9 atoms": (check_of('999999999\nLattice="1 0 0 0 1 0 0 0 1"\n'), 200),
    "10^18 atoms": (check_of("x\n1\n1 0 0\n0 1 0\n0 0 1\nH\n1000000000000000000\nDirect\n"), 200),
    "array of 10^10": (check_of(NDARRAY, "a.json"), 200),
    "loops of a CIF": (check_of("data_x\n" + "loop_\n_a\n1\n" * 5000, "a.cif"), 200),
    "marks that turn text": (check_of("", "\u202egnp.exe\u200b\ufeff.cif"), 200),
    "formula of a spreadsheet": (check_of("data_=cmd|'/c calc'!A0\n", "=HYPERLINK(1).cif"), 200),
    "name of a device": (check_of("x", "CON"), 200),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_hostile_request_gets_a_clear_answer(server, name) -> None:
    sent, status = ROWS[name]
    began = time.monotonic()
    found = server.send(sent)
    assert statuses(found)[:1] == [status], found[:500]
    assert time.monotonic() - began < 60
    head, _, body = found.partition(b"\r\n\r\n")
    if status >= 400:
        assert b"content-type: application/problem+json" in head.lower()
        problem = json.loads(body[body.find(b"{") : body.find(b"}") + 1])
        assert problem["status"] == status
        assert problem["detail"].endswith(".")
    assert b"Traceback" not in found
    assert b"set-cookie" not in head.lower()
    assert statuses(server.send(HEALTH)) == [200], "nobody else is harmed"


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /health HTTP/1.1\r\nHost: local",
        b"",
        get("/check", "Content-Type: application/json", CHUNKED, method="POST") + ONE,
        get("/check", "Content-Type: application/json", "Content-Length: 99", method="POST") + b"{",
        framed("/check", CHUNKED, b"f" * 17 + b"\r\nhello\r\n"),
    ],
    ids=["half a head", "nothing", "chunks without end", "half a body", "chunk of 2^64 bytes"],
)
def test_what_never_comes_to_an_end_is_left(hasty, sent) -> None:
    began = time.monotonic()
    found = hasty.send(sent, wait=20)
    assert time.monotonic() - began < 15
    assert statuses(found)[-1] == 408
    assert statuses(hasty.send(HEALTH)) == [200]


def test_a_second_head_that_does_not_end_is_left(hasty) -> None:
    began = time.monotonic()
    found = hasty.send(HEALTH + b"GET /heal", wait=20)
    assert statuses(found)[0] == 200
    assert time.monotonic() - began < 15


def test_a_head_that_comes_letter_by_letter_is_left(hasty) -> None:
    sent = [bytes([letter]) for letter in b"GET /health HTTP/1.1\r\n" * 20]
    began = time.monotonic()
    found = hasty.send(*sent, pause=0.1)
    assert time.monotonic() - began < 20
    assert statuses(found) in ([408], [])  # the answer is lost where the client only sends


def test_a_refused_body_is_heard_for_a_while_and_then_left(server) -> None:
    head = get("/check", "Content-Type: application/json", CHUNKED, method="POST")
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port)) as line:
        line.settimeout(20)
        line.sendall(head)
        with suppress(ConnectionError):
            while time.monotonic() - began < 20:
                line.sendall(chunk)
                time.sleep(0.01)
    assert time.monotonic() - began < 20


def test_hundreds_of_idle_connections_end_and_the_server_answers(server) -> None:
    lines = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(150)]
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and statuses(server.send(HEALTH)) != [200]:
        time.sleep(0.2)
    assert statuses(server.send(HEALTH)) == [200]
    for line in lines:
        line.close()


def test_requests_in_a_row_are_answered_in_their_order(server) -> None:
    found = server.send(HEALTH + get("/nothing") + HEALTH + b"noise\r\n\r\n")
    assert statuses(found) == [200, 404, 200, 400]


def test_a_client_that_leaves_in_the_middle_harms_nobody(server) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port)) as line:
            line.sendall(post("/check", SOME)[:-20])
    assert statuses(server.send(HEALTH)) == [200]


def test_ranges_of_a_file_cost_no_more_than_the_file(server) -> None:
    began = time.monotonic()
    many = ",".join(f"{k}-{k + 1}" for k in range(0, 8000, 2))
    found = server.send(get("/static/3Dmol-min.js", f"Range: bytes={many}"))
    assert statuses(found)[0] in (200, 206, 400, 416)
    assert len(found) < 2_000_000
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: bearer s3cret x",
        "Authorization: Bearer  s3cret",
        "Authorization: Basic czNjcmV0",
        "Authorization: Bearer \xe9\xff",
        "Cookie: token=s3cret",
        "X-Token: s3cret",
    ],
)
def test_a_token_is_only_where_it_belongs(guarded, line) -> None:
    assert statuses(guarded.send(get("/models", line))) == [401]
    assert statuses(guarded.send(get("/models?token=s3cret&access_token=s3cret"))) == [401]
    assert statuses(guarded.send(get("/static/%2e%2e/models", line))) == [404]


def test_two_tokens_are_one_too_many(guarded) -> None:
    lines = ("Authorization: Bearer s3cret", "Authorization: Bearer wrong")
    assert statuses(guarded.send(get("/models", *lines))) == [401]
    assert statuses(guarded.send(get("/models", lines[0]))) == [200]
