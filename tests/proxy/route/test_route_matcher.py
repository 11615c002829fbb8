"""``VirtualHost.matcher``: a tree of matchers that leads to routes."""

import pytest

from weft.api.problems import Where
from weft.proxy.matching.inputs import Subject
from weft.proxy.matching.tree import explain
from weft.proxy.route.route_matcher import routes_of
from weft.proxy.runtime import Runtime

T = "type.googleapis.com/"
ROUTE = T + "envoy.config.route.v3."


def typed(type, **fields):
    return {"name": "x", "typed_config": {"@type": T + type, **fields}}


A = typed("envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name="x-a")
STATE = typed("envoy.extensions.matching.common_inputs.network.v3.FilterStateInput", key="k")


def to(cluster, **fields):
    return {"match": {"prefix": "/"}, "route": {"cluster": cluster}, **fields}


def route(cluster, **fields):
    return {"action": typed("envoy.config.route.v3.Route", **to(cluster, **fields))}


def routes(*entries):
    return {"action": typed("envoy.config.route.v3.RouteList", routes=list(entries))}


def exact(branches, input=A, **rest):
    return {"matcher_tree": {"input": input, "exact_match_map": {"map": branches}}, **rest}


def host(matcher, **fields):
    return {"name": "v", "domains": ["*"], "matcher": matcher, **fields}


def config(matcher, **fields):
    return {"virtual_hosts": [host(matcher, **fields)]}


@pytest.fixture(autouse=True)
def _types():
    from weft.api.schema import find_type

    for name in (
        "envoy.type.matcher.v3.HttpRequestHeaderMatchInput", "envoy.config.route.v3.Route", "xds.type.matcher.v3.Matcher",
        "envoy.extensions.matching.common_inputs.network.v3.FilterStateInput",
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
    ):  # fmt: skip
        find_type(name)


def test_the_tree_finds_the_route(table_of, ask):
    table = table_of(config(exact({"1": route("one"), "2": route("two")}, on_no_match=route("rest"))))
    assert ask(table, headers=[("x-a", "1")]).cluster == "one"
    assert ask(table, headers=[("x-a", "2")]).cluster == "two"
    assert ask(table).cluster == "rest"


def test_without_a_branch_there_is_no_route(table_of, ask):
    table = table_of(config(exact({"1": route("one")})))
    assert ask(table, headers=[("x-a", "2")]).status == 404
    assert ask(table_of(config({}))).status == 404


def test_a_route_keeps_its_own_match(table_of, ask):
    table = table_of(config(exact({
        "1": route("one", match={"prefix": "/own"}),
        "2": routes(to("first", match={"path": "/first"}), to("second", match={"prefix": "/s"})),
        "3": routes(),
    }, on_no_match=route("rest"))))  # fmt: skip
    assert ask(table, "/own/x", headers=[("x-a", "1")]).cluster == "one"
    assert ask(table, "/other", headers=[("x-a", "1")]).status == 404
    assert ask(table, "/first", headers=[("x-a", "2")]).cluster == "first"
    assert ask(table, "/s", headers=[("x-a", "2")]).cluster == "second"
    assert ask(table, "/third", headers=[("x-a", "2")]).status == 404
    assert ask(table, headers=[("x-a", "3")]).status == 404


def test_path_parameters_are_left_out_for_the_match_of_the_route(table_of, ask):
    table = table_of({**config(exact({"1": route("one", match={"path": "/a"})})), "ignore_path_parameters_in_path_matching": True})
    assert ask(table, "/a;x=1", headers=[("x-a", "1")]).cluster == "one"


def test_routes_inherit_from_virtual_host_and_table(table_of, ask):
    header = lambda value: [{"header": {"key": "x-order", "value": value}}]  # noqa: E731
    mutation = {"f": {"@type": T + "envoy.config.route.v3.FilterConfig", "disabled": True}}
    table = table_of({
        "request_headers_to_add": header("table"),
        "virtual_hosts": [host(
            exact({"1": route("one", request_headers_to_add=header("route"), name="r")}),
            request_headers_to_add=header("host"), response_headers_to_add=header("host"),
            typed_per_filter_config=mutation, retry_policy={"retry_on": "5xx", "num_retries": 7},
        )],
    })  # fmt: skip
    answer = ask(table, headers=[("x-a", "1")])
    assert [value for name, value in answer.sent if name == "x-order"] == ["route", "host", "table"]
    assert ("x-order", "host") in answer.received
    assert list(answer.route.filter_settings) == ["f"]
    assert answer.route.action.retry is table.virtual_hosts[0].routes[0].action.retry is not None
    assert (answer.route.name, answer.route.virtual_host.name) == ("r", "v")


def test_tls_comes_first(table_of, ask):
    table = table_of(config({"on_no_match": route("one")}, require_tls="ALL"))
    assert ask(table, "/x").location == "https://a.test/x"
    assert ask(table, "/x", proto="https").cluster == "one"


def test_filter_state_is_an_input(table_of, request_of, info_of):
    table = table_of(config(exact({"v": route("one")}, STATE)))
    request = request_of()
    info = info_of(request)
    assert table.find(request, info, 0, Runtime()) is None
    info.connection.filter_state = {"k": "v"}
    assert table.find(request, info, 0, Runtime()).action.clusters.single.cluster == "one"


def test_who_asks_for_clusters_and_routes_sees_them_all(table_of):
    nested = {"matcher": exact({"2": routes(to("two"), to("three"))}, on_no_match=route("four"))}
    table = table_of(config(exact({"1": nested}, on_no_match=route("rest"))))
    assert [route.describe() for route in table.virtual_hosts[0].routes] == [
        f"route: prefix / -> forward to {name}" for name in ("two", "three", "four", "rest")
    ]
    assert table.clusters() == {"two", "three", "four", "rest"}


def test_messages_are_walked_without_a_table(message):
    matcher = message("xds.type.matcher.v3.Matcher", exact({"1": route("one"), "2": routes(to("two"), to("three"))}))
    found = [(route.route.cluster, place.path) for route, place in routes_of(matcher, Where.nowhere().field("m"))]
    at = 'm.matcher_tree.exact_match_map.map["%d"].action.typed_config'
    assert found == [("one", at % 1), ("two", at % 2 + ".routes[0]"), ("three", at % 2 + ".routes[1]")]


def test_the_tree_explains_itself(table_of, request_of, info_of):
    tree = table_of(config(exact({"1": route("one")}))).virtual_hosts[0].tree
    request = request_of(headers=[("x-a", "2")])
    info = info_of(request)
    found, trace = explain(tree, Subject(info.connection, Runtime(), info, request))
    assert found is None
    assert [step.describe() for step in trace.steps] == ["request header x-a is one of '1': no, it is '2'"]


@pytest.mark.parametrize(("matcher", "fields", "problem"), [
    (exact({"1": route("one")}), {"routes": [to("c")]}, "virtual_hosts[0]: cannot set both matcher and routes on virtual host"),
    (
        exact({"1": route("one")}, typed("envoy.type.matcher.v3.HttpRequestQueryParamMatchInput", query_param="q")), {},
        "virtual_hosts[0].matcher.matcher_tree.input: Route table can only match on request headers, saw "
        "type.googleapis.com/envoy.type.matcher.v3.HttpRequestQueryParamMatchInput",
    ),
    (
        exact({"1": {**route("one"), "keep_matching": True}}), {},
        'virtual_hosts[0].matcher.matcher_tree.exact_match_map.map["1"].keep_matching: keep_matching is not supported in this context',
    ),
    (
        exact({"1": route("one", match={"safe_regex": {"regex": "("}})}), {},
        'map["1"].action.typed_config.match.safe_regex.regex: missing )',
    ),
    (exact({"1": routes(to("c"), {"match": {"prefix": "/"}})}), {}, 'map["1"].action.typed_config.routes[1]: a route needs one of route'),
])  # fmt: skip
def test_problems_say_where(load, matcher, fields, problem):
    _, problems = load(config(matcher, **fields))

    assert len(problems) == 1
    assert problem in problems[0]
