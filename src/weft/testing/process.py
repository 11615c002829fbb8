"""A proxy as users start it: a process of its own, on real ports, in real time.

For what a virtual loop cannot show (signals, forks, files, sockets of the system).  Nothing here waits
for a time to pass; :func:`eventually` waits for something to be seen.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

_T = TypeVar("_T")

PATIENCE = 15.0
"""Seconds for anything to happen; a loaded machine is slow, a broken proxy never gets there."""


def eventually(probe: Callable[[], _T], what: str = "this") -> _T:
    """The first true answer of ``probe``; refused and broken connections are asked again."""
    until = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            found = probe()
            if found:
                return found
        if time.monotonic() > until:
            raise AssertionError(f"{what} never happened")
        time.sleep(0.02)


def refused(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


class HttpClient:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self._connection.auto_open = 0
        self._connection.connect()

    def get(self, path: str = "/") -> tuple[int, str]:
        """(status, body)."""
        self._connection.request("GET", path, headers={"host": "test"})
        response = self._connection.getresponse()
        return response.status, response.read().decode()

    def gone(self) -> bool:
        """Whether the other end has closed; asks for something to find out."""
        try:
            self.get()
        except (OSError, http.client.HTTPException):
            return True
        return False

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ProxyProcess:
    """Started from the text of a bootstrap, which is written to ``path``; another one may share it."""

    def __init__(self, directory: Path, config: str, *flags: str) -> None:
        self.path = directory / "proxy.yaml"
        self.path.write_text(config)
        mark = time.monotonic_ns()
        self._admin_path = directory / f"admin-{mark}"
        self._log_path = directory / f"log-{mark}"
        command = [sys.executable, "-m", "weft", "proxy", "-c", str(self.path)]
        with open(self._log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*command, "--admin-address-path", str(self._admin_path), *flags],
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )

    def ready(self) -> Self:
        eventually(lambda: self.process.poll() is not None or self._admin_path.exists(), "the admin server")
        if self.process.poll() is not None:
            raise AssertionError(f"the proxy ended with status {self.process.returncode}:\n{self.log}")
        eventually(lambda: self.admin("/ready") == "LIVE\n", "readiness")
        return self

    @property
    def log(self) -> str:
        return self._log_path.read_text()

    def logged(self, text: str) -> None:
        """Wait until the log has ``text``."""
        eventually(lambda: text in self.log, f"{text!r} in the log")

    def output(self) -> bytes:
        """What it wrote to standard output, after its end."""
        assert self.process.stdout is not None
        return self.process.stdout.read()

    @property
    def admin_address(self) -> str:
        return self._admin_path.read_text()

    def admin(self, path: str, method: str = "GET") -> str:
        host, _, port = self.admin_address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
        try:
            connection.request(method, path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def stats(self, prefix: str = "") -> dict[str, int]:
        """Counters and gauges."""
        lines = (line.split(": ", 1) for line in self.admin("/stats").splitlines() if line.startswith(prefix))
        return {name: int(value) for name, value in lines if value.isdigit()}

    def port(self, listener: str = "web") -> int:
        for line in self.admin("/listeners").splitlines():
            if line.startswith(f"{listener}::"):
                return int(line.rpartition(":")[2])
        raise AssertionError(f"no listener {listener}")

    def client(self, listener: str = "web") -> HttpClient:
        return HttpClient(self.port(listener))

    def get(self, path: str = "/", listener: str = "web") -> tuple[int, str]:
        """(status, body), over a connection of its own."""
        with self.client(listener) as client:
            return client.get(path)

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        pid = self.process.pid
        with open(f"/proc/{pid}/task/{pid}/children") as children:
            return [int(word) for word in children.read().split()]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Until its end: the exit status."""
        return self.process.wait(seconds)

    def end(self) -> int:
        """SIGTERM; the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def close(self) -> None:
        """End whatever is left of it, workers that are stopped included."""
        if self.process.poll() is None:
            workers = self.workers()
            self.process.kill()
            for pid in workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


class SlowUpstream:
    """Answers every request with ``upstream``; one for a path with ``slow`` in it only after ``release``."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.asked = threading.Event()
        """Somebody waits for a slow answer."""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listening.accept()
                self._sockets.append(sock)
                threading.Thread(target=self._answer, args=(sock,), daemon=True).start()

    def _answer(self, sock: socket.socket) -> None:
        data = b""
        with contextlib.suppress(OSError):
            while piece := sock.recv(65536):
                data += piece
                while b"\r\n\r\n" in data:
                    head, data = data.split(b"\r\n\r\n", 1)
                    if b"slow" in head:
                        self.asked.set()
                        self.release.wait(PATIENCE)
                    sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nupstream")

    def close(self) -> None:
        self.release.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
