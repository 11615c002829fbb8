"""HTTP/1 towards the client: one connection, one stream at a time, pipelined requests waiting.

The state of the request half is an enum; the response half belongs to the stream under way.
Bytes that arrive while a response is under way, or while the client does not take what was written,
wait in ``_held`` and reading stops when that grows.
"""

import asyncio
from typing import TYPE_CHECKING, Final

from weft.codec.errors import PeerError
from weft.codec.http1 import (
    ChunkedDecoder,
    RequestHead,
    chunk,
    last_chunk,
    opens_tunnel,
    parse_request,
    status_line,
)
from weft.http.headers import CONTENT_LENGTH, Field, Headers
from weft.http.message import Request, Response
from weft.proxy.deadlines import Deadline
from weft.proxy.http.stream import Downstream, Stream
from weft.proxy.network.connection import Connection
from weft.proxy.observe import flags

if TYPE_CHECKING:
    from weft.proxy.http.connection_manager import ConnectionManager, ListenerHttpStats

# The request half of the connection.
HEAD: Final = 0
"""Waiting for, or in the middle of, a request head."""
LENGTH: Final = 1
"""In a body of known length."""
CHUNKED: Final = 2
WAIT: Final = 3
"""The request is complete; what arrives belongs to the next one."""
TUNNEL: Final = 4
"""Upgraded: bytes are passed on as they are."""
CLOSING: Final = 5
"""Answered for the last time; what arrives is thrown away."""

# What a deadline of this connection is for.
IDLE: Final = 0
STREAM_IDLE: Final = 1
RESPONSE: Final = 2
REQUEST_HEADERS: Final = 3
REQUEST: Final = 4
CONNECTION_DURATION: Final = 5
STREAM_DURATION: Final = 6
DELAYED_CLOSE: Final = 7

_CLOSE: Final = Field(b"connection", b"close")
_KEEP_ALIVE: Final = Field(b"connection", b"keep-alive")
_CHUNKED: Final = b"transfer-encoding: chunked\r\n\r\n"
_NO_BODY: Final = b"content-length: 0\r\n\r\n"
DRAIN_GRACE: Final = 1.0
"""Seconds that an idle connection is kept when it is asked to end."""
_SMALL: Final = 16 * 1024
"""Bytes: what is smaller is joined into one write."""


class _ConnectionDeadline(Deadline):
    def __init__(self, connection: "ServerConnection", purpose: int) -> None:
        super().__init__(connection.manager.deadlines)
        self.connection: ServerConnection | None = connection
        self.purpose: int = purpose

    def expired(self, now: float) -> None:
        if self.connection is not None:
            self.connection.deadline_expired(self.purpose, now)

    def close(self) -> None:
        self.connection = None
        self.drop()


