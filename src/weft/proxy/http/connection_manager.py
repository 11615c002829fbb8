"""The HTTP connection manager: the network filter that turns a connection into requests.

One per filter chain and worker.  It owns what its connections share (route table, filter chain,
router, logs, stats) and decides the protocol of each; ``server1`` carries HTTP/1, ``stream`` is
one request, ``forwarding`` the rules of a good intermediary, ``router`` the way upstream.
"""

import inspect
from typing import TYPE_CHECKING, Any, ClassVar, Final

from weft.proxy.context import WorkerContext
from weft.proxy.extensions import NetworkFilterKind
from weft.proxy.http.filter import HttpFilter
from weft.proxy.http.forwarding import Forwarding
from weft.proxy.http.local_reply import LocalReply
from weft.proxy.http.router import Router, RouterSettings
from weft.proxy.http.server1 import ServerConnection
from weft.proxy.http.settings import HcmSettings, HttpFilterSettings, hcm_settings
from weft.proxy.http.stream import Stream
from weft.proxy.network.connection import Connection
from weft.proxy.observe import flags
from weft.proxy.observe.access_log import open_access_logs
from weft.proxy.observe.histogram import Histogram
from weft.proxy.observe.logging import logger
from weft.proxy.observe.stats import Codes, StatGroup, rows
from weft.proxy.route.filter_settings import DISABLED

if TYPE_CHECKING:
    from weft.proxy.observe.access_log import AccessLog

_log = logger("http")


