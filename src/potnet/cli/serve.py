"""The same answers for others: ``potnet serve`` in a browser, ``potnet mcp`` for agents."""

from __future__ import annotations

import os
import secrets
import threading
import webbrowser
from importlib.util import find_spec
from typing import Annotated

import typer

from potnet.cli.app import app
from potnet.errors import ConfigError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@app.command(rich_help_panel="Crystals")
def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8765,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but a loopback one needs a token.")
    ] = "127.0.0.1",
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="A name by which others call this server; may be repeated."),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = True,
) -> None:
    """Open a page with all of it in a browser, and answer programs over HTTP.

    Nothing leaves this machine. With another address than a loopback one, requests carry the token
    in POTNET_TOKEN, or one that is made and shown here.
    """
    missing = [part for part in ("fastapi", "uvicorn") if find_spec(part) is None]
    if missing:
        raise ConfigError(
            f"serve: {' and '.join(missing)} must be installed, got none. "
            "Run pip install 'potnet[serve]'."
        )
    import socket

    import uvicorn

    from potnet.serve import make_app
    from potnet.serve.protocol import CONNECTIONS, Protocol

    token = ""
    if host not in LOOPBACK:
        token = os.environ.get("POTNET_TOKEN") or secrets.token_urlsafe(24)
        typer.echo(f"Token: {token}")
    listening = socket.create_server((host, port), family=_family(host))
    at = listening.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{at}/"
    typer.echo(f"potnet is at {url} (Ctrl-C ends it)")
    if browser:
        threading.Timer(1.0, webbrowser.open, [url]).start()
    hosts = frozenset(word.lower() for word in (shown, *(name or ())))
    config = uvicorn.Config(
        make_app(hosts=hosts, token=token),
        log_level="warning",
        access_log=False,
        server_header=False,
        http=Protocol,
        ws="none",
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=10,
    )
    uvicorn.Server(config).run(sockets=[listening])


@app.command(rich_help_panel="Crystals")
def mcp() -> None:
    """Answer agents over standard input and output, by the Model Context Protocol.

    The tools predict, check, nearest and explain take structures as text. Nothing leaves this
    machine; no path is read. Programs start this command themselves: {"command": "potnet",
    "args": ["mcp"]} is what they are told.
    """
    if find_spec("mcp") is None or find_spec("mcp.server.mcpserver") is None:
        raise ConfigError(
            "mcp: the package mcp must be installed, 2.0 or newer, got none. "
            "Run pip install 'potnet[mcp]'."
        )
    from potnet.serve.agents import make_server

    make_server().run("stdio")


def _family(host: str) -> int:
    import socket

    return socket.AF_INET6 if ":" in host else socket.AF_INET
