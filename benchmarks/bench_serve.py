"""How many predictions a second ``potnet serve`` answers, by the number of clients.

Each client sends one crystal, waits for its sheet, and sends the next. Crystals of clients that
wait at the same time are computed together. Nothing may be lost: every request is answered, and
every answer holds the sheet of the crystal that was sent.

    python benchmarks/bench_serve.py --clients 1 32 200 --seconds 20
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import version
from itertools import cycle
from pathlib import Path
from statistics import quantiles

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "crystals"


def start() -> tuple[subprocess.Popen[str], int]:
    """Return a server and its port, when its models are read."""
    potnet = Path(sys.executable).with_name("potnet")
    command = [str(potnet), "serve", "--no-browser", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    found = re.search(r":(\d+)/", server.stdout.readline())
    assert found, "the server says where it is"
    return server, int(found[1])


class Client:
    """One connection that stays open."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Client:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(self, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Return status and content of an answer."""
        method = "POST" if body else "GET"
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{self._port}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        size = re.search(rb"content-length: (\d+)", answer)
        assert size, answer
        return int(answer.split(maxsplit=2)[1]), await self._reader.readexactly(int(size[1]))


async def measure(port: int, n_clients: int, seconds: float) -> dict[str, float]:
    """Return what ``n_clients`` get out of the server in some seconds."""
    texts = [{"name": p.name, "content": p.read_text()} for p in sorted(EXAMPLES.iterdir())]
    bodies = [(text["name"], json.dumps({"structures": [text]}).encode()) for text in texts]
    times: list[float] = []
    lost = 0
    end = time.perf_counter() + seconds

    async def client(first: int) -> None:
        nonlocal lost
        turns = cycle(bodies[first % len(bodies) :] + bodies[: first % len(bodies)])
        async with Client(port) as asked:
            while time.perf_counter() < end:
                name, body = next(turns)
                began = time.perf_counter()
                status, content = await asked.ask("/predict", body)
                times.append(time.perf_counter() - began)
                ids = [c["id"] for c in json.loads(content)["crystals"]] if status == 200 else []
                lost += len(ids) != 1 or not name.startswith(ids[0])

    began = time.perf_counter()
    await asyncio.gather(*(client(k) for k in range(n_clients)))
    wall = time.perf_counter() - began
    cuts = quantiles(times, n=100)
    return {
        "clients": n_clients,
        "answers": len(times),
        "lost": lost,
        "per_second": round(len(times) / wall, 2),
        "p50_s": round(cuts[49], 3),
        "p99_s": round(cuts[98], 3),
    }


async def memory(port: int) -> int:
    async with Client(port) as client:
        text = (await client.ask("/metrics"))[1].decode()
    return int(re.findall(r"^potnet_memory_bytes (\d+)", text, re.M)[0])


async def run(port: int, clients: list[int], seconds: float) -> list[dict[str, float]]:
    while True:
        async with Client(port) as client:
            if json.loads((await client.ask("/health"))[1])["is_warm"]:
                break
        await asyncio.sleep(0.5)
    rows = []
    await measure(port, 4, min(seconds, 3))  # whatever is done once is done
    for n in clients:
        row = await measure(port, n, seconds)
        row["memory_mb"] = round((await memory(port)) / 1e6)
        rows.append(row)
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    server, port = start()
    try:
        rows = asyncio.run(run(port, asked.clients, asked.seconds))
    finally:
        server.terminate()
        server.wait(60)
    if asked.output:
        about = {"potnet": version("potnet"), "machine": platform.processor() or platform.machine()}
        command = " ".join(["python", "benchmarks/bench_serve.py", *sys.argv[1:]])
        asked.output.write_text(json.dumps({**about, "command": command, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
