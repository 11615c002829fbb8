"""A downstream connection below HTTP: what listener and network filters work on.

``accept -> Connection (listener filters, filter chain) -> network filters -> terminal``.  The
terminal (``tcp_proxy``, the HTTP connection manager, ``echo``, ``direct_response``) *takes* the
connection: it becomes the protocol of the transport, so that nothing stands between the socket and
the code that carries the bytes.  Where a filter before it wants to see every byte, the connection
stays the protocol and passes on.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

from mypy_extensions import mypyc_attr

from weft.proxy.observe.stream_info import ConnectionInfo, StreamInfo


class Connection:
    """The context of one downstream connection; the listener makes it, a terminal carries it."""

    def __init__(self, info: ConnectionInfo, transport: asyncio.Transport, buffer_limit: int) -> None:
        self.info = info
        self.transport = transport
        self.buffer_limit = buffer_limit
        """``per_connection_buffer_limit_bytes``."""
        self.on_closed: list[Callable[[], None]] = []
        """Called once, in reverse order of registration, when the connection is gone."""
        self.drained: bool = False
        """Set when the listener or its filter chain drains: close as soon as politeness allows."""
        self.on_drain: Callable[[], None] | None = None
        """Set by a terminal that can hurry (HTTP: finish what is under way, then close)."""
        self.stream_info: StreamInfo | None = None
        """Set by a terminal that carries the connection as one stream: the listener logs that."""
        self._closed = False

    def closed(self) -> None:
        """The transport is gone.  Terminals call this from ``connection_lost``; idempotent."""
        if self._closed:
            return
        self._closed = True
        for callback in reversed(self.on_closed):
            callback()
        self.on_closed.clear()

    def drain(self) -> None:
        self.drained = True
        if self.on_drain is not None:
            self.on_drain()

    def end(self, reason: str) -> None:
        """Close now, what is written being flushed first; ``reason`` is ``%DOWNSTREAM_LOCAL_CLOSE_REASON%``."""
        if self.stream_info is None:
            self.stream_info = StreamInfo(self.info, self.info.start)
        if not self.stream_info.local_close_reason:
            self.stream_info.local_close_reason = reason
        self.transport.close()

    def close(self, details: str = "") -> None:
        """Close now, what is written being flushed first; ``details`` goes to the log."""
        if details and not self.info.termination_details:
            self.info.termination_details = details
        self.transport.close()


_NO_LINGER: Final = struct.pack("ii", 1, 0)


def reset(transport: Any) -> None:
    """Close so that the peer sees a reset: what it sent or was sent did not all arrive."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


class Terminal(Protocol):
    """The last network filter of a chain: it owns the connection from here on."""

    def take(self, connection: Connection, data: bytes) -> None:
        """Set yourself as the transport's protocol and treat ``data`` as already received."""


@mypyc_attr(allow_interpreted_subclasses=True)
class NetworkFilter:
    """A filter before the terminal.  Override what you need; ``sees_data`` is found from that."""

    def on_new_connection(self, connection: Connection) -> bool:
        """False: the filter has closed the connection, or keeps it; the chain stops."""
        return True

    def on_data(self, connection: Connection, data: bytes, end: bool) -> bytes | None:
        """Bytes to pass on (usually ``data``), or None to stop the connection here."""
        return data

    def on_closed(self, connection: Connection) -> None:
        """The connection is gone."""


BuildTerminal = Callable[..., Terminal]
Anything = Any
