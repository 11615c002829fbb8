"""Small readers of well-known messages."""

from weft.api.schema import message_class
from weft.api.values import fraction, optional_seconds, seconds, wrapped

CLUSTER = "envoy.config.cluster.v3.Cluster"


def test_durations():
    cluster = message_class(CLUSTER)(connect_timeout={"seconds": 1, "nanos": 250_000_000})

    assert seconds(cluster.connect_timeout) == 1.25
    assert optional_seconds(cluster, "connect_timeout") == 1.25
    assert optional_seconds(cluster, "cleanup_interval") is None


def test_wrappers():
    cluster = message_class(CLUSTER)(per_connection_buffer_limit_bytes={"value": 0})

    assert wrapped(cluster, "per_connection_buffer_limit_bytes", 5) == 0
    assert wrapped(cluster, "max_requests_per_connection", 5) == 5


def test_fractions():
    percent = message_class("envoy.type.v3.FractionalPercent")

    assert fraction(percent(numerator=5)) == (5, 100)
    assert fraction(percent(numerator=5, denominator=1)) == (5, 10_000)
    assert fraction(percent(numerator=5, denominator=2)) == (5, 1_000_000)
    assert fraction(percent(numerator=5, denominator=9)) == (5, 100)
