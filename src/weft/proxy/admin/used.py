"""``usedonly``: which stats have been written since the start.

Envoy keeps a bit for each stat.  Weft writes plain integers and keeps none, so it is told from the
values: a counter or histogram that is not zero was used; a gauge that is back at zero was used when
the counter it goes with was.
"""

from typing import Final

from weft.proxy.observe.stats import Snapshot

_COMPANIONS: Final[tuple[tuple[str, str], ...]] = (
    ("downstream_pre_cx_active", "downstream_cx_total"),
    ("_active", "_total"),
    ("_rx_bytes_buffered", "_rx_bytes_total"),
    (".membership_total", ".membership_change"),
    (".membership_healthy", ".membership_change"),
    (".membership_degraded", ".membership_change"),
    (".membership_excluded", ".membership_change"),
    (".circuit_breakers.default.cx_open", ".upstream_cx_total"),
    (".circuit_breakers.default.cx_pool_open", ".upstream_cx_total"),
    (".circuit_breakers.default.rq_open", ".upstream_rq_total"),
    (".circuit_breakers.default.rq_pending_open", ".upstream_rq_pending_total"),
    (".circuit_breakers.default.rq_retry_open", ".upstream_rq_retry"),
    (".circuit_breakers.high.cx_pool_open", ".upstream_cx_total"),
)
"""Endings: of a gauge, of the counter that grows whenever the gauge is first written."""

_ALWAYS: Final = frozenset(
    (
        "cluster_manager.active_clusters",
        "cluster_manager.warming_clusters",
        "listener_manager.total_listeners_active",
        "listener_manager.total_listeners_warming",
        "listener_manager.workers_started",
        "runtime.num_keys",
        "runtime.num_layers",
        "server.compilation_settings.fips_mode",
        "server.concurrency",
        "server.days_until_first_cert_expiring",
        "server.dynamic_unknown_fields",
        "server.hot_restart_epoch",
        "server.live",
        "server.memory_allocated",
        "server.memory_heap_size",
        "server.memory_physical_size",
        "server.parent_connections",
        "server.state",
        "server.stats_recent_lookups",
        "server.static_unknown_fields",
        "server.total_connections",
        "server.uptime",
        "server.version",
        "server.wip_protos",
    )
)
"""Written at the start or at every flush, whatever the value."""


def used_gauge(name: str, value: int, counters: dict[str, int]) -> bool:
    if value or name in _ALWAYS or name.endswith(".warming_state"):
        return True
    for ending, companion in _COMPANIONS:
        if name.endswith(ending):
            return counters.get(name[: -len(ending)] + companion, 0) != 0
    return False


def only_used(snapshot: Snapshot) -> Snapshot:
    out = Snapshot()
    out.counters = {name: value for name, value in snapshot.counters.items() if value or name in _ALWAYS}
    out.gauges = {
        name: value for name, value in snapshot.gauges.items() if used_gauge(name, value, snapshot.counters)
    }
    out.texts = {name: value for name, value in snapshot.texts.items() if value}
    out.histograms = {name: value for name, value in snapshot.histograms.items() if value[1].count}
    return out
