"""Stats of network filters, under Envoy's names."""

from typing import TypeVar

from weft.proxy.observe.stats import StatGroup, Store, rows

G = TypeVar("G", bound=StatGroup)


def shared_group(store: Store, prefix: str, kind: type[G]) -> G:
    """The group of ``kind`` at ``prefix``, made when there is none.

    Chains that are replaced again and again count on in the same group, as the same prefix promises.
    """
    for group in store.groups_of(prefix):
        if type(group) is kind:
            return group
    made = kind()
    store.register(prefix, made)
    return made


class TcpProxyStats(StatGroup):
    """``tcp.<stat_prefix>.``"""

    STATS = rows(
        "downstream_cx_drain_close",
        "downstream_cx_no_route",
        "downstream_cx_overload_close",
        "downstream_cx_rx_bytes_total",
        "downstream_cx_total",
        "downstream_cx_tx_bytes_total",
        "downstream_flow_control_paused_reading_total",
        "downstream_flow_control_resumed_reading_total",
        "early_data_received_count_total",
        "idle_timeout",
        "max_downstream_connection_duration",
        "route_delayed_total",
        "upstream_flush_total",
        gauges=(
            "downstream_cx_rx_bytes_buffered",
            "downstream_cx_tx_bytes_buffered",
            "upstream_flush_active",
        ),
    )

    def __init__(self) -> None:
        self.downstream_cx_drain_close: int = 0
        self.downstream_cx_no_route: int = 0
        self.downstream_cx_overload_close: int = 0
        self.downstream_cx_rx_bytes_buffered: int = 0
        self.downstream_cx_rx_bytes_total: int = 0
        self.downstream_cx_total: int = 0
        self.downstream_cx_tx_bytes_buffered: int = 0
        self.downstream_cx_tx_bytes_total: int = 0
        self.downstream_flow_control_paused_reading_total: int = 0
        self.downstream_flow_control_resumed_reading_total: int = 0
        self.early_data_received_count_total: int = 0
        self.idle_timeout: int = 0
        self.max_downstream_connection_duration: int = 0
        self.route_delayed_total: int = 0
        self.upstream_flush_active: int = 0
        self.upstream_flush_total: int = 0


class ConnectionLimitStats(StatGroup):
    """``connection_limit.<stat_prefix>.``"""

    STATS = rows("limited_connections", gauges=("active_connections",))

    def __init__(self) -> None:
        self.limited_connections: int = 0
        self.active_connections: int = 0


class LocalRateLimitStats(StatGroup):
    """``local_rate_limit.<stat_prefix>.``"""

    STATS = rows("rate_limited")

    def __init__(self) -> None:
        self.rate_limited: int = 0
