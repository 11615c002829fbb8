"""What only the whole of a bootstrap can show.  The verdicts are Envoy's."""

import json

import pytest

from weft.api.load import load_text
from weft.proxy.assemble import server_settings
from weft.proxy.process.options import Options

ECHO = {
    "name": "echo",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo"},
}
ROUTER = {
    "name": "router",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
}


def listener(name, port=0, *, filters=None, **more):
    return {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": filters or [ECHO]}],
        **more,
    }


def web(route, **route_config):
    return {
        "name": "http",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "x",
            "http_filters": [ROUTER],
            "route_config": {
                "virtual_hosts": [
                    {"name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}
                ],
                **route_config,
            },
        },
    }


def cluster(name, **more):
    return {"name": name, "load_assignment": {"cluster_name": name}, **more}


def _assemble(config, **options):
    loaded = load_text(json.dumps(config))
    settings = server_settings(loaded.bootstrap, loaded.problems.where, Options(**options))
    return settings, [f"{problem.path}: {problem.text}" for problem in loaded.problems.errors]


def problems(config):
    return _assemble(config)[1]


ROUTE = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes[0].route"


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        pytest.param(web({"cluster": "web"}), [], id="known"),
        pytest.param(web({"cluster": "wep"}), [f"{ROUTE}.cluster: unknown cluster 'wep'; did you mean 'web'?"], id="unknown"),
        pytest.param(web({"cluster": "wep"}, validate_clusters=False), [], id="unchecked"),
        pytest.param(
            web({"weighted_clusters": {"clusters": [{"name": "web", "weight": 1}, {"name": "zz", "weight": 1}]}}),
            [f"{ROUTE}.weighted_clusters.clusters[1].name: unknown weighted cluster 'zz'"],
            id="unknown-weighted",
        ),
        pytest.param(
            web({"cluster": "web", "request_mirror_policies": [{"cluster": "zz"}]}, request_mirror_policies=[{"cluster": "yy"}]),
            [f"{ROUTE}.request_mirror_policies[0].cluster: unknown shadow cluster 'zz'"],
            id="unknown-shadow",
        ),
        pytest.param(
            web({"cluster": "web"}, request_mirror_policies=[{"cluster": "web"}, {"cluster": "yy"}]),
            [f"{ROUTE.rpartition('.virtual_hosts')[0]}.request_mirror_policies[1].cluster: unknown shadow cluster 'yy'"],
            id="unknown-shadow-of-the-table",
        ),
    ],
)  # fmt: skip
def test_clusters_of_routes(filters, expected):
    config = {"static_resources": {"listeners": [listener("l", filters=[filters])], "clusters": [cluster("web")]}}

    assert problems(config) == expected


def test_clusters_of_the_routes_of_a_matcher_are_a_warning():
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": name}} for name in ("web", "wep")]
    action = {"name": "r", "typed_config": {"@type": "type.googleapis.com/envoy.config.route.v3.RouteList", "routes": routes}}
    matched = web({})
    (host,) = matched["typed_config"]["route_config"]["virtual_hosts"]
    del host["routes"]
    host["matcher"] = {"on_no_match": {"action": action}}
    config = {"static_resources": {"listeners": [listener("l", filters=[matched])], "clusters": [cluster("web")]}}

    loaded = load_text(json.dumps(config))
    server_settings(loaded.bootstrap, loaded.problems.where)

    assert [(problem.warning, problem.path.partition("virtual_hosts[0].")[2], problem.text) for problem in loaded.problems.items] == [(
        True, "matcher.on_no_match.action.typed_config.routes[1].route.cluster", "unknown cluster 'wep'; did you mean 'web'?",
    )]  # fmt: skip


TCP = {
    "name": "tcp",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "x",
        "cluster": "nowhere",
    },
}


def test_tcp_proxy_may_name_a_cluster_that_is_not_there():
    pytest.importorskip("weft.proxy.network.tcp_proxy")

    assert problems({"static_resources": {"listeners": [listener("l", filters=[TCP])]}}) == []


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        pytest.param({"clusters": [cluster("c"), cluster("c")]}, ["static_resources.clusters[1].name: duplicate cluster 'c'"], id="cluster-twice"),
        pytest.param(
            {"listeners": [listener("a", 7001), listener("b", 7001)]},
            ["static_resources.listeners[1]: 'b' has duplicate address '127.0.0.1:7001' as existing listener 'a'"],
            id="address-twice",
        ),
        pytest.param({"listeners": [listener("a"), listener("b")]}, [], id="port-0-twice"),
        pytest.param(
            {"listeners": [listener("a", 7001, additional_addresses=[{"address": listener("", 7001)["address"]}])]},
            [],
            id="address-twice-in-one",
        ),
        pytest.param(
            {"listeners": [listener("a", bind_to_port=False), listener("b", bind_to_port=False)]},
            ["static_resources.listeners[1]: 'b' has duplicate address '127.0.0.1:0' as existing listener 'a'"],
            id="virtual-twice",
        ),
        pytest.param({"listeners": [{"name": "a", "filter_chains": [{"filters": [ECHO]}]}]}, ["static_resources.listeners[0]: address is necessary"], id="no-address"),
    ],
)  # fmt: skip
def test_names_and_addresses(resources, expected):
    assert problems({"static_resources": resources}) == expected


