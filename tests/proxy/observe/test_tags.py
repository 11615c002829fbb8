"""Names into tags: rows are (name, bare name, tags), as Envoy 1.40 printed them where it could be asked."""

import pytest
from google.protobuf import json_format

from weft.api import schema
from weft.api.problems import Where
from weft.proxy.observe.quantiles import BOUNDS
from weft.proxy.observe.stats import Snapshot
from weft.proxy.observe.tag_rules import DEFAULT_RULES
from weft.proxy.observe.tags import StatsSettings, TagExtractor, TagSpec, stats_settings


@pytest.mark.parametrize(
    ("name", "bare", "tags"),
    [
        ("server.live", "server.live", {}),
        ("cluster.web.upstream_cx_total", "cluster.upstream_cx_total", {"cluster_name": "web"}),
        # A dot in alt_stat_name ends the name.
        ("cluster.alt.web.upstream_rq_503", "cluster.web.upstream_rq", {"response_code": "503", "cluster_name": "alt"}),
        ("cluster.web.upstream_rq_5xx", "cluster.upstream_rq_xx", {"response_code_class": "5", "cluster_name": "web"}),
        ("cluster.web.external.upstream_rq_200", "cluster.external.upstream_rq", {"response_code": "200", "cluster_name": "web"}),
        ("cluster.web.zone.z1.b.upstream_rq_2xx", "cluster.zone.z1.b.upstream_rq_xx", {"response_code_class": "2", "cluster_name": "web"}),
        ("cluster.web.circuit_breakers.default.cx_open", "cluster.circuit_breakers.default.cx_open", {"cluster_name": "web"}),
        ("cluster.web.grpc.Svc.total", "cluster.grpc.total", {"grpc_bridge_service": "Svc", "cluster_name": "web"}),
        ("cluster.web.grpc.Svc.Method.success", "cluster.grpc.success", {"grpc_bridge_method": "Method", "grpc_bridge_service": "Svc", "cluster_name": "web"}),
        ("cluster.web.ssl.ciphers.ECDHE-RSA", "cluster.ssl.ciphers", {"ssl_cipher_suite": "ECDHE-RSA", "cluster_name": "web"}),
        ("cluster.web.ssl.versions.TLSv1.3", "cluster.ssl.versions", {"ssl_version": "TLSv1.3", "cluster_name": "web"}),
        ("cluster_manager.cds.version_text", "cluster_manager.cds.version_text", {}),
        ("http.in.gress.downstream_rq_2xx", "http.gress.downstream_rq_xx", {"response_code_class": "2", "http_conn_manager_prefix": "in"}),
        ("http.ingress.rbac.rb.allowed", "http.rbac.allowed", {"rbac_http_prefix": "rb", "http_conn_manager_prefix": "ingress"}),
        ("http.ingress.rbac.rb.policy.p1.allowed", "http.rbac.policy.allowed", {"rbac_policy_name": "p1", "rbac_http_prefix": "rb", "http_conn_manager_prefix": "ingress"}),
        ("http.ingress.rds.my.routes.version", "http.rds.version", {"http_conn_manager_prefix": "ingress", "rds_route_config": "my.routes"}),
        ("http.ingress.user_agent.ios.downstream_cx_total", "http.user_agent.downstream_cx_total", {"http_user_agent": "ios", "http_conn_manager_prefix": "ingress"}),
        ("http.ingress.fault.c1.aborts_injected", "http.fault.aborts_injected", {"fault_downstream_cluster": "c1", "http_conn_manager_prefix": "ingress"}),
        ("http.ingress.ext_authz.p.ok", "http.ext_authz.ok", {"ext_authz_prefix": "p", "http_conn_manager_prefix": "ingress"}),
        ("listener.127.0.0.1_80.downstream_cx_total", "listener.downstream_cx_total", {"listener_address": "127.0.0.1_80"}),
        ("listener.[__1]_80.downstream_cx_total", "listener.downstream_cx_total", {"listener_address": "[__1]_80"}),
        ("listener.lp.downstream_cx_total", "listener.downstream_cx_total", {"listener_address": "lp"}),
        ("listener.admin.downstream_cx_total", "listener.admin.downstream_cx_total", {}),
        ("listener.127.0.0.1_80.worker_0.downstream_cx_total", "listener.worker_downstream_cx_total", {"worker_id": "0", "listener_address": "127.0.0.1_80"}),
        ("listener.0.0.0.0_80.http.in.gress.downstream_rq_5xx", "listener.http.gress.downstream_rq_xx", {"response_code_class": "5", "http_conn_manager_prefix": "in", "listener_address": "0.0.0.0_80"}),
        ("listener.admin.http.admin.downstream_rq_2xx", "listener.admin.http.downstream_rq_xx", {"response_code_class": "2", "http_conn_manager_prefix": "admin"}),
        ("server.worker_1.watchdog_miss", "server.worker_watchdog_miss", {"worker_id": "1"}),
        ("vhost.vh.vcluster.vc1.upstream_rq_503", "vhost.vcluster.upstream_rq", {"response_code": "503", "virtual_cluster": "vc1", "virtual_host": "vh"}),
        ("vhost.vh.route.r1.upstream_rq_total", "vhost.route.upstream_rq_total", {"virtual_host": "vh", "route": "r1"}),
        ("tcp.other.x.downstream_cx_total", "tcp.x.downstream_cx_total", {"tcp_prefix": "other"}),
        ("hlr.http_local_rate_limit.enabled", "http_local_rate_limit.enabled", {"local_http_ratelimit_prefix": "hlr"}),
        ("local_rate_limit.lr.rate_limited", "local_rate_limit.rate_limited", {"local_network_ratelimit_prefix": "lr"}),
        ("listener_local_ratelimit.l.rate_limited", "listener_local_ratelimit.rate_limited", {"local_listener_ratelimit_prefix": "l"}),
        ("connection_limit.cl.limited_connections", "connection_limit.limited_connections", {"connection_limit_prefix": "cl"}),
        ("nr.rbac.allowed", "rbac.allowed", {"rbac_prefix": "nr"}),
        ("ratelimit.r.over_limit", "ratelimit.over_limit", {"ratelimit_prefix": "r"}),
        ("proxy_proto.versions.v1.found", "proxy_proto.found", {"proxy_protocol_version": "1"}),
        ("proxy_proto.not_found_allowed", "proxy_proto.not_found_allowed", {}),
        ("proxy_proto.pp.versions.v2.error", "proxy_proto.error", {"proxy_protocol_version": "2", "proxy_protocol_prefix": "pp"}),
        ("redis.r.downstream_rq_total", "redis.downstream_rq_total", {"redis_prefix": "r"}),
        ("mongo.m.collection.c.callsite.s.query.total", "mongo.collection.callsite.query.total", {"mongo_callsite": "s", "mongo_collection": "c", "mongo_prefix": "m"}),
        ("sds.s1.update_success", "sds.update_success", {"xds_resource_name": "s1"}),
    ],
)  # fmt: skip
def test_default_tags(name, bare, tags):
    found, found_tags = TagExtractor().extract(name)

    assert (found, list(found_tags)) == (bare, [(f"envoy.{tag}", value) for tag, value in tags.items()])


