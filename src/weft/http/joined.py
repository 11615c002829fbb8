"""Which header names a message has at most one field of.

Envoy keeps one slot for each of these names: a second value, from the wire or from a header rule,
joins the first with a comma.  Every other name may have many fields, kept apart.  Upstreams and
access logs can see the difference, so the lists are Envoy's (found by asking it).
"""

from typing import Final

_BOTH: Final = frozenset(
    (
        b"cache-control",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-status",
        b"transfer-encoding",
        b"upgrade",
        b"via",
        b"x-envoy-attempt-count",
        b"x-envoy-decorator-operation",
        b"x-request-id",
    )
)

JOINED_IN_REQUESTS: Final = _BOTH | frozenset(
    (
        b"accept",
        b"accept-encoding",
        b"access-control-request-headers",
        b"access-control-request-method",
        b"authorization",
        b"expect",
        b"grpc-accept-encoding",
        b"grpc-timeout",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"origin",
        b"pragma",
        b"referer",
        b"te",
        b"user-agent",
        b"x-client-trace-id",
        b"x-envoy-downstream-service-cluster",
        b"x-envoy-downstream-service-node",
        b"x-envoy-expected-rq-timeout-ms",
        b"x-envoy-external-address",
        b"x-envoy-force-trace",
        b"x-envoy-internal",
        b"x-envoy-ip-tags",
        b"x-envoy-is-timeout-retry",
        b"x-envoy-original-host",
        b"x-envoy-original-path",
        b"x-forwarded-client-cert",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
    )
)

JOINED_IN_RESPONSES: Final = _BOTH | frozenset(
    (
        b"access-control-allow-credentials",
        b"access-control-allow-headers",
        b"access-control-allow-methods",
        b"access-control-allow-origin",
        b"access-control-expose-headers",
        b"access-control-max-age",
        b"age",
        b"date",
        b"etag",
        b"expires",
        b"grpc-message",
        b"grpc-status",
        b"last-modified",
        b"location",
        b"server",
        b"vary",
        b"x-envoy-degraded",
        b"x-envoy-immediate-health-check-fail",
        b"x-envoy-ratelimited",
        b"x-envoy-upstream-canary",
        b"x-envoy-upstream-healthchecked-cluster",
        b"x-envoy-upstream-service-time",
    )
)
