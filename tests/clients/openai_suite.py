"""The real `openai` package against aexd, told where to go by OPENAI_BASE_URL and OPENAI_API_KEY alone."""

import json
import os
import sys

import openai
from openai import OpenAI
from pydantic import BaseModel

from harness import Counter, Daemon, Provider, Tally

HELLO = [{"role": "user", "content": "Say hello."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        },
    },
}


class Forecast(BaseModel):
    """What the structured answer must fit."""

    city: str
    days: int
    sunny: bool


def client(base_url, token, **options):
    """A client made from the environment only."""
    os.environ["OPENAI_BASE_URL"] = base_url
    os.environ["OPENAI_API_KEY"] = token
    return OpenAI(**options)


def expect(kind, call):
    """The error of that class that the call raises."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def same(left, right):
    """Fails unless both are equal."""
    if left != right:
        raise AssertionError(f"{left!r} is not {right!r}")


class Suite:
    """The tests; each public method is one."""

    def __init__(self, provider, daemon):
        self.provider = provider
        self.daemon = daemon
        self.base_url = f"{daemon.url}/v1"
        self.token = daemon.agent("suite")

    def ai(self):
        """A client of the unrestricted agent."""
        return client(self.base_url, self.token)

    def chat(self):
        answer = self.ai().chat.completions.create(model="m1", messages=HELLO)
        same(answer.model, "m1")
        same(answer.choices[0].finish_reason, "stop")
        assert answer.choices[0].message.content
        same(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)

    def streamed_chat_has_the_plain_content_and_no_usage_chunk(self):
        plain = self.ai().chat.completions.create(model="m1", messages=HELLO)
        with self.ai().chat.completions.create(model="m1", messages=HELLO, stream=True) as stream:
            chunks = list(stream)
        assert all(chunk.choices for chunk in chunks), "a chunk without choices"
        assert all(chunk.usage is None for chunk in chunks), "usage that was not asked for"
        same({chunk.model for chunk in chunks}, {"m1"})
        same("".join(chunk.choices[0].delta.content or "" for chunk in chunks), plain.choices[0].message.content)

    def streamed_chat_has_a_usage_chunk_when_asked(self):
        options = {"include_usage": True}
        plain = self.ai().chat.completions.create(model="m1", messages=HELLO)
        with self.ai().chat.completions.create(
            model="m1", messages=HELLO, stream=True, stream_options=options
        ) as stream:
            chunks = list(stream)
        same(chunks[-1].choices, [])
        same(chunks[-1].usage.model_dump(), plain.usage.model_dump())
        same([chunk.usage for chunk in chunks[:-1]], [None] * (len(chunks) - 1))

    def tool_call_round_trip(self):
        ai = self.ai()
        asked = ai.chat.completions.create(model="m1", messages=HELLO, tools=[WEATHER])
        same(asked.choices[0].finish_reason, "tool_calls")
        message = asked.choices[0].message
        call = message.tool_calls[0]
        same(call.function.name, "weather")
        same(json.loads(call.function.arguments), {"city": "text", "days": 1})
        result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
        history = [*HELLO, message.model_dump(exclude_none=True), result]
        answer = ai.chat.completions.create(model="m1", messages=history, tools=[WEATHER])
        same(answer.choices[0].finish_reason, "stop")
        assert answer.choices[0].message.content

    def structured_output(self):
        answer = self.ai().chat.completions.parse(model="m1", messages=HELLO, response_format=Forecast)
        same(answer.choices[0].message.parsed, Forecast(city="text", days=1, sunny=True))

    def models_list(self):
        same(sorted(model.id for model in self.ai().models.list()), ["m1", "m2"])

    def a_wrong_token_is_an_authentication_error(self):
        wrong = ("1" if self.token[0] != "1" else "2") + self.token[1:]
        error = expect(openai.AuthenticationError, lambda: hello(client(self.base_url, wrong)))
        same((error.status_code, error.code), (401, "invalid_api_key"))

    def a_spent_budget_is_a_402_and_one_request(self):
        token = self.daemon.agent("poor", budget="0.000001")
        relay = Counter(self.daemon.address)
        try:
            error = expect(openai.APIStatusError, lambda: hello(client(f"{relay.url}/v1", token)))
            same((error.status_code, error.code), (402, "insufficient_quota"))
            same(relay.posts, 1)
        finally:
            relay.close()

    def a_model_that_is_not_allowed_is_a_permission_error(self):
        token = self.daemon.agent("narrow", "--allowed-models", "m2")
        error = expect(openai.PermissionDeniedError, lambda: hello(client(self.base_url, token)))
        same((error.status_code, error.code), (403, "model_not_allowed"))

    def a_call_over_the_rate_is_a_rate_limit_error(self):
        token = self.daemon.agent("slow", rpm="1")
        ai = client(self.base_url, token, max_retries=0)
        hello(ai)
        error = expect(openai.RateLimitError, lambda: hello(ai))
        same((error.status_code, error.code), (429, "rate_limit_exceeded"))
        assert 0 < int(error.response.headers["retry-after"]) <= 60

    def a_script_under_aexctl_run_needs_no_setting(self):
        self.daemon.agent("runner")
        script = (
            "from openai import OpenAI\n"
            "answer = OpenAI().chat.completions.create(model='m1', messages=[{'role': 'user', 'content': 'x'}])\n"
            "print('content:', answer.choices[0].message.content)\n"
            "raise SystemExit(7)\n"
        )
        done = self.daemon.ctl("run", "--agent", "runner", "--", sys.executable, "-c", script, check=False)
        same(done.returncode, 7)
        assert "content: The scripted provider" in done.stdout, done

    def the_audit_holds_and_the_provider_billed_something(self):
        assert [bill for bill in self.provider.bills() if bill["ended"] == "complete"]
        done = self.daemon.ctl("audit", check=False)
        same(done.returncode, 0)


def hello(ai):
    """One plain call."""
    return ai.chat.completions.create(model="m1", messages=HELLO)


def main():
    """Runs all tests against one provider and one daemon."""
    # Only what a test sets may reach the client.
    for name in [name for name in os.environ if name.startswith("OPENAI_") or name.lower().endswith("_proxy")]:
        del os.environ[name]
    tally = Tally()
    provider = Provider()
    try:
        daemon = Daemon(provider)
        try:
            suite = Suite(provider, daemon)
            for name, test in vars(Suite).items():
                if not name.startswith("_") and name != "ai":
                    tally.run(f"openai {openai.__version__}: {name}", getattr(suite, name))
            tally.run("aexd ends well on SIGTERM", lambda: same(daemon.stop(), 0))
            if tally.failed:
                print(daemon.log(), file=sys.stderr)
        finally:
            daemon.close()
    finally:
        provider.close()
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
