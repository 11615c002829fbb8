"""A proxy as users start it: a process of its own, on ports of its own."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

PATIENCE = 15.0
"""Seconds for anything to happen; a loaded machine is slow, a broken proxy never gets there."""


def eventually(probe, what="this"):
    """The first true answer of ``probe``."""
    until = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            found = probe()
            if found:
                return found
        assert time.monotonic() < until, f"{what} never happened"
        time.sleep(0.02)


def refused(port):
    """Whether nobody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


def gone(client):
    """Whether the other end has closed a keep-alive connection."""
    try:
        client.get()
    except (OSError, http.client.HTTPException):
        return True
    return False


class Client:
    """One keep-alive connection."""

    def __init__(self, port):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self._connection.auto_open = 0
        self._connection.connect()

    def get(self, path="/"):
        self._connection.request("GET", path, headers={"host": "test"})
        response = self._connection.getresponse()
        return response.status, response.read().decode()

    def close(self):
        self._connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Proxy:
    """``config`` is text; ``restart`` of the same file makes a second process."""

    def __init__(self, directory, config, *flags):
        self.directory = directory
        self.path = directory / "proxy.yaml"
        self.path.write_text(config)
        self._admin_path = directory / f"admin-{time.monotonic_ns()}"
        self._log_path = directory / f"log-{time.monotonic_ns()}"
        with open(self._log_path, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "weft", "proxy", "-c", str(self.path), "--admin-address-path", str(self._admin_path), *flags],
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )  # fmt: skip

    def ready(self):
        eventually(lambda: self.process.poll() is not None or self._admin_path.exists(), "the admin server")
        assert self.process.poll() is None, self.log
        eventually(lambda: self.admin("/ready") == "LIVE\n", "readiness")
        return self

    @property
    def log(self):
        return self._log_path.read_text()

    def logged(self, text):
        eventually(lambda: text in self.log, f"{text!r} in the log")

    def admin(self, path, method="GET"):
        host, _, port = self._admin_path.read_text().rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
        try:
            connection.request(method, path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def stats(self, prefix=""):
        lines = self.admin("/stats").splitlines()
        pairs = [line.split(": ", 1) for line in lines if line.startswith(prefix)]
        return {name: int(value) for name, value in pairs if value.isdigit()}

    def port(self, name):
        for line in self.admin("/listeners").splitlines():
            if line.startswith(f"{name}::"):
                return int(line.rpartition(":")[2])
        raise AssertionError(f"no listener {name}")

    def client(self, name="web"):
        return Client(self.port(name))

    def get(self, path="/", name="web"):
        with self.client(name) as client:
            return client.get(path)

    def workers(self):
        """Process ids of the workers."""
        pid = self.process.pid
        with open(f"/proc/{pid}/task/{pid}/children") as children:
            return [int(word) for word in children.read().split()]

    def signal(self, number):
        self.process.send_signal(number)

    def end(self):
        """SIGTERM; the exit status."""
        self.signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def close(self):
        left = self.workers() if self.process.poll() is None else []
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        if self.process.poll() is None:
            self.process.kill()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def start(tmp_path):
    """``start(config, *flags)`` gives a :class:`Proxy`; they end with the test."""
    proxies = []

    def start(config, *flags):
        proxy = Proxy(tmp_path, config, *flags)
        proxies.append(proxy)
        return proxy

    yield start
    for proxy in proxies:
        proxy.close()


class Upstream:
    """Answers ``slow`` after ``release`` is set, anything else at once."""

    def __init__(self):
        self.release = threading.Event()
        self.asked = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listening.accept()
                self._sockets.append(sock)
                threading.Thread(target=self._answer, args=(sock,), daemon=True).start()

    def _answer(self, sock):
        with contextlib.suppress(OSError):
            data = b""
            while True:
                piece = sock.recv(65536)
                if not piece:
                    return
                data += piece
                while b"\r\n\r\n" in data:
                    head, data = data.split(b"\r\n\r\n", 1)
                    if b"slow" in head:
                        self.asked.set()
                        self.release.wait(PATIENCE)
                    sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nupstream")

    def close(self):
        self.release.set()
        self._listening.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


@pytest.fixture
def upstream():
    one = Upstream()
    yield one
    one.close()


ADMIN = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}


def listener(name="web", *, says="hello", upstream=None, access_log=None, **more):
    """A listener whose every path says ``says``, but ``/up`` and what is under it, which goes upstream."""
    routes = [{"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": says}}}]
    if upstream:
        routes.insert(0, {"match": {"prefix": "/up"}, "route": {"cluster": upstream}})
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {"name": name, "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
    }  # fmt: skip
    if access_log:
        manager["access_log"] = [
            {
                "name": "file",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": str(access_log),
                    "log_format": {"text_format_source": {"inline_string": "%REQ(:PATH)%\n"}},
                },
            }
        ]
    return {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        **more,
    }


def cluster(name, port):
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": endpoints}}


def bootstrap(*listeners, clusters=(), **more):
    """As text that a YAML loader takes."""
    return json.dumps(
        {"admin": ADMIN, "static_resources": {"listeners": list(listeners), "clusters": list(clusters)}, **more},
        indent=1,
    )
