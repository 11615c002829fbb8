"""The HTTP/1 connections of one worker to one host, at one priority.

``ready`` connections wait for a request, ``pending`` requests wait for a connection; never both.
A request takes a ready connection, else it waits and a connection is made for it when the limits
allow one; the first connection of a pool is always allowed.  A connection belongs to whoever is
at the head of the queue when it stands.
"""

from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from weft.codec.http1 import Http1Options
from weft.proxy.context import WorkerContext
from weft.proxy.upstream.connect import Failure, Reason, connect_host
from weft.proxy.upstream.host import Host
from weft.proxy.upstream.http1 import UpstreamConnection
from weft.proxy.upstream.http_options import HttpSettings
from weft.proxy.upstream.stream import (
    CONNECTION_TIMEOUT,
    LOCAL_CONNECTION_FAILURE,
    OVERFLOW,
    REMOTE_CONNECTION_FAILURE,
    ResponseReader,
)

if TYPE_CHECKING:
    from weft.proxy.upstream.cluster import Cluster

_RESETS: Final = {
    Reason.TIMEOUT: CONNECTION_TIMEOUT,
    Reason.REFUSED: REMOTE_CONNECTION_FAILURE,
    Reason.UNREACHABLE: REMOTE_CONNECTION_FAILURE,
    Reason.LOCAL: LOCAL_CONNECTION_FAILURE,
    Reason.OTHER: REMOTE_CONNECTION_FAILURE,
}


