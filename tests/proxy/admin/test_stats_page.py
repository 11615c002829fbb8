"""Bytes of ``/stats`` and ``/stats/prometheus``; the expected ones are what Envoy 1.40 printed for the same samples."""

import asyncio
import json

import pytest

from weft.proxy.admin.site import Site
from weft.proxy.observe.histogram import Histogram
from weft.proxy.observe.stats import Snapshot
from weft.proxy.observe.tags import HistogramSetting, StatsSettings, TagSpec


def histogram(*samples):
    out = Histogram()
    for sample in samples:
        out.record(sample)
    return out


def ask(view, target):
    return asyncio.run(Site(view).answer("GET", target))


def text(view, target):
    answer = ask(view, target)
    assert answer.status == 200, answer
    return answer.body


ACCEPTED = "listener.lp.connections_accepted_per_socket_event"
LENGTH = "http.in.gress.downstream_cx_length_ms"
UNUSED = "cluster.web.upstream_cx_connect_ms"


@pytest.fixture
def view(view):
    view.stats.counters = {
        "cluster.web.upstream_rq_503": 3,
        "cluster.web.upstream_rq_5xx": 3,
        "cluster.web.upstream_cx_total": 3,
        "cluster.web.membership_change": 1,
        "cluster.web.upstream_cx_overflow": 0,
        "cluster.a-b.upstream_cx_total": 0,
        "cluster.a.upstream_cx_total": 1,
    }
    view.stats.gauges = {
        "cluster.web.upstream_cx_active": 0,
        "cluster.a-b.upstream_cx_active": 0,
        "cluster.web.membership_total": 0,
        "server.live": 1,
    }
    view.stats.texts = {"cluster_manager.cds.version_text": 'v"1'}
    view.stats.histograms = {
        ACCEPTED: ("", histogram(1, 1, 1, 1, 1, 1)),
        LENGTH: ("ms", histogram(0, 0, 0, 1, 2, 2)),
        UNUSED: ("ms", histogram()),
    }
    view.recent = Snapshot()
    view.recent.histograms = {LENGTH: ("ms", histogram(21))}
    return view


def test_text(view):
    nan = " ".join(
        f"P{p}(nan,{{}})" for p in ("0", "25", "50", "75", "90", "95", "99", "99.5", "99.9", "100")
    )
    most = "1.0857142857142856"
    assert text(view, "/stats") == (
        'cluster_manager.cds.version_text: "v"1"\n'
        "cluster.a-b.upstream_cx_active: 0\n"
        "cluster.a-b.upstream_cx_total: 0\n"
        "cluster.a.upstream_cx_total: 1\n"
        "cluster.web.membership_change: 1\n"
        "cluster.web.membership_total: 0\n"
        "cluster.web.upstream_cx_active: 0\n"
        "cluster.web.upstream_cx_overflow: 0\n"
        "cluster.web.upstream_cx_total: 3\n"
        "cluster.web.upstream_rq_503: 3\n"
        "cluster.web.upstream_rq_5xx: 3\n"
        "server.live: 1\n"
        f"{UNUSED}: No recorded values\n"
        f"{LENGTH}: P0(21.5,0) P25(21.5,0) P50(21.5,0) P75(21.5,2.033333333333333) P90(21.5,2.066666666666667)"
        " P95(21.5,2.066666666666667) P99(21.5,2.066666666666667) P99.5(21.5,2.066666666666667)"
        " P99.9(21.5,2.066666666666667) P100(21.5,2.066666666666667)\n"
        f"{ACCEPTED}: "
        + nan.format(
            "1.0142857142857142", "1.0285714285714285", "1.042857142857143", "1.0714285714285714", *[most] * 6
        )
        + "\n"
    )