def test_of_two_listeners_of_one_name_the_first_counts():
    loaded = load_text(json.dumps({"static_resources": {"listeners": [listener("a", 7001), listener("a", 7002)]}}))
    settings = server_settings(loaded.bootstrap, loaded.problems.where)

    assert [one.address.address.text for one in settings.listeners] == ["127.0.0.1:7001"]
    assert [problem.warning for problem in loaded.problems.items] == [True]


ADMIN = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        pytest.param({"admin": {}}, [], id="admin-without-address"),
        pytest.param({"admin": ADMIN}, [], id="admin"),
        pytest.param(
            {"admin": {"address": {"socket_address": {"address": "localhost", "port_value": 0}}}},
            ["admin.address.socket_address.address: malformed IP address: localhost"],
            id="admin-by-name",
        ),
        pytest.param(
            {"watchdog": {"miss_timeout": "1s"}, "watchdogs": {}},
            [": Only one of watchdog or watchdogs should be set!"],
            id="both-watchdogs",
        ),
        pytest.param(
            {"stats_flush_interval": "1s", "stats_flush_on_admin": True},
            [": Only one of stats_flush_interval or stats_flush_on_admin should be set!"],
            id="both-flushes",
        ),
        pytest.param({"cluster_manager": {"local_cluster_name": "c"}}, ["cluster_manager.local_cluster_name: local cluster 'c' must be defined"], id="no-local-cluster"),
        pytest.param({"dynamic_resources": {}}, [], id="no-xds"),
        pytest.param({"dynamic_resources": {"lds_config": {"ads": {}}}}, ["dynamic_resources.lds_config: not supported yet: configuration by xDS"], id="xds"),
        pytest.param({"header_prefix": "x-foo"}, ["header_prefix: not supported yet: a prefix other than x-envoy"], id="header-prefix"),
        pytest.param(
            {
                "overload_manager": {
                    "resource_monitors": [{"name": "m", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig", "max_heap_size_bytes": 1}}],
                    "actions": [{"name": "a", "triggers": [{"name": "m", "threshold": {"value": 0.5}}]}],
                }
            },
            [
                "overload_manager.resource_monitors[0]: extension 'm' (type envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig) is not supported by this version of Weft",
                "overload_manager.actions[0]: not supported yet: the overload manager",
            ],
            id="overload",
        ),
        pytest.param(
            {"stats_sinks": [{"name": "x", "typed_config": {"@type": "type.googleapis.com/envoy.config.metrics.v3.StatsdSink", "address": ADMIN["address"]}}]},
            ["stats_sinks[0]: extension 'x' (type envoy.config.metrics.v3.StatsdSink) is not supported by this version of Weft"],
            id="sink",
        ),
    ],
)  # fmt: skip
def test_the_rest(config, expected):
    assert problems(config) == expected


def test_everything_that_is_wrong_is_told_at_once():
    config = {
        "admin": {"address": {"socket_address": {"address": "localhost", "port_value": 0}}},
        "dynamic_resources": {"cds_config": {"ads": {}}},
        "static_resources": {
            "clusters": [cluster("c"), cluster("c")],
            "listeners": [listener("l", filters=[web({"cluster": "x"})])],
        },
    }

    assert len(problems(config)) == 4


def test_flags_go_over_the_node():
    node = {"id": "n", "cluster": "c", "locality": {"zone": "z", "region": "r"}, "metadata": {"a": {"b": [1, True]}}}
    settings, _ = _assemble({"node": node}, service_node="other", service_zone="zone")
    identity = settings.identity

    assert (identity.node_id, identity.cluster, identity.zone, identity.region) == ("other", "c", "zone", "r")
    assert identity.metadata == {"a": {"b": [1.0, True]}}


def test_the_bind_address_of_the_cluster_manager_is_every_clusters():
    bind = {"source_address": {"address": "127.0.0.9", "port_value": 0}}
    own = {"source_address": {"address": "127.0.0.8", "port_value": 0}}
    settings, found = _assemble(
        {
            "cluster_manager": {"upstream_bind_config": bind},
            "static_resources": {"clusters": [cluster("a"), cluster("b", upstream_bind_config=own)]},
        }
    )

    assert found == []
    assert [b"127.0.0.9" in one.message_bytes for one in settings.clusters] == [True, False]


@pytest.mark.parametrize(
    ("config", "interval"),
    [({}, 5.0), ({"stats_flush_interval": "2.5s"}, 2.5), ({"stats_flush_on_admin": True}, 0.0)],
)
def test_how_often_stats_are_flushed(config, interval):
    assert _assemble(config)[0].stats_flush_interval == interval


def test_tags_of_the_command_line():
    settings, _ = _assemble({}, stats_tags=(("team", "web"),))

    assert [(tag.name, tag.fixed) for tag in settings.stats.tags] == [("team", "web")]
