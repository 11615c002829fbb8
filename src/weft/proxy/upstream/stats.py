"""Stats of a cluster and of a host, with Envoy's names.

``cluster.<alt_stat_name or name>.`` + a row of :class:`ClusterStats`.  A group exists once a cluster
runs; for one that never carried a request :class:`weft.proxy.upstream.directory.Clusters` shows
the same names with zeros.

**A response is counted once**, by :meth:`ClusterStats.count_response`: into ``external`` or
``internal``, and what is named ``upstream_rq_200``, ``upstream_rq_completed`` or
``upstream_rq_time`` without a prefix is added up from those when somebody looks.
"""

from typing import ClassVar, Final

from weft.proxy.observe.histogram import Histogram
from weft.proxy.observe.stats import Codes, StatGroup, rows

_HTTP1: Final = {
    "http1.dropped_headers_with_underscores": 0,
    "http1.metadata_not_supported_error": 0,
    "http1.requests_rejected_with_underscores_in_headers": 0,
    "http1.response_flood": 0,
}
"""There from the first HTTP connection on; what they would count does not happen here."""


class ClusterStats(StatGroup):
    """Everything Envoy counts for one cluster; attributes are named as the stat, ``.`` as ``__``."""

    STATS: ClassVar[tuple[tuple[str, str, int], ...]] = rows(
        "assignment_stale",
        "assignment_timeout_received",
        "assignment_use_cached",
        "bind_errors",
        "default.total_match_count",
        "lb_healthy_panic",
        "lb_local_cluster_not_ok",
        "lb_recalculate_zone_structures",
        "lb_subsets_created",
        "lb_subsets_fallback",
        "lb_subsets_fallback_panic",
        "lb_subsets_removed",
        "lb_subsets_selected",
        "lb_zone_cluster_too_small",
        "lb_zone_no_capacity_left",
        "lb_zone_routing_all_directly",
        "lb_zone_routing_cross_zone",
        "lb_zone_routing_sampled",
        "membership_change",
        "original_dst_host_invalid",
        "retry_or_shadow_abandoned",
        "update_attempt",
        "update_empty",
        "update_failure",
        "update_no_rebuild",
        "update_success",
        "upstream_cx_close_notify",
        "upstream_cx_connect_attempts_exceeded",
        "upstream_cx_connect_fail",
        "upstream_cx_connect_timeout",
        "upstream_cx_connect_with_0_rtt",
        "upstream_cx_destroy",
        "upstream_cx_destroy_local",
        "upstream_cx_destroy_local_with_active_rq",
        "upstream_cx_destroy_remote",
        "upstream_cx_destroy_remote_with_active_rq",
        "upstream_cx_destroy_with_active_rq",
        "upstream_cx_http1_total",
        "upstream_cx_http2_total",
        "upstream_cx_http3_total",
        "upstream_cx_idle_timeout",
        "upstream_cx_max_duration_reached",
        "upstream_cx_max_requests",
        "upstream_cx_none_healthy",
        "upstream_cx_overflow",
        "upstream_cx_pool_overflow",
        "upstream_cx_preconnect_skipped",
        "upstream_cx_protocol_error",
        "upstream_cx_rx_bytes_total",
        "upstream_cx_total",
        "upstream_cx_tx_bytes_total",
        "upstream_flow_control_backed_up_total",
        "upstream_flow_control_drained_total",
        "upstream_flow_control_paused_reading_total",
        "upstream_flow_control_resumed_reading_total",
        "upstream_http3_broken",
        "upstream_internal_redirect_failed_total",
        "upstream_internal_redirect_succeeded_total",
        "upstream_queue_overloaded",
        "upstream_rq_0rtt",
        "upstream_rq_active_overflow",
        "upstream_rq_cancelled",
        "upstream_rq_completed",
        "upstream_rq_maintenance_mode",
        "upstream_rq_max_duration_reached",
        "upstream_rq_pending_failure_eject",
        "upstream_rq_pending_overflow",
        "upstream_rq_pending_total",
        "upstream_rq_per_try_idle_timeout",
        "upstream_rq_per_try_timeout",
        "upstream_rq_retry",
        "upstream_rq_retry_backoff_exponential",
        "upstream_rq_retry_backoff_ratelimited",
        "upstream_rq_retry_limit_exceeded",
        "upstream_rq_retry_overflow",
        "upstream_rq_retry_success",
        "upstream_rq_rx_reset",
        "upstream_rq_rx_reset_no_error",
        "upstream_rq_timeout",
        "upstream_rq_total",
        "upstream_rq_tx_reset",
        gauges=(
            "lb_subsets_active",
            "max_host_weight",
            "membership_degraded",
            "membership_excluded",
            "membership_healthy",
            "membership_total",
            "upstream_cx_active",
            "upstream_cx_rx_bytes_buffered",
            "upstream_cx_tx_bytes_buffered",
            "upstream_rq_active",
            "upstream_rq_pending_active",
            "version",
            "warming_state",
        ),
    )
    HISTOGRAMS: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("upstream_cx_connect_ms", "upstream_cx_connect_ms", "ms"),
        ("upstream_cx_length_ms", "upstream_cx_length_ms", "ms"),
        ("upstream_rq_per_cx", "upstream_rq_per_cx", ""),
    )

    def __init__(self) -> None:
        self.assignment_stale: int = 0
        self.assignment_timeout_received: int = 0
        self.assignment_use_cached: int = 0
        self.bind_errors: int = 0
        self.default__total_match_count: int = 0
        self.lb_healthy_panic: int = 0
        self.lb_local_cluster_not_ok: int = 0
        self.lb_recalculate_zone_structures: int = 0
        self.lb_subsets_created: int = 0
        self.lb_subsets_fallback: int = 0
        self.lb_subsets_fallback_panic: int = 0
        self.lb_subsets_removed: int = 0
        self.lb_subsets_selected: int = 0
        self.lb_zone_cluster_too_small: int = 0
        self.lb_zone_no_capacity_left: int = 0
        self.lb_zone_routing_all_directly: int = 0
        self.lb_zone_routing_cross_zone: int = 0
        self.lb_zone_routing_sampled: int = 0
        self.membership_change: int = 0
        self.original_dst_host_invalid: int = 0
        self.retry_or_shadow_abandoned: int = 0
        self.update_attempt: int = 0
        self.update_empty: int = 0
        self.update_failure: int = 0
        self.update_no_rebuild: int = 0
        self.update_success: int = 0
        self.upstream_cx_close_notify: int = 0
        self.upstream_cx_connect_attempts_exceeded: int = 0
        self.upstream_cx_connect_fail: int = 0
        self.upstream_cx_connect_timeout: int = 0
        self.upstream_cx_connect_with_0_rtt: int = 0
        self.upstream_cx_destroy: int = 0
        self.upstream_cx_destroy_local: int = 0
        self.upstream_cx_destroy_local_with_active_rq: int = 0
        self.upstream_cx_destroy_remote: int = 0
        self.upstream_cx_destroy_remote_with_active_rq: int = 0
        self.upstream_cx_destroy_with_active_rq: int = 0
        self.upstream_cx_http1_total: int = 0
        self.upstream_cx_http2_total: int = 0
        self.upstream_cx_http3_total: int = 0
        self.upstream_cx_idle_timeout: int = 0
        self.upstream_cx_max_duration_reached: int = 0
        self.upstream_cx_max_requests: int = 0
        self.upstream_cx_none_healthy: int = 0
        self.upstream_cx_overflow: int = 0
        self.upstream_cx_pool_overflow: int = 0
        self.upstream_cx_preconnect_skipped: int = 0
        self.upstream_cx_protocol_error: int = 0
        self.upstream_cx_rx_bytes_total: int = 0
        self.upstream_cx_total: int = 0
        self.upstream_cx_tx_bytes_total: int = 0
        self.upstream_flow_control_backed_up_total: int = 0
        self.upstream_flow_control_drained_total: int = 0
        self.upstream_flow_control_paused_reading_total: int = 0
        self.upstream_flow_control_resumed_reading_total: int = 0
        self.upstream_http3_broken: int = 0
        self.upstream_internal_redirect_failed_total: int = 0
        self.upstream_internal_redirect_succeeded_total: int = 0
        self.upstream_queue_overloaded: int = 0
        self.upstream_rq_0rtt: int = 0
        self.upstream_rq_active_overflow: int = 0
        self.upstream_rq_cancelled: int = 0
        self.upstream_rq_maintenance_mode: int = 0
        self.upstream_rq_max_duration_reached: int = 0
        self.upstream_rq_pending_failure_eject: int = 0
        self.upstream_rq_pending_overflow: int = 0
        self.upstream_rq_pending_total: int = 0
        self.upstream_rq_per_try_idle_timeout: int = 0
        self.upstream_rq_per_try_timeout: int = 0
        self.upstream_rq_retry: int = 0
        self.upstream_rq_retry_backoff_exponential: int = 0
        self.upstream_rq_retry_backoff_ratelimited: int = 0
        self.upstream_rq_retry_limit_exceeded: int = 0
        self.upstream_rq_retry_overflow: int = 0
        self.upstream_rq_retry_success: int = 0
        self.upstream_rq_rx_reset: int = 0
        self.upstream_rq_rx_reset_no_error: int = 0
        self.upstream_rq_timeout: int = 0
        self.upstream_rq_total: int = 0
        self.upstream_rq_tx_reset: int = 0
        self.lb_subsets_active: int = 0
        self.max_host_weight: int = 0
        self.membership_degraded: int = 0
        self.membership_excluded: int = 0
        self.membership_healthy: int = 0
        self.membership_total: int = 0
        self.upstream_cx_active: int = 0
        self.upstream_cx_rx_bytes_buffered: int = 0
        self.upstream_cx_tx_bytes_buffered: int = 0
        self.upstream_rq_active: int = 0
        self.upstream_rq_pending_active: int = 0
        self.version: int = 0
        self.warming_state: int = 0
        self.upstream_cx_connect_ms = Histogram()
        self.upstream_cx_length_ms = Histogram()
        self.upstream_rq_per_cx = Histogram()
        self.external = Codes()
        """Responses to requests from outside the mesh (the usual case)."""
        self.internal = Codes()
        """Responses to requests that carry ``x-envoy-internal: true``."""
        self.codes = Codes()
        """Responses to requests of which neither is known."""
        self.canary: Codes | None = None
        """Those of canaries, which are also in one of the above."""
        self.external_rq_time: Histogram | None = None
        self.internal_rq_time: Histogram | None = None

    def count_response(self, status: int, internal: bool) -> None:
        """One response head, or one local reply in its place."""
        if internal:
            self.internal.count(status)
        else:
            self.external.count(status)

    def count_canary(self, status: int) -> None:
        """A response with ``x-envoy-upstream-canary: true``, or of a canary host."""
        if self.canary is None:
            self.canary = Codes()
        self.canary.count(status)

    def record_time(self, milliseconds: int, internal: bool) -> None:
        """``upstream_rq_time`` of one completed request."""
        if internal:
            if self.internal_rq_time is None:
                self.internal_rq_time = Histogram()
            self.internal_rq_time.record(milliseconds)
        else:
            if self.external_rq_time is None:
                self.external_rq_time = Histogram()
            self.external_rq_time.record(milliseconds)

    @property
    def upstream_rq_completed(self) -> int:
        return _total(self.external) + _total(self.internal) + _total(self.codes)

    def more(self) -> dict[str, int]:
        out: dict[str, int] = _HTTP1.copy() if self.upstream_cx_http1_total else {}
        for stem, codes in (
            ("upstream_rq", self.codes),
            ("external.upstream_rq", self.external),
            ("internal.upstream_rq", self.internal),
        ):
            if not codes.by_code:
                continue
            for name, count in codes.named(stem, each=True).items():
                out[name] = out.get(name, 0) + count
                if codes is not self.codes:
                    plain = name.partition(".")[2]
                    out[plain] = out.get(plain, 0) + count
            if codes is not self.codes:
                out[f"{stem}_completed"] = _total(codes)
        if self.canary is not None:
            out.update(self.canary.named("canary.upstream_rq", each=True))
            out["canary.upstream_rq_completed"] = _total(self.canary)
        return out

    def more_histograms(self) -> dict[str, tuple[str, Histogram]]:
        out: dict[str, tuple[str, Histogram]] = {}
        both = Histogram()
        for name, histogram in (("external", self.external_rq_time), ("internal", self.internal_rq_time)):
            if histogram is not None:
                out[f"{name}.upstream_rq_time"] = ("ms", histogram)
                both.merge(histogram)
        if both.count:
            out["upstream_rq_time"] = ("ms", both)
        return out

    def reset_counters(self) -> None:
        for attribute, _, kind in type(self).STATS:
            if kind == 0 and attribute != "upstream_rq_completed":
                setattr(self, attribute, 0)
        self.external = Codes()
        self.internal = Codes()
        self.codes = Codes()


def _total(codes: Codes) -> int:
    total = 0
    for count in codes.by_code.values():
        total += count
    return total


class HostStats:
    """What admin ``/clusters`` tells of a host.  The last three are gauges."""

    __slots__ = (
        "cx_active",
        "cx_connect_fail",
        "cx_total",
        "rq_active",
        "rq_error",
        "rq_pending_active",
        "rq_success",
        "rq_timeout",
        "rq_total",
    )

    def __init__(self) -> None:
        self.cx_connect_fail: int = 0
        self.cx_total: int = 0
        self.rq_error: int = 0
        self.rq_success: int = 0
        self.rq_timeout: int = 0
        self.rq_total: int = 0
        self.cx_active: int = 0
        self.rq_active: int = 0
        self.rq_pending_active: int = 0
