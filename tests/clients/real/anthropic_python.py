"""The `anthropic` package on messages."""

import report
from anthropic import Anthropic

WEATHER = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def asked(text):
    return [{"role": "user", "content": text}]


def chat():
    return Anthropic().messages.create(model="c1", max_tokens=500, messages=asked(report.HELLO)).content[0].text


def stream():
    with Anthropic().messages.stream(model="c1", max_tokens=500, messages=asked(report.HELLO)) as events:
        return list(events.text_stream)


def tool():
    ai, history = Anthropic(), asked(report.ASK)
    message = ai.messages.create(model="c1", max_tokens=500, messages=history, tools=[WEATHER])
    calls = [block for block in message.content if block.type == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"} for call in calls]
    history += [{"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    answer = ai.messages.create(model="c1", max_tokens=500, messages=history, tools=[WEATHER])
    return [call.input for call in calls], answer.content[0].text


def hello(patient):
    ai = Anthropic() if patient else Anthropic(max_retries=0)
    ai.messages.create(model="c1", max_tokens=500, messages=asked(report.HELLO))


report.main(chat, stream, tool, hello)
