"""HTTP/1 towards a host: one connection, one request at a time.

Written by whoever holds it (:class:`~weft.proxy.upstream.stream.RequestWriter`), read here, and
given back to its pool when request and response are both complete and nothing forbids it.
"""

import asyncio
from typing import TYPE_CHECKING, Final

from weft.codec.errors import PeerError
from weft.codec.http1 import (
    ChunkedDecoder,
    ResponseHead,
    chunk,
    last_chunk,
    opens_tunnel,
    parse_response,
)
from weft.http.headers import CONTENT_LENGTH, Headers
from weft.http.message import Request, Response
from weft.proxy.address import NOWHERE, Address
from weft.proxy.deadlines import Deadline
from weft.proxy.observe.logging import logger
from weft.proxy.upstream.connect import Failure, Link
from weft.proxy.upstream.stream import (
    CONNECTION_TERMINATION,
    LOCAL_RESET,
    PROTOCOL_ERROR,
    RequestWriter,
    ResponseReader,
)

if TYPE_CHECKING:
    from weft.proxy.upstream.pool import Http1Pool

_log: Final = logger("upstream")

# The response half.
NOTHING: Final = 0
"""No request is under way: any byte is a protocol error."""
HEAD: Final = 1
LENGTH: Final = 2
CHUNKED: Final = 3
UNTIL_CLOSE: Final = 4
TUNNEL: Final = 5

_SMALL: Final = 16 * 1024
_NO_LENGTH: Final = frozenset((b"GET", b"HEAD", b"DELETE", b"TRACE", b"CONNECT"))
"""Methods whose request without a body carries no ``content-length: 0`` (RFC 9110 8.6)."""


class _Idle(Deadline):
    """``idle_timeout``, and ``max_connection_duration`` once it is set."""

    def __init__(self, connection: "UpstreamConnection", duration: bool) -> None:
        super().__init__(connection.pool.context.deadlines)
        self.connection: UpstreamConnection | None = connection
        self.duration: bool = duration

    def expired(self, now: float) -> None:
        if self.connection is not None:
            self.connection.too_old(self.duration)

    def close(self) -> None:
        self.connection = None
        self.drop()