def test_the_order_of_two_with_the_same_first_part():
    _, tags = TagExtractor().extract("proxy_proto.pp.versions.v2.error")

    assert [tag for tag, _ in tags] == ["envoy.proxy_protocol_version", "envoy.proxy_protocol_prefix"]


def test_names_that_differ_in_one_part_share_their_extraction():
    extractor = TagExtractor()

    assert extractor.extract("cluster.a.upstream_rq_200") == extractor.extract("cluster.a.upstream_rq_200")
    assert extractor.extract("cluster.b.upstream_rq_200") == (
        "cluster.upstream_rq",
        (("envoy.response_code", "200"), ("envoy.cluster_name", "b")),
    )
    # The same as without the memory.
    for name in (
        "cluster.b",
        "http.x.y",
        "cluster.x.grpc.s.m.total",
        "tcp..x",
        "http.rbac.x",
        "cluster.rbac.x",
    ):
        plain = TagExtractor(StatsSettings(tags=(TagSpec(name="zzz", regex="(nothing-has-this)"),)))
        assert extractor.extract(name) == plain.extract(name)


def settings(**fields):
    where = Where.nowhere()
    message = schema.message_class("envoy.config.metrics.v3.StatsConfig")()
    json_format.ParseDict(fields, message)
    return stats_settings(message, where), [f"{item.path}: {item.text}" for item in where.problems.items]


def tag(name, extractor_settings, of):
    return dict(TagExtractor(extractor_settings).extract(of)[1]).get(name)


def test_own_tags_come_after_the_default_ones_of_their_kind():
    found, problems = settings(
        stats_tags=[
            {"tag_name": "my.tag", "regex": r"^tcp\.((pre)fix\.)"},
            {"tag_name": "fixed", "fixed_value": "v"},
            {"tag_name": "envoy.tcp_prefix"},
        ]
    )

    assert problems == []
    assert TagExtractor(found).extract("tcp.prefix.x") == (
        "tcp.x",
        (("fixed", "v"), ("envoy.tcp_prefix", "prefix"), ("my.tag", "pre")),
    )


