"""All clusters of a worker: built when needed, changed, removed, shown."""

import asyncio
import tracemalloc

import pytest

from weft.proxy.admin.view import cluster_from_plain
from weft.proxy.upstream.directory import Clusters
from weft.proxy.upstream.limits import SharedRows
from weft.testing import VirtualLoop, run


class Pool:
    def __init__(self):
        self.drained = 0

    def drain(self):
        self.drained += 1


@pytest.fixture
def loop():
    made = VirtualLoop()
    yield made
    if not made.is_closed():
        made.close()


def named(kit, name, *addresses, **more):
    return kit.settings(kit.locality(*(addresses or ("10.0.0.1",))), name=name, **more)


def directory(kit, loop, *settings, index=0, rows=None):
    clusters = Clusters(settings, rows=rows)
    return clusters, kit.worker(clusters, loop, index)


def values(context, prefix):
    snapshot = context.stats.snapshot()
    every = {**snapshot.counters, **snapshot.gauges}
    return {name.removeprefix(prefix): value for name, value in every.items() if name.startswith(prefix)}


def test_a_cluster_is_built_when_somebody_asks_and_stays(kit, loop):
    clusters, _ = directory(kit, loop, named(kit, "a"), named(kit, "b"))

    assert clusters.names() == ["a", "b"]
    assert clusters.get("c") is None
    assert clusters.get("a") is clusters.get("a")
    assert "b" in clusters
    assert clusters.get("a").name == "a"


def test_unused_clusters_show_the_same_stats_as_used_ones(kit, loop):
    made = [named(kit, "used", "10.0.0.1", "10.0.0.2"), named(kit, "idle", "10.0.0.1", "10.0.0.2")]
    clusters, context = directory(kit, loop, *made)
    clusters.get("used")
    used, idle = values(context, "cluster.used."), values(context, "cluster.idle.")

    assert used == idle
    assert (idle["membership_total"], idle["membership_healthy"], idle["upstream_rq_total"]) == (2, 2, 0)
    assert idle["circuit_breakers.default.rq_open"] == idle["circuit_breakers.high.rq_open"] == 0
    assert "circuit_breakers.default.remaining_rq" not in idle
    assert "http1.response_flood" not in used
    clusters.get("used").stats.upstream_cx_http1_total = 1
    assert values(context, "cluster.used.")["http1.response_flood"] == 0
    assert "cluster.idle.upstream_cx_connect_ms" in context.stats.snapshot().histograms


def test_stats_are_read_one_cluster_at_a_time(kit, loop):
    """The borrowed group of idle clusters must not mix their values."""
    made = [named(kit, "one", "10.0.0.1"), named(kit, "three", "10.0.0.1", "10.0.0.2", "10.0.0.3")]
    _, context = directory(kit, loop, *made)

    assert values(context, "cluster.one.")["membership_total"] == 1
    assert values(context, "cluster.three.")["membership_total"] == 3


def test_only_the_first_worker_tells_what_all_know(kit, loop):
    rows = SharedRows(2)
    made = named(kit, "web", "10.0.0.1", circuit_breakers={"thresholds": [{"max_requests": 1}]})
    (one, first), (two, second) = (directory(kit, loop, made, index=index, rows=rows) for index in range(2))
    two.get("web").limits[0].request_began()
    two.get("web").stats.upstream_rq_total += 1
    both = first.stats.snapshot()
    both.add(second.stats.snapshot())

    assert both.gauges["cluster.web.membership_total"] == 1
    assert both.counters["cluster.web.membership_change"] == 1
    assert both.counters["cluster.web.upstream_rq_total"] == 1
    assert both.gauges["cluster.web.circuit_breakers.default.rq_open"] == 1, (
        "though the first worker never used it"
    )
    assert both.gauges["cluster_manager.active_clusters"] == 1
    one.get("web").limits[0].request_began()
    assert not two.get("web").limits[0].can_request()
    assert first.stats.snapshot().gauges["cluster.web.circuit_breakers.default.rq_open"] == 1