class HttpStats(StatGroup):
    """``http.<stat_prefix>.``"""

    STATS: ClassVar[tuple[tuple[str, str, int], ...]] = rows(
        "downstream_cx_delayed_close_timeout",
        "downstream_cx_destroy",
        "downstream_cx_destroy_active_rq",
        "downstream_cx_destroy_local",
        "downstream_cx_destroy_local_active_rq",
        "downstream_cx_destroy_remote",
        "downstream_cx_destroy_remote_active_rq",
        "downstream_cx_drain_close",
        "downstream_cx_http1_total",
        "downstream_cx_http2_total",
        "downstream_cx_http3_total",
        "downstream_cx_idle_timeout",
        "downstream_cx_max_duration_reached",
        "downstream_cx_max_requests_reached",
        "downstream_cx_overload_disable_keepalive",
        "downstream_cx_protocol_error",
        "downstream_cx_rx_bytes_total",
        "downstream_cx_ssl_total",
        "downstream_cx_total",
        "downstream_cx_tx_bytes_total",
        "downstream_cx_upgrades_total",
        "downstream_flow_control_paused_reading_total",
        "downstream_flow_control_resumed_reading_total",
        "downstream_rq_completed",
        "downstream_rq_failed_path_normalization",
        "downstream_rq_header_timeout",
        "downstream_rq_http1_total",
        "downstream_rq_http2_total",
        "downstream_rq_http3_total",
        "downstream_rq_idle_timeout",
        "downstream_rq_max_duration_reached",
        "downstream_rq_non_relative_path",
        "downstream_rq_overload_close",
        "downstream_rq_redirected_with_normalized_path",
        "downstream_rq_rejected_via_ip_detection",
        "downstream_rq_response_before_rq_complete",
        "downstream_rq_rx_reset",
        "downstream_rq_timeout",
        "downstream_rq_too_large",
        "downstream_rq_too_many_premature_resets",
        "downstream_rq_total",
        "downstream_rq_tx_reset",
        "downstream_rq_ws_on_non_ws_route",
        "no_cluster",
        "no_route",
        "passthrough_internal_redirect_bad_location",
        "passthrough_internal_redirect_no_route",
        "passthrough_internal_redirect_predicate",
        "passthrough_internal_redirect_too_many_redirects",
        "passthrough_internal_redirect_unsafe_scheme",
        "rq_direct_response",
        "rq_redirect",
        "rq_reset_after_downstream_response_started",
        "rq_retry_skipped_request_not_complete",
        "rq_total",
        "rs_too_large",
        "bugs",
        gauges=(
            "downstream_cx_active",
            "downstream_cx_http1_active",
            "downstream_cx_http1_soft_drain",
            "downstream_cx_http2_active",
            "downstream_cx_http3_active",
            "downstream_cx_rx_bytes_buffered",
            "downstream_cx_ssl_active",
            "downstream_cx_tx_bytes_buffered",
            "downstream_cx_upgrades_active",
            "downstream_rq_active",
        ),
    )
    HISTOGRAMS: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("downstream_cx_length_ms", "downstream_cx_length_ms", "ms"),
        ("downstream_rq_time", "downstream_rq_time", "ms"),
    )

    def __init__(self) -> None:
        self.downstream_cx_delayed_close_timeout: int = 0
        self.downstream_cx_destroy: int = 0
        self.downstream_cx_destroy_active_rq: int = 0
        self.downstream_cx_destroy_local: int = 0
        self.downstream_cx_destroy_local_active_rq: int = 0
        self.downstream_cx_destroy_remote: int = 0
        self.downstream_cx_destroy_remote_active_rq: int = 0
        self.downstream_cx_drain_close: int = 0
        self.downstream_cx_http1_total: int = 0
        self.downstream_cx_http2_total: int = 0
        self.downstream_cx_http3_total: int = 0
        self.downstream_cx_idle_timeout: int = 0
        self.downstream_cx_max_duration_reached: int = 0
        self.downstream_cx_max_requests_reached: int = 0
        self.downstream_cx_overload_disable_keepalive: int = 0
        self.downstream_cx_protocol_error: int = 0
        self.downstream_cx_rx_bytes_total: int = 0
        self.downstream_cx_ssl_total: int = 0
        self.downstream_cx_total: int = 0
        self.downstream_cx_tx_bytes_total: int = 0
        self.downstream_cx_upgrades_total: int = 0
        self.downstream_flow_control_paused_reading_total: int = 0
        self.downstream_flow_control_resumed_reading_total: int = 0
        self.downstream_rq_completed: int = 0
        self.downstream_rq_failed_path_normalization: int = 0
        self.downstream_rq_header_timeout: int = 0
        self.downstream_rq_http1_total: int = 0
        self.downstream_rq_http2_total: int = 0
        self.downstream_rq_http3_total: int = 0
        self.downstream_rq_idle_timeout: int = 0
        self.downstream_rq_max_duration_reached: int = 0
        self.downstream_rq_non_relative_path: int = 0
        self.downstream_rq_overload_close: int = 0
        self.downstream_rq_redirected_with_normalized_path: int = 0
        self.downstream_rq_rejected_via_ip_detection: int = 0
        self.downstream_rq_response_before_rq_complete: int = 0
        self.downstream_rq_rx_reset: int = 0
        self.downstream_rq_timeout: int = 0
        self.downstream_rq_too_large: int = 0
        self.downstream_rq_too_many_premature_resets: int = 0
        self.downstream_rq_total: int = 0
        self.downstream_rq_tx_reset: int = 0
        self.downstream_rq_ws_on_non_ws_route: int = 0
        self.no_cluster: int = 0
        self.no_route: int = 0
        self.passthrough_internal_redirect_bad_location: int = 0
        self.passthrough_internal_redirect_no_route: int = 0
        self.passthrough_internal_redirect_predicate: int = 0
        self.passthrough_internal_redirect_too_many_redirects: int = 0
        self.passthrough_internal_redirect_unsafe_scheme: int = 0
        self.rq_direct_response: int = 0
        self.rq_redirect: int = 0
        self.rq_reset_after_downstream_response_started: int = 0
        self.rq_retry_skipped_request_not_complete: int = 0
        self.rq_total: int = 0
        self.rs_too_large: int = 0
        self.bugs: int = 0
        """Exceptions that nobody foresaw; each cost one request.  Weft's own name."""
        self.downstream_cx_active: int = 0
        self.downstream_cx_http1_active: int = 0
        self.downstream_cx_http1_soft_drain: int = 0
        self.downstream_cx_http2_active: int = 0
        self.downstream_cx_http3_active: int = 0
        self.downstream_cx_rx_bytes_buffered: int = 0
        self.downstream_cx_ssl_active: int = 0
        self.downstream_cx_tx_bytes_buffered: int = 0
        self.downstream_cx_upgrades_active: int = 0
        self.downstream_rq_active: int = 0
        self.downstream_cx_length_ms = Histogram()
        self.downstream_rq_time = Histogram()
        self.codes = Codes()

    def more(self) -> dict[str, int]:
        return _classes(self.codes)

    def reset_counters(self) -> None:
        super().reset_counters()
        self.codes.reset()