def test_usedonly(view):
    names = [line.partition(": ")[0] for line in text(view, "/stats?usedonly").splitlines()]

    assert names == [
        "cluster_manager.cds.version_text",
        "cluster.a.upstream_cx_total",
        "cluster.web.membership_change",
        "cluster.web.membership_total",
        "cluster.web.upstream_cx_active",
        "cluster.web.upstream_cx_total",
        "cluster.web.upstream_rq_503",
        "cluster.web.upstream_rq_5xx",
        "server.live",
        LENGTH,
        ACCEPTED,
    ]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("filter=a-b", {"cluster.a-b.upstream_cx_total", "cluster.a-b.upstream_cx_active"}),
        (
            "filter=upstream_cx_total$&type=Counters&usedonly",
            {"cluster.a.upstream_cx_total", "cluster.web.upstream_cx_total"},
        ),
        ("filter=^cluster&invert_filter", {"server.live", LENGTH, ACCEPTED}),
        ("type=Gauges&filter=server", {"server.live"}),
        ("type=TextReadouts", {"cluster_manager.cds.version_text"}),
        ("type=Histograms", {LENGTH, ACCEPTED, UNUSED}),
        ("filter=nothing", set()),
    ],
)
def test_selections(view, query, names):
    lines = text(view, "/stats?" + query).splitlines()

    assert {line.partition(": ")[0] for line in lines} == names


@pytest.mark.parametrize(
    ("query", "refusal"),
    [
        (
            "histogram_buckets=bogus",
            "usage: /stats?histogram_buckets=(cumulative|disjoint|detailed|summary|prometheusnative)\n",
        ),
        (
            "histogram_buckets=prometheusnative",
            "Invalid histogram_buckets type for non prometheus stats type",
        ),
        ("type=counters", "invalid &type= param"),
        ("format=bogus", "usage: /stats?format=(html|active-html|json|prometheus|text)\n\n"),
        ("filter=(", "Invalid re2 regex: missing ): ("),
        ("format=prometheus&histogram_buckets=disjoint", "unsupported prometheus histogram bucket mode"),
    ],
)
def test_refusals(view, query, refusal):
    answer = ask(view, "/stats?" + query)

    assert (answer.status, answer.body) == (400, refusal)


@pytest.mark.parametrize(
    ("mode", "line"),
    [
        ("cumulative", "B0.5(0,3) B1(0,4) B5(0,6) B10(0,6) B25(1,6) B50(1,6) B100(1,6) B250(1,6) B500(1,6) B1000(1,6) B2500(1,6) B5000(1,6) B10000(1,6) B30000(1,6) B60000(1,6) B300000(1,6) B600000(1,6) B1.8e+06(1,6) B3.6e+06(1,6)"),
        ("disjoint", "B0.5(0,3) B1(0,1) B5(0,2) B10(0,0) B25(1,0) B50(0,0) B100(0,0) B250(0,0) B500(0,0) B1000(0,0) B2500(0,0) B5000(0,0) B10000(0,0) B30000(0,0) B60000(0,0) B300000(0,0) B600000(0,0) B1.8e+06(0,0) B3.6e+06(0,0)"),
    ],
)  # fmt: skip
def test_buckets_as_text(view, mode, line):
    body = text(view, f"/stats?type=Histograms&histogram_buckets={mode}")

    assert f"{LENGTH}: {line}\n" in body
    assert f"{UNUSED}: No recorded values\n" in body


def test_detailed_buckets_as_text(view):
    assert text(view, f"/stats?filter={LENGTH}&histogram_buckets=detailed").startswith(
        f"{LENGTH}:\n  totals=0,0:3, 1,0.1:1, 2,0.1:2\n  intervals=21,1:1\n  summary=P0(21.5,0) P25("
    )


def test_json(view):
    answer = ask(view, "/stats?format=json")

    assert answer.content_type == "application/json"
    assert answer.body.startswith(
        '{"stats":[{"name":"cluster_manager.cds.version_text","value":"v\\"1"},'
        '{"name":"cluster.a-b.upstream_cx_active","value":0},'
    )
    histograms = json.loads(answer.body)["stats"][-1]["histograms"]
    assert histograms["supported_quantiles"] == [0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100]
    unused, length, accepted = histograms["computed_quantiles"]
    assert unused == {"name": UNUSED, "values": [{"cumulative": None, "interval": None}] * 10}
    assert length["values"][3] == {"cumulative": 2.033333333333333, "interval": 21.5}
    assert accepted["values"][0] == {"cumulative": 1.0142857142857142, "interval": None}


