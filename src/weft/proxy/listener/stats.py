"""Stats of listeners, under Envoy's names."""

from weft.proxy.observe.histogram import Histogram
from weft.proxy.observe.stats import StatGroup, rows


class ListenerStats(StatGroup):
    """``listener.<address>.``"""

    STATS = rows(
        "downstream_cx_destroy",
        "downstream_cx_overflow",
        "downstream_cx_overload_reject",
        "downstream_cx_total",
        "downstream_cx_transport_socket_connect_timeout",
        "downstream_global_cx_overflow",
        "downstream_listener_filter_error",
        "downstream_listener_filter_remote_close",
        "downstream_pre_cx_timeout",
        "extension_config_missing",
        "network_extension_config_missing",
        "no_filter_chain_match",
        gauges=("downstream_cx_active", "downstream_pre_cx_active"),
    )
    HISTOGRAMS = (
        ("downstream_cx_length_ms", "downstream_cx_length_ms", "ms"),
        ("connections_accepted_per_socket_event", "connections_accepted_per_socket_event", ""),
    )

    def __init__(self) -> None:
        self.downstream_cx_active: int = 0
        self.downstream_cx_destroy: int = 0
        self.downstream_cx_overflow: int = 0
        self.downstream_cx_overload_reject: int = 0
        self.downstream_cx_total: int = 0
        self.downstream_cx_transport_socket_connect_timeout: int = 0
        self.downstream_global_cx_overflow: int = 0
        self.downstream_listener_filter_error: int = 0
        self.downstream_listener_filter_remote_close: int = 0
        self.downstream_pre_cx_active: int = 0
        self.downstream_pre_cx_timeout: int = 0
        self.extension_config_missing: int = 0
        self.network_extension_config_missing: int = 0
        self.no_filter_chain_match: int = 0
        self.downstream_cx_length_ms = Histogram()
        self.connections_accepted_per_socket_event = Histogram()
        """Known to the event loop alone; here for the name."""


class WorkerListenerStats(StatGroup):
    """``listener.<address>.worker_<n>.``: the listener's own counts, seen once more.

    A worker has exactly one such group per listener, so nothing is counted twice on the way.
    """

    STATS = rows("downstream_cx_total", gauges=("downstream_cx_active",))

    def __init__(self, listener: ListenerStats) -> None:
        self._listener = listener

    @property
    def downstream_cx_total(self) -> int:
        return self._listener.downstream_cx_total

    @property
    def downstream_cx_active(self) -> int:
        return self._listener.downstream_cx_active

    def reset_counters(self) -> None:
        """They are the listener's."""


class ListenerManagerStats(StatGroup):
    """``listener_manager.``: of one process per proxy, or the numbers would be multiplied."""

    STATS = rows(
        "listener_added",
        "listener_create_failure",
        "listener_create_success",
        "listener_in_place_updated",
        "listener_modified",
        "listener_removed",
        "listener_stopped",
        gauges=(
            "total_filter_chains_draining",
            "total_listeners_active",
            "total_listeners_draining",
            "total_listeners_warming",
            "workers_pinned",
            "workers_started",
        ),
    )

    def __init__(self) -> None:
        self.listener_added: int = 0
        self.listener_create_failure: int = 0
        self.listener_create_success: int = 0
        self.listener_in_place_updated: int = 0
        self.listener_modified: int = 0
        self.listener_removed: int = 0
        self.listener_stopped: int = 0
        self.total_filter_chains_draining: int = 0
        self.total_listeners_active: int = 0
        self.total_listeners_draining: int = 0
        self.total_listeners_warming: int = 0
        self.workers_pinned: int = 0
        self.workers_started: int = 0


def stat_name(text: str) -> str:
    """A piece of a stat name as Envoy writes it: colons would be taken for something else."""
    return text.replace(":", "_")
