"""Shadow requests: copies that nobody waits for.

A :class:`Shadow` is sent like any other request of its cluster, within that cluster's limits and
counted there, and its response is read and dropped.  It must never be felt by the request that it
is a copy of: it asks nobody to pause, and when its host does not keep up, what may wait for it is
bounded, beyond which the shadow is given up.

:class:`Shadows` are those of one worker, which outlive the streams that made them and end with it.
"""

from typing import TYPE_CHECKING, ClassVar

from weft.http.headers import ENVOY, Headers
from weft.http.message import Request, Response
from weft.proxy.deadlines import Deadline, Deadlines
from weft.proxy.observe.stats import StatGroup, rows
from weft.proxy.upstream.stream import REASONS, RequestWriter, ResponseReader

if TYPE_CHECKING:
    from weft.proxy.upstream.pool import Http1Pool


class Shadows(StatGroup):
    """``http.async-client.``"""

    STATS: ClassVar[tuple[tuple[str, str, int], ...]] = rows("rq_total")

    def __init__(self) -> None:
        self.rq_total: int = 0
        self.active: set[Shadow] = set()

    def close(self) -> None:
        """The worker ends, and they with it."""
        for shadow in list(self.active):
            shadow.cancel()


class _TooLate(Deadline):
    def __init__(self, deadlines: Deadlines, shadow: "Shadow") -> None:
        super().__init__(deadlines)
        self.shadow: Shadow | None = shadow

    def expired(self, now: float) -> None:
        if self.shadow is not None:
            self.shadow.timed_out()

    def close(self) -> None:
        self.shadow = None
        self.drop()


class Shadow(ResponseReader):
    def __init__(self, shadows: Shadows, pool: "Http1Pool", request: Request, timeout: float) -> None:
        self._shadows = shadows
        self._pool = pool
        self._request: Request = request
        self._timeout: float = timeout
        """Seconds from the end of the request to the end of the response; 0 for ever."""
        self._too_late: _TooLate | None = None
        self._writer: RequestWriter | None = None
        self._waiting: list[bytes] = []
        """Body that came before the connection."""
        self._trailers: Headers | None = None
        self._request_end: float = 0.0
        """When the request was complete; 0 when it is not."""
        self._behind: int = 0
        """Bytes of the body that wait for the host, or for a connection to it."""
        self._response_begun: bool = False
        self._over: bool = False

    def begin(self, data: bytes, end: bool) -> None:
        self._shadows.rq_total += 1
        self._shadows.active.add(self)
        now = self._pool.clock.now()
        if data:
            self._waiting.append(data)
            self._behind = len(data)
        if end:
            self._complete_request(now)
        self._pool.acquire(self, now)

    # -- the request -----------------------------------------------------------------------------

    def request_data(self, data: bytes, end: bool) -> None:
        if self._over:
            return
        if end:
            self._complete_request(self._pool.clock.current)
        writer = self._writer
        if writer is None:
            if data:
                self._waiting.append(data)
                self._behind += len(data)
        else:
            writer.send_data(data, end)
            if writer.blocked:
                self._behind += len(data)
        if self._behind > self._pool.buffer_limit:
            self._pool.stats.retry_or_shadow_abandoned += 1
            self.cancel()

    def request_trailers(self, trailers: Headers) -> None:
        if self._over:
            return
        self._complete_request(self._pool.clock.current)
        if self._writer is None:
            self._trailers = trailers
        else:
            self._writer.send_trailers(trailers)

    def _complete_request(self, now: float) -> None:
        self._request_end = now
        if self._timeout:
            self._too_late = _TooLate(self._pool.context.deadlines, self)
            self._too_late.set(now + self._timeout)

    def stream_over(self) -> None:
        """The request that this one copies is over: what has come of it so far is all there is."""
        if not self._request_end:
            self.cancel()

    # -- called by the pool ----------------------------------------------------------------------

    def on_ready(self, writer: RequestWriter, now: float) -> None:
        self._writer = writer
        data = b"".join(self._waiting)
        self._waiting = []
        trailers = self._trailers
        writer.send(self._request, data, self._request_end > 0.0 and trailers is None, False)
        if trailers is not None:
            writer.send_trailers(trailers)
        if not writer.blocked:
            self._behind = 0

    def on_failure(self, reason: int, text: str) -> None:
        self._fail(reason)

    def on_interim(self, status: int, headers: Headers) -> None:
        if status != 103:
            self._pool.stats.count_response(status, True)

    def on_response(self, response: Response, data: bytes, end: bool, now: float) -> None:
        self._response_begun = True
        host = self._pool.host.stats
        status = response.status
        if status >= 500:
            host.rq_error += 1
        else:
            host.rq_success += 1
        stats = self._pool.stats
        stats.count_response(status, True)
        headers = response.headers
        if headers.mask & ENVOY and headers.find(b"x-envoy-upstream-canary") == b"true":
            stats.count_canary(status)
        if end:
            self._complete(now)

    def on_data(self, data: bytes, end: bool, now: float) -> None:
        if end:
            self._complete(now)

    def on_trailers(self, trailers: Headers, now: float) -> None:
        self._complete(now)

    def on_reset(self, reason: int, text: str) -> None:
        self._fail(reason)

    def on_blocked(self) -> None:
        """Nobody is asked to pause: what is written from now on is counted."""

    def on_writable(self) -> None:
        self._behind = 0

    # -- the end ---------------------------------------------------------------------------------

    def _complete(self, now: float) -> None:
        if self._request_end:
            self._pool.stats.record_time(int((now - self._request_end) * 1000.0 + 0.5), True)
        self._end()

    def _fail(self, reason: int) -> None:
        self._pool.host.stats.rq_error += 1
        if not self._response_begun:
            self._pool.stats.count_response(REASONS[reason].status, True)
        self._end()

    def timed_out(self) -> None:
        stats = self._pool.stats
        host = self._pool.host.stats
        stats.upstream_rq_timeout += 1
        host.rq_timeout += 1
        if not self._response_begun:
            host.rq_error += 1
            stats.count_response(504, True)
        self.cancel()

    def cancel(self) -> None:
        """Give it up; nothing is counted here."""
        if self._over:
            return
        writer = self._writer
        self._end()
        if writer is not None:
            writer.reset()
        else:
            self._pool.cancel(self)

    def _end(self) -> None:
        self._over = True
        self._writer = None
        self._waiting = []
        self._shadows.active.discard(self)
        if self._too_late is not None:
            self._too_late.close()
