"""Which gauges at zero count as used."""

import pytest

from weft.proxy.admin.used import used_gauge

COUNTERS = {
    "cluster.web.upstream_cx_total": 1,
    "cluster.idle.upstream_cx_total": 0,
    "http.in.downstream_cx_rx_bytes_total": 5,
}


@pytest.mark.parametrize(
    ("name", "value", "used"),
    [
        ("cluster.idle.upstream_cx_active", 1, True),
        ("cluster.web.upstream_cx_active", 0, True),
        ("cluster.idle.upstream_cx_active", 0, False),
        ("cluster.web.circuit_breakers.default.cx_open", 0, True),
        ("cluster.idle.circuit_breakers.default.cx_open", 0, False),
        ("cluster.web.circuit_breakers.default.remaining_cx", 0, False),
        ("cluster.idle.membership_degraded", 0, True),
        ("cluster.idle.version", 0, False),
        ("http.in.downstream_cx_rx_bytes_buffered", 0, True),
        ("server.state", 0, True),
        ("listener_manager.total_listeners_warming", 0, True),
    ],
)
def test_used(name, value, used):
    assert used_gauge(name, value, COUNTERS) is used
