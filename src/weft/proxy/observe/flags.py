"""Response flags: why a response is what it is, in Envoy's two letters.

One table; the stream sets a bit, the access log prints the letters.
"""

from typing import Final

FAILED_LOCAL_HEALTH_CHECK: Final = 1 << 0
NO_HEALTHY_UPSTREAM: Final = 1 << 1
UPSTREAM_REQUEST_TIMEOUT: Final = 1 << 2
LOCAL_RESET: Final = 1 << 3
UPSTREAM_REMOTE_RESET: Final = 1 << 4
UPSTREAM_CONNECTION_FAILURE: Final = 1 << 5
UPSTREAM_CONNECTION_TERMINATION: Final = 1 << 6
UPSTREAM_OVERFLOW: Final = 1 << 7
NO_ROUTE_FOUND: Final = 1 << 8
DELAY_INJECTED: Final = 1 << 9
FAULT_INJECTED: Final = 1 << 10
RATE_LIMITED: Final = 1 << 11
UNAUTHORIZED_EXTERNAL_SERVICE: Final = 1 << 12
RATE_LIMIT_SERVICE_ERROR: Final = 1 << 13
DOWNSTREAM_CONNECTION_TERMINATION: Final = 1 << 14
UPSTREAM_RETRY_LIMIT_EXCEEDED: Final = 1 << 15
STREAM_IDLE_TIMEOUT: Final = 1 << 16
INVALID_ENVOY_REQUEST_HEADERS: Final = 1 << 17
DOWNSTREAM_PROTOCOL_ERROR: Final = 1 << 18
UPSTREAM_MAX_STREAM_DURATION_REACHED: Final = 1 << 19
RESPONSE_FROM_CACHE_FILTER: Final = 1 << 20
NO_FILTER_CONFIG_FOUND: Final = 1 << 21
DURATION_TIMEOUT: Final = 1 << 22
UPSTREAM_PROTOCOL_ERROR: Final = 1 << 23
NO_CLUSTER_FOUND: Final = 1 << 24
OVERLOAD_MANAGER: Final = 1 << 25
DNS_RESOLUTION_FAILURE: Final = 1 << 26
DROP_OVERLOAD: Final = 1 << 27
DOWNSTREAM_REMOTE_RESET: Final = 1 << 28
UNCONDITIONAL_DROP_OVERLOAD: Final = 1 << 29

NAMES: Final[tuple[tuple[int, str, str], ...]] = (
    (FAILED_LOCAL_HEALTH_CHECK, "LH", "FailedLocalHealthCheck"),
    (NO_HEALTHY_UPSTREAM, "UH", "NoHealthyUpstream"),
    (UPSTREAM_REQUEST_TIMEOUT, "UT", "UpstreamRequestTimeout"),
    (LOCAL_RESET, "LR", "LocalReset"),
    (UPSTREAM_REMOTE_RESET, "UR", "UpstreamRemoteReset"),
    (UPSTREAM_CONNECTION_FAILURE, "UF", "UpstreamConnectionFailure"),
    (UPSTREAM_CONNECTION_TERMINATION, "UC", "UpstreamConnectionTermination"),
    (UPSTREAM_OVERFLOW, "UO", "UpstreamOverflow"),
    (NO_ROUTE_FOUND, "NR", "NoRouteFound"),
    (DELAY_INJECTED, "DI", "DelayInjected"),
    (FAULT_INJECTED, "FI", "FaultInjected"),
    (RATE_LIMITED, "RL", "RateLimited"),
    (UNAUTHORIZED_EXTERNAL_SERVICE, "UAEX", "UnauthorizedExternalService"),
    (RATE_LIMIT_SERVICE_ERROR, "RLSE", "RateLimitServiceError"),
    (DOWNSTREAM_CONNECTION_TERMINATION, "DC", "DownstreamConnectionTermination"),
    (UPSTREAM_RETRY_LIMIT_EXCEEDED, "URX", "UpstreamRetryLimitExceeded"),
    (STREAM_IDLE_TIMEOUT, "SI", "StreamIdleTimeout"),
    (INVALID_ENVOY_REQUEST_HEADERS, "IH", "InvalidEnvoyRequestHeaders"),
    (DOWNSTREAM_PROTOCOL_ERROR, "DPE", "DownstreamProtocolError"),
    (UPSTREAM_MAX_STREAM_DURATION_REACHED, "UMSDR", "UpstreamMaxStreamDurationReached"),
    (RESPONSE_FROM_CACHE_FILTER, "RFCF", "ResponseFromCacheFilter"),
    (NO_FILTER_CONFIG_FOUND, "NFCF", "NoFilterConfigFound"),
    (DURATION_TIMEOUT, "DT", "DurationTimeout"),
    (UPSTREAM_PROTOCOL_ERROR, "UPE", "UpstreamProtocolError"),
    (NO_CLUSTER_FOUND, "NC", "NoClusterFound"),
    (OVERLOAD_MANAGER, "OM", "OverloadManagerTerminated"),
    (DNS_RESOLUTION_FAILURE, "DF", "DnsResolutionFailed"),
    (DROP_OVERLOAD, "DO", "DropOverload"),
    (DOWNSTREAM_REMOTE_RESET, "DR", "DownstreamRemoteReset"),
    (UNCONDITIONAL_DROP_OVERLOAD, "UDO", "UnconditionalDropOverload"),
)
"""(bit, short, long), in the order in which Envoy prints them."""


def short(flags: int) -> str:
    """``UF,URX``; ``-`` for none (the access log's ``%RESPONSE_FLAGS%``)."""
    return ",".join([name for bit, name, _ in NAMES if flags & bit]) if flags else "-"


def long(flags: int) -> str:
    """The same with the long names (``%RESPONSE_FLAGS_LONG%``)."""
    return ",".join([name for bit, _, name in NAMES if flags & bit]) if flags else "-"
