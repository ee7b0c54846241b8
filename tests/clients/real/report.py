"""What each client's program does with its client, and how it tells: one JSON object a line on standard output.

A program gives four functions and no address, key or header: those come from the environment that `aexctl run` makes. It judges
nothing; real_clients.py does.
"""

import json
import sys

# More calls than any budget of the suite lets pass.
MOST = 200
HELLO = "Say hello."
ASK = "What is the weather?"


def say(check, **facts):
    """Tells what came of a check."""
    print(json.dumps({"check": check, **facts}), flush=True)


def denied(hello):
    """The error that a call raises, as its catcher sees it; nothing when it passes."""
    try:
        hello()
    except Exception as error:  # which class it is, is what the suite asks
        return {
            "classes": [kind.__name__ for kind in type(error).__mro__],
            "status": getattr(error, "status_code", None),
            "message": str(error),
        }
    return None


def main(chat, stream, tool, hello):
    """Plays the scenario that the command line names.

    chat() answers a text, stream() its pieces, tool() what the tool was called with and the text after it; hello(patient) makes
    one call, with the client's own retries or with none.
    """
    scenario = sys.argv[1]
    if scenario == "works":
        say("chat", text=chat())
        say("stream", pieces=stream())
        called, text = tool()
        say("tool", called=called, text=text)
    elif scenario == "budget":
        for answered in range(MOST):
            if fault := denied(lambda: hello(True)):
                say("denied", answered=answered, **fault)
                return
        raise SystemExit(f"{MOST} calls, and no denial")
    elif scenario == "rate":
        hello(True)
        say("denied", **(denied(lambda: hello(False)) or {}))
        hello(True)
        say("waited")
    else:
        raise SystemExit(f"unknown scenario {scenario}")
