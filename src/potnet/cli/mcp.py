"""``potnet mcp``: the same answers as tools for agents."""

from __future__ import annotations

from importlib.util import find_spec

from potnet.cli.app import app
from potnet.errors import ConfigError


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
