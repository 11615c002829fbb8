"""Exchanges written down: what clients and upstreams send, and what is observed at both ends.

A script is lines of ``WHO ACTION ARGUMENTS``.  Clients are ``C``, ``C2``, ...; upstreams are ``U``, ``V``
and so on, one letter for each listening address, and ``U.2`` is the second connection of ``U`` (without a
number: the one that spoke last).  In bytes to send ``|`` is CRLF, ``\\xNN`` and the like are Python's
escapes, and ``<a*1000>`` repeats.

=====================  ========================================================================
``C open NAME``        connect to listener NAME (the first use of C connects to the default one);
                       ``C open NAME from 127.0.0.9`` from another address
``C> BYTES``           send
``C< response [HEAD]`` read one response (with ``HEAD``: to a request that gets no body)
``C< N bytes``         read exactly N bytes
``C< until BYTES``     read through BYTES
``C< end``             read everything until the connection ends, and how it ends
``C< quiet S``         S seconds pass and nothing arrives
``C outcome``          whatever becomes of the request just sent: it reaches U, which answers it, or
                       the proxy answers it, or ends the connection
``C eof``              finish sending; ``C close``; ``C reset``; ``C pause``; ``C resume``
``U open``             wait for the next connection
``U< request``         wait for a whole request, on any connection of U
``U< head``            the head of a request alone
``U< none``            nothing has arrived at U in the whole exchange
``U> BYTES`` ...       like a client's
``wait S``             let time pass
``mark`` ``took A B``  from A to B seconds have passed since ``mark`` (at first: the beginning)
=====================  ========================================================================

What is read becomes lines of an *observation*; two proxies agree when their observations are equal.
"""

