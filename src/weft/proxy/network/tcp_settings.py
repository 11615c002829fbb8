"""``tcp_proxy`` as configured: from ``envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`` to values."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from weft.api.problems import Where
from weft.api.values import optional_seconds, seconds, wrapped
from weft.proxy.route.hash_policy import HashPolicy, connection_hash_policy

if TYPE_CHECKING:
    from weft.proxy.observe.access_log import AccessLogSettings

DEFAULT_IDLE_TIMEOUT: Final = 3600.0
"""Seconds, Envoy's default."""

IMMEDIATE: Final = 0
ON_DOWNSTREAM_DATA: Final = 1
ON_DOWNSTREAM_TLS_HANDSHAKE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Seconds between connect attempts: random up to ``base`` doubled each time, at most ``most``."""

    base: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpProxySettings:
    stat_prefix: str
    clusters: tuple[tuple[str, int], ...]
    """(name, weight); one for ``cluster``."""
    idle_timeout: float = DEFAULT_IDLE_TIMEOUT
    """Seconds without a byte in either direction; 0 for no limit."""
    connect_attempts: int = 1
    backoff: Backoff | None = None
    """None: the next attempt is made at once."""
    longest: float = 0.0
    """Seconds that a downstream connection may last; 0 for no limit."""
    longest_jitter: float = 0.0
    """Percent by which ``longest`` is prolonged at random."""
    access_logs: "tuple[AccessLogSettings, ...]" = ()
    log_interval: float = 0.0
    """Seconds between entries of a connection that lasts; 0 for none."""
    log_on_connected: bool = False
    connect_on_data: bool = False
    """Choose a host only when the client has sent something."""
    hash_policy: HashPolicy | None = None
    """For balancers that hash: what of the connection says to which host it belongs."""
    most_early: int = 0
    """Bytes read before the upstream connection stands; 0: as few as possible."""


def tcp_proxy_settings(message: Any, where: Where) -> TcpProxySettings:
    for field, what in (
        ("tunneling_config", "tunneling over HTTP"),
        ("on_demand", "clusters on demand"),
    ):
        if message.HasField(field):
            where.field(field).problem(f"not supported yet: {what}")
    # metadata_match only ever speaks to subset load balancers, which a cluster cannot have yet;
    # proxy_protocol_tlvs only to an upstream PROXY protocol socket, likewise.
    # downstream_idle_timeout and upstream_idle_timeout have no effect in Envoy either.
    clusters: tuple[tuple[str, int], ...]
    if message.WhichOneof("cluster_specifier") == "weighted_clusters":
        clusters = tuple((entry.name, entry.weight) for entry in message.weighted_clusters.clusters)
    else:
        clusters = ((message.cluster, 1),)
    log_interval, log_on_connected = _log_options(message, where)
    mode = message.upstream_connect_mode
    if mode != IMMEDIATE and not message.HasField("max_early_data_bytes"):
        where.field("upstream_connect_mode").problem(
            "max_early_data_bytes must be set when upstream_connect_mode is not IMMEDIATE"
        )
    longest = optional_seconds(message, "max_downstream_connection_duration")
    idle = optional_seconds(message, "idle_timeout")
    if idle is not None and idle < 0:
        where.field("idle_timeout").problem("a duration must not be negative")
    return TcpProxySettings(
        stat_prefix=message.stat_prefix,
        clusters=clusters,
        idle_timeout=DEFAULT_IDLE_TIMEOUT if idle is None else max(idle, 0.0),
        connect_attempts=wrapped(message, "max_connect_attempts", 1),
        backoff=_backoff(message, where),
        longest=longest or 0.0,
        longest_jitter=message.max_downstream_connection_duration_jitter_percentage.value,
        access_logs=_access_logs(message, where),
        log_interval=log_interval,
        log_on_connected=log_on_connected,
        # A connection without TLS has its handshake behind it.
        connect_on_data=mode == ON_DOWNSTREAM_DATA,
        hash_policy=connection_hash_policy(message.hash_policy),
        most_early=wrapped(message, "max_early_data_bytes", 0),
    )


def _log_options(message: Any, where: Where) -> tuple[float, bool]:
    if message.HasField("access_log_options"):
        for old in ("access_log_flush_interval", "flush_access_log_on_connected"):
            given = message.HasField(old) if old.endswith("interval") else bool(getattr(message, old))
            if given:
                where.field(old).problem(f"only one of {old} or access_log_options can be specified")
        options = message.access_log_options
        return optional_seconds(
            options, "access_log_flush_interval"
        ) or 0.0, options.flush_access_log_on_connected
    return optional_seconds(
        message, "access_log_flush_interval"
    ) or 0.0, message.flush_access_log_on_connected


def _backoff(message: Any, where: Where) -> Backoff | None:
    if not message.HasField("backoff_options"):
        return None
    options = message.backoff_options
    base = seconds(options.base_interval)
    most = optional_seconds(options, "max_interval")
    if most is not None and most < base:
        where.field("backoff_options").field("max_interval").problem(
            "max_interval must be greater than or equal to base_interval"
        )
    return Backoff(base=base, most=base * 10 if most is None else most)


def _access_logs(message: Any, where: Where) -> "tuple[AccessLogSettings, ...]":
    if not message.access_log:
        return ()
    from weft.proxy.observe.access_log import access_logs

    return access_logs(message.access_log, where.field("access_log"))
