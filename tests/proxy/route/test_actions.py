"""What routes do: expectations are what Envoy does, found by asking it."""

import pytest

from weft.proxy.matchers import HeaderMatcher


def route(match=None, **action):
    return {"match": match or {"prefix": "/"}, "route": {"cluster": "c", **action}}


def regex(pattern, substitution):
    return {"pattern": {"regex": pattern}, "substitution": substitution}


@pytest.mark.parametrize(("match", "action", "path", "rewritten"), [
    ({"prefix": "/a"}, {"prefix_rewrite": "/n"}, "/a/b?q", "/n/b?q"),
    ({"prefix": "/a/"}, {"prefix_rewrite": "/"}, "/a/b", "/b"),
    ({"prefix": "/a"}, {"prefix_rewrite": "/"}, "/a/b", "//b"),
    ({"prefix": "/a"}, {"prefix_rewrite": "/n?q=2"}, "/a?x", "/n?q=2?x"),
    ({"prefix": "/A", "case_sensitive": False}, {"prefix_rewrite": "/n"}, "/aB", "/nB"),
    ({"path": "/a"}, {"prefix_rewrite": "/n"}, "/a?q", "/n?q"),
    ({"path_separated_prefix": "/a"}, {"prefix_rewrite": "/n"}, "/a/b", "/n/b"),
    ({"safe_regex": {"regex": "/a.*"}}, {"prefix_rewrite": "/n"}, "/abc?q", "/n?q"),
    ({"prefix": "/"}, {"regex_rewrite": regex("^/x/([^/]+)(/.*)$", r"\2/of/\1")}, "/x/foo/v1?q=/x/", "/v1/of/foo?q=/x/"),
    ({"prefix": "/"}, {"regex_rewrite": regex("a", "b")}, "/banana?a", "/bbnbnb?a"),
    ({"prefix": "/"}, {"regex_rewrite": regex("a", r"\3")}, "/a", "/a"),
    ({"prefix": "/"}, {"path_rewrite": "/f/%REQ(:authority)%"}, "/a?q", "/f/a.test?q"),
])  # fmt: skip
def test_paths_are_rewritten(table_of, ask, match, action, path, rewritten):
    answer = ask(table_of([route(match, **action)]), path)

    assert answer.path == rewritten
    assert ("x-envoy-original-path", path) in answer.sent


def test_a_rewrite_to_nothing_is_not_done(table_of, ask):
    answer = ask(table_of([route(regex_rewrite=regex("/.*", ""))]), "/a")

    assert answer.path == "/a"
    assert answer.sent == []


def test_envoy_headers_can_be_left_out(table_of, request_of):
    action = table_of([route(prefix_rewrite="/n/", host_rewrite_literal="h")]).virtual_hosts[0].routes[0].action
    request = request_of("/a")

    action.rewrite(request, original_path=False)

    assert (request.path, request.authority) == (b"/n/a", b"h")
    assert [field.name for field in request.headers.fields] == [b"x-forwarded-proto"]