import asyncio
import hashlib
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from weft.testing.peer import Client, Peer, Upstream, Waited


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One scripted exchange."""

    name: str
    script: list[str]
    listener: str = ""
    """Where clients connect that do not say."""


@dataclass(slots=True)
class Stage:
    """Where an exchange is played: one proxy and its surroundings."""

    listeners: Mapping[str, tuple[str, int]]
    upstreams: Mapping[str, Upstream]
    within: float = 3.0
    """Seconds that a peer waits for what it reads."""


@dataclass(slots=True)
class Message:
    """One HTTP/1 message as it stood on the wire."""

    start: bytes
    headers: list[tuple[bytes, bytes]]
    framing: str
    """``none``, ``length``, ``chunked`` or ``close``."""
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.start.split(b" ")[1])

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key.lower() == name]


async def play(exchange: Exchange, stage: Stage) -> list[str]:
    """Run the script; the observation, without what differs from run to run."""
    return [normal(line) for line in (await perform(exchange, stage)).seen]


async def perform(exchange: Exchange, stage: Stage) -> "Performance":
    """Run the script.  A step that fails ends it and is part of the observation."""
    player = Performance(exchange, stage)
    try:
        for line in exchange.script:
            try:
                await player.step(line)
            except (Waited, OSError, IndexError, ValueError) as error:
                player.seen.append(f"STUCK at {line!r}: {error}")
                break
    finally:
        player.close()
    return player


class Performance:
    """A script being played, and what was seen."""

    def __init__(self, exchange: Exchange, stage: Stage) -> None:
        self.stage = stage
        self.exchange = exchange
        self.seen: list[str] = []
        self.clients: dict[str, Client] = {}
        self.listeners: dict[str, str] = {}
        """Where each client is connected."""
        self.longer: dict[str, int] = {}
        """Listener -> bytes by which slow moments made its responses longer."""
        self.first = {name: len(upstream.peers) for name, upstream in stage.upstreams.items()}
        self.last: dict[str, Peer] = {}
        self.marked = asyncio.get_running_loop().time()

    def close(self) -> None:
        for client in self.clients.values():
            client.close()
        for name, upstream in self.stage.upstreams.items():
            for peer in upstream.peers[self.first[name] :]:
                peer.close()

    async def step(self, line: str) -> None:
        who, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if who == "wait":
            await asyncio.sleep(float(rest))
        elif who == "mark":
            self.marked = asyncio.get_running_loop().time()
        elif who == "took":
            self._took(rest)
        elif who.startswith("C"):
            await self._client(who, rest)
        else:
            await self._upstream(who, rest)

    def _took(self, rest: str) -> None:
        least, most = (float(word) for word in rest.split())
        took = asyncio.get_running_loop().time() - self.marked
        self.seen.append(f"took {rest}" if least <= took <= most else f"took {took:.1f} s, not {rest}")

    async def _client(self, who: str, rest: str) -> None:
        name = who.rstrip("<>")
        client = self.clients.get(name)
        if rest.startswith("open") or client is None:
            words = rest.split() if rest.startswith("open") else []
            listener = words[1] if len(words) > 1 else self.exchange.listener
            host, port = self.stage.listeners[listener]
            self.listeners[name] = listener
            local = (words[3], 0) if len(words) > 3 else None
            if client is not None:
                client.close()
            client = await Client.connect(host, port, local=local, within=self.stage.within)
            self.clients[name] = client
            if words:
                return
        seen = len(self.seen)
        try:
            if rest == "outcome":
                await self._outcome(client, name)
            else:
                await self._act(who, rest, client, name)
        finally:
            told = [match[1] for line in self.seen[seen:] for match in _SERVICE_TIME.finditer(line)]
            listener = self.listeners[name]
            self.longer[listener] = self.longer.get(listener, 0) + sum(len(digits) - 1 for digits in told)

    async def _outcome(self, client: Client, name: str) -> None:
        upstream = self.stage.upstreams["U"]
        loop = asyncio.get_running_loop()
        end = loop.time() + self.stage.within
        while not (client.received or client.ended or self._speaking("U")):
            if loop.time() > end:
                raise Waited("nothing became of the request")
            await asyncio.sleep(0.001)
        speaking = self._speaking("U")
        if speaking is not None:
            try:
                await self._request("U", upstream, whole=True)
                speaking.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            except Waited:
                if not speaking.ended:
                    raise
                self.seen.append("U was cut off in the request")
                await client.until(lambda: bool(client.received or client.ended), "a response")
        if client.ended and not client.received:
            self.seen.append(f"{name} {client.ended}")
            return
        response = await read_message(client, request=False)
        self._show(name, response)
        if b"close" in response.values(b"connection"):
            await self._read("end", client, name)

    async def _upstream(self, who: str, rest: str) -> None:
        name, _, number = who.rstrip("<>").partition(".")
        upstream = self.stage.upstreams[name]
        first = self.first[name]
        if rest == "open":
            peer = await upstream.accept(within=self.stage.within)
            self.last[name] = peer
            self.seen.append(f"{name}.{upstream.peers.index(peer) - first + 1} opened")
            return
        if who.endswith("<") and rest in ("request", "head"):
            await self._request(name, upstream, whole=rest == "request")
            return
        if who.endswith("<") and rest == "none":
            count = len(upstream.peers) - first
            unread = [bytes(peer.received) for peer in upstream.peers[first:] if peer.received]
            self.seen.append(
                f"{name} saw nothing" if not count else f"{name} saw {count} connections {unread!r}"
            )
            return
        if number:
            peers = upstream.peers
            index = first + int(number) - 1
            await upstream.until(lambda: len(peers) > index, f"connection {who}", self.stage.within)
            self.last[name] = peers[index]
        peer = self.last[name] if name in self.last else upstream.peers[-1]
        await self._act(who, rest, peer, f"{name}.{upstream.peers.index(peer) - first + 1}")

    async def _request(self, name: str, upstream: Upstream, *, whole: bool) -> None:
        first = self.first[name]
        await upstream.until(
            lambda: self._speaking(name) is not None, f"a request at {name}", self.stage.within
        )
        peer = self._speaking(name)
        assert peer is not None
        self.last[name] = peer
        where = f"{name}.{upstream.peers.index(peer) - first + 1}"
        if whole:
            self._show(where, await read_message(peer, request=True))
        else:
            start, headers = _head(await peer.read_until(b"\r\n\r\n"))
            self._show(where, Message(start, headers, "head"))

    def _speaking(self, name: str) -> Peer | None:
        for peer in self.stage.upstreams[name].peers[self.first[name] :]:
            if peer.received:
                return peer
        return None

    async def _act(self, who: str, rest: str, peer: Peer, name: str) -> None:
        if who.endswith(">"):
            await peer.send_all(unescape(rest))
            return
        if who.endswith("<"):
            await self._read(rest, peer, name)
            return
        actions: dict[str, Callable[[], None]] = {
            "eof": peer.send_eof,
            "close": peer.close,
            "reset": peer.reset,
            "pause": peer.pause,
            "resume": peer.resume,
        }
        actions[rest]()

    async def _read(self, rest: str, peer: Peer, name: str) -> None:
        words = shlex.split(rest) if rest.startswith("response") else rest.split()
        if words[0] == "response":
            self._show(name, await read_message(peer, request=False, bodyless="HEAD" in words))
        elif words[-1] == "bytes":
            self.seen.append(f"{name} {shown(await peer.read(int(words[0])))}")
        elif words[0] == "until":
            data = await peer.read_until(unescape(rest.partition(" ")[2]))
            self.seen.append(f"{name} {shown(data)}")
        elif words[0] == "end":
            ended = await peer.closed()
            self.seen.append(f"{name} {shown(peer.take())} then {ended}")
        elif words[0] == "quiet":
            before = (peer.total, peer.ended)
            await asyncio.sleep(float(words[1]))
            still = (peer.total, peer.ended) == before and not peer.received
            self.seen.append(
                f"{name} quiet" if still else f"{name} not quiet: {shown(peer.take())} {peer.ended}"
            )
        else:
            raise ValueError(f"no such step: {rest!r}")

    def _show(self, name: str, message: Message) -> None:
        self.seen.append(f"{name} {message.start.decode('latin-1')}")
        for key, value in message.headers:
            self.seen.append(f"{name}   {key.decode('latin-1')}: {value.decode('latin-1')}")
        self.seen.append(f"{name}   ({message.framing}) {shown(message.body)}")
        for key, value in message.trailers:
            self.seen.append(f"{name}   trailer {key.decode('latin-1')}: {value.decode('latin-1')}")


async def read_message(peer: Peer, *, request: bool, bodyless: bool = False) -> Message:
    """Read one HTTP/1 message by RFC 9112 6.3; its framing is judged as strictly as bytes allow."""
    start, headers = _head(await peer.read_until(b"\r\n\r\n"))
    message = Message(start, headers, "none")
    if not request:
        bodyless = bodyless or message.status in (204, 304) or message.status < 200
    if bodyless:
        return message
    codings = message.values(b"transfer-encoding")
    lengths = message.values(b"content-length")
    if codings:
        message.framing = "chunked"
        await _read_chunks(peer, message)
    elif lengths:
        message.framing = "length"
        message.body = await peer.read(int(lengths[0]))
    elif not request:
        message.framing = "close"
        message.body = await peer.read_all()
    return message


async def _read_chunks(peer: Peer, message: Message) -> None:
    while True:
        size = int((await peer.read_until(b"\r\n"))[:-2].split(b";")[0], 16)
        if not size:
            break
        message.body += await peer.read(size)
        if await peer.read(2) != b"\r\n":
            raise Waited(f"a chunk does not end with CRLF after {message.body[-50:]!r}")
    while (line := await peer.read_until(b"\r\n")) != b"\r\n":
        key, _, value = line[:-2].partition(b":")
        message.trailers.append((key, value.strip()))


def _head(head: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    start, *lines = head[:-4].split(b"\r\n")
    headers = []
    for line in lines:
        key, _, value = line.partition(b":")
        headers.append((key, value.strip()))
    return start, headers


_REPEAT = re.compile(r"<(.+?)\*(\d+)>", re.DOTALL)


def unescape(text: str) -> bytes:
    """The bytes of a script's text."""
    text = text.replace("|", "\r\n")
    raw = re.sub(r"\\(x[0-9a-fA-F]{2}|[rnt0\\])", _escape, text)
    raw = _REPEAT.sub(lambda match: match[1] * int(match[2]), raw)
    return raw.encode("latin-1")


def _escape(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] == "x":
        return chr(int(code[1:], 16))
    return {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}[code]


def shown(data: bytes) -> str:
    if len(data) <= 400:
        return repr(data)
    return f"{len(data)} bytes, sha1 {hashlib.sha1(data, usedforsecurity=False).hexdigest()}"


_SERVICE_TIME = re.compile(r"x-envoy-upstream-service-time: (\d+)")
_NORMAL = [
    (re.compile(r"(?i)(  date: )\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"), r"\1<date>"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"(x-envoy-upstream-service-time: )\d+"), r"\1<ms>"),
    (re.compile(r"(?i)(\\ndate: )\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"), r"\1<date>"),
]


def normal(line: str) -> str:
    """Without what differs from run to run."""
    for pattern, by in _NORMAL:
        line = pattern.sub(by, line)
    return line