class ServerConnection(Downstream):
    def __init__(
        self, manager: "ConnectionManager", connection: Connection, listener: "ListenerHttpStats", now: float
    ) -> None:
        self.manager = manager
        self.listener = listener
        self.connection = connection
        self.buffer_limit = connection.buffer_limit or 1 << 20
        self.info = connection.info
        self.transport: asyncio.Transport = connection.transport
        self.stream: Stream | None = None
        self.requests: int = 0
        self.spoken: bool = False
        """The client has sent something, so that the protocol is known."""
        self.upgraded: bool = False
        self._state: int = HEAD
        self._rest = b""
        """Bytes of a head not complete yet."""
        self._head_start: float = 0.0
        """When the first byte of a head that is not complete arrived; 0 when there is none."""
        self._held: list[bytes] = []
        """Bytes of requests whose turn has not come."""
        self._held_size: int = 0
        self._unsent: int = 0
        """Bytes that the client had still to take when DELAYED_CLOSE was last looked at."""
        self._left: int = 0
        self._chunked: ChunkedDecoder | None = None
        self._body_chunked: bool = False
        """The response under way is sent in chunks."""
        self._body_none: bool = False
        """The response under way has no body, whatever its head says (HEAD)."""
        self._keep_alive: bool = True
        self._http10: bool = False
        self._paused_for_client: bool = False
        self._reading_paused: int = 0
        self._busy: bool = False
        """In the loop over the bytes that arrived: a response may complete inside it."""
        self._closed: bool = False
        self._draining: bool = False
        self._deadlines: list[_ConnectionDeadline | None] = [None, None, None, None, None, None, None, None]
        settings = manager.settings
        if settings.idle_timeout:
            self._arm(IDLE, now + settings.idle_timeout)
        if settings.max_connection_duration:
            self._arm(CONNECTION_DURATION, now + settings.max_connection_duration)
        connection.on_drain = self.drain

    # -- deadlines -------------------------------------------------------------------------------

    def _arm(self, purpose: int, when: float) -> None:
        deadline = self._deadlines[purpose]
        if deadline is None:
            deadline = _ConnectionDeadline(self, purpose)
            self._deadlines[purpose] = deadline
        deadline.set(when)

    def _disarm(self, purpose: int) -> None:
        deadline = self._deadlines[purpose]
        if deadline is not None:
            deadline.when = 0.0

    def deadline_expired(self, purpose: int, now: float) -> None:
        manager = self.manager
        stream = self.stream
        now = manager.clock.now()
        if purpose == DELAYED_CLOSE:
            self._still_open(now)
        elif self._closed or self._state == CLOSING:
            return
        elif purpose == RESPONSE:
            if stream is not None:
                stream.timed_out()
        elif purpose == IDLE:
            if stream is None and self._draining:
                self._shut("draining")
            elif stream is None:
                manager.stats.downstream_cx_idle_timeout += 1
                self._shut("idle_timeout")
        elif purpose == STREAM_IDLE:
            if stream is not None or self._head_start:
                manager.stats.downstream_rq_idle_timeout += 1
                self._too_slow(b"stream timeout", "stream_idle_timeout", flags.STREAM_IDLE_TIMEOUT)
        elif purpose == REQUEST_HEADERS:
            manager.stats.downstream_rq_header_timeout += 1
            self._too_slow(b"request header timeout", "request_header_timeout", 0)
        elif purpose == REQUEST:
            if not stream.request_done if stream is not None else self._head_start:
                manager.stats.downstream_rq_timeout += 1
                self._too_slow(b"request timeout", "request_overall_timeout", 0)
        elif purpose == STREAM_DURATION:
            if stream is not None or self._head_start:
                manager.stats.downstream_rq_max_duration_reached += 1
                self._too_slow(b"downstream duration timeout", "max_duration_timeout", 0)
        elif purpose == CONNECTION_DURATION:
            manager.stats.downstream_cx_max_duration_reached += 1
            self.drain()

    def _too_slow(self, body: bytes, details: str, flag: int) -> None:
        stream = self.stream
        if stream is None:
            # In the middle of a head.
            self._refuse(PeerError(details, body.decode(), 408), self.manager.clock.current, body, flag)
        elif stream.response_started:
            stream.abort(flag, details)
        else:
            stream.reply(408 if not stream.request_done else 504, body, flag, details)

    # -- asyncio protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Not called: the listener hands over a connection that is made."""

    def data_received(self, data: bytes) -> None:
        manager = self.manager
        size = len(data)
        if self._state == CLOSING:
            return
        manager.stats.downstream_cx_rx_bytes_total += size
        if not self.spoken:
            self.spoken = True
            manager.stats.downstream_cx_http1_total += 1
            manager.stats.downstream_cx_http1_active += 1
        self.info.bytes_received += size
        if self._state == WAIT:
            self._hold(data)
            return
        if self._held:
            # Their turn has come, in this very turn of the loop: before what arrived last.
            self._hold(data)
            self._pipelined()
            return
        searched = 0
        if self._rest:
            searched = len(self._rest)
            data = self._rest + data
            self._rest = b""
        self._run(data, searched)

    def _run(self, data: bytes, searched: int) -> None:
        now = self.manager.clock.now()
        try:
            self._consume(data, now, searched)
        except PeerError as error:
            self._busy = False
            self._refuse(error, now, None, flags.DOWNSTREAM_PROTOCOL_ERROR)
        except Exception:
            self._busy = False
            self._bug()

    def _bug(self) -> None:
        """Something nobody foresaw costs this exchange, and is told."""
        stream = self.stream
        self.manager.bug(stream, "http1")
        if stream is None or stream.response_started:
            self.transport.abort()
            return
        stream.close_after = True
        try:
            stream.reply(500, b"", 0, "internal_error")
        except Exception:
            self.transport.abort()

    def eof_received(self) -> bool:
        """The client sent its last byte.  As in Envoy, a half-closed HTTP/1 connection is a closed one."""
        self.manager.clock.now()
        self._client_left()
        self._linger()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._closed = True
        self.manager.clock.now()
        self._client_left()
        for deadline in self._deadlines:
            if deadline is not None:
                deadline.close()
        self.manager.connection_closed(self, self.connection.info.termination_details == "")
        self.connection.on_drain = None
        self.connection.closed()

    def _client_left(self) -> None:
        """Maybe in the middle of an exchange."""
        stream = self.stream
        if stream is None:
            if not self._head_start:
                return
            # Half a head: as in Envoy, a request that was given up.
            stream = self._without_request(self.manager.clock.current)
        self.stream = None
        self.manager.stats.downstream_cx_destroy_active_rq += 1
        self.manager.stats.downstream_cx_destroy_remote_active_rq += 1
        stream.client_gone()

    def pause_writing(self) -> None:
        if self.stream is not None and self.stream.attempt is not None:
            self.stream.attempt.client_blocked()
        self._paused_for_client = True

    def resume_writing(self) -> None:
        self._paused_for_client = False
        if self.stream is not None and self.stream.attempt is not None:
            self.stream.attempt.client_writable()
        elif self._held and self._state == HEAD:
            self.manager.loop.call_soon(self._pipelined)

    # -- the request -----------------------------------------------------------------------------

    def _consume(self, data: bytes, now: float, searched: int = 0) -> None:
        """Go over what arrived, as often as one complete request ends and the next begins."""
        pos = 0
        size = len(data)
        self._busy = True
        while pos < size:
            state = self._state
            if state == HEAD:
                if self._paused_for_client:
                    # Answers would pile up that the client does not take.
                    self._hold(data[pos:] if pos else data)
                    break
                head = parse_request(data, pos, self.manager.options, searched)
                searched = 0
                if head is None:
                    self._rest = data[pos:].lstrip(b"\r\n") if data[pos] < 32 else data[pos:] if pos else data
                    if not self._head_start:
                        self._head_begins(now)
                    break
                pos = self._begin(head, data, pos, now)
            elif state == WAIT:
                self._hold(data[pos:] if pos else data)
                break
            else:
                pos = self._body(data, pos, now)
        self._busy = False

    def _head_begins(self, now: float) -> None:
        """A part of a head is there.  As in Envoy, the request has begun, and with it its timeouts."""
        manager = self.manager
        self._head_start = now
        self._disarm(IDLE)
        if manager.request_headers_timeout:
            self._arm(REQUEST_HEADERS, now + manager.request_headers_timeout)
        if manager.stream_idle_timeout:
            self._arm(STREAM_IDLE, now + manager.stream_idle_timeout)
        if manager.request_timeout:
            self._arm(REQUEST, now + manager.request_timeout)
        if manager.max_stream_duration:
            self._arm(STREAM_DURATION, now + manager.max_stream_duration)

    def _begin(self, head: RequestHead, data: bytes, start: int, now: float) -> int:
        """A request head is complete; the offset after what was taken of ``data``."""
        manager = self.manager
        self.requests += 1
        self._http10 = head.minor == 0
        self._keep_alive = head.keep_alive
        if manager.max_requests and self.requests >= manager.max_requests:
            if not self._draining:
                manager.stats.downstream_cx_max_requests_reached += 1
            self._keep_alive = False
        request = Request(
            head.method,
            head.target,
            head.host or b"",
            b"http",
            head.headers,
            b"HTTP/1.1" if head.minor else b"HTTP/1.0",
        )
        stream = Stream(manager, self, self.info, request, now)
        stream.protocol = "HTTP/1.1" if head.minor else "HTTP/1.0"
        self.stream = stream
        manager.began(stream)
        pos = head.end
        stream.wire_received = pos - start
        stream.header_received = head.header_bytes
        begun = now
        if self._head_start:
            begun = self._head_start
            self._head_start = 0.0
            self._disarm(REQUEST_HEADERS)
            self._disarm(REQUEST)
        self._disarm(IDLE)
        if stream.idle_timeout:
            self._arm(STREAM_IDLE, now + stream.idle_timeout)
        if manager.max_stream_duration:
            self._arm(STREAM_DURATION, begun + manager.max_stream_duration)
        end = False
        body = b""
        size = len(data)
        if head.length == 0:
            self._state = WAIT
            end = True
        elif head.length > 0:
            self._left = head.length
            self._state = LENGTH
            if pos < size:
                stop = min(size, pos + self._left)
                body = data[pos:stop]
                self._left -= stop - pos
                pos = stop
                if self._left == 0:
                    self._state = WAIT
                    end = True
        else:
            decoder = ChunkedDecoder(manager.options)
            self._chunked = decoder
            self._state = CHUNKED
        if not end and manager.request_timeout:
            self._arm(REQUEST, begun + manager.request_timeout)
        # Who answers the head alone does not wait for a body, even one that came along.
        if head.method == b"CONNECT":
            stream.upgrade = True
        else:
            stream.request_done = head.length == 0 and not head.upgrade
        try:
            if not manager.forwarding.admit(stream, head):
                return pos
        except PeerError:
            # Refused as if it could not be parsed: there is no request to speak of.
            stream.request = None
            raise
        if stream.upgrade:
            if end:
                self._state = TUNNEL
            stream.begin(body, False)
            if stream.upgrade:
                self.upgraded = True
                manager.stats.downstream_cx_upgrades_total += 1
                manager.stats.downstream_cx_upgrades_active += 1
            return pos
        if self._state == CHUNKED and pos < size and self._chunked is not None:
            # The first piece goes with the head.
            decoder = self._chunked
            try:
                pos = decoder.feed(data, pos)
            except PeerError:
                stream.begin(decoder.take(), False)
                raise
            body = decoder.take()
            if decoder.done:
                self._state = WAIT
                self._chunked = None
                if decoder.trailers is not None:
                    stream.begin(body, False)
                    if self.stream is stream:
                        stream.request_trailers_arrived(decoder.trailers)
                elif body:
                    stream.begin(body, True)
                else:
                    # An empty body of unknown length stays one.
                    stream.begin(b"", False)
                    if self.stream is stream:
                        stream.request_data(b"", True, now)
                self._request_over()
                return pos
        stream.begin(body, end)
        if end:
            self._request_over()
        return pos

    def _request_over(self) -> None:
        self._disarm(REQUEST)
        if self._state == WAIT and self.stream is None:
            self._next()

    def _body(self, data: bytes, pos: int, now: float) -> int:
        """Body bytes at ``pos``; the offset after what belongs to this request."""
        stream = self.stream
        size = len(data)
        state = self._state
        if stream is not None and stream.idle_timeout:
            self._arm(STREAM_IDLE, now + stream.idle_timeout)
        if state == LENGTH:
            stop = min(size, pos + self._left)
            piece = data if pos == 0 and stop == size else data[pos:stop]
            self._left -= stop - pos
            if stream is not None:
                stream.wire_received += stop - pos
            if self._left == 0:
                self._state = WAIT
                self._disarm(REQUEST)
            if stream is not None:
                stream.request_data(piece, self._left == 0, now)
            return stop
        if state == CHUNKED:
            decoder = self._chunked
            assert decoder is not None
            stop = decoder.feed(data, pos)
            piece = decoder.take()
            if stream is not None:
                stream.wire_received += stop - pos
            if decoder.done:
                self._state = WAIT
                self._chunked = None
                self._disarm(REQUEST)
                if stream is not None:
                    if decoder.trailers is not None:
                        if piece:
                            stream.request_data(piece, False, now)
                        stream.request_trailers_arrived(decoder.trailers)
                    else:
                        stream.request_data(piece, True, now)
            elif piece and stream is not None:
                stream.request_data(piece, False, now)
            return stop
        if state == TUNNEL and stream is not None:
            stream.request_data(data[pos:] if pos else data, False, now)
        return size

    def _next(self) -> None:
        """The exchange is over and the connection lives on: the next request may be there already."""
        self._state = HEAD
        manager = self.manager
        self._disarm(STREAM_IDLE)
        self._disarm(RESPONSE)
        self._disarm(STREAM_DURATION)
        if self._draining:
            self._arm(IDLE, manager.clock.current + min(DRAIN_GRACE, manager.settings.drain_timeout))
        elif manager.idle_timeout:
            self._arm(IDLE, manager.clock.current + manager.idle_timeout)
        if self._held:
            manager.loop.call_soon(self._pipelined)
        elif self._reading_paused:
            self._reading_paused = 1
            self.resume_request()

    def _hold(self, data: bytes) -> None:
        """Keep ``data`` until its turn comes; do not read more when that is much."""
        self._held.append(data)
        self._held_size += len(data)
        if self._held_size > self.buffer_limit and not self._reading_paused:
            self.pause_request()

    def _pipelined(self) -> None:
        """The turn of what was held has come."""
        if not self._held or self._closed or self._state == CLOSING or self._state == WAIT:
            return
        if self._paused_for_client and self._state == HEAD:
            return  # until the client takes what is written
        data = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        self._held = []
        self._held_size = 0
        if self._reading_paused and self.stream is None:
            self._reading_paused = 1
            self.resume_request()
        self._run(data, 0)

    def _without_request(self, now: float) -> Stream:
        """A stream for what never became a request: it is answered, counted and logged all the same."""
        start = self._head_start or now
        self._head_start = 0.0
        stream = Stream(self.manager, self, self.info, Request(b"", b"", b"", b"http", Headers()), start)
        stream.request = None
        stream.protocol = "HTTP/1.1"
        self.stream = stream
        self._http10 = False
        self.manager.began(stream)
        return stream

    def _refuse(self, error: PeerError, now: float, body: bytes | None, flag: int) -> None:
        """The client broke the protocol: one answer where that is still possible, then the end."""
        manager = self.manager
        if body is None:
            manager.stats.downstream_cx_protocol_error += 1
        stream = self.stream
        if stream is None:
            stream = self._without_request(now)
        stream.close_after = True
        self._state = CLOSING
        if body is None:
            body = _REASON_BODY.get(error.status, b"")
        stream.request_done = False
        stream.reply(error.status, body, flag, error.kind)

    # -- the response ----------------------------------------------------------------------------

    def send(self, stream: Stream, response: Response, data: bytes, end: bool) -> None:
        manager = self.manager
        headers = response.headers
        status = response.status
        request = stream.head
        head_request = request.method == b"HEAD"
        no_body = head_request or status == 204 or status == 304
        self._body_none = no_body
        self._body_chunked = False
        close = not self._keep_alive or stream.close_after or self._draining
        tunnel = stream.upgrade and opens_tunnel(request.method, status)
        if tunnel:
            self._state = TUNNEL
            close = False
            if self._held:
                manager.loop.call_soon(self._pipelined)
        elif not stream.request_done:
            close = True
        if not stream.request_done:
            manager.stats.downstream_rq_response_before_rq_complete += 1
        tail = b"\r\n"
        if (
            tunnel
            or status == 204
            or (headers.mask & CONTENT_LENGTH and headers.find(b"content-length") is not None)
        ):
            pass
        elif end and not data and not no_body:
            tail = _NO_BODY
        elif status == 304:
            pass
        elif self._http10:
            close = True
        else:
            self._body_chunked = not no_body
            tail = _CHUNKED
        fields = headers.fields
        if close:
            self._keep_alive = False
            headers.put(_CLOSE)
            fields = headers.fields
        elif self._http10 and not tunnel:
            headers.put(_KEEP_ALIVE)
            fields = headers.fields
        first = status_line(status)
        if self._http10:
            first = b"HTTP/1.0" + first[8:]
        parts = [first]
        parts.extend([field.wire for field in fields])
        parts.append(tail)
        out = b"".join(parts)
        stream.header_sent = len(out) - len(first) - 2
        if data and not no_body:
            if self._body_chunked:
                out += chunk(data)
                if end:
                    out += b"0\r\n\r\n"
            elif len(data) < _SMALL:
                out += data
            else:
                self._write(out, stream)
                out = data
        self._write(out, stream)
        if not stream.first_downstream_sent:
            stream.first_downstream_sent = manager.clock.current
        if end:
            self._over(stream)
        elif stream.idle_timeout:
            self._arm(STREAM_IDLE, manager.clock.current + stream.idle_timeout)

    def _write(self, data: bytes, stream: Stream) -> None:
        size = len(data)
        stream.wire_sent += size
        self.info.bytes_sent += size
        self.manager.stats.downstream_cx_tx_bytes_total += size
        self.transport.write(data)

    def send_data(self, stream: Stream, data: bytes, end: bool) -> None:
        if not self._body_none:
            if not self._body_chunked:
                if data:
                    self._write(data, stream)
            elif data:
                if len(data) < _SMALL:
                    self._write(chunk(data) + b"0\r\n\r\n" if end else chunk(data), stream)
                else:
                    self._write(b"%x\r\n" % len(data), stream)
                    self._write(data, stream)
                    self._write(b"\r\n0\r\n\r\n" if end else b"\r\n", stream)
            elif end:
                self._write(b"0\r\n\r\n", stream)
        if end:
            self._over(stream)
        elif stream.idle_timeout:
            self._arm(STREAM_IDLE, self.manager.clock.current + stream.idle_timeout)

    def send_trailers(self, stream: Stream, trailers: Headers) -> None:
        if self._body_chunked and not self._body_none:
            self._write(last_chunk(trailers if self.manager.options.keep_trailers else None), stream)
        self._over(stream)

    def send_interim(self, status: int, headers: Headers) -> None:
        if self._http10:
            return
        parts = [status_line(status)]
        parts.extend([field.wire for field in headers.fields])
        parts.append(b"\r\n")
        data = b"".join(parts)
        self.manager.answered(status, self.listener)
        if self.stream is not None:
            self._write(data, self.stream)

    def abort(self, stream: Stream) -> None:
        self.stream = None
        stream.response_done = True
        self._state = CLOSING
        if stream.attempt is not None:
            stream.attempt.cancel()
            stream.attempt = None
        stream.finish(self.manager.clock.now())
        if not self._closed:
            # What was sent stays sent; the missing end of the message tells the client.
            self._shut(stream.details)

    def _over(self, stream: Stream) -> None:
        """The last byte of a response is written."""
        now = self.manager.clock.current
        stream.last_downstream_sent = now
        attempt = stream.attempt
        stream.attempt = None
        request_done = stream.request_done
        stream.finish(now)
        if attempt is not None:
            attempt.response_sent(request_done)
        self.stream = None
        if self._state == TUNNEL or not request_done or not self._keep_alive or self._state == CLOSING:
            self._close_politely(now)
        elif self._state == WAIT:
            self._next()

    def _close_politely(self, now: float) -> None:
        """Close so that the client surely reads the answer: RST must not overtake it.

        When the client may still be sending, its bytes are read and thrown away for a while
        (``delayed_close_timeout``), for closing on unread bytes would reset the connection.
        """
        clean = self._state == WAIT and not self._held
        delay = self.manager.settings.delayed_close_timeout
        if clean or not delay or self._closed or not self.transport.can_write_eof():
            self._shut("http_close")
            return
        if not self.connection.info.termination_details:
            self.connection.info.termination_details = "http_close"
        self._linger()
        self._reading_paused = 0
        self.transport.resume_reading()
        self.transport.write_eof()
        self._arm(DELAYED_CLOSE, now + delay)

    def _shut(self, details: str) -> None:
        """Close when the client has taken what is written, or does not go on taking it."""
        if not self._closed:
            self.connection.close(details)
        self._linger()

    def _linger(self) -> None:
        """Nothing is done any more but to wait for the client to take what is written."""
        self._state = CLOSING
        self._rest = b""
        self._head_start = 0.0
        self._held = []
        self._held_size = 0
        if self._closed:
            return
        for purpose in range(DELAYED_CLOSE):
            self._disarm(purpose)
        self._unsent = self.transport.get_write_buffer_size()
        delay = self.manager.settings.delayed_close_timeout
        if delay and self._unsent:
            self._arm(DELAYED_CLOSE, self.manager.clock.current + delay)

    def _still_open(self, now: float) -> None:
        """``delayed_close_timeout`` is over; it begins anew whenever the client has taken something."""
        if self._closed:
            return
        unsent = self.transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._unsent = unsent
            self._arm(DELAYED_CLOSE, now + self.manager.settings.delayed_close_timeout)
            return
        self.manager.stats.downstream_cx_delayed_close_timeout += 1
        self.transport.abort()

    # -- back-pressure and the end ----------------------------------------------------------------

    def pause_request(self) -> None:
        self._reading_paused += 1
        if self._reading_paused == 1 and not self._closed:
            self.manager.stats.downstream_flow_control_paused_reading_total += 1
            self.transport.pause_reading()

    def resume_request(self) -> None:
        if self._reading_paused:
            self._reading_paused -= 1
            if self._reading_paused == 0 and not self._closed:
                self.manager.stats.downstream_flow_control_resumed_reading_total += 1
                self.transport.resume_reading()

    def request_awaited(self, stream: Stream, seconds: float) -> None:
        if self.stream is stream:
            if seconds:
                self._arm(RESPONSE, self.manager.clock.current + seconds)
            else:
                self._disarm(RESPONSE)

    def idle_after(self, stream: Stream, seconds: float) -> None:
        if seconds:
            self._arm(STREAM_IDLE, self.manager.clock.now() + seconds)
        else:
            self._disarm(STREAM_IDLE)

    def ends_after(self, stream: Stream, seconds: float) -> None:
        if seconds:
            self._arm(STREAM_DURATION, stream.start + seconds)
        else:
            self._disarm(STREAM_DURATION)

    def replaced(self, stream: Stream, by: Stream) -> None:
        self.stream = by
        self._disarm(RESPONSE)
        if by.idle_timeout:
            self._arm(STREAM_IDLE, self.manager.clock.current + by.idle_timeout)
        else:
            self._disarm(STREAM_IDLE)

    def completed(self, stream: Stream) -> None:
        self.manager.completed(stream, self.listener)

    def client_is_slow(self) -> bool:
        return self._paused_for_client

    def drain(self) -> None:
        """Close after the response of the stream or, when nothing is under way, soon.

        Not at once: the next request may be on its way, and the client that sent it would see a
        broken connection.  If it comes it is answered, and told that the connection closes.
        """
        self._draining = True
        if self.stream is not None or self._head_start or self._held:
            return
        if not self._closed and self._state != CLOSING:
            self._arm(IDLE, self.manager.clock.now() + min(DRAIN_GRACE, self.manager.settings.drain_timeout))


_REASON_BODY: Final[dict[int, bytes]] = {
    400: b"Bad Request",
    426: b"Upgrade Required",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
}
"""Bodies of the replies to what could not be parsed, as Envoy words them."""
