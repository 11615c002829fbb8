"""Carries a connection to a host of a cluster, byte for byte (``envoy.filters.network.tcp_proxy``).

A :class:`TcpSession` is the protocol of the downstream transport, a :class:`TcpUpstream` that of the
upstream one.  Each stops reading while the other cannot write, and each passes on an end of stream,
so that either side may close its half.  Once a session has carried enough, the kernel carries on
(:mod:`weft.proxy.network.splice`).
"""

from typing import Any, Final

from weft.proxy.address import Address
from weft.proxy.context import WorkerContext
from weft.proxy.deadlines import Deadline
from weft.proxy.extensions import NetworkFilterKind
from weft.proxy.network.connection import Connection, reset
from weft.proxy.network.splice import SplicedPair, pipes, splice_worthwhile
from weft.proxy.network.stats import TcpProxyStats, shared_group
from weft.proxy.network.tcp_settings import TcpProxySettings, tcp_proxy_settings
from weft.proxy.observe import flags
from weft.proxy.observe.access_log import open_access_logs
from weft.proxy.observe.stream_info import StreamInfo
from weft.proxy.upstream.cluster import Cluster
from weft.proxy.upstream.connect import Failure, Link, connect_host

SPLICE_AFTER: Final = 256 * 1024
"""Bytes in one direction after which the kernel takes over."""

# Why there is no upstream connection, by the numbers in Envoy's local close reason.
CONNECT_FAILED: Final = 0
NO_HEALTHY_UPSTREAM: Final = 1
RESOURCE_LIMIT: Final = 2
NO_ROUTE: Final = 3

# Where a session is.
WAITING: Final = 0
"""For the client's first bytes (``ON_DOWNSTREAM_DATA``)."""
CONNECTING: Final = 1
RELAYING: Final = 2
SPLICED: Final = 3
"""The kernel carries the bytes."""
CLOSED: Final = 4

# What a session's deadlines are for.
IDLE: Final = 0
LONGEST: Final = 1
LOG: Final = 2
RETRY: Final = 3


class TcpProxy:
    """The terminal of one chain in one worker."""

    def __init__(self, settings: TcpProxySettings, context: WorkerContext) -> None:
        self.settings = settings
        self.context = context
        self.stats: TcpProxyStats = shared_group(context.stats, f"tcp.{settings.stat_prefix}.", TcpProxyStats)
        self.logs = open_access_logs(settings.access_logs, context) if settings.access_logs else []
        self._total_weight = sum([weight for _, weight in settings.clusters])

    def take(self, connection: Connection, data: bytes) -> None:
        session = TcpSession(self, connection)
        connection.transport.set_protocol(session)  # type: ignore[arg-type]  # duck-typed, for mypyc
        session.begin(data)

    def choose_cluster(self) -> str:
        clusters = self.settings.clusters
        if len(clusters) == 1:
            return clusters[0][0]
        at = self.context.random.getrandbits(64) % self._total_weight
        for name, weight in clusters:
            at -= weight
            if at < 0:
                return name
        return clusters[-1][0]


class SessionDeadline(Deadline):
    """One of a session's timeouts."""

    def __init__(self, session: "TcpSession", purpose: int) -> None:
        super().__init__(session.context.deadlines)
        self._session = session
        self._purpose = purpose

    def expired(self, now: float) -> None:
        self._session.expired(self._purpose, now)


