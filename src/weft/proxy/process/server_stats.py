"""Stats of main: ``server.``, ``runtime.`` and the watchdog's.

Workers know nothing of these; what they carry is counted by them.
"""

from typing import ClassVar, Final

from weft.proxy.observe.histogram import Histogram
from weft.proxy.observe.stats import GAUGE, StatGroup, rows

LIVE: Final = 0
DRAINING: Final = 1
PRE_INITIALIZING: Final = 2
INITIALIZING: Final = 3
"""``server.state``: Envoy's numbers of ServerInfo.State."""

STATE_NAMES: Final = ("LIVE", "DRAINING", "PRE_INITIALIZING", "INITIALIZING")

_NO_CERTIFICATE: Final = 0xFFFFFFFF


class ServerStats(StatGroup):
    """``server.``"""

    STATS: ClassVar[tuple[tuple[str, str, int], ...]] = rows(
        "debug_assertion_failures",
        "dropped_stat_flushes",
        "dynamic_unknown_fields",
        "envoy_bug_failures",
        "envoy_notifications",
        "static_unknown_fields",
        "wip_protos",
        "worker_died",
        gauges=(
            "compilation_settings.fips_mode",
            "concurrency",
            "days_until_first_cert_expiring",
            "hot_restart_epoch",
            "hot_restart_generation",
            "live",
            "memory_allocated",
            "memory_heap_size",
            "memory_physical_size",
            "parent_connections",
            "seconds_until_first_ocsp_response_expiring",
            "state",
            "stats_recent_lookups",
            "total_connections",
            "uptime",
            "version",
        ),
    )
    HISTOGRAMS: ClassVar[tuple[tuple[str, str, str], ...]] = (("initialization_time_ms", "initialization_time_ms", "ms"),)  # fmt: skip

    def __init__(self, concurrency: int) -> None:
        self.debug_assertion_failures: int = 0
        self.dropped_stat_flushes: int = 0
        self.dynamic_unknown_fields: int = 0
        self.envoy_bug_failures: int = 0
        self.envoy_notifications: int = 0
        self.static_unknown_fields: int = 0
        self.wip_protos: int = 0
        self.worker_died: int = 0
        """Not Envoy's: workers that ended without being told to."""
        self.compilation_settings__fips_mode: int = 0
        self.concurrency: int = concurrency
        self.days_until_first_cert_expiring: int = _NO_CERTIFICATE
        self.hot_restart_epoch: int = 0
        self.hot_restart_generation: int = 1
        self.live: int = 0
        self.memory_allocated: int = 0
        self.memory_heap_size: int = 0
        self.memory_physical_size: int = 0
        self.parent_connections: int = 0
        self.seconds_until_first_ocsp_response_expiring: int = 0
        self.state: int = PRE_INITIALIZING
        self.stats_recent_lookups: int = 0
        self.total_connections: int = 0
        self.uptime: int = 0
        self.version: int = 0
        self.initialization_time_ms = Histogram()


class BindStats(StatGroup):
    """What main adds to the workers' ``listener_manager.``: a listener whose address cannot be had."""

    STATS: ClassVar[tuple[tuple[str, str, int], ...]] = rows("listener_create_failure")

    def __init__(self) -> None:
        self.listener_create_failure: int = 0


class WatchdogStats(StatGroup):
    """``main_thread.``, ``workers.``, ``server.main_thread.``, ``server.worker_0.`` ..."""

    STATS: ClassVar[tuple[tuple[str, str, int], ...]] = rows("watchdog_mega_miss", "watchdog_miss")

    def __init__(self) -> None:
        self.watchdog_mega_miss: int = 0
        self.watchdog_miss: int = 0

    def count(self, miss: bool, mega_miss: bool) -> None:
        self.watchdog_miss += miss
        self.watchdog_mega_miss += mega_miss


class RuntimeStats(StatGroup):
    """``runtime.``"""

    STATS: ClassVar[tuple[tuple[str, str, int], ...]] = (
        *rows(
            "deprecated_feature_use",
            "load_error",
            "load_success",
            "override_dir_exists",
            "override_dir_not_exists",
        ),
        ("admin_overrides_active", "admin_overrides_active", GAUGE),
        ("deprecated_feature_seen_since_process_start", "deprecated_feature_seen_since_process_start", GAUGE),
        ("num_keys", "num_keys", GAUGE),
        ("num_layers", "num_layers", GAUGE),
    )

    def __init__(self) -> None:
        self.deprecated_feature_use: int = 0
        self.load_error: int = 0
        self.load_success: int = 1
        """Envoy's begins with a load of nothing."""
        self.override_dir_exists: int = 0
        self.override_dir_not_exists: int = 1
        """A load with less than two layers from directories."""
        self.admin_overrides_active: int = 0
        self.deprecated_feature_seen_since_process_start: int = 0
        self.num_keys: int = 0
        self.num_layers: int = 0
