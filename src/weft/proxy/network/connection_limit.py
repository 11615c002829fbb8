"""At most so many connections at a time (``envoy.filters.network.connection_limit``).

The limit is that of one filter chain, over all workers.  A connection too many is closed, after a
delay if one is configured: a client that tries again at once is slowed down.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from weft.api.problems import Where
from weft.api.values import seconds
from weft.proxy.context import WorkerContext
from weft.proxy.deadlines import Deadline
from weft.proxy.extensions import NetworkFilterKind
from weft.proxy.network.connection import Connection, NetworkFilter
from weft.proxy.network.feature import ALWAYS_ON, Feature, feature
from weft.proxy.network.stats import ConnectionLimitStats, shared_group
from weft.proxy.worker_counts import WorkerCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimitSettings:
    stat_prefix: str
    most: int
    delay: float = 0.0
    """Seconds between refusing a connection and closing it."""
    enabled: Feature = ALWAYS_ON
    counts: WorkerCounts = field(default_factory=WorkerCounts, compare=False, repr=False)


def connection_limit_settings(message: Any, where: Where) -> ConnectionLimitSettings:
    if not message.HasField("max_connections"):
        where.field("max_connections").problem("max_connections is required")
    delay = seconds(message.delay) if message.HasField("delay") else 0.0
    if delay < 0:
        where.field("delay").problem("a duration must not be negative")
    return ConnectionLimitSettings(
        stat_prefix=message.stat_prefix,
        most=message.max_connections.value,
        delay=delay,
        enabled=feature(message, "runtime_enabled"),
    )


class ConnectionLimitFilter(NetworkFilter):
    """One per connection."""

    def __init__(
        self, settings: ConnectionLimitSettings, context: WorkerContext, stats: ConnectionLimitStats
    ) -> None:
        self._settings = settings
        self._context = context
        self._stats = stats
        self._counted: bool = False
        self._refusal: Refusal | None = None

    def on_new_connection(self, connection: Connection) -> bool:
        settings, context = self._settings, self._context
        if not settings.enabled.enabled(context.runtime):
            return True
        if settings.counts.total() < settings.most:
            settings.counts.count(context.index, 1)
            self._stats.active_connections += 1
            self._counted = True
            return True
        self._stats.limited_connections += 1
        if settings.delay > 0:
            self._refusal = Refusal(connection, context)
            self._refusal.set(context.clock.now() + settings.delay)
        else:
            connection.end("over_connection_limit")
        return False

    def on_closed(self, connection: Connection) -> None:
        if self._refusal is not None:
            self._refusal.clear()
        if self._counted:
            self._counted = False
            self._settings.counts.count(self._context.index, -1)
            self._stats.active_connections -= 1


class Refusal(Deadline):
    """A connection that will be closed."""

    def __init__(self, connection: Connection, context: WorkerContext) -> None:
        super().__init__(context.deadlines)
        self._connection = connection

    def expired(self, now: float) -> None:
        self._connection.end("over_connection_limit")


class ConnectionLimit:
    """Makes the filters of one chain."""

    def __init__(self, settings: ConnectionLimitSettings, context: WorkerContext) -> None:
        self._settings = settings
        self._context = context
        self._stats = shared_group(
            context.stats, f"connection_limit.{settings.stat_prefix}.", ConnectionLimitStats
        )
        settings.counts.begin(context.index)

    def new(self) -> NetworkFilter:
        return ConnectionLimitFilter(self._settings, self._context, self._stats)


def _build(settings: ConnectionLimitSettings, context: WorkerContext) -> Callable[[], NetworkFilter]:
    return ConnectionLimit(settings, context).new


CONNECTION_LIMIT: Final = NetworkFilterKind(
    name="envoy.filters.network.connection_limit",
    type="envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
    settings=connection_limit_settings,
    build=_build,
)