def _classes(codes: Codes) -> dict[str, int]:
    named = {f"downstream_rq_{n}xx": 0 for n in range(1, 6)}
    named.update(codes.named("downstream_rq", each=False))
    return named


class ListenerHttpStats(StatGroup):
    """``listener.<address>.http.<stat_prefix>.``"""

    STATS: ClassVar[tuple[tuple[str, str, int], ...]] = rows("downstream_rq_completed")

    def __init__(self) -> None:
        self.downstream_rq_completed: int = 0
        self.codes = Codes()

    def more(self) -> dict[str, int]:
        return _classes(self.codes)

    def reset_counters(self) -> None:
        super().reset_counters()
        self.codes.reset()


class CodecStats(StatGroup):
    """``http1.``, of all connection managers together"""

    STATS: ClassVar[tuple[tuple[str, str, int], ...]] = rows(
        "dropped_headers_with_underscores",
        "metadata_not_supported_error",
        "requests_rejected_with_underscores_in_headers",
        "response_flood",
    )

    def __init__(self) -> None:
        self.dropped_headers_with_underscores: int = 0
        self.metadata_not_supported_error: int = 0
        self.requests_rejected_with_underscores_in_headers: int = 0
        self.response_flood: int = 0


_PHASES: Final = (
    "on_request_data",
    "on_request_trailers",
    "on_response",
    "on_response_data",
    "on_response_trailers",
    "on_complete",
)


class FilterChain:
    """The HTTP filters before the router, compiled: one factory per filter.

    ``plain`` chains (none but the router) create nothing per request.
    """

    def __init__(self, entries: tuple[HttpFilterSettings, ...], context: WorkerContext, prefix: str) -> None:
        self.entries = [
            (entry.name, entry.kind.build(entry.settings, context, prefix), entry.disabled)
            for entry in entries
        ]
        self.plain: bool = not self.entries
        self._known: set[type] = set()
        """Filter classes that have been looked at."""

    def _check(self, name: str, http_filter: HttpFilter) -> None:
        """Only ``on_request`` may wait: a coroutine anywhere else would never run."""
        for phase in _PHASES:
            if inspect.iscoroutinefunction(getattr(http_filter, phase)):
                raise TypeError(f"HTTP filter '{name}': {phase} may not be async (only on_request may)")
        self._known.add(type(http_filter))

    def create(self, stream: Stream) -> list[HttpFilter] | None:
        """The filters of one stream, without those that its route disables."""
        out: list[HttpFilter] = []
        settings = stream.filter_table()
        for name, factory, off in self.entries:
            if name in settings:
                off = settings[name] is DISABLED
            if not off:
                http_filter = factory()
                if type(http_filter) not in self._known:
                    self._check(name, http_filter)
                http_filter.name = name
                out.append(http_filter)
        return out


class UpgradeChain:
    """What the requests of one kind of upgrade go through."""

    def __init__(self, filters: FilterChain, router: Router) -> None:
        self.filters = filters
        self.router = router


