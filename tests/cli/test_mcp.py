"""``potnet mcp`` talks to agents over standard input and output, and says nothing else there."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mcp.server.mcpserver")

from potnet.serve.schemas import POSCAR

POTNET = Path(sys.executable).with_name("potnet")
CALLS = {
    "predict": {"content": POSCAR, "name": "salt.vasp"},
    "check": {"content": "data_x\n", "name": "/etc/passwd"},
    "nearest": {"content": POSCAR, "name": "salt.vasp", "n": 3},
    "explain": {"content": POSCAR, "name": "salt.vasp"},
}


@pytest.fixture(scope="module")
def answers() -> dict[str, dict]:
    """What the server says to each request of a whole conversation, by method and tool."""
    about = {"name": "test", "version": "1"}
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": about}
    asked = [("initialize", hello), ("tools/list", {})]
    asked += [("tools/call", {"name": n, "arguments": given}) for n, given in CALLS.items()]
    asked += [("tools/call", {"name": "nearest", "arguments": {"content": POSCAR, "n": 10**6}})]
    started = [str(POTNET), "mcp"]
    with subprocess.Popen(started, stdin=-1, stdout=-1, stderr=-1, text=True) as server:
        assert server.stdin
        assert server.stdout
        found = []
        for k, (method, params) in enumerate(asked):
            said = {"jsonrpc": "2.0", "id": k, "method": method, "params": params}
            server.stdin.write(json.dumps(said) + "\n")
            if k == 0:
                note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
                server.stdin.write(json.dumps(note) + "\n")
            server.stdin.flush()
            found.append(json.loads(server.stdout.readline()))  # every line is a message
        server.stdin.close()
        assert server.stdout.read() == ""
        assert server.wait(60) == 0
    names = ["initialize", "tools/list", *CALLS, "too many"]
    assert [answer["id"] for answer in found] == list(range(len(asked)))
    return {name: answer["result"] for name, answer in zip(names, found, strict=True)}


def test_the_client_of_the_sdk_gets_answers_and_the_sentence_of_a_refusal() -> None:
    from mcp.client import Client
    from mcp.client.stdio import StdioServerParameters

    started = StdioServerParameters(command=str(POTNET), args=["mcp"], env=dict(os.environ))

    async def talk() -> tuple:
        async with Client(started) as client:
            tools = await client.list_tools()
            known = await client.call_tool("nearest", {"content": POSCAR, "n": 2})
            refused = await client.call_tool("explain", {"content": "no structure"})
            return {tool.name for tool in tools.tools}, known, refused

    names, known, refused = asyncio.run(talk())
    assert names == set(CALLS)
    assert known.structured_content["crystals"][0]["formula"] == "NaCl"
    assert refused.is_error
    assert "the scale must be 1 or 3 numbers" in refused.content[0].text


def test_tools_have_typed_inputs_and_say_units(answers) -> None:
    tools = {tool["name"]: tool for tool in answers["tools/list"]["tools"]}
    assert set(tools) == {"predict", "check", "nearest", "explain"}
    for tool in tools.values():
        assert tool["inputSchema"]["properties"]["content"]["type"] == "string"
        assert tool["inputSchema"]["required"] == ["content"]
        assert tool["annotations"]["readOnlyHint"]
    assert "eV/atom" in tools["predict"]["description"]
    assert "g/cm^3" in tools["check"]["description"]
    assert tools["nearest"]["inputSchema"]["properties"]["n"]["maximum"] == 50


def test_predictions_are_rows_with_intervals(answers) -> None:
    (crystal,) = answers["predict"]["structuredContent"]["crystals"]
    assert crystal["space_group"] == "Fm-3m (225)"
    (row,) = [row for row in crystal["rows"] if row["property"] == "formation_energy"]
    assert row["lower"] < row["value"] < row["upper"] < 0
    assert row["unit"] == "eV/atom"


def test_a_name_is_never_a_path_and_what_is_no_crystal_gets_a_reason(answers) -> None:
    checked = answers["check"]["structuredContent"]
    assert checked["crystals"] == []
    (failure,) = checked["failures"]
    assert failure["reason"].endswith(".")


def test_nearest_and_explanations_answer(answers) -> None:
    found = answers["nearest"]["structuredContent"]["crystals"]
    assert found[0]["is_same"]
    assert found[0]["formula"] == "NaCl"
    why = answers["explain"]["structuredContent"]
    why = why.get("result", why)
    assert why["unit"] == "eV/atom"
    assert answers["too many"]["isError"]
