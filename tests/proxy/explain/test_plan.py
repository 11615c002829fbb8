"""What happens to a request that is routed."""

import pytest

from weft.proxy.explain.tables import Sources

ADD = {"header": {"key": "x-new", "value": "%REQ(:METHOD)%"}}
MUTATION = "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3."


def test_a_weighted_draw(asked, to):
    clusters = [{"name": "a", "weight": 90}, {"name": "b", "weight": 10}]
    routes = [to("w", {"prefix": "/"}, route={"weighted_clusters": {"clusters": clusters, "runtime_key_prefix": "w"}})]

    told = asked(routes, "http://a/", random=195).plan.upstream
    other = asked(routes, "http://a/", random=95, runtime={"w.a": "100"}).plan.upstream

    assert (told.cluster, told.draw.number, told.draw.total, told.draw.random) == ("b", 95, 100, 195)
    assert [(s.cluster, s.start, s.end, s.drawn) for s in told.draw.shares] == [("a", 0, 90, False), ("b", 90, 100, True)]
    assert (other.cluster, other.draw.total, other.draw.shares[0].runtime_key) == ("a", 110, "w.a")


def test_a_header_that_draws(asked, to):
    clusters = [{"name": "a", "weight": 1}, {"name": "b", "weight": 1}]
    routes = [to("w", {"prefix": "/"}, route={"weighted_clusters": {"clusters": clusters, "header_name": "x-draw"}})]

    told = asked(routes, "http://a/", headers={"x-draw": "7"}).plan.upstream

    assert (told.cluster, told.draw.told_by, told.draw.random) == ("b", "header x-draw", 7)


def test_a_cluster_that_a_header_names(asked, to):
    routes = [to("h", {"prefix": "/"}, route={"cluster_header": "x-to"})]

    told = asked(routes, "http://a/", headers={"x-to": "c9"}).plan.upstream

    assert (told.cluster, told.cluster_told_by, told.draw) == ("c9", "header x-to", None)


def test_everything_a_route_can_say(asked, to):
    action = {
        "cluster": "c", "prefix_rewrite": "/v1", "host_rewrite_literal": "b.test", "timeout": "3s", "idle_timeout": "9s",
        "priority": "HIGH", "max_stream_duration": {"max_stream_duration": "60s"},
        "retry_policy": {"retry_on": "5xx,reset", "num_retries": 3, "per_try_timeout": "1s"},
        "hash_policy": [{"header": {"header_name": "x-user"}}],
    }  # fmt: skip
    route = to("r", {"prefix": "/api"}, route=action, request_headers_to_add=[ADD], response_headers_to_remove=["server"])

    upstream = asked([route], "http://a/api/x?y", headers={"x-new": "old"}).plan.upstream

    assert (upstream.path, upstream.host, upstream.timeout, upstream.idle_timeout) == ("/v1/x?y", "b.test", 0.0, 9.0)
    assert (upstream.priority, upstream.max_stream_duration, upstream.hash_by) == ("high", 60.0, ("header x-user",))
    assert (upstream.retry.retry_on, upstream.retry.num_retries) == (("5xx", "reset"), 3)
    changes = {change.name: (change.before, change.value) for change in upstream.request_headers}
    assert changes["x-new"] == ("old", "old, GET")
    assert changes["x-envoy-expected-rq-timeout-ms"] == (None, "1000")
    assert changes["x-envoy-original-path"] == (None, "/api/x?y")


def test_mirrors(asked, to):
    policies = [{"cluster": "m"}, {"cluster": "never", "runtime_fraction": {"default_value": {"numerator": 0}}}]

    told = asked([to("r", {"prefix": "/"}, route={"cluster": "c", "request_mirror_policies": policies})], "http://a/")

    assert [(shadow.cluster, shadow.host) for shadow in told.plan.upstream.mirrors] == [("m", "a-shadow")]


def test_response_headers(asked, to):
    route = to("r", {"prefix": "/"}, response_headers_to_add=[{"header": {"key": "x-a", "value": "b"}}],
               response_headers_to_remove=["x-secret"])  # fmt: skip

    told = asked([route], "http://a/").plan

    assert [(change.name, change.value) for change in told.response_headers] == [("x-a", "b"), ("x-secret", None)]


def test_a_trusted_caller_sets_the_timeout(asked, to):
    ask = {"headers": {"x-envoy-upstream-rq-timeout-ms": "250"}}

    inside = asked([to("r", {"prefix": "/"})], "http://a/", internal=True, **ask)
    outside = asked([to("r", {"prefix": "/"})], "http://a/", **ask)

    assert (inside.plan.upstream.timeout, inside.plan.upstream.timeout_told_by) == (0.25, "x-envoy-upstream-rq-timeout-ms")
    assert ("x-envoy-internal", "true") in inside.request.headers
    assert outside.plan.upstream.timeout == 15.0
    assert [(change.what, change.after) for change in outside.admission] == [("header x-envoy-upstream-rq-timeout-ms", "")]