class ConnectionManager:
    def __init__(self, settings: HcmSettings, context: WorkerContext) -> None:
        self.settings = settings
        self.context = context
        self.loop = context.loop
        self.clock = context.clock
        self.deadlines = context.deadlines
        self.random = context.random
        self.runtime = context.runtime
        self.route_table = settings.route_table
        # What every request looks at, without a hop.
        self.options = settings.options
        self.idle_timeout: float = settings.idle_timeout
        self.stream_idle_timeout: float = settings.stream_idle_timeout
        self.max_stream_duration: float = settings.max_stream_duration
        self.request_timeout: float = settings.request_timeout
        self.request_headers_timeout: float = settings.request_headers_timeout
        self.max_requests: int = settings.max_requests_per_connection
        self.proxy_100_continue: bool = settings.proxy_100_continue
        self.stats = HttpStats()
        context.stats.register(f"http.{settings.stat_prefix}.", self.stats)
        self.codec_stats = CodecStats()
        context.stats.register("http1.", self.codec_stats)
        self._listeners: dict[str, ListenerHttpStats] = {}
        self.filter_chain = FilterChain(settings.filters, context, f"http.{settings.stat_prefix}.")
        self.router = Router(settings.router or RouterSettings(), self)
        self.plain_chain = UpgradeChain(self.filter_chain, self.router)
        self.upgrade_chains: dict[bytes, UpgradeChain] = {}
        """Of the upgrades with filters of their own."""
        for kind, upgrade in settings.upgrades.items():
            if upgrade.filters is not None:
                self.upgrade_chains[kind] = UpgradeChain(
                    FilterChain(upgrade.filters, context, f"http.{settings.stat_prefix}."),
                    Router(upgrade.router or RouterSettings(), self),
                )
        self.forwarding = Forwarding(settings, self)
        self.local_reply = LocalReply(settings.local_reply, context.clock, context.runtime)
        self.access_logs: list[AccessLog] = open_access_logs(settings.access_logs, context)

    # -- Terminal --------------------------------------------------------------------------------

    def take(self, connection: Connection, data: bytes) -> None:
        stats = self.stats
        stats.downstream_cx_total += 1
        stats.downstream_cx_active += 1
        prefix = connection.info.listener_stat_prefix
        listener = self._listeners.get(prefix)
        if listener is None:
            listener = ListenerHttpStats()
            self._listeners[prefix] = listener
            self.context.stats.register(f"{prefix}http.{self.settings.stat_prefix}.", listener)
        server = ServerConnection(self, connection, listener, self.clock.now())
        connection.transport.set_protocol(server)  # type: ignore[arg-type]  # duck-typed: compiled classes are faster so
        if data:
            server.data_received(data)

    # -- called by connections and streams -------------------------------------------------------

    def began(self, stream: Stream) -> None:
        stats = self.stats
        stats.downstream_rq_total += 1
        stats.downstream_rq_active += 1
        stats.downstream_rq_http1_total += 1

    def answered(self, status: int, listener: "ListenerHttpStats") -> None:
        """A response, or an interim one, went downstream."""
        self.stats.downstream_rq_completed += 1
        self.stats.codes.count(status)
        listener.downstream_rq_completed += 1
        listener.codes.count(status)

    def completed(self, stream: Stream, listener: "ListenerHttpStats") -> None:
        stats = self.stats
        stats.downstream_rq_active -= 1
        if stream.response_started:
            self.answered(stream.status, listener)
        stats.downstream_rq_time.record(int((stream.end - stream.start) * 1000.0 + 0.5))
        if (
            stream.aborted
            or stream.flags & flags.DOWNSTREAM_CONNECTION_TERMINATION
            or not stream.request_done
        ):
            stats.downstream_rq_rx_reset += 1
        if self.access_logs:
            stream.access_log_type = "DownstreamEnd"
            for log in self.access_logs:
                log.log(stream)

    def connection_closed(self, server: ServerConnection, remote: bool) -> None:
        stats = self.stats
        stats.downstream_cx_active -= 1
        if server.spoken:
            stats.downstream_cx_http1_active -= 1
        if server.upgraded:
            stats.downstream_cx_upgrades_active -= 1
        stats.downstream_cx_destroy += 1
        if remote:
            stats.downstream_cx_destroy_remote += 1
        else:
            stats.downstream_cx_destroy_local += 1
        stats.downstream_cx_length_ms.record(int((self.clock.now() - server.info.start) * 1000.0 + 0.5))

    def bug(self, stream: Stream | None, where: str) -> None:
        """Anything that nobody foresaw: it costs one stream, and is told with its traceback."""
        self.stats.bugs += 1
        what = f"{stream.head!r}" if stream is not None else "a connection"
        _log.exception("bug in %s while serving %s; the stream is ended", where, what)


def _build(settings: HcmSettings, context: WorkerContext, *_: Any) -> ConnectionManager:
    return ConnectionManager(settings, context)


HTTP_CONNECTION_MANAGER: Final = NetworkFilterKind(
    name="envoy.filters.network.http_connection_manager",
    type="envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    settings=hcm_settings,
    build=_build,
    terminal=True,
)
