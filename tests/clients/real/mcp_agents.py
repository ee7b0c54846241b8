"""An agent of the `openai-agents` package whose tools come from /mcp: does what the plan says, and tells what came of it as JSON."""

import asyncio
import json
import sys

from agents import Agent, Runner, set_tracing_disabled
from agents.mcp import MCPServerStreamableHttp

PLAN = json.loads(sys.argv[1])


async def main():
    set_tracing_disabled(True)
    params = {"url": PLAN["url"], "headers": {"Authorization": f"Bearer {PLAN['token']}"}, "timeout": 120}
    async with MCPServerStreamableHttp(params=params, client_session_timeout_seconds=120) as server:
        tools = [tool.name for tool in await server.list_tools()]
        ended = await Runner.run(Agent(name="helper", model="m1", mcp_servers=[server]), "What is the sum?")
        outputs = [item.output for item in ended.new_items if item.type == "tool_call_output_item"]
        print(json.dumps({"tools": tools, "outputs": outputs, "final": ended.final_output}))


asyncio.run(main())
