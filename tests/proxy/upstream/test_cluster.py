"""A running cluster: who its hosts are, as configuration and DNS change."""

import asyncio
import socket

import pytest

from weft.proxy.upstream.cluster import Cluster
from weft.proxy.upstream.directory import Clusters
from weft.proxy.upstream.host import FAILED_ASSIGNED, FAILED_OUTLIER
from weft.testing import VirtualLoop, run


class Pool:
    def __init__(self):
        self.drained = 0

    def drain(self):
        self.drained += 1


def play(kit, main, *, seed=0, names=None, **settings):
    """Run ``main(cluster, context, loop)`` with one cluster on a virtual loop."""
    loop = VirtualLoop(seed)
    loop.network.names.update(names or {})
    made = (
        kit.settings(**settings)
        if "localities" not in settings
        else kit.settings(*settings.pop("localities"), **settings)
    )

    async def begin():
        clusters = Clusters([made])
        context = kit.worker(clusters, loop)
        cluster = clusters.get("web")
        try:
            return await main(cluster, context, loop)
        finally:
            clusters.close()
            context.deadlines.close()

    return run(begin, loop=loop)


def addresses(cluster: Cluster) -> list[str]:
    return [host.address.text for host in cluster.hosts]


def told(context, *names: str) -> list[int]:
    snapshot = context.stats.snapshot()
    values = {**snapshot.counters, **snapshot.gauges}
    return [values["cluster.web." + name] for name in names]


# -- STATIC ---------------------------------------------------------------------------------------------


def test_static_hosts_are_there_at_once(kit):
    near = {"region": "r", "zone": "z", "sub_zone": "s"}
    one = kit.endpoint(
        "10.0.0.1", load_balancing_weight=3, metadata={"filter_metadata": {"envoy.lb": {"canary": True}}}
    )
    two = kit.endpoint("::1", 8080, health_status="UNHEALTHY")

    async def main(cluster, context, loop):
        assert cluster.warm
        assert addresses(cluster) == ["10.0.0.1:80", "[::1]:8080", "/run/x.sock"]
        first, second, third = cluster.hosts
        assert (first.weight, first.canary, first.locality.zone, first.priority) == (3, True, "z", 0)
        assert second.flags() == ["failed_eds_health"]
        assert (third.priority, third.address.is_ip) == (1, False)
        assert told(
            context, "membership_total", "membership_healthy", "membership_change", "max_host_weight"
        ) == [3, 2, 1, 0]

    play(
        kit, main, localities=[kit.locality(one, two, locality=near), kit.locality("/run/x.sock", priority=1)]
    )


def test_an_empty_cluster_picks_nobody_and_says_so(kit):
    async def main(cluster, context, loop):
        assert cluster.pick() is None
        assert cluster.pick(None) is None
        assert told(context, "upstream_cx_none_healthy", "lb_healthy_panic", "membership_total") == [2, 2, 0]

    play(kit, main)


def test_two_endpoints_with_one_address_are_two_hosts(kit):
    async def main(cluster, context, loop):
        assert addresses(cluster) == ["10.0.0.1:80", "10.0.0.1:80"]
        before = list(cluster.hosts)
        cluster.update(cluster.settings)
        assert cluster.hosts == before
        assert told(context, "membership_change") == [1]

    play(kit, main, localities=[kit.locality("10.0.0.1", "10.0.0.1")])


# -- changed settings ---------------------------------------------------------------------------------------


def test_a_host_whose_address_stays_is_the_same_host(kit):
    changed = kit.settings(
        kit.locality(kit.endpoint("10.0.0.2", load_balancing_weight=5), "10.0.0.3"), connect_timeout="2s"
    )

    async def main(cluster, context, loop):
        one, two = cluster.hosts
        one.http1_pool, two.http1_pool = leaves, stays = Pool(), Pool()
        two.stats.rq_total = 7
        two.health |= FAILED_OUTLIER
        cluster.update(changed)

        assert addresses(cluster) == ["10.0.0.2:80", "10.0.0.3:80"]
        assert cluster.hosts[0] is two
        assert (two.weight, two.stats.rq_total, two.removed) == (5, 7, False)
        assert two.flags() == ["failed_outlier_check"], "what health checks found stays"
        assert (stays.drained, two.http1_pool) == (0, stays)
        assert (leaves.drained, one.http1_pool, one.removed) == (1, None, True)
        assert cluster.settings.connect_timeout == 2.0
        assert told(context, "membership_change", "membership_total") == [2, 2]
        two.health = 0
        cluster.rebalance()
        assert {cluster.pick() for _ in range(10)} == set(cluster.hosts)

    play(kit, main, localities=[kit.locality("10.0.0.1", "10.0.0.2")])


