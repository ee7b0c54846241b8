"""The earlier program's ten tests under load ("infra assault"), against aexd.

Standard library only. Agents are made as that program's users make them: positional arguments, the token cut from the line that
holds `Token:`, and names that are deleted and made again.
"""

import argparse
import http.client
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait

from harness import PATIENCE, Daemon, Provider, Tally, binary

# At these prices the hold of one small call, bounded by its bytes, is below test 1's budget, and 50 such calls cost more than it:
# some pass, the rest must not.
PICO_PER_MICRO = 1_000_000
INPUT_MICRO, OUTPUT_MICRO = 2, 4
MODELS = """version: 1
providers:
  mock:
    type: openai_compatible
    base_url: %s/v1
default_model: m1
models:
  m1:
    provider: mock
    provider_model: m1-upstream
    pricing: {input_micro: %d, output_micro: %d}
    limits: {max_tokens: 1000}
    capabilities: {reasoning: false, tools: true, vision: false}
"""

HELLO = [{"role": "user", "content": "hi"}]
ONE_TOKEN = {"model": "m1", "messages": HELLO, "max_tokens": 1}
COLLAPSE_USD = "0.0005"
TTL_HOURS = "0.0005"
TTL_SECONDS = 1.8


def same(left, right):
    """Fails unless both are equal."""
    if left != right:
        raise AssertionError(f"{left!r} is not {right!r}")


def only(allowed, answers):
    """Counts the statuses of the answers; fails when another one than those is among them."""
    counts = Counter(status for status, _ in answers)
    if set(counts) - set(allowed):
        strange = next((status, text) for status, text in answers if status not in allowed)
        raise AssertionError(f"{dict(counts)}, such as {strange}")
    return counts


