"""MCP clients × MCP servers that others wrote, through aexd's /mcp; ends with a table.

The servers are started by aexd in the sandbox `standard`; the clients are unmodified. A client's program (real/mcp_*) says what it saw.
Needs the virtual environment and node modules that tests/run makes; binaries come from AEX_BIN_DIR.
"""

import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from harness import MODELS, Daemon, Provider, Tally, binary
from real_clients import CLIENTS, MAIN, PROGRAMS, SENTENCE, pinned, same

# Servers in Python and Node take seconds to start, all at once on a busy machine much longer.
PATIENCE = 300.0
MODULES = CLIENTS / "node_modules"
REVISIONS = {"auto": "2026-07-28", "legacy": "2025-11-25"}
LAW = {
    "global_policy": "deny",
    "rules": [
        {"name": "most", "effect": "allow", "agent": "suite", "tool": "*.*"},
        {"name": "no moves", "effect": "deny", "tool": "files.move_file"},
        {"name": "sums", "effect": "allow", "agent": "summer", "tool": "mock.calculate_sum"},
        {"name": "no private files", "effect": "deny", "tool": "files.*", "when": {"/path": {"matches": "private"}}},
    ],
}


def version(package):
    """The version of a node module."""
    return json.loads((CLIENTS / "package-lock.json").read_text())["packages"][f"node_modules/{package}"]["version"]


class Page(http.server.BaseHTTPRequestHandler):
    """What the server that fetches is to fetch."""

    def do_GET(self):
        body = b"<html><body><h1>Hello</h1><p>A page of this test.</p></body></html>"
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args):
        """Nothing is logged."""


class Servers:
    """What the servers serve, and how aexd starts them."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="aexd-mcp-"))
        (self.folder / "note.txt").write_text("a note of this test\n")
        (self.folder / "private.txt").write_text("nobody reads this\n")
        self.pages = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        threading.Thread(target=self.pages.serve_forever, daemon=True).start()
        self.page = f"127.0.0.1:{self.pages.server_port}"

    def registry(self):
        """mcp.json, in the form that every host reads."""
        def node(package, *args, **grants):
            module = MODULES / "@modelcontextprotocol" / package
            return {
                "command": shutil.which("node"),
                "args": [str(module / "dist/index.js"), *args],
                "sandbox": {"level": "standard", "read": [str(MODULES)], **grants},
            }

        venv = MAIN.parent.parent
        # What a virtual environment links to.
        reads = sorted({str(venv), str(MAIN.resolve().parent.parent / "lib")})

        def python(module, *args, **grants):
            return {"command": str(MAIN), "args": ["-m", module, *args], "sandbox": {"level": "standard", "read": reads, **grants}}

        return {
            "mcpServers": {
                "everything": node("server-everything", "stdio"),
                "files": node("server-filesystem", str(self.folder), read=[str(MODULES), str(self.folder)]),
                "time": python("mcp_server_time", "--local-timezone=UTC"),
                "fetch": python("mcp_server_fetch", "--ignore-robots-txt", "--allow-private-ips", hosts=[self.page]),
                "mock": {"command": binary("mock_tool"), "sandbox": {"level": "none"}},
                "scripted": {"command": binary("scripted-tool"), "sandbox": {"level": "none"}},
            }
        }

    def calls(self):
        """One call of each server, and two that are denied."""
        return {
            "everything": {"tool": "everything__echo", "arguments": {"message": "hello"}},
            "files": {"tool": "files__read_text_file", "arguments": {"path": str(self.folder / "note.txt")}},
            "time": {"tool": "time__convert_time", "arguments": {
                "source_timezone": "Europe/Berlin", "time": "12:00", "target_timezone": "Asia/Tokyo"}},
            "fetch": {"tool": "fetch__fetch", "arguments": {"url": f"http://{self.page}/"}},
            "mock": {"tool": "mock__calculate_sum", "arguments": {"a": 2, "b": 3}},
            "denied": {"tool": "files__move_file", "arguments": {"source": "a", "destination": "b"}},
            "denied arguments": {"tool": "files__read_text_file", "arguments": {"path": str(self.folder / "private.txt")}},
        }

    def close(self):
        self.pages.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)


# What each server says to its call.
ANSWERS = {
    "everything": "Echo: hello",
    "files": "a note of this test",
    "time": "Asia/Tokyo",
    "fetch": "A page of this test.",
    "mock": "The sum is 5",
}


def columns():
    """The servers with their versions."""
    everything, files = (version(f"@modelcontextprotocol/server-{name}") for name in ("everything", "filesystem"))
    time, fetch = (pinned("requirements.txt", f"mcp-server-{name}") for name in ("time", "fetch"))
    names = {"everything": everything, "files": f"filesystem {files}", "time": time, "fetch": fetch, "mock": "mock_tool"}
    return {name: said if " " in said or name == "mock" else f"{name} {said}" for name, said in names.items()}


class Client:
    """A client's program, played once."""

    def __init__(self, name, command, **plan):
        self.name, self.command, self.plan = name, command, plan
        self._told = None

    def told(self, plan, environment):
        """What it saw."""
        if self._told is None:
            command = [*self.command, json.dumps({**plan, **self.plan})]
            done = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
            )
            if done.returncode != 0:
                last = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
                raise AssertionError(f"{self.name} ended with {done.returncode}:\n{last}")
            self._told = json.loads(done.stdout.splitlines()[-1])
        return self._told