@pytest.mark.parametrize(
    ("change", "drained"),
    [
        pytest.param({"common_http_protocol_options": {"idle_timeout": "9s"}}, 1, id="http-options"),
        pytest.param({"per_connection_buffer_limit_bytes": 4096}, 1, id="buffer-limit"),
        pytest.param(
            {"upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 9}}}, 1, id="keepalive"
        ),
        pytest.param({"connect_timeout": "9s"}, 0, id="connect-timeout"),
        pytest.param({"lb_policy": "RANDOM"}, 0, id="balancer"),
        pytest.param({"circuit_breakers": {"thresholds": [{"max_connections": 1}]}}, 0, id="limits"),
    ],
)
def test_connections_drain_only_where_they_would_be_made_otherwise(kit, change, drained):
    async def main(cluster, context, loop):
        pool = cluster.hosts[0].http1_pool = Pool()
        cluster.update(kit.settings(kit.locality("10.0.0.1"), **change))
        assert pool.drained == drained
        assert (cluster.hosts[0].http1_pool is None) == bool(drained)

    play(kit, main, localities=[kit.locality("10.0.0.1")])


def test_changed_limits_know_what_is_under_way(kit):
    async def main(cluster, context, loop):
        limits = cluster.limits[0]
        limits.connection_began()
        cluster.update(
            kit.settings(kit.locality("10.0.0.1"), circuit_breakers={"thresholds": [{"max_connections": 1}]})
        )
        assert cluster.limits[0] is limits
        assert not limits.can_connect()

    play(kit, main, localities=[kit.locality("10.0.0.1")])


def test_every_connection_drains_on_a_change_where_that_is_asked(kit):
    common = {"close_connections_on_host_set_change": True}

    async def main(cluster, context, loop):
        pool = cluster.hosts[0].http1_pool = Pool()
        cluster.update(kit.settings(kit.locality("10.0.0.1"), common_lb_config=common))
        assert pool.drained == 0
        cluster.update(kit.settings(kit.locality("10.0.0.1", "10.0.0.2"), common_lb_config=common))
        assert pool.drained == 1

    play(kit, main, localities=[kit.locality("10.0.0.1")], common_lb_config=common)


def test_health_moves_picks_after_rebalance(kit):
    async def main(cluster, context, loop):
        bad = cluster.hosts[1]
        bad.health |= FAILED_OUTLIER
        cluster.rebalance()
        assert bad not in {cluster.pick() for _ in range(12)}
        assert told(context, "membership_healthy", "membership_change") == [2, 1]
        bad.health &= ~FAILED_OUTLIER
        cluster.rebalance()
        assert bad in {cluster.pick() for _ in range(12)}

    play(kit, main, localities=[kit.locality("10.0.0.1", "10.0.0.2", "10.0.0.3")])


def test_a_host_has_a_limit_of_its_own(kit):
    async def main(cluster, context, loop):
        one, two = cluster.hosts
        one.stats.cx_active = 1
        assert not cluster.can_connect(one)
        assert cluster.can_connect(two)
        assert cluster.can_connect(one, 1), "limits are by priority"
        for _ in range(3):
            cluster.limits[0].connection_began()
        assert not cluster.can_connect(two)

    breakers = {"thresholds": [{"max_connections": 3}], "per_host_thresholds": [{"max_connections": 1}]}
    play(kit, main, localities=[kit.locality("10.0.0.1", "10.0.0.2")], circuit_breakers=breakers)


# -- STRICT_DNS -----------------------------------------------------------------------------------------------

DNS = {"type": "STRICT_DNS", "dns_lookup_family": "V4_ONLY"}


def test_every_address_of_a_name_is_a_host(kit):
    async def main(cluster, context, loop):
        assert not cluster.warm
        assert cluster.hosts == []
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert cluster.warm
        assert addresses(cluster) == ["10.0.0.1:80", "10.0.0.2:80"]
        assert {host.hostname for host in cluster.hosts} == {"web.test"}
        assert {host.weight for host in cluster.hosts} == {2}
        assert told(
            context,
            "update_attempt",
            "update_success",
            "update_no_rebuild",
            "membership_total",
            "max_host_weight",
        ) == [1, 1, 0, 2, 2]

    named = kit.endpoint("web.test", load_balancing_weight=2)
    play(kit, main, localities=[kit.locality(named)], names={"web.test": ["10.0.0.1", "10.0.0.2"]}, **DNS)


def test_refresh_keeps_those_that_stay_and_drains_those_that_go(kit):
    async def main(cluster, context, loop):
        await asyncio.sleep(0.001)
        one, two = cluster.hosts
        one.http1_pool = Pool()
        pool = one.http1_pool
        loop.network.names["web.test"] = ["10.0.0.2", "10.0.0.3"]
        await asyncio.sleep(4.9)
        assert cluster.hosts == [one, two]
        await asyncio.sleep(0.2)
        assert addresses(cluster) == ["10.0.0.2:80", "10.0.0.3:80"]
        assert cluster.hosts[0] is two
        assert (one.removed, pool.drained) == (True, 1)
        assert told(context, "membership_change", "update_success") == [2, 2]
        loop.network.names["web.test"] = ["10.0.0.3", "10.0.0.2"]
        await asyncio.sleep(5)
        assert cluster.hosts[0] is two, "servers rotate: another order is no change"
        assert told(context, "membership_change", "update_no_rebuild") == [2, 1]

    play(
        kit, main, localities=[kit.locality("web.test")], names={"web.test": ["10.0.0.1", "10.0.0.2"]}, **DNS
    )


def test_a_failure_keeps_the_last_good_hosts(kit):
    async def main(cluster, context, loop):
        await asyncio.sleep(0.001)
        before = list(cluster.hosts)
        loop.network.names["web.test"] = socket.gaierror(socket.EAI_AGAIN, "try again")
        await asyncio.sleep(20)
        assert cluster.hosts == before
        assert told(context, "update_failure", "update_success", "membership_total") == [4, 1, 1]
        del loop.network.names["web.test"]
        await asyncio.sleep(5)
        assert cluster.hosts == [], "that there is no such name is an answer"
        assert cluster.pick() is None

    play(kit, main, localities=[kit.locality("web.test")], names={"web.test": ["10.0.0.1"]}, **DNS)


def test_a_name_that_never_resolves_does_not_hold_up_the_start(kit):
    async def main(cluster, context, loop):
        await asyncio.sleep(0.001)
        assert cluster.warm
        assert cluster.hosts == []

    down = socket.gaierror(socket.EAI_AGAIN, "try again")
    play(kit, main, localities=[kit.locality("web.test")], names={"web.test": down}, **DNS)


def test_names_are_warm_when_all_are(kit):
    async def main(cluster, context, loop):
        await asyncio.sleep(0.001)
        assert cluster.warm
        assert addresses(cluster) == ["10.0.0.1:80", "10.0.0.2:80"]
        assert told(context, "membership_change", "update_attempt") == [2, 2]

    names = {"a.test": ["10.0.0.1"], "b.test": ["10.0.0.2"]}
    play(
        kit, main, localities=[kit.locality("a.test"), kit.locality("b.test", priority=0)], names=names, **DNS
    )


def test_old_hosts_serve_until_every_new_name_was_asked(kit):
    async def main(cluster, context, loop):
        old = list(cluster.hosts)
        loop.network.resolve_latency = 1.0
        cluster.update(kit.settings(kit.locality("a.test", "b.test"), **DNS))
        await asyncio.sleep(0.9)
        assert cluster.hosts == old
        assert cluster.pick() is old[0]
        await asyncio.sleep(0.2)
        assert addresses(cluster) == ["10.0.0.1:80", "10.0.0.2:80"]
        assert old[0].removed

    play(
        kit,
        main,
        localities=[kit.locality("10.9.9.9")],
        names={"a.test": ["10.0.0.1"], "b.test": ["10.0.0.2"]},
    )


def test_an_address_needs_no_resolver(kit):
    async def main(cluster, context, loop):
        await asyncio.sleep(0.001)
        assert addresses(cluster) == ["10.0.0.1:80"]
        assert loop.network.lookups == []

    play(kit, main, localities=[kit.locality("10.0.0.1")], type="STRICT_DNS", dns_lookup_family="V6_ONLY")


# -- LOGICAL_DNS ------------------------------------------------------------------------------------------------


def test_a_logical_host_moves(kit):
    async def main(cluster, context, loop):
        await asyncio.sleep(0.001)
        (host,) = cluster.hosts
        pool = host.http1_pool = Pool()
        assert (host.address.text, host.hostname) == ("10.0.0.1:80", "web.test")
        loop.network.names["web.test"] = ["10.0.0.7", "10.0.0.1"]
        await asyncio.sleep(5)
        assert cluster.hosts == [host]
        assert host.address.text == "10.0.0.7:80"
        assert pool.drained == 0, "connections to the old address stay as they are"
        assert told(context, "membership_change", "membership_total", "update_no_rebuild") == [1, 1, 0]
        del loop.network.names["web.test"]
        await asyncio.sleep(5)
        assert host.address.text == "10.0.0.7:80"
        assert told(context, "update_failure") == [1]

    names = {"web.test": ["10.0.0.1", "10.0.0.2"]}
    play(
        kit,
        main,
        localities=[kit.locality("web.test")],
        names=names,
        type="LOGICAL_DNS",
        dns_lookup_family="V4_ONLY",
    )


def test_assigned_health_is_believed(kit):
    async def main(cluster, context, loop):
        assert [host.health for host in cluster.hosts] == [FAILED_ASSIGNED, 0]
        assert {cluster.pick() for _ in range(5)} == {cluster.hosts[1]}

    play(kit, main, localities=[kit.locality(kit.endpoint("10.0.0.1", health_status="TIMEOUT"), "10.0.0.2")])