class Http1Pool:
    def __init__(self, context: WorkerContext, cluster: "Cluster", host: Host, priority: int) -> None:
        self.context = context
        self.cluster = cluster
        self.host = host
        self.priority: int = priority
        self.limits = cluster.limits[priority]
        self.options: Http1Options = _options(cluster.settings.http)
        settings = cluster.settings
        # What every request looks at, without a hop.
        self.max_requests: int = settings.max_requests_per_connection
        self.idle_timeout: float = settings.idle_timeout
        self.buffer_limit: int = settings.per_connection_buffer_limit or 1 << 40
        self.stats = cluster.stats
        self.clock = context.clock
        self.ready: list[UpstreamConnection] = []
        self.connections: set[UpstreamConnection] = set()
        self.connecting: int = 0
        self.pending: deque[ResponseReader] = deque()
        self.drained: bool = False

    def acquire(self, reader: ResponseReader, now: float) -> None:
        """``reader.on_ready`` now or later, or ``reader.on_failure``."""
        cluster = self.cluster
        if self.ready:
            limits = self.limits
            if not limits.can_request():
                cluster.stats.upstream_rq_pending_overflow += 1
                reader.on_failure(OVERFLOW, "")
                return
            connection = self.ready.pop()
            self._attach(connection, reader, now)
            return
        stats = cluster.stats
        limits = self.limits
        if not limits.can_wait():
            stats.upstream_rq_pending_overflow += 1
            reader.on_failure(OVERFLOW, "")
            return
        stats.upstream_rq_pending_total += 1
        stats.upstream_rq_pending_active += 1
        limits.wait_began()
        self.pending.append(reader)
        if self.connecting < len(self.pending):
            if cluster.can_connect(self.host, self.priority):
                self._connect()
            else:
                stats.upstream_cx_overflow += 1
                if not self.connections:
                    self._connect()

    def cancel(self, reader: ResponseReader) -> None:
        """``reader`` waits no longer; nothing more is called back."""
        if reader in self.pending:
            self.pending.remove(reader)
            self._waited()
            self.cluster.stats.upstream_rq_cancelled += 1

    def _waited(self) -> None:
        self.limits.wait_ended()
        self.cluster.stats.upstream_rq_pending_active -= 1

    def new_connection(self) -> UpstreamConnection:
        self.cluster.stats.upstream_cx_http1_total += 1
        return UpstreamConnection(self, self.context.numbers.next())

    def _connect(self) -> None:
        connection = self.new_connection()
        self.connections.add(connection)
        self.connecting += 1
        connection.link = connect_host(
            self.context, self.cluster, self.host, lambda: connection, connection.failed, self.priority
        )

    def _attach(self, connection: UpstreamConnection, reader: ResponseReader, now: float) -> None:
        stats = self.stats
        stats.upstream_rq_total += 1
        stats.upstream_rq_active += 1
        host = self.host.stats
        host.rq_total += 1
        host.rq_active += 1
        self.limits.request_began()
        connection.attach(reader)
        reader.on_ready(connection, now)

    # -- called by connections -------------------------------------------------------------------

    def connected(self, connection: UpstreamConnection) -> None:
        self.connecting -= 1
        self._serve(connection, self.clock.now())

    def release(self, connection: UpstreamConnection) -> None:
        self._serve(connection, self.clock.current)

    def _serve(self, connection: UpstreamConnection, now: float) -> None:
        while self.pending:
            reader = self.pending.popleft()
            self._waited()
            if not self.limits.can_request():
                self.cluster.stats.upstream_rq_pending_overflow += 1
                reader.on_failure(OVERFLOW, "")
                continue
            self._attach(connection, reader, now)
            return
        if self.drained:
            connection.close()
            return
        self.ready.append(connection)
        connection.wait_idle(now)

    def request_ended(self) -> None:
        self.limits.request_ended()
        self.stats.upstream_rq_active -= 1
        self.host.stats.rq_active -= 1

    def connect_failed(self, connection: UpstreamConnection, failure: Failure) -> None:
        """Everybody who waits hears of it, as in Envoy: the host is the same for all of them."""
        self.connecting -= 1
        self.connections.discard(connection)
        reason = _RESETS[failure.reason]
        waiting = list(self.pending)
        self.pending.clear()
        for _ in waiting:
            self._waited()
        for reader in waiting:
            self.cluster.stats.upstream_rq_pending_failure_eject += 1
            reader.on_failure(reason, failure.text)

    def forget(self, connection: UpstreamConnection) -> None:
        """It will not be used again."""
        if connection in self.ready:
            self.ready.remove(connection)

    def lost(self, connection: UpstreamConnection) -> None:
        self.cluster.stats.upstream_rq_per_cx.record(connection.requests)
        self.forget(connection)
        self.connections.discard(connection)
        if self.connecting < len(self.pending) and (
            not self.connections or self.cluster.can_connect(self.host, self.priority)
        ):
            self._connect()

    def drain(self) -> None:
        """The host or the cluster is gone: what is idle closes now, the rest after its response."""
        self.drained = True
        for connection in list(self.ready):
            connection.close()
        for connection in self.connections:
            connection.last_use = True


@lru_cache(maxsize=256)
def _options(http: HttpSettings) -> Http1Options:
    return Http1Options(
        max_head=http.max_response_headers_kb * 1024,
        max_fields=http.max_headers_count,
        allow_chunked_length=http.allow_chunked_length,
        keep_trailers=http.enable_trailers,
    )


class Http1Pools:
    """The pools of a host by priority; what ``Host.http1_pool`` holds."""

    def __init__(self) -> None:
        self.by_priority: list[Http1Pool | None] = [None, None]

    def drain(self) -> None:
        for pool in self.by_priority:
            if pool is not None:
                pool.drain()


def pool_of(context: WorkerContext, cluster: "Cluster", host: Host, priority: int) -> Http1Pool:
    """The pool of ``host`` at ``priority``, made on first use."""
    pools = host.http1_pool
    if not isinstance(pools, Http1Pools):
        pools = Http1Pools()
        host.http1_pool = pools
    pool = pools.by_priority[priority]
    if pool is None or pool.cluster is not cluster:
        pool = Http1Pool(context, cluster, host, priority)
        pools.by_priority[priority] = pool
    return pool