@pytest.mark.parametrize(
    ("regex", "name", "bare", "value"),
    [
        (r"(zzz\.(.*?);\.)?", "cluster_manager.x", "cluster_manager.x", ""),
        (r"^server\.(x*)", "server.live", "server.live", ""),
        (r"^runtime(?=\.)\.((load))", "runtime.load_error", "runtime._error", "load"),
        (
            r"^cluster_manager\.((active)|warming)",
            "cluster_manager.warming_clusters",
            "cluster_manager._clusters",
            "",
        ),
        (
            r"^cluster_manager\.((active)|warming)",
            "cluster_manager.active_clusters",
            "cluster_manager._clusters",
            "active",
        ),
        (r"only(one)", "onlyone", "only", "one"),
    ],
)
def test_own_patterns_are_read_as_envoy_reads_them(regex, name, bare, value):
    found, problems = settings(stats_tags=[{"tag_name": "t", "regex": regex}])

    assert problems == []
    assert TagExtractor(found).extract(name) == (bare, (("t", value),))


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (
            {"tag_name": "nodef"},
            "no regex specified for tag specifier and no default regex for name: 'nodef'",
        ),
        (
            {"tag_name": "a", "regex": ""},
            "no regex specified for tag specifier and no default regex for name: 'a'",
        ),
        ({"tag_name": "a", "regex": "("}, "invalid regex '(': "),
        ({"tag_name": "", "regex": "(a)"}, "tag_name cannot be empty"),
    ],
)
def test_wrong_tags_are_problems(spec, problem):
    _, problems = settings(stats_tags=[spec])

    assert len(problems) == 1
    assert problem in problems[0]
    assert problems[0].startswith("stats_tags[0].")


def test_default_tags_can_be_left_out_and_taken_one_by_one():
    found, _ = settings(use_all_default_tags=False, stats_tags=[{"tag_name": "envoy.cluster_name"}])

    assert tag("envoy.cluster_name", found, "cluster.web.upstream_rq_200") == "web"
    assert tag("envoy.response_code", found, "cluster.web.upstream_rq_200") is None


NAMES = ("server.live", "cluster.web.cx", "cluster.web.rq", "http.a.rq")


@pytest.mark.parametrize(
    ("matcher", "admitted"),
    [
        ({"reject_all": True}, set()),
        ({"reject_all": False}, set(NAMES)),
        (
            {"inclusion_list": {"patterns": [{"prefix": "cluster."}, {"exact": "server.live"}]}},
            {*NAMES} - {"http.a.rq"},
        ),
        ({"exclusion_list": {"patterns": [{"suffix": ".rq"}]}}, {"server.live", "cluster.web.cx"}),
        (
            {"inclusion_list": {"patterns": [{"contains": "WEB", "ignore_case": True}]}},
            {"cluster.web.cx", "cluster.web.rq"},
        ),
        (
            {"inclusion_list": {"patterns": [{"safe_regex": {"regex": r".*\.rq"}}]}},
            {"cluster.web.rq", "http.a.rq"},
        ),
        ({"inclusion_list": {"patterns": [{"safe_regex": {"regex": r"rq"}}]}}, set()),
    ],
)
def test_stats_matcher(matcher, admitted):
    found, problems = settings(stats_matcher=matcher)
    snapshot = Snapshot()
    snapshot.counters = dict.fromkeys(NAMES, 0)

    assert problems == []
    assert set(found.admit(snapshot).counters) == admitted


def test_bounds_are_those_of_the_first_setting_that_matches():
    found, problems = settings(
        histogram_bucket_settings=[
            {"match": {"suffix": "_ms"}, "buckets": [7, 1, 1234]},
            {"match": {"prefix": "http.admin"}, "bins": 2},
            {"match": {"prefix": "http."}, "buckets": [1]},
        ]
    )

    assert problems == []
    assert found.bounds("http.x_ms") == (1, 7, 1234)
    assert found.bounds("http.admin.x") == BOUNDS
    assert found.bounds("http.x") == (1,)
    assert found.bounds("cluster.x") == BOUNDS


def test_no_rule_takes_out_what_is_not_there():
    for rule in DEFAULT_RULES:
        for name in ("", ".", "a", "cluster", "cluster.", "http.", "listener..", "vhost.a.vcluster"):
            found = rule.find(name, name.split("."))
            if found is not None:
                value, start, end = found
                assert 0 <= start <= end <= len(name)
                assert value in name
