"""The admin server: HTTP/1.1 over TCP or a Unix socket, in main, beside the traffic and not in its way.

A connection carries one request at a time.  Nobody waits for a slow client: a head has to arrive
within ``HEAD_TIMEOUT``, an answer is written in slices as the client reads them, and a client that
reads nothing for ``WRITE_TIMEOUT`` is dropped.  What is answered is :class:`weft.proxy.admin.site.Site`'s
business.
"""

import asyncio
import contextlib
import os
import stat
from typing import Any, Final, Protocol

from weft.codec.errors import PeerError
from weft.codec.http1 import (
    ChunkedDecoder,
    Http1Options,
    RequestHead,
    has_expect_continue,
    parse_request,
    status_line,
)
from weft.http.message import Request
from weft.proxy.address import Address
from weft.proxy.admin.query import Answer
from weft.proxy.admin.server_stats import AdminHttpStats, AdminListenerStats
from weft.proxy.admin.site import Site
from weft.proxy.admin.view import AdminView
from weft.proxy.clock import http_date
from weft.proxy.observe.logging import logger
from weft.proxy.observe.stats import Store
from weft.proxy.observe.stream_info import ConnectionInfo, StreamInfo
from weft.proxy.observe.tags import Matches

HEAD_TIMEOUT: Final = 10.0
"""Seconds for the head and body of a request, from its first byte (or from connecting)."""
IDLE_TIMEOUT: Final = 300.0
"""Seconds between requests: scrapers come every minute and should find their connection alive."""
WRITE_TIMEOUT: Final = 30.0
"""Seconds without the client taking a byte of its answer."""
MAX_BODY: Final = 1 << 20
"""Bytes of a request's body; only runtime_modify and route/explain have one."""
MAX_CONNECTIONS: Final = 128
"""More are closed at once: the descriptors belong to the traffic."""
_SLICE: Final = 64 * 1024

_OPTIONS: Final = Http1Options(allow_http_10=True)
_LOG: Final = logger("admin")


class Log(Protocol):
    """An access log (``access_log.AccessLog``)."""

    def log(self, info: StreamInfo) -> None: ...


