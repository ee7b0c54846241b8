"""An agent of the `openai-agents` package, which speaks responses."""

import asyncio

import report
from agents import Agent, Runner, function_tool
from agents.models.openai_responses import OpenAIResponsesModel
from openai import AsyncOpenAI

CALLED = []
# The SDK keeps one client, whose connections belong to one loop.
LOOP = asyncio.new_event_loop()


@function_tool
def weather(city: str) -> str:
    """The weather of a city."""
    CALLED.append({"city": city})
    return "sunny"


def answer(text, **options):
    return LOOP.run_until_complete(Runner.run(Agent(name="helper", **options), text)).final_output


def chat():
    return answer(report.HELLO, model="m1")


async def pieces():
    ended = Runner.run_streamed(Agent(name="helper", model="m1"), report.HELLO)
    raw = [event.data async for event in ended.stream_events() if event.type == "raw_response_event"]
    return [event.delta for event in raw if event.type == "response.output_text.delta"]


def stream():
    return LOOP.run_until_complete(pieces())


def tool():
    text = answer(report.ASK, model="m1", tools=[weather])
    return CALLED, text


def hello(patient):
    model = "m1" if patient else OpenAIResponsesModel("m1", AsyncOpenAI(max_retries=0))
    answer(report.HELLO, model=model)


report.main(chat, stream, tool, hello)