@pytest.mark.parametrize(("action", "headers", "host", "forwarded"), [
    ({"host_rewrite_literal": "new"}, [], "new", None),
    ({"host_rewrite_literal": "new", "append_x_forwarded_host": True}, [], "new", "old.test"),
    ({"host_rewrite_literal": "new", "append_x_forwarded_host": True}, [("x-forwarded-host", "x")], "new", "x,old.test"),
    ({"host_rewrite_literal": "new", "append_x_forwarded_host": True}, [("x-forwarded-host", "x,old.test")], "new", "x,old.test"),
    ({"host_rewrite_literal": "new", "append_x_forwarded_host": True}, [("x-forwarded-host", "x, old.test")], "new", "x, old.test,old.test"),
    ({"host_rewrite_header": "X-To"}, [("x-to", "new")], "new", None),
    ({"host_rewrite_header": "x-to"}, [], "old.test", None),
    ({"host_rewrite_header": "x-to"}, [("x-to", "")], "old.test", None),
    ({"host_rewrite_path_regex": regex("^/(.+)/.+$", r"\1")}, [], "p", None),
    ({"host_rewrite_path_regex": regex("/.*", "")}, [], "old.test", None),
    ({"auto_host_rewrite": True}, [], "old.test", None),
    ({"host_rewrite": "%REQ(x-to)%.new"}, [("x-to", "a")], "a.new", None),
    ({"host_rewrite": "%REQ(x-to)%"}, [], "-", None),
])  # fmt: skip
def test_hosts_are_rewritten(table_of, ask, action, headers, host, forwarded):
    answer = ask(table_of([route(**action)]), "/p/q?x/y", host="old.test", headers=headers)

    sent = dict(answer.sent)
    assert answer.host == host
    assert sent.get("x-forwarded-host") == (forwarded or dict(headers).get("x-forwarded-host"))
    assert sent.get("x-envoy-original-host") == ("old.test" if host != "old.test" else None)


def test_the_host_of_the_chosen_host(table_of, request_of):
    action = table_of([route(auto_host_rewrite=True, append_x_forwarded_host=True)]).virtual_hosts[0].routes[0].action
    request = request_of(host="old.test")

    action.replace_host(request, b"picked")

    assert action.auto_host_rewrite
    assert request.authority == b"picked"
    assert request.headers.find(b"x-forwarded-host") == b"old.test"
    assert request.headers.find(b"x-envoy-original-host") == b"old.test"