class TcpSession:
    """One downstream connection and its way upstream.  The protocol of the downstream transport."""

    def __init__(self, proxy: TcpProxy, connection: Connection) -> None:
        context = proxy.context
        self.proxy = proxy
        self.context = context
        self.connection = connection
        self.transport: Any = connection.transport
        self.stats = proxy.stats
        self.info = StreamInfo(connection.info, connection.info.start)
        self.state: int = CONNECTING
        self.cluster: Cluster | None = None
        self.link: Link | None = None
        self.upstream: TcpUpstream | None = None
        self.downstream_ended: bool = False
        """The client has closed its half."""
        self.upstream_ended: bool = False
        self._early: list[bytes] = []
        """Received before there was an upstream connection."""
        self._early_size: int = 0
        self._counted_request: bool = False
        self._idle: SessionDeadline | None = None
        self._idle_timeout: float = proxy.settings.idle_timeout
        self._others: list[SessionDeadline] = []
        self._spliced: SplicedPair | None = None
        self._may_splice: bool = True
        self._wants_splice: bool = False
        connection.stream_info = self.info

    # -- beginning -------------------------------------------------------------------------------

    def begin(self, data: bytes) -> None:
        settings = self.proxy.settings
        self.stats.downstream_cx_total += 1
        now = self.context.clock.now()
        if settings.longest:
            jitter = settings.longest * settings.longest_jitter / 100.0 * self.context.random.random()
            self._after(LONGEST, now + settings.longest + jitter)
        if settings.log_interval and self.proxy.logs:
            self._after(LOG, now + settings.log_interval)
        if settings.connect_on_data and not data:
            self.state = WAITING
        else:
            if data:
                self._keep(data)
            self._connect()

    def _after(self, purpose: int, when: float) -> None:
        deadline = SessionDeadline(self, purpose)
        deadline.set(when)
        self._others.append(deadline)

    def _keep(self, data: bytes) -> None:
        """Hold ``data`` until the upstream connection stands; read no more than is allowed."""
        settings = self.proxy.settings
        if settings.most_early and not self._early:
            self.stats.early_data_received_count_total += 1
        self._early.append(data)
        self._early_size += len(data)
        if self._early_size >= settings.most_early:
            pause(self.transport)

    def _connect(self) -> None:
        """Choose cluster and host, and start connecting."""
        self.state = CONNECTING
        info = self.info
        name = self.proxy.choose_cluster()
        cluster = self.context.clusters.get(name)
        if cluster is None:
            self.stats.downstream_cx_no_route += 1
            self._give_up(flags.NO_CLUSTER_FOUND, NO_ROUTE)
            return
        self.cluster = cluster
        info.cluster_name = name
        if not cluster.limits[0].can_connect():
            cluster.stats.upstream_cx_overflow += 1
            self._give_up(flags.UPSTREAM_OVERFLOW, RESOURCE_LIMIT)
            return
        host = cluster.pick(info, self.proxy.settings.hash_policy)
        if host is None:
            self._give_up(flags.NO_HEALTHY_UPSTREAM, NO_HEALTHY_UPSTREAM)
            return
        info.host = host
        info.attempts += 1
        info.upstream_connect_start = self.context.clock.now()
        cluster.stats.upstream_rq_pending_total += 1
        cluster.stats.upstream_rq_pending_active += 1
        self.link = connect_host(self.context, cluster, host, self._new_upstream, self._failed)

    def _new_upstream(self) -> Any:
        return TcpUpstream(self)

    def _failed(self, failure: Failure) -> None:
        """From connect_host: no connection to that host."""
        self.link = None
        cluster, info = self.cluster, self.info
        if self.state == CLOSED or cluster is None:
            return
        cluster.stats.upstream_rq_pending_active -= 1
        cluster.stats.upstream_rq_pending_failure_eject += 1
        info.flags |= flags.UPSTREAM_CONNECTION_FAILURE
        info.upstream_failure = failure.text
        settings = self.proxy.settings
        if info.attempts >= settings.connect_attempts:
            cluster.stats.upstream_cx_connect_attempts_exceeded += 1
            self._give_up(flags.UPSTREAM_RETRY_LIMIT_EXCEEDED, CONNECT_FAILED)
        elif settings.backoff is not None:
            most = min(settings.backoff.base * 2.0 ** min(info.attempts - 1, 30), settings.backoff.most)
            self._after(RETRY, self.context.clock.now() + most * self.context.random.random())
        else:
            self._connect()

    def _give_up(self, flag: int, why: int) -> None:
        self.info.flags |= flag
        # The spelling is Envoy's, and in its users' log queries.
        self.info.local_close_reason = f"tcp_initializion_failure:{why}"
        self.close(False)

    def upstream_connected(self, upstream: "TcpUpstream", transport: Any) -> None:
        cluster, info = self.cluster, self.info
        assert cluster is not None
        assert info.host is not None
        now = self.context.clock.now()
        info.upstream_connect_end = now
        info.upstream_local = Address.of(transport.get_extra_info("sockname"))
        info.upstream_remote = info.host.address
        stats, host = cluster.stats, info.host.stats
        stats.upstream_rq_pending_active -= 1
        stats.upstream_rq_total += 1
        stats.upstream_rq_active += 1
        host.rq_total += 1
        host.rq_active += 1
        self._counted_request = True
        self.upstream = upstream
        self.state = RELAYING
        if self.proxy.settings.log_on_connected:
            self._log("TcpUpstreamConnected")
        if self._early:
            sent = b"".join(self._early)
            self._early.clear()
            self._received(len(sent))
            upstream.write(sent)
        if self.downstream_ended:
            transport.write_eof()
        else:
            resume(self.transport)
        if self._idle_timeout:
            self._idle = SessionDeadline(self, IDLE)
            self._idle.set(now + self._idle_timeout)

    # -- the downstream transport ----------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        upstream = self.upstream
        if upstream is not None:
            self._received(len(data))
            if self._may_splice and self.info.bytes_received >= SPLICE_AFTER and self._splice(data, True):
                return
            upstream.write(data)
        elif self.state != CLOSED:
            self._keep(data)
            if self.state == WAITING:
                self._connect()

    def _received(self, size: int) -> None:
        self.info.bytes_received += size
        self.stats.downstream_cx_rx_bytes_total += size
        if self._idle is not None:
            self._idle.set(self.context.clock.now() + self._idle_timeout)

    def eof_received(self) -> bool:
        """The client has closed its half; ours stays open until the upstream has closed too."""
        self.downstream_ended = True
        upstream = self.upstream
        if upstream is None:
            if self.state == WAITING:
                self.close(False)  # it has nothing to say, so there is nobody to say it to
            return self.state != CLOSED
        if self.upstream_ended:
            self.close(False)
            return False
        if not upstream.transport.is_closing():
            upstream.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self.state == SPLICED:
            return
        upstream = self.upstream
        if upstream is not None:
            if isinstance(exc, ConnectionResetError):
                self.info.close_type = "RemoteReset"
                upstream.close(True)
            else:
                self._flush_upstream(upstream)
        self.finish()

    def _flush_upstream(self, upstream: "TcpUpstream") -> None:
        """The client is gone; what it sent still goes to the upstream."""
        if upstream.transport.get_write_buffer_size() and not upstream.flushing:
            upstream.flushing = True
            self.stats.upstream_flush_total += 1
            self.stats.upstream_flush_active += 1
        upstream.close(False)

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        if self.state == RELAYING and self.upstream is not None and self.cluster is not None:
            self.cluster.stats.upstream_flow_control_paused_reading_total += 1
            pause(self.upstream.transport)

    def resume_writing(self) -> None:
        if self.state == RELAYING and self.upstream is not None and self.cluster is not None:
            self.cluster.stats.upstream_flow_control_resumed_reading_total += 1
            if self._wants_splice and self._splice(b"", False):
                return
            resume(self.upstream.transport)

    # -- the upstream transport ------------------------------------------------------------------

    def upstream_data(self, data: bytes) -> None:
        size = len(data)
        self.sent(size)
        if self._may_splice and self.info.bytes_sent >= SPLICE_AFTER and self._splice(data, False):
            return
        self.transport.write(data)

    def sent(self, size: int) -> None:
        """``size`` bytes came from the upstream and go to the client."""
        info = self.info
        info.bytes_sent += size
        info.upstream_wire_received += size
        self.stats.downstream_cx_tx_bytes_total += size
        if self.cluster is not None:
            self.cluster.stats.upstream_cx_rx_bytes_total += size
        if self._idle is not None:
            self._idle.set(self.context.clock.now() + self._idle_timeout)

    def received(self, size: int) -> None:
        """``size`` bytes came from the client and went upstream, by the kernel."""
        self._received(size)
        self.forwarded(size)

    def forwarded(self, size: int) -> None:
        self.info.upstream_wire_sent += size
        if self.cluster is not None:
            self.cluster.stats.upstream_cx_tx_bytes_total += size

    def upstream_eof(self) -> bool:
        """The upstream has closed its half."""
        self.upstream_ended = True
        if self.downstream_ended:
            if self.upstream is not None:
                self.upstream.ended_last = True
            self.close(False)
            return False
        if not self.transport.is_closing():
            self.transport.write_eof()
        return True

    def upstream_lost(self, exc: Exception | None) -> None:
        """The upstream connection is gone, and not by us."""
        if self.state == CLOSED:
            return
        if exc is not None:
            self._reset_by_upstream()
            self.close(True)
        else:
            self.close(False)

    def _reset_by_upstream(self) -> None:
        info = self.info
        info.flags |= flags.UPSTREAM_REMOTE_RESET
        info.close_type = "LocalReset"
        info.upstream_close_type = "RemoteReset"

    # -- the kernel takes over -------------------------------------------------------------------

    def _splice(self, data: bytes, towards_upstream: bool) -> bool:
        """Hand the session to the kernel, with ``data`` still to be sent; false when it cannot be (yet).

        It can at a moment when both transports are empty.  Nothing is held up to bring that moment
        about: a peer that reads only what it can answer would wait for us, and we for it.
        """
        upstream = self.upstream
        if upstream is None or self.downstream_ended or self.upstream_ended or self.state != RELAYING:
            return False
        mine, its = self.transport, upstream.transport
        if not self._wants_splice:
            if not splice_worthwhile(mine, its):
                self._may_splice = False
                return False
            self._wants_splice = True
            # So that a sink that was full says so when it is empty, not when it is half full.
            for transport in (mine, its):
                transport.set_write_buffer_limits(high=max(transport.get_write_buffer_limits()), low=0)
        if (
            mine.get_write_buffer_size()
            or its.get_write_buffer_size()
            or mine.is_closing()
            or its.is_closing()
        ):
            return False
        self._may_splice = False
        self.state = SPLICED
        upstream.detached = True
        pair = SplicedPair(self, mine, its, self.context.loop, pipes())
        self._spliced = pair
        self.connection.transport = pair.transport
        self.transport = pair.transport
        if towards_upstream:
            self.forwarded(len(data))
        pair.begin(data, towards_upstream)
        return True

    def splice_when_empty(self) -> bool:
        """The upstream transport, which was full, is empty."""
        return self._wants_splice and self._splice(b"", True)

    def splice_over(self, upstream_failed: bool, local: bool) -> None:
        """From the pair: both ends are closed."""
        if upstream_failed:
            self._reset_by_upstream()
        upstream = self.upstream
        if upstream is not None:
            upstream.over(local)
        self.finish()

    def flow_paused(self, towards_upstream: bool) -> None:
        """From the pair: one side takes no more for now."""
        if towards_upstream:
            self.upstream_blocked()
        elif self.cluster is not None:
            self.cluster.stats.upstream_flow_control_paused_reading_total += 1

    def flow_resumed(self, towards_upstream: bool) -> None:
        if towards_upstream:
            self.upstream_unblocked()
        elif self.cluster is not None:
            self.cluster.stats.upstream_flow_control_resumed_reading_total += 1

    def upstream_blocked(self) -> None:
        self.stats.downstream_flow_control_paused_reading_total += 1
        if self.cluster is not None:
            self.cluster.stats.upstream_flow_control_backed_up_total += 1

    def upstream_unblocked(self) -> None:
        self.stats.downstream_flow_control_resumed_reading_total += 1
        if self.cluster is not None:
            self.cluster.stats.upstream_flow_control_drained_total += 1

    # -- the end ---------------------------------------------------------------------------------

    def expired(self, purpose: int, now: float) -> None:
        if self.state == CLOSED:
            return
        if purpose == IDLE:
            self.stats.idle_timeout += 1
            self._close_locally("tcp_session_idle_timeout")
        elif purpose == LONGEST:
            self.stats.max_downstream_connection_duration += 1
            self.info.flags |= flags.DURATION_TIMEOUT
            self._close_locally("max_connection_duration_reached")
        elif purpose == RETRY:
            self._connect()
        else:
            self._log("TcpPeriodic")
            self._after(LOG, now + self.proxy.settings.log_interval)

    def _close_locally(self, reason: str) -> None:
        self.info.local_close_reason = reason
        self.info.upstream_local_close_reason = reason
        self.close(False)

    def close(self, by_reset: bool) -> None:
        """Close both sides.  ``by_reset``: tell the client that this is no regular end."""
        if self.state == CLOSED:
            return
        spliced = self._spliced
        if spliced is not None:
            spliced.close(by_reset)
            return
        upstream = self.upstream
        if upstream is not None:
            upstream.close(False)
        if by_reset:
            reset(self.transport)
        else:
            self.transport.close()
        self._retire()

    def _retire(self) -> None:
        """No more events but the loss of the downstream transport."""
        self.state = CLOSED
        if self.link is not None and self.upstream is None:
            if self.cluster is not None:
                self.cluster.stats.upstream_rq_pending_active -= 1
            self.link.cancel()
            self.link = None
        if self._idle is not None:
            self._idle.clear()
            self._idle = None
        for deadline in self._others:
            deadline.clear()
        self._others.clear()
        if self._counted_request and self.cluster is not None and self.info.host is not None:
            self._counted_request = False
            self.cluster.stats.upstream_rq_active -= 1
            self.info.host.stats.rq_active -= 1

    def finish(self) -> None:
        """The downstream connection is gone."""
        self._retire()
        info, connection = self.info, self.connection
        info.end = self.context.clock.now()
        self._log("TcpConnectionEnd")
        connection.closed()

    def _log(self, kind: str) -> None:
        info, connection = self.info, self.connection.info
        info.wire_received = connection.bytes_received = info.bytes_received
        info.wire_sent = connection.bytes_sent = info.bytes_sent
        if not self.proxy.logs:
            return
        info.access_log_type = kind
        for log in self.proxy.logs:
            log.log(info)