def table():
    """The clients."""
    python, node = f"mcp (Python) {pinned('requirements.txt', 'mcp')}", f"sdk (TypeScript) {version('@modelcontextprotocol/sdk')}"
    return [
        Client(f"{python}, auto", (str(MAIN), str(PROGRAMS / "mcp_python.py")), mode="auto"),
        Client(f"{python}, legacy", (str(MAIN), str(PROGRAMS / "mcp_python.py")), mode="legacy"),
        Client(node, ("node", str(PROGRAMS / "mcp_typescript.mjs"))),
    ]


class Suite:
    """The checks of a client."""

    def __init__(self, daemon, servers, client):
        self._client = client
        self._plan = {
            "url": f"{daemon.url}/mcp",
            "token": daemon.tokens["suite"],
            "calls": servers.calls(),
            "progress": {"tool": "scripted__do", "arguments": {"as": "progress", "steps": 3}},
            "change": {"tool": "scripted__do", "arguments": {"as": "add"}},
        }
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(daemon.folder), "LANG": "C.UTF-8"}

    def _told(self):
        return self._client.told(self._plan, self._environment)

    def server(self, name):
        """Lists a server's tools and calls one."""
        told = self._told()
        listed = [tool for tool in told["tools"] if tool.startswith(f"{name}__")]
        assert self._plan["calls"][name]["tool"] in listed, listed
        answer = told["calls"][name]
        assert not answer["error"] and ANSWERS[name] in answer["text"], answer
        return f"{len(listed)} listed, called"

    def denial(self):
        """A call that the permissions deny is a result that the model reads; a tool that is always denied is not listed."""
        told = self._told()
        assert "files__move_file" not in told["tools"], told["tools"]
        for name, rule in (("denied", "no moves"), ("denied arguments", "no private files")):
            answer = told["calls"][name]
            words = answer["text"]
            assert answer["error"] and words.startswith("Error: Tool `files."), answer
            assert f"rule `{rule}` of permissions.json" in words and "req_" in words, answer
        return "Error:, rule"

    def progress(self):
        """Steps come before the answer."""
        told = self._told()["progress"]
        same(told["steps"], [[step, 3, f"step {step}"] for step in (1, 2, 3)])
        same(told["text"], "done")
        return "3 steps"

    def context(self):
        """Resources and prompts of the servers are listed."""
        told = self._told()
        assert any(uri.startswith("aex://everything/") for uri in told["resources"]), told["resources"]
        assert any(name.startswith("everything__") for name in told["prompts"]), told["prompts"]
        return f"{len(told['resources'])} resources, {len(told['prompts'])} prompts"

    def refusal(self):
        """A token that is none."""
        refused = self._told()["refused"]
        assert refused and "token" in refused, refused
        return "401"

    def revision(self):
        """What was agreed upon, and that changes are heard by who can."""
        told = self._told()
        if "mode" in self._client.plan:
            same(told["revision"], REVISIONS[self._client.plan["mode"]])
        else:
            same(told["changed"], True)
        return told["revision"]


CHECKS = ("revision", "denial", "progress", "context", "refusal")


def the_levels_are_in_force(daemon):
    """Servers that others wrote run confined."""
    servers = {server["name"]: server for server in json.loads(daemon.ctl("tools", "list", "--json").stdout)["servers"]}
    for name in ("everything", "files", "time", "fetch"):
        same((name, servers[name].get("sandbox_in_force")), (name, "standard"))


def an_agent_calls(daemon):
    """A governed model asks for a tool, which comes from /mcp: both are in one account."""
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(daemon.folder), "LANG": "C.UTF-8",
        "OPENAI_BASE_URL": f"{daemon.url}/v1", "OPENAI_API_KEY": daemon.tokens["summer"],
    }
    client = Client("openai-agents", (str(MAIN), str(PROGRAMS / "mcp_agents.py")))
    told = client.told({"url": f"{daemon.url}/mcp", "token": daemon.tokens["summer"]}, environment)
    same(told["tools"], ["mock__calculate_sum"])
    assert len(told["outputs"]) == 1 and "The sum is" in str(told["outputs"][0]), told
    same(told["final"], SENTENCE)


def show(clients, cells, servers):
    """Prints the table of clients × servers."""
    heads = columns()
    rows = [("client", *(heads[name] for name in servers), *CHECKS)]
    rows += [(client.name, *(cells[client.name, check] for check in (*servers, *CHECKS))) for client in clients]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def main():
    """Plays all clients against all servers."""
    tally, cells, clients = Tally(), {}, table()
    provider, servers = Provider(), Servers()
    try:
        files = {"mcp.json": json.dumps(servers.registry()), "permissions.json": json.dumps(LAW)}
        daemon = Daemon(provider, MODELS.format(base_url=f"{provider.origin}/v1"), files=files)
        try:
            daemon.tokens = {name: daemon.agent(name) for name in ("suite", "summer")}
            for client in clients:
                suite = Suite(daemon, servers, client)
                for check in (*ANSWERS, *CHECKS):
                    def run(suite=suite, client=client, check=check):
                        cells[client.name, check] = "FAIL"
                        played = suite.server(check) if check in ANSWERS else getattr(suite, check)()
                        cells[client.name, check] = played

                    tally.run(f"{client.name}: {check}", run)
            tally.run("servers that others wrote are confined", lambda: the_levels_are_in_force(daemon))
            tally.run(f"openai-agents {pinned('requirements.txt', 'openai-agents')} with tools from /mcp", lambda: an_agent_calls(daemon))
            tally.run("the ledger holds", lambda: same(daemon.ctl("audit", check=False).returncode, 0))
            if tally.failed:
                print(daemon.log(), file=sys.stderr)
        finally:
            daemon.close()
    finally:
        provider.close()
        servers.close()
    show(clients, cells, list(ANSWERS))
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
