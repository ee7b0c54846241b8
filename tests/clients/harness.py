"""Starts and stops what the Python tests need: the scripted provider and aexd, each in its own temporary folder.

Standard library only. Binaries come from AEX_BIN_DIR. Each wait has a deadline; nothing sleeps.
"""

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

PATIENCE = 20.0
KEY = "sk-scripted-provider-key"

MODELS = """version: 1
providers:
  mock:
    type: openai_compatible
    base_url: {base_url}
default_model: m1
models:
  m1:
    provider: mock
    provider_model: m1-upstream
    pricing: {{input_micro: 1, output_micro: 2}}
    limits: {{max_tokens: 1000}}
    capabilities: {{reasoning: false, tools: true, vision: false}}
  m2:
    provider: mock
    provider_model: m2
    pricing: {{input_micro: 1, output_micro: 2}}
    limits: {{max_tokens: 1000}}
    capabilities: {{reasoning: false, tools: true, vision: false}}
"""


def binary(name):
    """The path of one of our programs."""
    path = Path(os.environ["AEX_BIN_DIR"]) / name
    if not path.exists():
        raise SystemExit(f"{path} is missing: run `cargo build --workspace` first")
    return str(path)


class Provider:
    """The scripted provider as a process."""

    def __init__(self, *flags):
        self.process = subprocess.Popen([binary("mock-provider"), *flags], stdout=subprocess.PIPE, text=True)
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if ready else ""
        if not line.startswith("listening on "):
            self.close()
            raise RuntimeError(f"mock-provider did not say where it listens: {line!r}")
        self.origin = line.removeprefix("listening on ").strip()

    def control(self, message):
        """Sends a message of the control API, such as {"next": {"status": 429}} or "release"."""
        request = urllib.request.Request(f"{self.origin}/_ctl", json.dumps(message).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)

    def bills(self):
        """What it would charge, one dict a call."""
        with urllib.request.urlopen(f"{self.origin}/_bills", timeout=PATIENCE) as answer:
            return json.load(answer)

    def close(self):
        """Ends it."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Daemon:
    """aexd in a temporary home with a cleared environment."""

    def __init__(self, provider, models=None, environment=None, files=None):
        """`files`: more of its configuration, text by name."""
        self._more = environment or {}
        self.folder = Path(tempfile.mkdtemp(prefix="aexd-test-"))
        self.home = self.folder / "home"
        (self.home / "config").mkdir(parents=True)
        text = models or MODELS.format(base_url=f"{provider.origin}/v1")
        for name, content in {"models.yaml": text, **(files or {})}.items():
            (self.home / "config" / name).write_text(content)
        dotenv = os.open(self.home / ".env", os.O_CREAT | os.O_WRONLY, 0o600)
        with os.fdopen(dotenv, "w") as file:
            file.write(f"MOCK_API_KEY={KEY}\nCLAUDE_API_KEY={KEY}\n")
        self.process = None
        try:
            self.address = self._start()
        except BaseException:
            self.close()
            raise
        self.url = f"http://{self.address}"

    def environment(self):
        """All that our programs see."""
        return {
            "AEX_HOME": str(self.home),
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "PATH": os.environ.get("PATH", ""),
        } | self._more

    def log(self):
        """aexd's standard error."""
        return (self.folder / "stderr").read_text(errors="replace")

    def _start(self):
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with notify, open(self.folder / "stderr", "ab") as log:
            notify.bind(str(self.folder / "notify"))
            notify.settimeout(0.05)
            environment = self.environment() | {"NOTIFY_SOCKET": str(self.folder / "notify")}
            command = [binary("aexd"), "serve", "--home", str(self.home), "--port", "0"]
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log
            )
            deadline = time.monotonic() + PATIENCE
            said = []
            while time.monotonic() < deadline:
                try:
                    said += notify.recv(4096).decode().splitlines()
                except TimeoutError:
                    if self.process.poll() is not None:
                        raise RuntimeError(f"aexd ended with {self.process.returncode}:\n{self.log()}") from None
                at = [line for line in said if line.startswith("STATUS=listening on ")]
                if at and "READY=1" in said:
                    return at[-1].removeprefix("STATUS=listening on ").strip()
        raise RuntimeError(f"aexd was not ready within {PATIENCE} s:\n{self.log()}")

    def ctl(self, *args, check=True):
        """Runs aexctl to its end."""
        command = [binary("aexctl"), *args]
        done = subprocess.run(
            command, env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=3 * PATIENCE
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"aexctl {' '.join(args)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def agent(self, name, *flags, budget="100", rpm="100000"):
        """Creates an agent and answers its token."""
        done = self.ctl("agent", "create", name, budget, rpm, "--json", *flags)
        return json.loads(done.stdout)["token"]

    def stop(self):
        """Ends it with SIGTERM and answers its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def close(self):
        """Ends it in any case and removes its folder."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Counter:
    """A relay in front of a TCP server that counts the HTTP posts passing through it."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.target = (host, int(port))
        self.posts = 0
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(self.target)
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source, sink, counted):
        tail = b""
        mark = b"POST /"
        try:
            while piece := source.recv(65536):
                if counted:
                    seen = tail + piece
                    with self.lock:
                        self.posts += seen.count(mark)
                    # A mark that is cut in two is counted once, a whole one not again.
                    tail = seen[-(len(mark) - 1):]
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            # One side left: the other one hears of it.
            for end in (source, sink):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self):
        """Accepts no more connections."""
        self.listener.close()


class Nobody:
    """Stands where the rest of the world would be: a proxy that notes who is asked for, and lets nobody through."""

    def __init__(self):
        self.asked = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    def environment(self):
        """Has a client take this proxy for all that is not on this machine."""
        url = "http://127.0.0.1:%d" % self._listener.getsockname()[1]
        kinds = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        proxies = {name: url for kind in kinds for name in (kind, kind.lower())}
        return proxies | {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                client.settimeout(PATIENCE)
                try:
                    self.asked.add(client.recv(4096).split(b"\r\n")[0].decode(errors="replace"))
                    client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                except OSError:
                    pass

    def close(self):
        """Listens no more."""
        self._listener.close()


class Tally:
    """Runs tests and counts: one line each, a last line with both counts."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    def run(self, name, test):
        """Runs one test."""
        started = time.monotonic()
        try:
            test()
        except Exception as fault:  # the tally goes on after any failure
            self.failed += 1
            print(f"FAIL {name}: {type(fault).__name__}: {fault}", flush=True)
        else:
            self.passed += 1
            print(f"ok   {name} ({time.monotonic() - started:.2f} s)", flush=True)

    def finish(self):
        """Prints the counts and answers the exit code."""
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 1 if self.failed else 0