def test_responses_are_counted_once_and_shown_twice(kit, loop):
    clusters, context = directory(kit, loop, named(kit, "web"))
    stats = clusters.get("web").stats
    stats.count_response(200, False)
    stats.count_response(204, False)
    stats.count_response(503, True)
    stats.codes.count(404)
    stats.record_time(12, False)
    stats.record_time(30, True)
    shown = {
        name: value
        for name, value in values(context, "cluster.web.").items()
        if "upstream_rq" in name and value
    }

    assert shown == {
        "external.upstream_rq_200": 1,
        "external.upstream_rq_204": 1,
        "external.upstream_rq_2xx": 2,
        "external.upstream_rq_completed": 2,
        "internal.upstream_rq_503": 1,
        "internal.upstream_rq_5xx": 1,
        "internal.upstream_rq_completed": 1,
        "upstream_rq_200": 1,
        "upstream_rq_204": 1,
        "upstream_rq_2xx": 2,
        "upstream_rq_404": 1,
        "upstream_rq_4xx": 1,
        "upstream_rq_503": 1,
        "upstream_rq_5xx": 1,
        "upstream_rq_completed": 4,
    }
    times = {
        name: h.count for name, (_, h) in context.stats.snapshot().histograms.items() if "rq_time" in name
    }
    assert times == {
        "cluster.web.upstream_rq_time": 2,
        "cluster.web.external.upstream_rq_time": 1,
        "cluster.web.internal.upstream_rq_time": 1,
    }
    stats.reset_counters()
    assert values(context, "cluster.web.")["upstream_rq_completed"] == 0


# -- changes -----------------------------------------------------------------------------------------------


def test_apply_and_remove(kit, loop):
    clusters, context = directory(kit, loop, named(kit, "a"))
    used = clusters.get("a")
    pool = used.hosts[0].http1_pool = Pool()

    assert not clusters.apply(named(kit, "a")), "nothing has changed"
    assert clusters.apply(named(kit, "a", "10.0.0.1", "10.0.0.2"))
    assert clusters.get("a") is used
    assert len(used.hosts) == 2
    assert clusters.apply(named(kit, "b"))
    assert clusters.names() == ["a", "b"]
    assert clusters.remove("a")
    assert not clusters.remove("a")
    assert clusters.get("a") is None
    assert (pool.drained, used.hosts[0].removed) == (1, True)
    assert not values(context, "cluster.a."), "the stats go with the cluster"
    assert values(context, "cluster_manager.") == {
        "cluster_added": 2,
        "cluster_modified": 1,
        "cluster_removed": 1,
        "cluster_updated": 1,
        "cluster_updated_via_merge": 0,
        "update_merge_cancelled": 0,
        "update_out_of_merge_window": 0,
        "active_clusters": 1,
        "warming_clusters": 0,
    }


def test_a_new_stat_name_takes_effect(kit, loop):
    clusters, context = directory(kit, loop, named(kit, "a"))
    clusters.get("a").stats.upstream_rq_total += 1
    clusters.apply(named(kit, "a", alt_stat_name="other"))

    assert values(context, "cluster.other.")["upstream_rq_total"] == 1
    assert not values(context, "cluster.a.")


def test_slots_come_with_the_settings_after_a_reload(kit, loop):
    rows = SharedRows(2)
    clusters = [directory(kit, loop, index=index, rows=rows)[0] for index in range(2)]
    late = named(kit, "late", circuit_breakers={"thresholds": [{"max_requests": 1}]})
    for one in clusters:
        one.apply(late, rows.slot("late"))
    clusters[0].get("late").limits[0].request_began()

    assert not clusters[1].get("late").limits[0].can_request()


# -- start --------------------------------------------------------------------------------------------------


def test_ready_waits_for_the_first_resolution_of_all(kit, loop):
    loop.network.names.update({"a.test": ["10.0.0.1"], "b.test": ["10.0.0.2"]})
    loop.network.resolve_latency = 2.0
    dns = {"type": "STRICT_DNS", "dns_lookup_family": "V4_ONLY"}
    made = [
        named(kit, "a", "a.test", **dns),
        named(kit, "b", "b.test", "nowhere.test", **dns),
        named(kit, "c"),
    ]

    async def main():
        clusters, context = directory(kit, loop, *made)
        began = loop.time()
        assert clusters.warming() == ["a", "b"]
        assert values(context, "cluster_manager.")["warming_clusters"] == 2
        await clusters.ready()
        assert loop.time() - began == pytest.approx(2.0)
        assert clusters.warming() == []
        assert values(context, "cluster_manager.")["warming_clusters"] == 0
        assert values(context, "cluster_manager.")["cluster_updated"] == 0, "the first hosts are no update"
        assert values(context, "thread_local_cluster_manager.") == {"worker_0.clusters_inflated": 2}
        await clusters.ready()
        clusters.close()
        context.deadlines.close()

    run(main, loop=loop)