class UpstreamConnection(RequestWriter):
    def __init__(self, pool: "Http1Pool", id: int) -> None:
        self.pool = pool
        self.id: int = id
        self.local: Address = NOWHERE
        self.protocol: str = "HTTP/1.1"
        self.header_sent: int = 0
        self.wire_sent: int = 0
        self.link: Link | None = None
        self.transport: asyncio.Transport | None = None
        self.requests: int = 0
        self.reader: ResponseReader | None = None
        self.last_use: bool = False
        """No further request after this one."""
        self.blocked: bool = False
        self._state: int = NOTHING
        self._rest = b""
        self._left: int = 0
        self._chunked: ChunkedDecoder | None = None
        self._request_done: bool = True
        self._request_chunked: bool = False
        self._head_request: bool = False
        self._method: bytes = b""
        self._upgrade: bool = False
        self._declared: bool = False
        """The upgrade request has a body of its own."""
        self._early: list[bytes] = []
        """Sent by the client before the upgrade was granted: waits, for it may never be."""
        self._early_size: int = 0
        self._half_closes: bool = False
        """A tunnel: the host may end what it sends, and the connection goes on until we end it."""
        self._closing: bool = False
        self._paused: bool = False
        self._eof: bool = False
        self._active: bool = False
        """A request was under way when we closed."""
        self._idle: _Idle | None = None
        self._duration: _Idle | None = None

    # -- asyncio protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.local = Address.of(transport.get_extra_info("sockname"))
        if self.link is not None:
            self.link.connected(transport)
        duration = self.pool.cluster.settings.max_connection_duration
        if duration:
            self._duration = _Idle(self, True)
            self._duration.set(self.pool.clock.now() + duration)
        self.pool.connected(self)

    def failed(self, failure: Failure) -> None:
        """There is no connection, and will be none."""
        self.pool.connect_failed(self, failure)

    def data_received(self, data: bytes) -> None:
        pool = self.pool
        stats = pool.stats
        stats.upstream_cx_rx_bytes_total += len(data)
        if self._state == NOTHING:
            stats.upstream_cx_protocol_error += 1
            self._close()
            return
        now = pool.clock.now()
        searched = 0
        if self._rest:
            searched = len(self._rest)
            data = self._rest + data
            self._rest = b""
        try:
            self._consume(data, now, searched)
        except PeerError:
            stats.upstream_cx_protocol_error += 1
            self._fail(PROTOCOL_ERROR, "")
        except Exception:
            _log.exception("bug while reading a response of %s; the request is ended", pool.host.address.text)
            self._fail(LOCAL_RESET, "")

    def eof_received(self) -> bool:
        self._eof = True
        if self._state == UNTIL_CLOSE:
            reader = self.reader
            self._finished(keep=False)
            if reader is not None:
                reader.on_data(b"", True, self.pool.clock.now())
        elif self._state == NOTHING:
            self.pool.forget(self)  # before somebody takes it for a request
        return False

    def connection_lost(self, error: Exception | None) -> None:
        active = self.reader is not None or self._active
        if self._idle is not None:
            self._idle.close()
        if self._duration is not None:
            self._duration.close()
        self.transport = None
        if self.link is not None:
            local = self._half_closes if self._eof else self._closing
            self.link.closed(local=local, active=active)
        self.pool.lost(self)
        reader = self.reader
        if reader is None:
            return
        if self._state == UNTIL_CLOSE and error is None:
            self._detach()
            reader.on_data(b"", True, self.pool.clock.now())
            return
        # Before the first byte the host may never have seen the request; after it, it broke its word.
        begun = (self._state != HEAD and self._state != TUNNEL) or bool(self._rest)
        if begun:
            self.pool.stats.upstream_cx_protocol_error += 1
        self._detach()
        reader.on_reset(PROTOCOL_ERROR if begun else CONNECTION_TERMINATION, "")

    def pause_writing(self) -> None:
        self.blocked = True
        self.pool.stats.upstream_flow_control_backed_up_total += 1
        if self.reader is not None:
            self.reader.on_blocked()

    def resume_writing(self) -> None:
        self.blocked = False
        self.pool.stats.upstream_flow_control_drained_total += 1
        if self.reader is not None:
            self.reader.on_writable()

    # -- the request -----------------------------------------------------------------------------

    def attach(self, reader: ResponseReader) -> None:
        """A request gets this connection."""
        self.reader = reader
        self.requests += 1
        self._state = HEAD
        self._request_done = False
        if self._idle is not None:
            self._idle.clear()
        most = self.pool.max_requests
        if most and self.requests >= most:
            if not self.last_use:
                self.pool.stats.upstream_cx_max_requests += 1
            self.last_use = True

    def send(self, request: Request, data: bytes, end: bool, upgrade: bool) -> None:
        headers = request.headers
        method = request.method
        self._method = method
        connect = method == b"CONNECT"
        self._half_closes = connect
        self._head_request = method == b"HEAD"
        self._upgrade = upgrade
        self._request_chunked = False
        target = request.authority if connect else request.path
        parts = [method, b" ", target, b" HTTP/1.1\r\nhost: ", request.authority, b"\r\n"]
        parts.extend([field.wire for field in headers.fields])
        if headers.mask & CONTENT_LENGTH and headers.find(b"content-length") is not None:
            parts.append(b"\r\n")
        elif end and not data:
            parts.append(b"\r\n" if request.method in _NO_LENGTH else b"content-length: 0\r\n\r\n")
        elif upgrade:
            parts.append(b"\r\n")
        else:
            self._request_chunked = True
            parts.append(b"transfer-encoding: chunked\r\n\r\n")
        out = b"".join(parts)
        self.wire_sent = 0
        self.header_sent = len(out) - len(method) - len(target) - 14
        if upgrade:
            length = headers.find(b"content-length") if headers.mask & CONTENT_LENGTH else None
            self._declared = length is not None and length.strip(b"0") != b""
        if data and upgrade and not self._declared:
            self._early.append(data)
            self._early_size = len(data)
            data = b""
        if data:
            if self._request_chunked:
                out += chunk(data)
                if end:
                    out += b"0\r\n\r\n"
            elif len(data) < _SMALL:
                out += data
            else:
                self._write(out)
                out = data
        self._write(out)
        if end:
            self._request_over()

    def send_data(self, data: bytes, end: bool) -> None:
        if self._upgrade and self._state == HEAD and data and not self._declared:
            self._early.append(data)
            self._early_size += len(data)
            if self._early_size > self.pool.buffer_limit and self.reader is not None:
                self.reader.on_blocked()
            return
        if self._request_chunked:
            if data:
                data = chunk(data)
            if end:
                data += b"0\r\n\r\n"
        if data:
            self._write(data)
        if end:
            self._request_over()

    def send_trailers(self, trailers: Headers) -> None:
        if self._request_chunked:
            self._write(last_chunk(trailers if self.pool.options.keep_trailers else None))
        self._request_over()

    def _write(self, data: bytes) -> None:
        self.wire_sent += len(data)
        self.pool.stats.upstream_cx_tx_bytes_total += len(data)
        if self.transport is not None:
            self.transport.write(data)

    def _request_over(self) -> None:
        self._request_done = True
        if self._state == TUNNEL and self.transport is not None and self.transport.can_write_eof():
            self.transport.write_eof()

    def reset(self) -> None:
        self._active = True
        self._detach()
        self._close()

    def pause(self) -> None:
        if not self._paused and self.transport is not None:
            self._paused = True
            self.pool.stats.upstream_flow_control_paused_reading_total += 1
            self.transport.pause_reading()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self.pool.stats.upstream_flow_control_resumed_reading_total += 1
            if self.transport is not None:
                self.transport.resume_reading()

    # -- the response ----------------------------------------------------------------------------

    def _consume(self, data: bytes, now: float, searched: int = 0) -> None:
        pos = 0
        if self._state == HEAD:
            options = self.pool.options
            while True:
                head = parse_response(data, pos, options, searched)
                searched = 0
                if head is None:
                    self._rest = data[pos:] if pos else data
                    return
                pos = head.end
                if head.status >= 200 or head.status == 101:
                    break
                if self.reader is not None:
                    self.reader.on_interim(head.status, head.headers)
                if self.reader is None:
                    return
                if pos == len(data):
                    return
            self._head(head, data, pos, now)
            return
        self._body(data, pos, now)

    def _head(self, head: ResponseHead, data: bytes, pos: int, now: float) -> None:
        reader = self.reader
        if reader is None:
            return
        response = Response(head.status, b"", head.headers)
        response.header_bytes = head.header_bytes
        response.wire_bytes = head.end
        status = head.status
        length = head.length
        size = len(data)
        if not head.keep_alive:
            self.last_use = True
            self.pool.stats.upstream_cx_close_notify += 1
        if status == 204 and head.headers.mask & CONTENT_LENGTH:
            # RFC 9110 8.6: a 204 has neither body nor length.
            if length:
                raise PeerError("http1.codec_error", "204 with a content-length")
            head.headers.drop(b"content-length")
        tunnel = self._upgrade and opens_tunnel(self._method, status)
        if status == 101 and not tunnel:
            raise PeerError("http1.codec_error", "101 without an upgrade request")
        if tunnel:
            # A length would mean nothing (RFC 9110 9.3.6), and must not deceive whoever comes after us.
            if self._method == b"CONNECT":
                head.headers.drop(b"content-length")
            self._state = TUNNEL
            self.last_use = True
            reader.on_response(response, data[pos:], False, now)
            if self._early:
                early = b"".join(self._early)
                self._early = []
                self._early_size = 0
                self._write(early)
                if not self.blocked:
                    reader.on_writable()
            return
        if self._head_request or status == 204 or status == 304:
            length = 0
        if length == 0:
            self._finished(keep=pos == size)
            reader.on_response(response, b"", True, now)
        elif length > 0:
            if size - pos >= length:
                body = data[pos : pos + length]
                self._finished(keep=size - pos == length)
                reader.on_response(response, body, True, now)
            else:
                self._left = length - (size - pos)
                self._state = LENGTH
                reader.on_response(response, data[pos:], False, now)
        elif length == -1:
            decoder = ChunkedDecoder(self.pool.options)
            self._chunked = decoder
            self._state = CHUNKED
            try:
                pos = decoder.feed(data, pos)
            except PeerError:
                reader.on_response(response, decoder.take(), False, now)
                raise
            body = decoder.take()
            if decoder.done and decoder.trailers is not None:
                reader.on_response(response, body, False, now)
                self._trailers(reader, decoder.trailers, pos == size, now)
            elif decoder.done:
                self._finished(keep=pos == size)
                reader.on_response(response, body, True, now)
            else:
                reader.on_response(response, body, False, now)
        else:
            self._state = UNTIL_CLOSE
            self.last_use = True
            reader.on_response(response, data[pos:], False, now)

    def _body(self, data: bytes, pos: int, now: float) -> None:
        reader = self.reader
        if reader is None:
            return
        state = self._state
        size = len(data)
        if state == LENGTH:
            left = self._left
            if size < left:
                self._left = left - size
                reader.on_data(data, False, now)
            else:
                self._finished(keep=size == left)
                reader.on_data(data if size == left else data[:left], True, now)
        elif state == CHUNKED:
            decoder = self._chunked
            assert decoder is not None
            pos = decoder.feed(data, pos)
            body = decoder.take()
            if decoder.done and decoder.trailers is not None:
                if body:
                    reader.on_data(body, False, now)
                self._trailers(reader, decoder.trailers, pos == size, now)
            elif decoder.done:
                self._finished(keep=pos == size)
                reader.on_data(body, True, now)
            elif body:
                reader.on_data(body, False, now)
        else:
            reader.on_data(data, False, now)

    def _trailers(self, reader: ResponseReader, trailers: Headers, keep: bool, now: float) -> None:
        """The end of a response, unless the reader has given it up at what came before."""
        if self.reader is reader:
            self._finished(keep=keep)
            reader.on_trailers(trailers, now)

    def _finished(self, *, keep: bool) -> None:
        """The response is complete: back to the pool, before the reader hears of it, so that its
        next request finds the connection there.  ``keep`` is false when bytes are left over."""
        self._detach()
        if not keep and not self._eof:
            self.pool.stats.upstream_cx_protocol_error += 1
        if not self._request_done:
            self._active = True
        if not keep or self.last_use or not self._request_done or self.transport is None or self.transport.is_closing():
            self._close()
            return
        self.resume()
        self.pool.release(self)

    def _detach(self) -> None:
        self.reader = None
        self._state = NOTHING
        self._chunked = None
        self._rest = b""
        self._early = []
        self._early_size = 0
        self.pool.request_ended()

    def _fail(self, reason: int, text: str) -> None:
        reader = self.reader
        if reader is not None:
            self._active = True
            self._detach()
        self._close()
        if reader is not None:
            reader.on_reset(reason, text)

    # -- the end ---------------------------------------------------------------------------------

    def wait_idle(self, now: float) -> None:
        """In the pool, unused."""
        timeout = self.pool.idle_timeout
        if timeout:
            if self._idle is None:
                self._idle = _Idle(self, False)
            self._idle.set(now + timeout)

    def too_old(self, duration: bool) -> None:
        stats = self.pool.stats
        if duration:
            stats.upstream_cx_max_duration_reached += 1
            self.last_use = True
            if self.reader is not None:
                return
        elif self.reader is None:
            stats.upstream_cx_idle_timeout += 1
        self._close()

    def close(self) -> None:
        self._close()

    def _close(self) -> None:
        self._closing = True
        self.last_use = True
        self.pool.forget(self)
        if self.transport is not None:
            if self.transport.get_write_buffer_size():
                self.transport.abort()  # a host that takes nothing would hold it for ever
            else:
                self.transport.close()