def together(count, call):
    """The answers of so many calls, made at once."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))


class Feed:
    """All events of the ledger, as `aexctl events --follow` shows them: a list alone ends at the newest thousand."""

    def __init__(self, daemon):
        command = [binary("aexctl"), "events", "--json", "--follow", "--limit", "1000"]
        self.events = []
        self.grown = threading.Condition()
        self.process = subprocess.Popen(
            command, env=daemon.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self.grown:
                self.events.append(json.loads(line))
                self.grown.notify_all()

    def until(self, head):
        """The events from the first one to that number; fails when one is missing or comes twice."""
        with self.grown:
            if not self.grown.wait_for(lambda: len(self.events) >= head, PATIENCE):
                raise AssertionError(f"{len(self.events)} of {head} events within {PATIENCE} s")
            events = self.events[:head]
        same([event["seq"] for event in events], list(range(1, head + 1)))
        return events

    def close(self):
        """Ends it."""
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()


class Assault:
    """The ten tests; each public method is one, in their order."""

    def __init__(self, provider, daemon, feed, seconds):
        self._provider = provider
        self._daemon = daemon
        self._feed = feed
        self._seconds = seconds
        self._buried = {}

    def budget_collapse(self):
        for _ in range(2):
            token = self._agent("collapse", COLLAPSE_USD)
            with ThreadPoolExecutor(10) as pool:
                calls = [pool.submit(self._call, token) for _ in range(50)]
                looks = 0
                while wait(calls, timeout=0).not_done or looks == 0:
                    self._within_budget("collapse")
                    looks += 1
            counts = only({200, 402}, [call.result() for call in calls])
            assert counts[200] and counts[402], f"{dict(counts)} after {looks} looks"
            self._within_budget("collapse")

    def ten_agents_five_calls_each(self):
        limits = {"rich": ("1", "1000"), "poor": ("0.000001", "1000"), "slow": ("1", "2")}
        kinds = ["rich"] * 4 + ["poor"] * 3 + ["slow"] * 3
        tokens = [self._agent(f"crowd-{place}", *limits[kind]) for place, kind in enumerate(kinds)]
        answers = together(50, lambda place: self._call(tokens[place % 10]))
        only({200, 402, 429, 502}, answers)
        wanted = {"rich": {200: 5}, "poor": {402: 5}, "slow": {200: 2, 429: 3}}
        for place, kind in enumerate(kinds):
            same((kind, dict(Counter(status for status, _ in answers[place::10]))), (kind, wanted[kind]))

    def a_token_ends_with_its_time(self):
        made = time.monotonic()
        token = self._agent("brief", "1", "100000", "--ttl", TTL_HOURS)
        same(self._call(token)[0], 200)
        # The models list needs the token and writes no event, so asking again and again costs nothing.
        while (status := self._get("/v1/models", token)[0]) == 200:
            assert time.monotonic() - made < PATIENCE, f"still valid after {PATIENCE} s"
        same(status, 401)
        lived = time.monotonic() - made
        assert lived >= TTL_SECONDS, f"ended after {lived:.2f} s"
        same(self._call(token)[0], 401)

    def health_fifty_times(self):
        answers = together(50, lambda _: self._get("/health"))
        only({200}, answers)
        same({json.loads(text)["status"] for _, text in answers}, {"ok"})

    def ten_streams_at_once(self):
        token = self._agent("streams")
        body = {"model": "m1", "messages": HELLO, "max_tokens": 8, "stream": True}
        before = len(self._provider.bills())
        # None can end before all have begun.
        self._provider.control({"always": {"hold_after": 2}})
        with ThreadPoolExecutor(10) as pool:
            streams = [pool.submit(self._call, token, body) for _ in range(10)]
            try:
                self._provider.control({"wait_for_requests": before + 10})
            finally:
                self._provider.control({"always": {}})
                self._provider.control("release")
        answers = [stream.result() for stream in streams]
        only({200}, answers)
        plain = json.loads(self._call(token, {**body, "stream": False})[1])
        for _, text in answers:
            same(content(text), plain["choices"][0]["message"]["content"])

    def malformed_requests(self):
        token = self._agent("malformed")
        bodies = [b'{"model": "m1", "messages": [', {"model": "m1"}, {"model": "m1", "messages": "hi"}]
        before = len(self._provider.bills())
        only({400, 422}, [self._call(token, body) for body in bodies])
        same(len(self._provider.bills()), before)
        only({400, 422}, [self._call(token, {**ONE_TOKEN, "messages": [{"role": "bad", "content": "hi"}]})])
        same([bill["ended"] for bill in self._provider.bills()[before:]], ["refused"])

    def an_unknown_model(self):
        token = self._agent("explorer")
        only({403, 404}, [self._call(token, {**ONE_TOKEN, "model": "no-such-model"})])

    def a_rate_limit_is_one_agents_own(self):
        token, other = self._agent("hasty", "1", "10"), self._agent("calm")
        same(only({200, 429}, together(15, lambda _: self._call(token))), {200: 10, 429: 5})
        same(self._call(other)[0], 200)

    def sustained_batches_of_five(self):
        steady, capped = self._agent("steady", "1000"), self._agent("capped", "1", "60")
        tokens = [steady] * 4 + [capped]
        links = [self._connection() for _ in tokens]
        deadline = time.monotonic() + self._seconds
        with ThreadPoolExecutor(len(tokens)) as pool:
            while time.monotonic() < deadline:
                answers = list(pool.map(lambda token, link: self._call(token, link=link), tokens, links))
                only({200}, answers[:4])
                only({200, 429}, answers[4:])
        for link in links:
            link.close()

    def balances_and_event_sums(self):
        head = self._settled()
        same(self._daemon.ctl("audit", check=False).returncode, 0)
        events = self._feed.until(head)
        never_over_its_budget(events)
        charged = Counter()
        for event in events:
            if event["kind"] == "call.settled":
                charged[event["account"]] += int(event["body"]["charge"])
        agents = self._ctl("agent", "list")["agents"]
        spent = self._buried | {agent["id"]: amount(agent, "spent") for agent in agents}
        same({account: charged[account] for account in spent}, spent)
        same(charged.total(), sum(spent.values()))
        same(charged.total(), sum(cost(bill) for bill in self._provider.bills()))
        assert charged.total() > 0, "nothing was charged"

    def _agent(self, name, budget="100", rpm="100000", *flags):
        """Makes an agent, in place of an older one of that name, and answers its token."""
        if any(agent["name"] == name for agent in self._ctl("agent", "list")["agents"]):
            self._settled()
            older = self._ctl("agent", "inspect", name)
            self._buried[older["id"]] = amount(older, "spent")
            self._daemon.ctl("agent", "delete", name)
        lines = self._daemon.ctl("agent", "create", name, budget, rpm, *flags).stdout.splitlines()
        return next(line for line in lines if "Token:" in line).split("Token:")[1].strip()

    def _ctl(self, *args):
        return json.loads(self._daemon.ctl(*args, "--json").stdout)

    def _within_budget(self, name):
        agent = self._ctl("agent", "inspect", name)
        spent, reserved, limit = (amount(agent, kind) for kind in ("spent", "reserved", "limit"))
        assert spent + reserved <= limit, f"{spent} spent and {reserved} reserved of {limit} pico-USD"

    def _settled(self):
        """Waits until no call is in flight and the provider's bills are closed; the number of the newest event."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            status = self._ctl("status")
            bills = self._provider.bills()
            if status["daemon"]["in_flight"] == 0 and all(bill["ended"] != "open" for bill in bills):
                same(status["reserved_pico"], "0")
                return status["daemon"]["head_seq"]
        raise AssertionError(f"calls in flight after {PATIENCE} s")

    def _connection(self):
        return http.client.HTTPConnection(self._daemon.address, timeout=PATIENCE)

    def _call(self, token, body=None, link=None):
        """One chat call: its status and text."""
        body = ONE_TOKEN if body is None else body
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return self._ask("POST", "/v1/chat/completions", headers, raw, link)

    def _get(self, path, token=None):
        return self._ask("GET", path, {"Authorization": f"Bearer {token}"} if token else {})

    def _ask(self, method, path, headers, raw=None, link=None):
        connection = link or self._connection()
        try:
            connection.request(method, path, raw, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            if link is None:
                connection.close()


def amount(agent, kind):
    """An agent's pico-dollars of that kind; these agents have one budget."""
    (budget,) = agent["budgets"]
    return int(budget[f"{kind}_pico"])


def never_over_its_budget(events):
    """Replays the money: after each event, what an agent spent and what is held for it are within its budget."""
    limits, used, holds = {}, Counter(), {}
    for event in events:
        kind, account, body = event["kind"], event["account"], event["body"]
        if kind == "budget.set":
            limits[account] = int(body["limit"])
        elif kind == "call.held":
            holds[body["request"], body["attempt"]] = int(body["amount"])
            used[account] += int(body["amount"])
        elif kind in ("call.settled", "call.released"):
            used[account] += int(body.get("charge", 0)) - holds.pop((body["request"], body["attempt"]))
        else:
            continue
        assert used[account] <= limits[account], f"{used[account]} of {limits[account]} pico-USD: {event}"
    same(holds, {})


def cost(bill):
    """What a bill of the provider comes to, in pico-dollars."""
    if bill["ended"] == "refused":
        return 0
    same((bill["model"], bill["cached_tokens"]), ("m1-upstream", 0))
    return PICO_PER_MICRO * (bill["prompt_tokens"] * INPUT_MICRO + bill["completion_tokens"] * OUTPUT_MICRO)


def content(stream):
    """The text that a stream's chunks make; fails when the stream is not complete."""
    lines = [line for line in stream.splitlines() if line]
    same(lines[-1], "data: [DONE]")
    choices = [choice for line in lines[:-1] for choice in json.loads(line.removeprefix("data: "))["choices"]]
    same([choice["finish_reason"] for choice in choices if choice["finish_reason"]], ["length"])
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def main():
    """Runs all ten against one provider and one daemon."""
    parser = argparse.ArgumentParser(description="The ten tests under load against aexd; binaries come from AEX_BIN_DIR.")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the sustained load (default: 5; the seed's: 30)")
    seconds = parser.parse_args().seconds
    tally = Tally()
    provider = Provider()
    try:
        daemon = Daemon(provider, MODELS % (provider.origin, INPUT_MICRO, OUTPUT_MICRO))
        try:
            feed = Feed(daemon)
            try:
                assault = Assault(provider, daemon, feed, seconds)
                tests = [name for name in vars(Assault) if not name.startswith("_")]
                for number, name in enumerate(tests, 1):
                    tally.run(f"infra assault {number:2}: {name}", getattr(assault, name))
            finally:
                feed.close()
            if tally.failed:
                print(daemon.log(), file=sys.stderr)
        finally:
            daemon.close()
    finally:
        provider.close()
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
