"""Which gauges at zero count as used."""

import pytest

from weft.proxy.admin.used import only_used, used_gauge
from weft.proxy.observe.stats import Snapshot

COUNTERS = {
    "cluster.web.upstream_cx_total": 1,
    "cluster.web.membership_change": 1,
    "cluster.idle.upstream_cx_total": 0,
    "http.in.downstream_cx_tx_bytes_total": 5,
    "listener.a.downstream_cx_total": 5,
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
        ("cluster.web.circuit_breakers.high.cx_open", 0, False),
        ("cluster.web.membership_degraded", 0, True),
        ("cluster.idle.membership_degraded", 0, False),
        ("cluster.idle.warming_state", 0, True),
        ("cluster.idle.version", 0, False),
        ("http.in.downstream_cx_rx_bytes_buffered", 0, True),
        ("http.in.downstream_cx_tx_bytes_buffered", 0, False),
        ("listener.a.downstream_pre_cx_active", 0, True),
        ("server.state", 0, True),
        ("server.seconds_until_first_ocsp_response_expiring", 0, False),
        ("listener_manager.total_listeners_warming", 0, True),
    ],
)
def test_used(name, value, used):
    assert used_gauge(name, value, COUNTERS) is used


def test_some_counters_are_shown_at_zero():
    snapshot = Snapshot()
    snapshot.counters = {"server.wip_protos": 0, "server.debug_assertion_failures": 0}

    assert list(only_used(snapshot).counters) == ["server.wip_protos"]