@pytest.mark.parametrize(
    ("action", "status", "location", "body"),
    [
        ({"redirect": {"https_redirect": True, "response_code": "FOUND"}}, 302, "https://a.test/x?y", ""),
        ({"redirect": {"prefix_rewrite": "/new", "strip_query": True}}, 301, "http://a.test/new", ""),
        ({"direct_response": {"status": 418, "body": {"inline_string": "tea"}}}, 418, "", "tea"),
        ({"non_forwarding_action": {}}, 503, "", ""),
    ],
)
def test_what_the_proxy_answers_itself(asked, to, action, status, location, body):
    plan = asked([to("r", {"prefix": "/x"}, **action)], "http://a.test/x?y").plan

    assert (plan.answer.status, plan.answer.location, plan.answer.body) == (status, location, body)
    assert plan.upstream is None


def test_no_route(asked, to):
    told = asked([to("r", {"prefix": "/x"})], "http://a.test/")

    answer = told.plan.answer
    assert (told.matched, answer.status, answer.flags, answer.details) == (False, 404, "NR", "route_not_found")


def test_a_cluster_that_is_not_there(asked, to):
    sources = Sources(tables=(), clusters=frozenset(["other"]))

    answer = asked([to("gone", {"prefix": "/"})], "http://a/", sources=sources).plan.answer

    assert (answer.status, answer.flags, answer.details) == (503, "NC", "cluster_not_found")


def test_connect_that_is_not_allowed(asked, to):
    told = asked([to("c", {"connect_matcher": {}})], "http://a:80/", method="CONNECT")

    assert told.matched
    assert (told.plan.answer.status, told.plan.answer.details) == (403, "upgrade_failed")


def test_connect_that_is_carried(asked, to):
    action = {"cluster": "c", "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}
    told = asked([to("r", {"connect_matcher": {}}, route=action)], "http://a:80/", method="CONNECT")

    assert (told.plan.answer, told.plan.upstream.cluster, told.plan.upstream.path) == (None, "c", "")


def test_connect_to_no_host_and_port(asked, to):
    told = asked([to("c", {"connect_matcher": {}})], "http://a/", method="CONNECT")

    assert (told.matched, told.plan.answer.status) == (False, 400)


def test_virtual_clusters(asked, to):
    cluster = {"name": "posts", "headers": [{"name": ":method", "string_match": {"exact": "POST"}}]}
    config = {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [to("r", {"prefix": "/"})], "virtual_clusters": [cluster]}]}

    assert asked(config, "http://a/", method="POST").plan.virtual_cluster == "posts"
    assert asked(config, "http://a/").plan.virtual_cluster == "other"


# -- admission -------------------------------------------------------------------------------------


def test_admission_is_told(asked, managed, to):
    options = {"normalize_path": True, "strip_matching_host_port": True, "use_remote_address": True}
    table = managed(options, [to("b", {"path": "/b"})], port=80)

    told = asked(table, "http://a.test:80/x/../b", headers={"x-envoy-original-path": "/z", "x-forwarded-for": "1.2.3.4"})

    assert told.matched
    changes = {change.what: (change.before, change.after) for change in told.admission}
    assert changes == {
        "path": ("/x/../b", "/b"),
        "authority": ("a.test:80", "a.test"),
        "header x-envoy-original-path": ("/z", ""),
        "header x-forwarded-for": ("1.2.3.4", "1.2.3.4,127.0.0.1"),
    }


@pytest.mark.parametrize(
    ("options", "path", "status", "note"),
    [
        ({}, "/a#b", 400, "its path has a fragment"),
        ({"path_with_escaped_slashes_action": "REJECT_REQUEST"}, "/a%2fb", 400, "may not be escaped"),
        ({"path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT"}, "/a%2fb", 307, "refused"),
    ],
)
def test_a_request_that_is_refused_before_it_is_routed(asked, managed, to, options, path, status, note):
    told = asked(managed(options, [to("r", {"prefix": "/"})]), f"http://a{path}")

    assert (told.matched, told.request, told.plan.answer.status) == (False, None, status)
    assert note in told.notes[0]


def test_a_request_that_the_codec_refuses(asked, to):
    told = asked([to("r", {"prefix": "/"})], "http://a/", headers={"(bad)": "x"})

    assert (told.plan.answer.status, told.plan.answer.flags) == (400, "DPE")


# -- filters ---------------------------------------------------------------------------------------


def test_filters_and_the_level_that_speaks_last(asked, managed, to):
    chain = [
        {"name": name, "typed_config": {"@type": MUTATION + "HeaderMutation"}, "disabled": name == "off"}
        for name in ("plain", "own", "off", "dropped")
    ]
    off = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}
    on = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}
    own = {"@type": MUTATION + "HeaderMutationPerRoute", "mutations": {"request_mutations": [{"remove": "x"}]}}
    host = {"name": "v", "domains": ["*"], "typed_per_filter_config": {"own": off, "dropped": off},
            "routes": [to("r", {"prefix": "/"}, typed_per_filter_config={"own": own, "off": on, "nobody": off})]}  # fmt: skip

    told = asked(managed({"http_filters": chain}, {"virtual_hosts": [host]}), "http://a/").plan.filters

    assert [(one.name, one.runs, one.level) for one in told] == [
        ("plain", True, ""), ("own", True, "route"), ("off", True, "route"), ("dropped", False, "virtual host"),
        ("nobody", False, "route"),
    ]  # fmt: skip
    assert told[2].settings == "enabled"
    assert told[3].settings == "disabled"