def pause(transport: Any) -> None:
    """Stop reading, unless the transport is on its way out (loops differ in what they say to that)."""
    if not transport.is_closing():
        transport.pause_reading()


def resume(transport: Any) -> None:
    if not transport.is_closing():
        transport.resume_reading()


class TcpUpstream:
    """The protocol of the upstream transport."""

    def __init__(self, session: TcpSession) -> None:
        self.session = session
        self.transport: Any = None
        self.flushing: bool = False
        """The client is gone; only what is buffered is still to be sent."""
        self.detached: bool = False
        """The kernel carries the connection; the transport is no longer it."""
        self.ended_last: bool = False
        """The upstream closed its half when the client had closed its own: the end is the upstream's."""
        self._link: Link | None = None
        self._closing: bool = False

    def connection_made(self, transport: Any) -> None:
        session = self.session
        self.transport = transport
        link = session.link
        if link is None or session.state == CLOSED:
            self._closing = True
            transport.abort()
            return
        self._link = link
        link.connected(transport)
        session.upstream_connected(self, transport)

    def write(self, data: bytes) -> None:
        self.session.forwarded(len(data))
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        if not self._closing:
            self.session.upstream_data(data)

    def eof_received(self) -> bool:
        return not self._closing and self.session.upstream_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.detached:
            return
        session = self.session
        if self.flushing:
            self.flushing = False
            session.stats.upstream_flush_active -= 1
        self.over(self._closing and not self.ended_last)
        if not self._closing:
            session.upstream_lost(exc)

    def over(self, local: bool) -> None:
        if self._link is not None:
            self._link.closed(local=local, active=True)

    def close(self, by_reset: bool) -> None:
        if self._closing:
            return
        self._closing = True
        if by_reset:
            reset(self.transport)
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """The upstream reads too slowly."""
        session = self.session
        if session.state == RELAYING:
            session.upstream_blocked()
            pause(session.transport)

    def resume_writing(self) -> None:
        session = self.session
        if session.state == RELAYING:
            session.upstream_unblocked()
            if session.splice_when_empty():
                return
            resume(session.transport)


def _build(settings: TcpProxySettings, context: WorkerContext) -> TcpProxy:
    return TcpProxy(settings, context)


TCP_PROXY: Final = NetworkFilterKind(
    name="envoy.filters.network.tcp_proxy",
    type="envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    settings=tcp_proxy_settings,
    build=_build,
    terminal=True,
)
