"""The `openai` package on responses."""

import json

import report
from openai import OpenAI

WEATHER = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def chat():
    return OpenAI().responses.create(model="m1", input=report.HELLO).output_text


def stream():
    with OpenAI().responses.stream(model="m1", input=report.HELLO) as events:
        return [event.delta for event in events if event.type == "response.output_text.delta"]


def tool():
    ai = OpenAI()
    asked = ai.responses.create(model="m1", input=report.ASK, tools=[WEATHER])
    calls = [item for item in asked.output if item.type == "function_call"]
    results = [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"} for call in calls]
    answer = ai.responses.create(model="m1", input=results, previous_response_id=asked.id, tools=[WEATHER])
    return [json.loads(call.arguments) for call in calls], answer.output_text


def hello(patient):
    ai = OpenAI() if patient else OpenAI(max_retries=0)
    ai.responses.create(model="m1", input=report.HELLO)


report.main(chat, stream, tool, hello)