def test_json_without_a_stat(view):
    assert text(view, "/stats?format=json&filter=nothing") == '{"stats":[]}'


def test_json_buckets(view):
    body = text(view, f"/stats?format=json&filter={LENGTH}&histogram_buckets=cumulative")

    assert body.startswith(
        f'{{"stats":[{{"histograms":[{{"name":"{LENGTH}","buckets":[{{"upper_bound":0.5,"interval":0,"cumulative":3}},'
    )
    # Envoy prints a number plainly or scientifically, whichever is shorter.
    assert '{"upper_bound":3e+05,"interval":1,"cumulative":6}' in body
    assert '{"upper_bound":1800000,"interval":1,"cumulative":6}' in body


def test_json_detailed(view):
    body = text(view, f"/stats?format=json&filter={LENGTH}&histogram_buckets=detailed")

    histograms = json.loads(body)["stats"][0]["histograms"]
    assert list(histograms) == ["supported_percentiles", "details"]
    (details,) = histograms["details"]
    assert list(details) == ["name", "totals", "intervals", "percentiles"]
    assert details["totals"][1] == {"lower_bound": 1, "width": 0.1, "count": 1}
    assert details["intervals"] == [{"lower_bound": 21, "width": 1, "count": 1}]


def test_html_escapes_names(view):
    view.stats.counters = {"cluster.<b>.x": 1}

    answer = ask(view, "/stats?format=html")
    assert answer.content_type == "text/html; charset=UTF-8"
    assert "cluster.&lt;b&gt;.x: 1\n" in answer.body


def test_prometheus(view):
    view.stats.histograms = {"cluster.web.upstream_cx_length_ms": ("ms", histogram(1, 1))}
    view.settings = StatsSettings(
        histograms=(
            HistogramSetting(
                matches=lambda name: name.endswith("_ms"), bounds=(0.5, 1.0, 99999.5, 3600000.0)
            ),
        )
    )

    assert text(view, "/stats/prometheus?text_readouts") == (
        "# TYPE envoy_cluster_membership_change counter\n"
        'envoy_cluster_membership_change{envoy_cluster_name="web"} 1\n'
        "# TYPE envoy_cluster_upstream_cx_overflow counter\n"
        'envoy_cluster_upstream_cx_overflow{envoy_cluster_name="web"} 0\n'
        "# TYPE envoy_cluster_upstream_cx_total counter\n"
        # By the parts of the name: "a" is before "a-b".
        'envoy_cluster_upstream_cx_total{envoy_cluster_name="a"} 1\n'
        'envoy_cluster_upstream_cx_total{envoy_cluster_name="a-b"} 0\n'
        'envoy_cluster_upstream_cx_total{envoy_cluster_name="web"} 3\n'
        "# TYPE envoy_cluster_upstream_rq counter\n"
        'envoy_cluster_upstream_rq{envoy_response_code="503",envoy_cluster_name="web"} 3\n'
        "# TYPE envoy_cluster_upstream_rq_xx counter\n"
        'envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="web"} 3\n'
        "# TYPE envoy_cluster_membership_total gauge\n"
        'envoy_cluster_membership_total{envoy_cluster_name="web"} 0\n'
        "# TYPE envoy_cluster_upstream_cx_active gauge\n"
        'envoy_cluster_upstream_cx_active{envoy_cluster_name="a-b"} 0\n'
        'envoy_cluster_upstream_cx_active{envoy_cluster_name="web"} 0\n'
        "# TYPE envoy_server_live gauge\n"
        "envoy_server_live{} 1\n"
        "# TYPE envoy_cluster_manager_cds_version_text gauge\n"
        'envoy_cluster_manager_cds_version_text{text_value="v\\"1"} 0\n'
        "# TYPE envoy_cluster_upstream_cx_length_ms histogram\n"
        'envoy_cluster_upstream_cx_length_ms_bucket{envoy_cluster_name="web",le="0.5"} 0\n'
        'envoy_cluster_upstream_cx_length_ms_bucket{envoy_cluster_name="web",le="1"} 2\n'
        'envoy_cluster_upstream_cx_length_ms_bucket{envoy_cluster_name="web",le="99999.5"} 2\n'
        'envoy_cluster_upstream_cx_length_ms_bucket{envoy_cluster_name="web",le="3600000"} 2\n'
        'envoy_cluster_upstream_cx_length_ms_bucket{envoy_cluster_name="web",le="+Inf"} 2\n'
        'envoy_cluster_upstream_cx_length_ms_sum{envoy_cluster_name="web"} 2.0952380952380953438307642500149\n'
        'envoy_cluster_upstream_cx_length_ms_count{envoy_cluster_name="web"} 2\n'
    )


