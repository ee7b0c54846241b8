"""Real clients against aexd, each told where to go by the environment of `aexctl run` alone; ends with a table of clients × checks.

A client's program (real/) says what it saw, the daemon how many calls and denials there were, the provider what it bills. Needs the
virtual environments and node modules that tests/run makes; binaries come from AEX_BIN_DIR.
"""

import json
import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness import Daemon, Nobody, Provider, Tally, binary

CLIENTS = Path(__file__).parent
PROGRAMS = CLIENTS / "real"
MAIN = CLIENTS.parent / ".venv/bin/python"
CREWAI = CLIENTS.parent / ".venv-crewai/bin/python"
# Frameworks take seconds to import, all at once on a busy machine much longer.
PATIENCE = 300.0

SENTENCE = "The scripted provider answers one small piece at a time."
# The provider fits the arguments of a tool to its schema: each string is this one.
WEATHER = {"city": "text"}
INPUT_MICRO, OUTPUT_MICRO, PICO_PER_MICRO = 1, 2, 1_000_000
MODELS = """version: 1
providers:
  mock:
    type: openai_compatible
    base_url: {origin}/v1
  claude:
    type: anthropic
    base_url: {origin}
default_model: m1
models:
  m1:
    provider: mock
    provider_model: m1-upstream
    pricing: {{input_micro: 1, output_micro: 2}}
    limits: {{max_tokens: 1000, context_tokens: 8000}}
    capabilities: {{reasoning: true, tools: true, vision: false}}
  c1:
    provider: claude
    provider_model: m2-upstream
    pricing: {{input_micro: 1, output_micro: 2}}
    limits: {{max_tokens: 1000, context_tokens: 8000}}
    capabilities: {{reasoning: true, tools: true, vision: false}}
"""
# A few calls of any of them, less than report.MOST.
BUDGET = "0.0025"


@dataclass(frozen=True)
class Client:
    """One row of the table."""

    name: str
    command: tuple
    # What its error for a budget, and for a rate, is caught by.
    budget: str = "APIStatusError"
    rate: str = "RateLimitError"
    # Calls of a chat, a stream and a tool round trip.
    calls: int = 4
    # Posts of one call that a budget denies.
    posts: int = 1
    # Posts of one call over its rate, when the retries of the SDK below are off.
    insists: int = 1


def pinned(file, package):
    """The version of a package in a list of pins."""
    return re.search(rf"^{re.escape(package)}==(\S+)$", (CLIENTS / file).read_text(), re.M)[1]


def python(name, package, program, **more):
    """A client in Python."""
    old = package == "crewai"
    pins = "requirements-crewai.txt" if old else "requirements.txt"
    command = (str(CREWAI if old else MAIN), str(PROGRAMS / program))
    return Client(f"{name} {pinned(pins, package)}", command, **more)


def node(name, package, program, **more):
    """A client in JavaScript."""
    version = json.loads((CLIENTS / "package-lock.json").read_text())["packages"][f"node_modules/{package}"]["version"]
    return Client(f"{name} {version}", ("node", str(PROGRAMS / program)), **more)


def table():
    """The clients."""
    return [
        python("openai (Python)", "openai", "openai_python.py"),
        python("openai (Python), responses", "openai", "responses_python.py"),
        node("openai (Node)", "openai", "openai_node.mjs", budget="APIError"),
        python("anthropic (Python)", "anthropic", "anthropic_python.py"),
        python("groq (Python)", "groq", "groq_python.py"),
        python("LangGraph, langchain-openai", "langchain-openai", "langgraph_agent.py"),
        python("AutoGen, autogen-ext[openai]", "autogen-ext", "autogen_agent.py"),
        python("openai-agents", "openai-agents", "agents_sdk.py"),
        # Above the SDK's retries it has three attempts of its own.
        python("CrewAI", "crewai", "crewai_crew.py", insists=3),
    ]


def same(left, right):
    """Fails unless both are equal."""
    if left != right:
        raise AssertionError(f"{left!r} is not {right!r}")


# Of what a program said before it failed.
MOST_LINES = 12


class Played:
    """What a client's program told, and what its run came to."""

    def __init__(self, daemon, client, scenario, flags):
        command = [binary("aexctl"), "run", "--agent", "suite", "--json", *flags, "--", *client.command, scenario]
        done = subprocess.run(
            command, env=daemon.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
        )
        if done.returncode != 0:
            last = "\n".join((done.stdout + done.stderr).splitlines()[-MOST_LINES:])
            raise AssertionError(f"{scenario} ended with {done.returncode}:\n{last}")
        told = [line for line in done.stdout.splitlines() if line.startswith('{"check"')]
        self.told = {fact["check"]: fact for fact in map(json.loads, told)}
        self.summary = json.loads(done.stderr.splitlines()[-1])

    def counted(self, calls, denials):
        """The daemon counted so many of each, and knows what each call used."""
        same((self.summary["calls"], self.summary["denials"]), (calls, denials))
        same((self.summary["estimated"], self.summary["worst_case"]), (0, 0))


