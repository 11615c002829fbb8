"""Envoy and Weft side by side: one configuration, one scripted exchange, two observations.

For each suite (see :mod:`weft.testing.suites`) both proxies are started once, as real processes on ports of their own.  Beside what the
script reads, an observation has the lines of the access log and every counter that changed.
"""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weft.testing.peer import Client, Upstream, Waited
from weft.testing.suites import UPSTREAMS, filled
from weft.testing.transcript import Exchange, Stage, normal, perform, read_message

FLAGS = ["--concurrency", "1", "-l", "warn", "--use-dynamic-base-id", "--file-flush-interval-msec", "5"]
_COUNTED = re.compile(r"^(?!.*\badmin\b)(http|cluster|listener|tcp|\w*limit|\w+_rate_limit|proxy_proto)\b")
_BUSY = re.compile(
    r"^(?!.*\badmin\b).*(_cx_(\w+_)?active|_rq_active|_rq_pending_active|active_connections): [1-9]"
)
_LOGGED = re.compile(r"^http\.\w+\.downstream_rq_total$|^tcp\.\w+\.downstream_cx_total$")


class NotStarted(Exception):
    """A proxy that does not run; the text has what it printed."""


class Side:
    """One proxy with upstreams of its own."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self.command = list(command)
        self.dir = Path(tempfile.mkdtemp(prefix=f"weft-{name}-"))
        self.log = self.dir / "access.log"
        self.upstreams: dict[str, Upstream] = {}
        self.admin = ("", 0)
        self.stage = Stage({}, self.upstreams)
        self.before: dict[str, int] = {}
        self.busy: list[str] = []
        self._sockets: list[socket.socket] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._log_read = 0
        self._due = 0

    async def start(self, config: Any) -> None:
        for name in UPSTREAMS:
            self.upstreams[name] = await Upstream.listen("127.0.0.1", within=self.stage.within)
        known = {name.lower(): str(upstream.port) for name, upstream in self.upstreams.items()}
        known |= {"refused": str(self._refused()), "silent": str(self._silent())}
        known |= {"log": str(self.log), "dir": str(self.dir)}
        path = self.dir / "config.json"
        path.write_text(filled(config, known))
        admin = self.dir / "admin"
        command = [*self.command, "-c", str(path), "--admin-address-path", str(admin), *FLAGS]
        with (self.dir / "output").open("wb") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        loop = asyncio.get_running_loop()
        end = loop.time() + 20
        while not (admin.exists() and admin.read_text().strip()):
            self.check(loop.time() < end)
            await asyncio.sleep(0.02)
        host, _, port = admin.read_text().strip().rpartition(":")
        self.admin = (host, int(port))
        while True:
            self.check(loop.time() < end)
            with contextlib.suppress(OSError, Waited):
                if "LIVE" in await self.ask("/ready"):
                    break
            await asyncio.sleep(0.02)
        listeners: dict[str, tuple[str, int]] = {}
        for line in (await self.ask("/listeners")).splitlines():
            name, _, address = line.partition("::")
            host, _, port = address.rpartition(":")
            listeners[name] = (host.strip("[]"), int(port))
        self.stage = Stage(listeners, self.upstreams)
        self.before = await self.counters()

    def check(self, in_time: bool = True) -> None:
        """Raise unless the process lives."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise NotStarted(f"{self.name} ended with {self._process.returncode}:\n{self.output()}")
        if not in_time:
            raise NotStarted(f"{self.name} did not become ready:\n{self.output()}")

    def output(self) -> str:
        return (self.dir / "output").read_text(errors="replace")[-4000:]

    def _refused(self) -> int:
        """A port that is taken, by one who does not listen."""
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        self._sockets.append(sock)
        return int(sock.getsockname()[1])

    def _silent(self) -> int:
        """A port with a full backlog: the kernel drops whatever else comes."""
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        self._sockets.append(sock)
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(sock.getsockname())
            self._sockets.append(filler)
        return int(sock.getsockname()[1])

    async def ask(self, path: str, method: str = "GET") -> str:
        """The body of a page of the admin interface."""
        client = await Client.connect(*self.admin, within=5)
        client.send(f"{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n".encode())
        try:
            return (await read_message(client, request=False)).body.decode()
        finally:
            client.close()

    async def counters(self) -> dict[str, int]:
        """Counters and gauges by name, once nothing is busy any more (``busy`` has what stays so).

        Connections of upstreams are closed, also those that arrive only now.
        """
        text = ""
        for _ in range(100):
            for upstream in self.upstreams.values():
                upstream.forget()
            text = await self.ask("/stats?usedonly")
            self.busy = [line for line in text.splitlines() if _BUSY.match(line)]
            if not self.busy:
                break
            await asyncio.sleep(0.01)
        found = {}
        for line in text.splitlines():
            name, _, value = line.rpartition(": ")
            if value.isdigit() and _COUNTED.match(name):
                found[name] = int(value)
        return found

    async def observe(self, exchange: Exchange) -> list[str]:
        performed = await perform(exchange, self.stage)
        seen = [normal(line) for line in performed.seen]
        after = await self.counters()
        self._due = 0
        seen += [f"still busy: {line}" for line in self.busy]
        for name in sorted(after.keys() | self.before.keys()):
            change = after.get(name, 0) - self.before.get(name, 0)
            _, _, prefix_and_more = name.partition("http.")
            prefix, _, stat = prefix_and_more.partition(".")
            if stat == "downstream_cx_tx_bytes_total":
                change -= performed.longer.get(prefix, 0)
            if change:
                seen.append(f"stat {name} {change:+d}")
            if _LOGGED.match(name):
                self._due += change
        self.before = after
        return seen + await self.logged()

    async def logged(self) -> list[str]:
        """Lines of the access log since the last exchange: one for each request and connection counted."""
        lines: list[str] = []
        for turn in range(100):
            lines += self._new_lines()
            if turn and len(lines) >= self._due:
                break
            await asyncio.sleep(0.008)
        return [f"log {line}" for line in sorted(lines)]

    def _new_lines(self) -> list[str]:
        if not self.log.exists():
            return []
        with self.log.open(errors="replace", newline="\n") as file:
            file.seek(self._log_read)
            text = file.read()
        whole = text.rpartition("\n")[0]
        if not whole:
            return []
        self._log_read += len(whole.encode(errors="replace")) + 1
        return whole.split("\n")

    def stop(self) -> None:
        for upstream in self.upstreams.values():
            upstream.close()
        for sock in self._sockets:
            sock.close()
        process = self._process
        if process is not None:
            for number in (signal.SIGTERM, signal.SIGKILL):
                if process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, number)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(3)
        shutil.rmtree(self.dir, ignore_errors=True)


class Pair:
    """Two proxies on one configuration; the first is the one that is right."""

    def __init__(self, expected: Sequence[str], got: Sequence[str]) -> None:
        self.sides = (Side("envoy", expected), Side("weft", got))

    async def start(self, config: Any) -> None:
        await asyncio.gather(*(side.start(config) for side in self.sides))

    async def observe(self, exchange: Exchange) -> tuple[list[str], list[str]]:
        for side in self.sides:
            side.check()
        expected, got = await asyncio.gather(*(side.observe(exchange) for side in self.sides))
        return expected, got

    def stop(self) -> None:
        for side in self.sides:
            side.stop()