def test_prometheus_summary(view):
    """A summary is of the last interval, not of all time."""
    view.stats.histograms = {ACCEPTED: ("", histogram(1, 500))}
    view.recent.histograms = {ACCEPTED: ("", histogram(1))}
    metric = "envoy_listener_connections_accepted_per_socket_event"
    label = 'envoy_listener_address="lp"'
    quantiles = ("0", "0.25", "0.5", "0.75", "0.9", "0.95", "0.99", "0.995", "0.999", "1")

    assert text(view, "/stats/prometheus?type=Histograms&histogram_buckets=summary").splitlines() == [
        f"# TYPE {metric} summary",
        *[f'{metric}{{{label},quantile="{q}"}} 1.0500000000000000444089209850063' for q in quantiles],
        f"{metric}_sum{{{label}}} 1.0476190476190476719153821250075",
        f"{metric}_count{{{label}}} 1",
    ]

    view.recent = None
    assert f'{metric}{{{label},quantile="1"}} nan\n' in text(
        view, "/stats/prometheus?histogram_buckets=summary"
    )


def test_format_prometheus_is_the_same_page(view):
    assert text(view, "/stats?format=prometheus&usedonly") == text(view, "/stats/prometheus?usedonly")


def test_labels_are_escaped_and_names_sanitized(view):
    view.stats = Snapshot()
    view.stats.counters = {'cluster.a b_c"d\\.up-stream.x/y': 1}

    assert text(view, "/stats/prometheus").splitlines() == [
        "# TYPE envoy_cluster_up_stream_x_y counter",
        'envoy_cluster_up_stream_x_y{envoy_cluster_name="a b_c\\"d\\\\"} 1',
    ]


def test_stats_matcher_and_tags_of_the_configuration(view):
    view.stats.histograms = {}
    view.settings = StatsSettings(
        tags=(TagSpec(name="dc", fixed="eu"),), admits=lambda name: name.startswith("cluster.web.upstream_cx")
    )

    assert text(view, "/stats").splitlines() == [
        "cluster.web.upstream_cx_active: 0",
        "cluster.web.upstream_cx_overflow: 0",
        "cluster.web.upstream_cx_total: 3",
    ]
    assert 'envoy_cluster_upstream_cx_total{dc="eu",envoy_cluster_name="web"} 3\n' in text(
        view, "/stats/prometheus"
    )


def test_a_histogram_of_percent_is_in_millionths(view):
    view.stats.histograms = {"cluster.web.budget": ("percent", histogram(1_500_000, 250_000))}
    view.recent = None

    assert text(view, "/stats?filter=budget&histogram_buckets=detailed").startswith(
        "cluster.web.budget:\n  totals=0.25,0.01:1, 1.5,0.1:1\n  intervals=\n"
    )


def test_the_loop_gets_its_turn_while_a_large_page_is_made(view):
    view.stats = Snapshot()
    view.stats.counters = {f"cluster.c{i}.stat_{j}": 1 for i in range(2_000) for j in range(3)}
    turns = 0

    async def tick():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main():
        ticking = asyncio.create_task(tick())
        answer = await Site(view).answer("GET", "/stats/prometheus")
        ticking.cancel()
        return answer

    assert asyncio.run(main()).body.count("\n") == 6_003
    assert turns > 10
