"""A crew of CrewAI, which lives on the previous major version of `openai`."""

import report
from crewai import LLM, Agent, Crew, Task
from crewai.events import LLMStreamChunkEvent, crewai_event_bus
from crewai.tools import tool as as_tool

CALLED = []


@as_tool("weather")
def weather(city: str) -> str:
    """The weather of a city."""
    CALLED.append({"city": city})
    return "sunny"


def crew(model, text, tools=()):
    """What a crew of one answers."""
    agent = Agent(role="helper", goal="to help", backstory="none", llm=model, tools=list(tools), max_retry_limit=0)
    task = Task(description=text, expected_output="an answer", agent=agent)
    return Crew(agents=[agent], tasks=[task]).kickoff().raw


def chat():
    return crew(LLM(model="m1", provider="openai"), report.HELLO)


def stream():
    pieces = []
    with crewai_event_bus.scoped_handlers():

        @crewai_event_bus.on(LLMStreamChunkEvent)
        def _(source, event):
            pieces.append(event.chunk)

        LLM(model="m1", provider="openai", stream=True).call(report.HELLO)
        crewai_event_bus.flush()
    return pieces


def tool():
    return CALLED, crew(LLM(model="m1", provider="openai"), report.ASK, [weather])


def hello(patient):
    model = LLM(model="m1", provider="openai") if patient else LLM(model="m1", provider="openai", max_retries=0)
    model.call(report.HELLO)


report.main(chat, stream, tool, hello)