class Admin:
    """The server.  ``await start(address)``, then ``address`` is the bound one.

    Its own stats go into ``store``.
    """

    def __init__(
        self,
        view: AdminView,
        loop: asyncio.AbstractEventLoop,
        *,
        allow_paths: tuple[Matches, ...] = (),
        access_logs: tuple[Log, ...] = (),
        store: Store | None = None,
    ) -> None:
        self.site = Site(view, allow_paths)
        self.view = view
        self.loop = loop
        self.access_logs = access_logs
        self.address: Address | None = None
        self.connections: set[AdminConnection] = set()
        self.stats = AdminHttpStats()
        if store is not None:
            store.register("http.admin.", self.stats)
            store.register("listener.admin.", AdminListenerStats(self.stats))
        self._server: asyncio.AbstractServer | None = None

    async def start(self, address: Address, *, mode: int = 0, address_path: str = "") -> Address:
        """Listen; OSError when that is not possible.

        ``mode`` of a Unix socket's file (0: the process's); ``address_path`` is the file that is to
        say where (``--admin-address-path``).
        """
        if address.is_ip:
            self._server = await self.loop.create_server(
                self._connection, address.ip, address.port, reuse_address=True
            )
        else:
            path = "\0" + address.path[1:] if address.path.startswith("@") else address.path
            _remove_stale(path)
            self._server = await self.loop.create_unix_server(self._connection, path)
            if mode and not path.startswith("\0"):
                os.chmod(path, mode)
        return self._started(address, address_path)

    async def start_on(self, sock: Any, *, address_path: str = "") -> Address:
        """Listen on a bound socket, such as one that an older process handed over."""
        address = Address.of(sock.getsockname())
        if address.is_ip:
            self._server = await self.loop.create_server(self._connection, sock=sock)
        else:
            self._server = await self.loop.create_unix_server(self._connection, sock=sock)
        return self._started(address, address_path)

    def _started(self, asked: Address, address_path: str) -> Address:
        self.address = asked
        sockets = getattr(self._server, "sockets", None)
        if asked.is_ip and sockets:
            self.address = Address.of(sockets[0].getsockname())
        if address_path:
            _write_address(address_path, self.address.text)
        return self.address

    def _connection(self) -> Any:
        return AdminConnection(self)

    def close(self) -> None:
        """Stop listening and drop every connection; answers in flight are cut."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self.connections):
            connection.abort()
            connection.cancel()


def _remove_stale(path: str) -> None:
    """A socket file that an earlier process left would make binding fail."""
    with contextlib.suppress(OSError):
        if not path.startswith("\0") and stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)


def _write_address(path: str, text: str) -> None:
    """Whole or not at all: somebody is waiting for the file to appear."""
    with open(path + ".tmp", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".tmp", path)


class AdminConnection:
    """One client.  Bytes gather in ``_data``; one task at a time answers the request in front."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._loop = admin.loop
        self._transport: Any = None
        self._data = b""
        self._head: RequestHead | None = None
        self._chunks: ChunkedDecoder | None = None
        self._body: list[bytes] = []
        self._body_size = 0
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writable: asyncio.Future[None] | None = None
        self._paused = False
        self._eof = False
        self._closed = False
        self._started = 0.0
        self._info: ConnectionInfo | None = None

    # -- what the loop calls ---------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        admin = self._admin
        admin.stats.downstream_cx_total += 1
        if len(admin.connections) >= MAX_CONNECTIONS:
            self._closed = True
            admin.stats.downstream_cx_destroy += 1
            transport.abort()
            return
        admin.stats.downstream_cx_active += 1
        admin.connections.add(self)
        remote = Address.of(transport.get_extra_info("peername") or "")
        local = Address.of(transport.get_extra_info("sockname") or "")
        self._info = ConnectionInfo(admin.stats.downstream_cx_total, self._loop.time(), remote, local)
        transport.set_write_buffer_limits(high=2 * _SLICE, low=_SLICE)
        self._arm(HEAD_TIMEOUT)

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return
        if not self._data and self._head is None and self._task is None:
            self._arm(HEAD_TIMEOUT)
        self._data += data
        if self._task is not None:
            # The client talks ahead: read on when the answer is out.
            if len(self._data) > _SLICE:
                self._transport.pause_reading()
            return
        self._advance()

    def eof_received(self) -> bool:
        """A client may close its side after the request: the answer is still written."""
        self._eof = True
        return self._task is not None

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        if self in self._admin.connections:
            self._admin.connections.remove(self)
            self._admin.stats.downstream_cx_active -= 1
            self._admin.stats.downstream_cx_destroy += 1
        self._disarm()
        # What was ordered goes on: a client that is tired of waiting does not half drain a server.
        self._wake()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    def abort(self) -> None:
        self._closed = True
        self._disarm()
        if self._transport is not None:
            self._transport.abort()

    def cancel(self) -> None:
        """The server ends: so does what is being answered."""
        if self._task is not None:
            self._task.cancel()

    # -- reading ---------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Parse what has arrived; begin to answer when a request is whole."""
        try:
            if self._head is None:
                self._head = parse_request(self._data, 0, _OPTIONS)
                if self._head is None:
                    return
                self._begin_body(self._head)
            if not self._read_body(self._head):
                return
        except PeerError as error:
            self._admin.stats.downstream_cx_protocol_error += 1
            self._refuse(error.status)
            return
        head, body = self._head, b"".join(self._body)
        self._head = self._chunks = None
        self._body = []
        self._body_size = 0
        self._disarm()
        self._admin.stats.downstream_rq_total += 1
        self._admin.stats.downstream_rq_active += 1
        self._task = self._loop.create_task(self._serve(head, body))
        self._task.add_done_callback(self._served)

    def _begin_body(self, head: RequestHead) -> None:
        self._started = self._loop.time()
        self._data = self._data[head.end :]
        if head.host is None and head.minor == 1:
            raise PeerError("missing_host_header", "no host", 400)
        if head.length > MAX_BODY:
            raise PeerError("request_payload_too_large", "too much", 413)
        if head.length < 0:
            self._chunks = ChunkedDecoder(_OPTIONS)
        if head.length and has_expect_continue(head.headers):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _read_body(self, head: RequestHead) -> bool:
        """True when the body is whole."""
        chunks = self._chunks
        if chunks is not None:
            end = chunks.feed(self._data, 0)
            self._data = self._data[end:]
            self._take(chunks.take())
            return chunks.done
        missing = head.length - self._body_size
        if missing > 0:
            self._take(self._data[:missing])
            self._data = self._data[missing:]
        return self._body_size >= head.length

    def _take(self, piece: bytes) -> None:
        self._body_size += len(piece)
        if self._body_size > MAX_BODY:
            raise PeerError("request_payload_too_large", "too much", 413)
        if piece:
            self._body.append(piece)

    def _refuse(self, status: int) -> None:
        """The request cannot be read: say so, and close."""
        self._disarm()
        self._transport.write(
            status_line(status)
            + b"content-length: 0\r\ndate: "
            + self._date()
            + b"\r\nserver: envoy\r\nconnection: close\r\n\r\n"
        )
        self._transport.close()
        self._closed = True

    # -- answering -------------------------------------------------------------------------------

    async def _serve(self, head: RequestHead, body: bytes) -> None:
        method = head.method.decode("ascii", "replace")
        target = head.target.decode("utf-8", "replace")
        try:
            content_type = (head.headers.find(b"content-type") or b"").decode("latin-1").lower()
            answer = await self._admin.site.answer(method, target, body, content_type)
        except asyncio.CancelledError:
            raise
        except Exception:
            _LOG.exception("a bug: admin request %s %s", method, target)
            answer = Answer(body="internal error; see the log\n", status=500)
        if self._closed:
            return
        keep_alive = head.keep_alive and not self._eof
        raw = answer.body.encode("utf-8", "replace") if isinstance(answer.body, str) else answer.body
        wire = self._head_of(answer, len(raw), keep_alive)
        if method == "HEAD":
            raw = b""
        self._transport.write(wire if len(raw) > _SLICE else wire + raw)
        if len(raw) > _SLICE:
            await self._write(raw)
        self._count(answer.status, len(wire) + len(raw))
        self._log(head, answer.status, len(raw))
        if not keep_alive:
            self._transport.close()
            self._closed = True

    def _head_of(self, answer: Answer, size: int, keep_alive: bool) -> bytes:
        close = b"" if keep_alive else b"connection: close\r\n"
        return (
            status_line(answer.status)
            + b"content-type: %b\r\ncache-control: no-cache, max-age=0\r\nx-content-type-options: nosniff\r\n"
            b"date: %b\r\nserver: envoy\r\ncontent-length: %d\r\n%b\r\n"
            % (answer.content_type.encode(), self._date(), size, close)
        )

    async def _write(self, raw: bytes) -> None:
        """In slices, as fast as the client reads."""
        for start in range(0, len(raw), _SLICE):
            if self._closed:
                return
            self._transport.write(raw[start : start + _SLICE])
            if self._paused:
                self._writable = self._loop.create_future()
                self._arm(WRITE_TIMEOUT)
                await self._writable
                self._disarm()
            else:
                await asyncio.sleep(0)

    def _wake(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def _count(self, status: int, size: int) -> None:
        stats = self._admin.stats
        stats.downstream_rq_completed += 1
        stats.downstream_cx_tx_bytes_total += size
        stats.codes.count(status)
        stats.rq_time.record(int((self._loop.time() - self._started) * 1000))

    def _served(self, task: asyncio.Task[None]) -> None:
        self._task = None
        self._admin.stats.downstream_rq_active -= 1
        if not task.cancelled() and task.exception() is not None:
            _LOG.error("a bug: admin connection", exc_info=task.exception())
            self.abort()
        if self._closed:
            return
        self._transport.resume_reading()
        self._arm(HEAD_TIMEOUT if self._data else IDLE_TIMEOUT)
        if self._data:
            self._advance()
        elif self._eof:
            self._transport.close()

    # -- the rest --------------------------------------------------------------------------------

    def _date(self) -> bytes:
        return http_date(int(self._admin.view.now()))

    def _log(self, head: RequestHead, status: int, size: int) -> None:
        if not self._admin.access_logs or self._info is None:
            return
        info = StreamInfo(self._info, self._started)
        info.request = Request(head.method, head.target, head.host or b"", b"http", head.headers)
        info.protocol = "HTTP/1.1" if head.minor else "HTTP/1.0"
        info.status = status
        info.bytes_sent = size
        info.bytes_received = max(0, head.length)
        info.request_end = info.end = self._loop.time()
        for log in self._admin.access_logs:
            log.log(info)

    def _arm(self, delay: float) -> None:
        self._disarm()
        self._timer = self._loop.call_later(delay, self._expired)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expired(self) -> None:
        self._timer = None
        if self._task is None and (self._head is not None or self._data):
            self._refuse(408)
        else:
            self.abort()
