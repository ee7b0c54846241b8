"""An agent of the `openai-agents` package, which speaks responses."""

import asyncio

import report
from agents import Agent, Runner, function_tool
from agents.models.openai_responses import OpenAIResponsesModel
from openai import AsyncOpenAI

CALLED = []


@function_tool
def weather(city: str) -> str:
    """The weather of a city."""
    CALLED.append({"city": city})
    return "sunny"


def chat():
    return Runner.run_sync(Agent(name="helper", model="m1"), report.HELLO).final_output


async def pieces():
    ended = Runner.run_streamed(Agent(name="helper", model="m1"), report.HELLO)
    raw = [event.data async for event in ended.stream_events() if event.type == "raw_response_event"]
    return [event.delta for event in raw if event.type == "response.output_text.delta"]


def stream():
    return asyncio.run(pieces())


def tool():
    ended = Runner.run_sync(Agent(name="helper", model="m1", tools=[weather]), report.ASK)
    return CALLED, ended.final_output


def hello(patient):
    model = "m1" if patient else OpenAIResponsesModel("m1", AsyncOpenAI(max_retries=0))
    Runner.run_sync(Agent(name="helper", model=model), report.HELLO)


report.main(chat, stream, tool, hello)