class Suite:
    """Plays each scenario of a client once, whenever its first check is due."""

    def __init__(self, daemon, clients):
        self._daemon = daemon
        # A call over its rate waits up to a minute: all clients wait at the same time, beside what the others do.
        self._waiting = ThreadPoolExecutor(len(clients))
        self._working = ThreadPoolExecutor(os.cpu_count() or 1)
        self._played = {}
        for client in clients:
            self._play(self._waiting, client, "rate", "--rpm", "1")
        for client in clients:
            self._play(self._working, client, "works")
            self._play(self._working, client, "budget", "--budget", BUDGET)

    def _play(self, pool, client, scenario, *flags):
        self._played[client, scenario] = pool.submit(Played, self._daemon, client, scenario, flags)

    def _of(self, client, scenario):
        return self._played[client, scenario].result()

    def close(self):
        """Waits for all."""
        self._waiting.shutdown()
        self._working.shutdown()

    def chat(self, client):
        same(self._of(client, "works").told["chat"]["text"], SENTENCE)
        return "answered"

    def stream(self, client):
        pieces = self._of(client, "works").told["stream"]["pieces"]
        same("".join(pieces), SENTENCE)
        assert len(pieces) > 1, "the stream came in one piece"
        return f"{len(pieces)} pieces"

    def tool(self, client):
        played = self._of(client, "works")
        same(played.told["tool"]["called"], [WEATHER])
        same(played.told["tool"]["text"], SENTENCE)
        played.counted(client.calls, 0)
        return f"called, {client.calls} calls in all"

    def budget(self, client):
        played = self._of(client, "budget")
        told = played.told["denied"]
        assert told["answered"] > 0, "not even the first call passed"
        self._error(told, client.budget, 402, "budget")
        played.counted(told["answered"], client.posts)
        return f"{told['classes'][0]} 402, {client.posts} post{'s' if client.posts > 1 else ''}"

    def rate(self, client):
        played = self._of(client, "rate")
        self._error(played.told["denied"], client.rate, 429, "limit of 1 request per minute")
        assert "waited" in played.told, "the client did not wait and try again"
        # What gave up, and what waited and passed.
        played.counted(2, client.insists + 1)
        return f"{played.told['denied']['classes'][0]} 429, then waits"

    def _error(self, told, kind, status, words):
        assert kind in told["classes"], told
        same(told["status"], status)
        assert words in told["message"], told
        assert re.search(r"req_[0-9a-f]{16}", told["message"]), f"no request id: {told}"


CHECKS = ("chat", "stream", "tool", "budget", "rate")


def cost(bill):
    """What a bill of the provider comes to, in pico-dollars."""
    return PICO_PER_MICRO * (bill["prompt_tokens"] * INPUT_MICRO + bill["completion_tokens"] * OUTPUT_MICRO)


def the_bills_are_what_was_charged(provider, daemon):
    bills = provider.bills()
    same({bill["ended"] for bill in bills}, {"complete"})
    (agent,) = json.loads(daemon.ctl("agent", "list", "--json").stdout)["agents"]
    (budget,) = agent["budgets"]
    same((int(budget["spent_pico"]), budget["reserved_pico"]), (sum(map(cost, bills)), "0"))
    same(daemon.ctl("audit", check=False).returncode, 0)


def show(clients, cells):
    """Prints the table of clients × checks."""
    rows = [("client", *CHECKS)] + [(client.name, *(cells[client, check] for check in CHECKS)) for client in clients]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def main():
    """Plays all clients against one provider and one daemon."""
    wanted = sys.argv[1:]
    clients = [client for client in table() if not wanted or any(word in client.name for word in wanted)]
    tally, cells = Tally(), {}
    provider, nobody = Provider(), Nobody()
    try:
        daemon = Daemon(provider, MODELS.format(origin=provider.origin), nobody.environment() | QUIET)
        try:
            daemon.agent("suite")
            suite = Suite(daemon, clients)
            for client in clients:
                for check in CHECKS:
                    def run(client=client, check=check):
                        cells[client, check] = "FAIL"
                        cells[client, check] = getattr(suite, check)(client)

                    tally.run(f"{client.name}: {check}", run)
            suite.close()
            tally.run("the bills are what was charged", lambda: the_bills_are_what_was_charged(provider, daemon))
            tally.run("no client called anybody else", lambda: same(sorted(nobody.asked), []))
            if tally.failed:
                print(daemon.log(), file=sys.stderr)
        finally:
            daemon.close()
    finally:
        provider.close()
        nobody.close()
    show(clients, cells)
    return tally.finish()


# CrewAI reports home unless it is told not to.
QUIET = {"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false", "OTEL_SDK_DISABLED": "true"}

if __name__ == "__main__":
    sys.exit(main())
