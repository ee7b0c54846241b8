"""A small agent: it asks a model until its budget stops it. Python's standard library only."""

import json
import os
import sys
import urllib.error
import urllib.request

TOPICS = ["the tides", "old maps", "slow trains", "night skies", "sourdough"]

# Calls to this machine go to the daemon, whatever proxy the environment names.
open_url = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def ask(question):
    """Streams one answer."""
    body = {"model": "demo", "stream": True, "max_tokens": 32, "messages": [{"role": "user", "content": question}]}
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"},
    )
    text = ""
    with open_url(request, timeout=10) as answer:
        for line in answer:
            if line.startswith(b"data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    text += choice["delta"].get("content") or ""
    return text


for number in range(1, 51):
    try:
        print(f"  agent   {number}: {ask('Tell me about ' + TOPICS[number % len(TOPICS)] + ', please.')}", flush=True)
    except urllib.error.HTTPError as refusal:
        error = json.load(refusal)["error"]
        print(f"  agent   {number}: {refusal.code} {error['code']}: {error['message']}", flush=True)
        sys.exit(0 if refusal.code == 402 and number > 1 else 1)
sys.exit("  agent   the budget never stopped me")