def weighted(*clusters, **more):
    return {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": list(clusters), **more}}}


THREE = ({"name": "a", "weight": 10}, {"name": "b", "weight": 0}, {"name": "c", "weight": 90})


@pytest.mark.parametrize(("random", "cluster"), [(0, "a"), (9, "a"), (10, "c"), (99, "c"), (100, "a"), (2**64 - 1, "c")])
def test_weights(table_of, ask, random, cluster):
    assert ask(table_of([weighted(*THREE)]), random=random).cluster == cluster


def test_weights_come_from_the_runtime(table_of, ask):
    table = table_of([weighted(*THREE, runtime_key_prefix="w")])
    assert ask(table, random=5).cluster == "a"
    assert ask(table, random=5, runtime={"w.a": 0, "w.b": 10}).cluster == "b"
    assert ask(table, random=5, runtime={"w.a": 0, "w.b": 0, "w.c": 0}).cluster == "a"
    assert ask(table, random=5, runtime={"w.a": -3}).cluster == "c"


@pytest.mark.parametrize(("values", "cluster"), [
    (["50"], "c"), (["0"], "a"), (["x"], "a"), (["50", "60"], "a"), ([], "a"), (["9" * 30], "a"),
])  # fmt: skip
def test_a_header_draws_the_cluster(table_of, ask, values, cluster):
    table = table_of([weighted(*THREE, header_name="X-Draw")])
    assert ask(table, headers=[("x-draw", value) for value in values], random=0).cluster == cluster


def test_a_cluster_has_headers_and_host_of_its_own(table_of, ask):
    own = {
        "name": "a", "weight": 1, "host_rewrite_literal": "own.host",
        "request_headers_to_add": [{"header": {"key": "x-own", "value": "%REQ(x-in)%"}}],
        "response_headers_to_remove": ["x-out"],
    }  # fmt: skip
    table = table_of([weighted(own, {"name": "b", "weight": 1})])

    first = ask(table, random=0, headers=[("x-in", "1")], response=[("x-out", "1")])
    second = ask(table, random=1, headers=[("x-in", "1")], response=[("x-out", "1")])

    assert (first.cluster, first.host, dict(first.sent).get("x-own"), first.received) == ("a", "own.host", "1", [])
    assert (second.cluster, second.host, dict(second.sent).get("x-own")) == ("b", "a.test", None)
    assert second.received == [("x-out", "1")]


def test_a_header_names_the_cluster(table_of, ask):
    table = table_of([{"match": {"prefix": "/"}, "route": {"cluster_header": "X-Cluster"}}])
    assert ask(table, headers=[("x-cluster", "this")]).cluster == "this"
    assert ask(table).cluster == ""
    mixed = table_of([weighted({"cluster_header": "x-c", "weight": 1, "host_rewrite_literal": "h"}, {"name": "b", "weight": 1})])
    answer = ask(mixed, headers=[("x-c", "that")])
    assert (answer.cluster, answer.host) == ("that", "h")


def action_of(table):
    return table.virtual_hosts[0].routes[0].action


def test_defaults(table_of, request_of):
    action = action_of(table_of([route()]))
    assert (action.timeout, action.idle_timeout, action.stream_limit, action.grpc_timeout) == (15.0, None, None, None)
    assert not action.has_stream_times
    assert (action.priority, action.cluster_not_found_status, action.retry, action.upgrades) == (0, 503, None, {})
    assert action.choose(request_of(), 1) is action.choose(request_of(), 2)


def test_times_and_the_rest(table_of):
    action = action_of(table_of([route(
        timeout="0s", idle_timeout="0.25s", priority="HIGH", cluster_not_found_response_code="NOT_FOUND",
        max_stream_duration={"max_stream_duration": "5s", "grpc_timeout_header_max": "0s", "grpc_timeout_header_offset": "0.5s"},
        upgrade_configs=[{"upgrade_type": "WebSocket"}, {"upgrade_type": "h2c", "enabled": False}],
        metadata_match={"filter_metadata": {"envoy.lb": {"v": "1"}}},
    )]))  # fmt: skip
    assert (action.timeout, action.idle_timeout, action.has_stream_times) == (0.0, 0.25, True)
    limit = action.stream_limit
    assert (limit.duration, limit.most, limit.offset) == (5000, 0, 500)
    assert (action.priority, action.cluster_not_found_status) == (1, 404)
    assert action.upgrades == {b"websocket": True, b"h2c": False}
    assert action.metadata_match == {"envoy.lb": {"v": "1"}}


def test_retry_policies(table_of):
    table = table_of({"virtual_hosts": [{
        "name": "v", "domains": ["*"],
        "retry_policy": {"retry_on": "5xx"},
        "routes": [
            route(),
            route(retry_policy={
                "retry_on": "gateway-error, reset,bogus", "num_retries": 3, "per_try_timeout": "1s",
                "retriable_status_codes": [418], "host_selection_retry_max_attempts": 5,
                "retry_back_off": {"base_interval": "0.1s"}, "retriable_headers": [{"name": "x-retry"}],
                "retry_host_predicate": [{
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
                }],
                "rate_limited_retry_back_off": {"reset_headers": [{"name": "Retry-After", "format": "SECONDS"}], "max_interval": "9s"},
            }),
        ],
    }]})  # fmt: skip
    inherited, own = (route.action.retry for route in table.virtual_hosts[0].routes)

    assert (inherited.retry_on, inherited.num_retries, inherited.base_interval, inherited.max_interval) == ({"5xx"}, 1, 0.025, 0.25)
    assert own.retry_on == {"gateway-error", "reset", "bogus"}
    assert (own.num_retries, own.per_try_timeout, own.host_attempts) == (3, 1.0, 5)
    assert (own.base_interval, own.max_interval) == (0.1, 1.0)
    assert own.retriable_status_codes == {418}
    assert isinstance(own.retriable_headers[0], HeaderMatcher)
    assert own.host_predicates[0].name == "envoy.retry_host_predicates.previous_hosts"
    assert (own.reset_headers[0].name, own.rate_limited_max_interval) == (b"retry-after", 9.0)


@pytest.mark.parametrize(("redirect", "request_", "location"), [
    ({}, {}, "http://a.test/p/q?x"),
    ({"https_redirect": True}, {}, "https://a.test/p/q?x"),
    ({"https_redirect": True}, {"host": "a.test:80"}, "https://a.test/p/q?x"),
    ({"https_redirect": True}, {"host": "a.test:8080"}, "https://a.test:8080/p/q?x"),
    ({"https_redirect": True}, {"host": "a.test:443"}, "https://a.test:443/p/q?x"),
    ({"scheme_redirect": "HTTP"}, {"host": "a.test:443", "proto": "https"}, "HTTP://a.test/p/q?x"),
    ({"https_redirect": True}, {"host": "[::1]:80"}, "https://[::1]/p/q?x"),
    ({"https_redirect": True}, {"host": "[::1]"}, "https://[::1]/p/q?x"),
    ({"host_redirect": "b.test"}, {"host": "a.test:81"}, "http://b.test/p/q?x"),
    ({"port_redirect": 8443}, {"host": "a.test:81"}, "http://a.test:8443/p/q?x"),
    ({"path_redirect": "/n"}, {}, "http://a.test/n?x"),
    ({"path_redirect": "/n?y"}, {}, "http://a.test/n?y"),
    ({"path_redirect": "/n", "strip_query": True}, {}, "http://a.test/n"),
    ({"path_redirect": "/n?y", "strip_query": True}, {}, "http://a.test/n?y"),
    ({"path_redirect": "?y"}, {}, "http://a.test/?y"),
    ({"prefix_rewrite": "/n/"}, {}, "http://a.test/n/q?x"),
    ({"prefix_rewrite": "/n/", "strip_query": True}, {}, "http://a.test/n/q"),
    ({"regex_rewrite": regex("^/(.*)/(.*)$", r"/\2/\1")}, {}, "http://a.test/q/p?x"),
    ({"path_rewrite": "/f/%REQ(:method)%"}, {}, "http://a.test/f/GET?x"),
    ({"path_rewrite": "%REQ(x-none)%"}, {}, "http://a.test/p/q?x"),
])  # fmt: skip
def test_redirects(table_of, ask, redirect, request_, location):
    answer = ask(table_of([{"match": {"prefix": "/p/"}, "redirect": redirect}]), "/p/q?x", **request_)

    assert (answer.status, answer.location) == (301, location)


@pytest.mark.parametrize(("code", "status"), [
    ("MOVED_PERMANENTLY", 301), ("FOUND", 302), ("SEE_OTHER", 303), ("TEMPORARY_REDIRECT", 307), ("PERMANENT_REDIRECT", 308),
])  # fmt: skip
def test_redirect_codes(table_of, ask, code, status):
    assert ask(table_of([{"match": {"prefix": "/"}, "redirect": {"response_code": code}}])).status == status


def test_direct_responses(table_of, ask, tmp_path, monkeypatch):
    file = tmp_path / "body"
    file.write_bytes(b"from a file")
    monkeypatch.setenv("WEFT_TEST_BODY", "from the environment")
    table = table_of([
        {"match": {"path": f"/{i}"}, "direct_response": {"status": 200 + i, "body": body}}
        for i, body in enumerate([
            {"inline_string": "text"}, {"inline_bytes": "AP8="}, {"filename": str(file)}, {"environment_variable": "WEFT_TEST_BODY"},
        ])
    ] + [{"match": {"path": "/none"}, "direct_response": {"status": 204}}])  # fmt: skip

    answers = [ask(table, f"/{i}") for i in (0, 1, 2, 3, "none")]

    assert [answer.status for answer in answers] == [200, 201, 202, 203, 204]
    assert [answer.body for answer in answers] == [b"text", b"\0\xff", b"from a file", b"from the environment", b""]


def body(**source):
    return [{"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": source}}]