def test_ready_does_not_wait_for_those_that_say_so_or_are_gone(kit, loop):
    loop.network.resolve_latency = 2.0
    dns = {"type": "STRICT_DNS", "dns_lookup_family": "V4_ONLY"}
    made = [named(kit, "a", "a.test", wait_for_warm_on_init=False, **dns), named(kit, "b", "b.test", **dns)]

    async def main():
        clusters, context = directory(kit, loop, *made)
        began = loop.time()
        loop.call_later(0.5, clusters.remove, "b")
        await clusters.ready()
        assert loop.time() - began == pytest.approx(0.5)
        clusters.close()
        context.deadlines.close()
        await asyncio.sleep(0)

    run(main, loop=loop)


# -- status ----------------------------------------------------------------------------------------------------


def test_status_tells_of_used_and_unused_clusters(kit, loop):
    place = {"region": "r", "zone": "z", "sub_zone": "s"}
    weighted = kit.endpoint("10.0.0.1", load_balancing_weight=3, health_status="DEGRADED")
    weighted["endpoint"]["hostname"] = "h"
    limits = {"thresholds": [{"max_connections": 7}, {"priority": "HIGH", "retry_budget": {}}]}
    made = [
        kit.settings(
            kit.locality(weighted, locality=place, priority=0),
            kit.locality("/run/x.sock", priority=1),
            name=name,
            circuit_breakers=limits,
        )
        for name in ("used", "idle")
    ]
    clusters, _ = directory(kit, loop, *made)
    used = clusters.get("used")
    used.hosts[0].stats.rq_total = 5
    used.hosts[0].stats.rq_active = 1
    one, two = [cluster_from_plain(plain) for plain in clusters.status()]

    assert (one.name, one.default.max_connections, one.high.retry_budget) == ("used", 7, True)
    first, second = one.hosts
    assert (first.address, first.hostname, first.weight, first.flags) == (
        "10.0.0.1:80",
        "h",
        3,
        ["degraded_eds_health"],
    )
    assert (first.region, first.zone, first.sub_zone, first.priority) == ("r", "z", "s", 0)
    assert (first.counters["rq_total"], first.gauges["rq_active"]) == (5, 1)
    assert (second.address, second.priority) == ("/run/x.sock", 1)
    first.counters["rq_total"] = first.gauges["rq_active"] = 0
    assert one.hosts == two.hosts
    assert clusters._running.keys() == {"used"}, "looking builds nothing"


def test_a_thousand_clusters_cost_little(kit, loop):
    kit.settings(kit.locality("10.0.0.1"))
    messages = [named(kit, f"cluster-{n}", f"10.0.{n // 250}.{n % 250}").message_bytes for n in range(1000)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    from weft.api.problems import Problems
    from weft.api.schema import message_class
    from weft.proxy.upstream.settings import cluster_settings

    message = message_class("envoy.config.cluster.v3.Cluster")
    made = [cluster_settings(message.FromString(data), Problems().where) for data in messages]
    settings_bytes = tracemalloc.get_traced_memory()[0] - before
    clusters, _ = directory(kit, loop, *made)
    directory_bytes = tracemalloc.get_traced_memory()[0] - before - settings_bytes
    for entry in made:
        clusters.get(entry.name)
    running_bytes = tracemalloc.get_traced_memory()[0] - before - settings_bytes - directory_bytes
    tracemalloc.stop()
    print(
        f"per cluster: settings {settings_bytes / 1000:.0f}, idle {directory_bytes / 1000:.0f}, running {running_bytes / 1000:.0f} bytes"
    )

    assert settings_bytes / 1000 < 2500
    assert directory_bytes / 1000 < 400
