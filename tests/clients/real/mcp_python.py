"""The official `mcp` package: does what the plan in its first argument says, and tells what came of it as JSON."""

import asyncio
import json
import sys

import httpx2
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

PLAN = json.loads(sys.argv[1])


def text(result):
    return "\n".join(part.text for part in result.content if part.type == "text")


async def session(token):
    """The plan from one end of a conversation to the other."""
    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=120)
    transport = streamable_http_client(PLAN["url"], http_client=http)
    async with http, Client(transport, mode=PLAN["mode"]) as client:
        told = {"revision": client.protocol_version, "calls": {}}
        told["tools"] = [tool.name for tool in (await client.list_tools()).tools]
        for name, call in PLAN["calls"].items():
            result = await client.call_tool(call["tool"], call["arguments"])
            told["calls"][name] = {"error": bool(result.is_error), "text": text(result)}
        steps = []

        async def step(progress, total, message):
            steps.append([progress, total, message])

        call = PLAN["progress"]
        result = await client.call_tool(call["tool"], call["arguments"], progress_callback=step)
        told["progress"] = {"steps": steps, "text": text(result)}
        told["resources"] = [str(resource.uri) for resource in (await client.list_resources()).resources]
        told["prompts"] = [prompt.name for prompt in (await client.list_prompts()).prompts]
        return told


def root(fault):
    """What a group of errors is about."""
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return fault


async def main():
    told = await session(PLAN["token"])
    try:
        await session("no token of anybody")
        told["refused"] = None
    except BaseException as fault:  # a group of whatever the client raises
        told["refused"] = f"{type(root(fault)).__name__}: {root(fault)}"
    print(json.dumps(told))


asyncio.run(main())
