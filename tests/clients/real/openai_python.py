"""The `openai` package on chat completions."""

import json

import report
from openai import OpenAI

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def asked(text):
    return [{"role": "user", "content": text}]


def chat():
    answer = OpenAI().chat.completions.create(model="m1", messages=asked(report.HELLO))
    return answer.choices[0].message.content


def stream():
    with OpenAI().chat.completions.create(model="m1", messages=asked(report.HELLO), stream=True) as chunks:
        # As most programs do it: a chunk without choices would break them.
        return [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]


def tool():
    ai, history = OpenAI(), asked(report.ASK)
    message = ai.chat.completions.create(model="m1", messages=history, tools=[WEATHER]).choices[0].message
    called = [json.loads(call.function.arguments) for call in message.tool_calls]
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in message.tool_calls]
    answer = ai.chat.completions.create(model="m1", messages=[*history, message, *results], tools=[WEATHER])
    return called, answer.choices[0].message.content


def hello(patient):
    ai = OpenAI() if patient else OpenAI(max_retries=0)
    ai.chat.completions.create(model="m1", messages=asked(report.HELLO))


report.main(chat, stream, tool, hello)