@pytest.mark.parametrize(("config", "problem"), [
    (body(inline_string="x" * 4097), "response body size is 4097 bytes; maximum is 4096"),
    (body(filename="/nonexistent"), "file /nonexistent does not exist"),
    (body(filename="/dev/zero"), "/dev/zero"),
    (body(environment_variable="WEFT_NOT_SET"), "Environment variable doesn't exist: WEFT_NOT_SET"),
    ([{"match": {"prefix": "/"}, "direct_response": {"status": 200, "body_format": {"text_format": "%NOPE%"}}}], "direct_response.body_format.text_format: "),
    ([route(prefix_rewrite="/x", regex_rewrite=regex("a", "b"))], "Specify only one of prefix_rewrite, regex_rewrite or path_rewrite_policy"),
    ([route(regex_rewrite=regex("(", "b"))], "route.regex_rewrite.pattern.regex: missing )"),
    ([route(host_rewrite_path_regex=regex("(", "b"))], "route.host_rewrite_path_regex.pattern.regex: missing )"),
    ([weighted({"name": "a", "weight": 0})], "Sum of weights in the weighted_cluster must be greater than 0."),
    ([weighted({"name": "a", "weight": 2**32 - 1}, {"name": "b", "weight": 1})], "exceeds 4294967295"),
    ([weighted({"weight": 1})], "At least one of name or cluster_header need to be specified"),
    ([weighted({"name": "a", "cluster_header": "x", "weight": 1})], "Only one of name or cluster_header can be specified"),
    ([route(upgrade_configs=[{"upgrade_type": "a"}, {"upgrade_type": "A"}])], "Duplicate upgrade A"),
    ([route(upgrade_configs=[{"upgrade_type": "a", "connect_config": {}}])], "Non-CONNECT upgrade type a has ConnectConfig"),
    ([route(upgrade_configs=[{"upgrade_type": "CONNECT-UDP"}])], "not supported yet: CONNECT-UDP"),
    ([route(upgrade_configs=[{"upgrade_type": "CONNECT", "connect_config": {"proxy_protocol_config": {"version": "V2", "pass_through_tlvs": {"match_type": "INCLUDE_ALL"}}}}])], "not supported yet: pass_through_tlvs"),
    ([route(hash_policy=[{"header": {"header_name": "x", "regex_rewrite": regex("(", "")}}])], "missing )"),
    ([route(retry_policy={"retry_back_off": {"base_interval": "2s", "max_interval": "1s"}})], "retry_policy.max_interval must greater"),
    ([{"match": {"prefix": "/"}, "route": {"cluster_specifier_plugin": "p"}}], "Unknown cluster specifier plugin name: p is used in the route"),
    ([{"match": {"prefix": "/"}, "route": {}}], "a route needs one of cluster, cluster_header, weighted_clusters"),
])  # fmt: skip
def test_problems(load, config, problem):
    _, problems = load(config)

    assert len(problems) == 1
    assert problem in problems[0]


def test_the_body_limit_can_be_changed(table_of):
    table_of({"max_direct_response_body_size_bytes": 5000, "virtual_hosts": [
        {"name": "v", "domains": ["*"], "routes": body(inline_string="x" * 5000)},
    ]})  # fmt: skip


def test_what_has_no_effect_without_its_filter_is_accepted(table_of):
    table_of([{**route(
        hash_policy=[{"header": {"header_name": "x"}}], rate_limits=[{"actions": [{"remote_address": {}}]}],
    ), "decorator": {"operation": "o"}, "tracing": {}}])  # fmt: skip


def test_actions_describe_themselves(table_of):
    table = table_of([
        route(), weighted(*THREE), {"match": {"prefix": "/"}, "redirect": {"https_redirect": True, "port_redirect": 1}},
        {"match": {"prefix": "/"}, "direct_response": {"status": 200}},
        {"match": {"prefix": "/"}, "non_forwarding_action": {}},
    ])  # fmt: skip
    assert [r.action.describe() for r in table.virtual_hosts[0].routes] == [
        "forward to c", "forward to a (10/100), b (0/100), c (90/100)", "redirect with 301, scheme https, port 1",
        "answer 200 with 0 bytes", "not for forwarding",
    ]  # fmt: skip
