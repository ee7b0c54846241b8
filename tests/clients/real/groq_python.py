"""The `groq` package, whose calls go to /openai/v1."""

import json

import report
from groq import Groq

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
    return Groq().chat.completions.create(model="m1", messages=asked(report.HELLO)).choices[0].message.content


def stream():
    chunks = Groq().chat.completions.create(model="m1", messages=asked(report.HELLO), stream=True)
    return [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]


def tool():
    ai, history = Groq(), asked(report.ASK)
    message = ai.chat.completions.create(model="m1", messages=history, tools=[WEATHER]).choices[0].message
    called = [json.loads(call.function.arguments) for call in message.tool_calls]
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in message.tool_calls]
    history = [*history, message.model_dump(exclude_none=True), *results]
    return called, ai.chat.completions.create(model="m1", messages=history, tools=[WEATHER]).choices[0].message.content


def hello(patient):
    ai = Groq() if patient else Groq(max_retries=0)
    ai.chat.completions.create(model="m1", messages=asked(report.HELLO))


report.main(chat, stream, tool, hello)
