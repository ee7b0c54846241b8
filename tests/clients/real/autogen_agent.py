"""An agent of AutoGen, with the OpenAI client of `autogen-ext`."""

import asyncio

import report
from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient

CALLED = []
# AutoGen knows OpenAI's own models only.
ABLE = {"family": "unknown", "function_calling": True, "json_output": True, "structured_output": False, "vision": False}


async def weather(city: str) -> str:
    """The weather of a city."""
    CALLED.append({"city": city})
    return "sunny"


def model(**options):
    return OpenAIChatCompletionClient(model="m1", model_info=ABLE, **options)


def asked():
    return [UserMessage(content=report.HELLO, source="user")]


def chat():
    agent = AssistantAgent("helper", model())
    return asyncio.run(agent.run(task=report.HELLO)).messages[-1].content


async def pieces():
    return [piece async for piece in model().create_stream(asked()) if isinstance(piece, str)]


def stream():
    return asyncio.run(pieces())


def tool():
    agent = AssistantAgent("helper", model(), tools=[weather], reflect_on_tool_use=True)
    ended = asyncio.run(agent.run(task=report.ASK))
    return CALLED, ended.messages[-1].content


def hello(patient):
    client = model() if patient else model(max_retries=0)
    asyncio.run(client.create(asked()))


report.main(chat, stream, tool, hello)
