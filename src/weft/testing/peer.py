"""Scripted peers: clients and upstreams that say and hear exact bytes.

They run on any asyncio loop: on a :class:`~weft.testing.loop.VirtualLoop` against a proxy in memory,
and on a real one against a real proxy.

    client = await Client.connect("127.0.0.1", 8080)
    client.send(b"GET / HTTP/1.1\\r\\nhost: a\\r\\n\\r\\n")
    peer = await upstream.accept()
    await peer.read_until(b"\\r\\n\\r\\n")
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

WITHIN = 60.0
"""Seconds that a peer waits by default for what it expects."""


class Waited(AssertionError):
    """What was expected did not come; the text says what came."""


class Peer:
    """One end of a connection, played by a test.  It is the asyncio protocol itself.

    Received bytes gather in ``received`` until they are read.  ``ended`` becomes ``"eof"`` when the
    other side finished sending and ``"reset"`` when it broke the connection; a peer does not close
    by itself on eof.
    """

    def __init__(
        self, *, within: float = WITHIN, reading: bool = True, on_news: Callable[[], None] | None = None
    ) -> None:
        self.received = bytearray()
        self.total = 0
        """Bytes ever received."""
        self.pieces: list[bytes] = []
        """Every ``data_received`` as it came."""
        self.ended = ""
        self.lost = False
        self.within = within
        self._transport: asyncio.Transport | None = None
        self._reading = reading
        self._on_news = on_news
        self._news = asyncio.Event()
        self._writable = True

    def _tell(self) -> None:
        self._news.set()
        if self._on_news is not None:
            self._on_news()

    # -- asyncio's side --------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if not self._reading:
            transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.total += len(data)
        self.pieces.append(data)
        self._tell()

    def eof_received(self) -> bool:
        self.ended = self.ended or "eof"
        self._tell()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        if error is not None and self.ended != "reset":
            self.ended = "reset"
        self._tell()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._tell()

    # -- the test's side -------------------------------------------------------------------------

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None, "not connected"
        return self._transport

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    async def send_all(self, data: bytes) -> None:
        """Send, and wait until the write buffer is nearly empty."""
        self.transport.write(data)
        await self._wait(lambda: self._writable or self.lost, "room to write")

    def send_eof(self) -> None:
        self.transport.write_eof()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Break the connection: the other side sees a reset."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def pause(self) -> None:
        """Stop reading, so that the other side feels back-pressure."""
        self.transport.pause_reading()

    def resume(self) -> None:
        self.transport.resume_reading()

    async def read_until(self, end: bytes, *, within: float | None = None) -> bytes:
        """Take everything up to and including ``end``."""
        await self._wait(lambda: end in self.received, f"{end!r}", within)
        return self._take(self.received.index(end) + len(end))

    async def read(self, size: int, *, within: float | None = None) -> bytes:
        """Take exactly ``size`` bytes."""
        await self._wait(lambda: len(self.received) >= size, f"{size} bytes", within)
        return self._take(size)

    async def read_some(self, *, within: float | None = None) -> bytes:
        """Take what there is, waiting for at least one byte; empty at the end."""
        await self._wait(lambda: bool(self.received or self.ended or self.lost), "anything", within)
        return self._take(len(self.received))

    async def read_all(self, *, within: float | None = None) -> bytes:
        """Take everything until the other side ends."""
        await self.closed(within=within)
        return self._take(len(self.received))

    async def closed(self, *, within: float | None = None) -> str:
        """Wait until the other side ended; ``"eof"`` or ``"reset"``."""
        await self._wait(lambda: bool(self.ended or self.lost), "the end", within)
        return self.ended or "eof"

    async def quiet(self, seconds: float) -> None:
        """Let time pass and insist that nothing arrives and nothing ends."""
        before = (self.total, self.ended)
        await asyncio.sleep(seconds)
        if (self.total, self.ended) != before:
            raise Waited(f"not quiet: {bytes(self.received)!r} {self.ended}")

    async def until(self, ready: Callable[[], bool], what: str) -> None:
        await self._wait(ready, what)

    def take(self) -> bytes:
        """What has arrived and was not read, without waiting."""
        return self._take(len(self.received))

    def _take(self, size: int) -> bytes:
        data = bytes(self.received[:size])
        del self.received[:size]
        return data

    async def _wait(self, ready: Callable[[], bool], what: str, within: float | None = None) -> None:
        limit = self.within if within is None else within
        loop = asyncio.get_running_loop()
        end = loop.time() + limit
        while not ready():
            if self.lost or (self.ended and what != "room to write" and not ready()):
                raise Waited(
                    f"waited for {what}, but it ended ({self.ended or 'closed here'}) after {bytes(self.received[-2000:])!r}"
                )
            self._news.clear()
            try:
                async with asyncio.timeout_at(end):
                    await self._news.wait()
            except TimeoutError:
                raise Waited(
                    f"waited {limit:g} s for {what}, received {bytes(self.received[-2000:])!r}"
                ) from None


class Client(Peer):
    """A peer that connects."""

    @classmethod
    async def connect(
        cls,
        host: str = "",
        port: int = 0,
        *,
        path: str = "",
        local: tuple[str, int] | None = None,
        within: float = WITHIN,
        reading: bool = True,
    ) -> "Client":
        loop = asyncio.get_running_loop()
        client = cls(within=within, reading=reading)
        factory: Any = lambda: client  # noqa: E731  # a duck-typed protocol, which typeshed has no name for
        if path:
            await loop.create_unix_connection(factory, path)
        else:
            await loop.create_connection(factory, host, port, local_addr=local)
        return client

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class Upstream:
    """A listening peer; every connection is a :class:`Peer`, taken with :meth:`accept`."""

    def __init__(self, *, within: float = WITHIN, reading: bool = True) -> None:
        self.within = within
        self.reading = reading
        self.peers: list[Peer] = []
        """Every connection ever accepted."""
        self._fresh: deque[Peer] = deque()
        self._news = asyncio.Event()
        self._server: asyncio.AbstractServer | None = None

    @classmethod
    async def listen(
        cls,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        path: str = "",
        within: float = WITHIN,
        reading: bool = True,
    ) -> "Upstream":
        upstream = cls(within=within, reading=reading)
        loop = asyncio.get_running_loop()
        factory: Any = upstream._made
        if path:
            upstream._server = await loop.create_unix_server(factory, path)
        else:
            upstream._server = await loop.create_server(factory, host, port)
        return upstream

    def _made(self) -> Peer:
        return _Accepted(self)

    def accepted(self, peer: Peer) -> None:
        self.peers.append(peer)
        self._fresh.append(peer)
        self._news.set()

    def news(self) -> None:
        self._news.set()

    @property
    def port(self) -> int:
        server: Any = self._server
        return int(server.sockets[0].getsockname()[1])

    async def accept(self, *, within: float | None = None) -> Peer:
        """The next connection that was not taken yet."""
        await self.until(lambda: bool(self._fresh), "a connection", within)
        return self._fresh.popleft()

    async def until(self, ready: Callable[[], bool], what: str, within: float | None = None) -> None:
        """Wait for something about any of the connections."""
        limit = self.within if within is None else within
        try:
            async with asyncio.timeout(limit):
                while not ready():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            came = [bytes(peer.received[-2000:]) for peer in self.peers]
            raise Waited(f"waited {limit:g} s for {what}; connections: {came!r}") from None

    def forget(self) -> None:
        """Close and forget the connections so far."""
        for peer in self.peers:
            peer.close()
        self.peers.clear()
        self._fresh.clear()

    def stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()

    def close(self) -> None:
        """Stop listening and close every connection."""
        self.stop_listening()
        for peer in self.peers:
            peer.close()

    async def __aenter__(self) -> "Upstream":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class _Accepted(Peer):
    """A connection of an :class:`Upstream`, which learns of it when it stands."""

    def __init__(self, upstream: Upstream) -> None:
        super().__init__(within=upstream.within, reading=upstream.reading, on_news=upstream.news)
        self._upstream = upstream

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._upstream.accepted(self)
