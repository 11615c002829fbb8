"""At most so many new connections a second (``envoy.filters.network.local_ratelimit``).

The bucket belongs to the filter chain and is shared by all workers; filters with the same
``share_key`` and the same bucket share one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakValueDictionary

from weft.api.problems import Where
from weft.api.values import seconds, wrapped
from weft.proxy.context import WorkerContext
from weft.proxy.extensions import NetworkFilterKind
from weft.proxy.network.connection import Connection, NetworkFilter
from weft.proxy.network.feature import ALWAYS_ON, Feature, feature
from weft.proxy.network.stats import LocalRateLimitStats, shared_group
from weft.proxy.token_bucket import TokenBucket

SHORTEST_FILL: Final = 0.05
"""Seconds (Envoy's minimum)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRateLimitSettings:
    stat_prefix: str
    bucket: TokenBucket
    enabled: Feature = ALWAYS_ON


_SHARED: Final[WeakValueDictionary[tuple[str, int, int, float], TokenBucket]] = WeakValueDictionary()
"""Buckets by ``share_key`` and shape, for as long as some settings use them."""


def local_ratelimit_settings(message: Any, where: Where) -> LocalRateLimitSettings:
    bucket = message.token_bucket
    interval = seconds(bucket.fill_interval)
    if interval < SHORTEST_FILL:
        where.field("token_bucket").field("fill_interval").problem(
            "local rate limit token bucket fill timer must be >= 50ms"
        )
        interval = SHORTEST_FILL
    key = (message.share_key, bucket.max_tokens, wrapped(bucket, "tokens_per_fill", 1), interval)
    shared = _SHARED.get(key) if message.share_key else None
    if shared is None:
        shared = TokenBucket(key[1], key[2], interval, shared=True)
        if message.share_key:
            _SHARED[key] = shared
    return LocalRateLimitSettings(
        stat_prefix=message.stat_prefix, bucket=shared, enabled=feature(message, "runtime_enabled")
    )


class LocalRateLimitFilter(NetworkFilter):
    """Keeps no state: one for all connections of a chain."""

    def __init__(self, settings: LocalRateLimitSettings, context: WorkerContext) -> None:
        self._settings = settings
        self._context = context
        self._stats = shared_group(
            context.stats, f"local_rate_limit.{settings.stat_prefix}.", LocalRateLimitStats
        )

    def on_new_connection(self, connection: Connection) -> bool:
        settings, context = self._settings, self._context
        if not settings.enabled.enabled(context.runtime) or settings.bucket.take(context.clock.now()):
            return True
        self._stats.rate_limited += 1
        connection.end("local_ratelimit_close_over_limit")
        return False

    def me(self) -> NetworkFilter:
        return self


def _build(settings: LocalRateLimitSettings, context: WorkerContext) -> Callable[[], NetworkFilter]:
    return LocalRateLimitFilter(settings, context).me


LOCAL_RATELIMIT: Final = NetworkFilterKind(
    name="envoy.filters.network.local_ratelimit",
    type="envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit",
    settings=local_ratelimit_settings,
    build=_build,
)
