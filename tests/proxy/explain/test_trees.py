"""Virtual hosts with a matcher, and plugins that name clusters."""

import pytest

from weft.api.schema import find_type
from weft.proxy.explain.text import render


def typed(type, **fields):
    find_type(type)
    return {"@type": f"type.googleapis.com/{type}", **fields}


def input_of(header):
    type = "envoy.type.matcher.v3.HttpRequestHeaderMatchInput"
    return {"name": "in", "typed_config": typed(type, header_name=header)}


def leads_to(*routes):
    type = "envoy.config.route.v3.RouteList"
    return {"action": {"name": "routes", "typed_config": typed(type, routes=list(routes))}}


def exact(header, branches, **rest):
    return {"matcher_tree": {"input": input_of(header), "exact_match_map": {"map": branches}}, **rest}


@pytest.fixture
def config(to):
    inner = exact("x-b", {"1": leads_to(to("both", {"prefix": "/"}))})
    branches = {"1": {"matcher": inner}, "2": leads_to(to("api", {"path": "/api"}), to("two", {"prefix": "/two"}))}
    tree = exact("x-a", branches, on_no_match=leads_to(to("rest", {"prefix": "/rest"})))
    return {"name": "t", "virtual_hosts": [{"name": "v", "domains": ["*"], "matcher": tree}]}


@pytest.mark.parametrize(
    ("headers", "path", "taken", "questions"),
    [
        ({"x-a": "1", "x-b": "1"}, "/", "both", [(0, "1", "yes"), (1, "1", "yes")]),
        ({"x-a": "1", "x-b": "2"}, "/rest", "rest", [(0, "1", "yes"), (1, "2", "no")]),
        ({"x-a": "2"}, "/two/x", "two", [(0, "2", "yes")]),
        ({"x-a": "2"}, "/rest", None, [(0, "2", "yes")]),
        ({}, "/rest", "rest", [(0, None, "no")]),
        ({"x-a": "9"}, "/", None, [(0, "9", "no")]),
    ],
)
def test_the_questions_of_a_tree(asked, config, headers, path, taken, questions):
    told = asked(config, f"http://a{path}", headers=headers)

    assert [(step.depth, step.seen, step.verdict) for step in told.routes.matcher] == questions
    assert [route.name for route in told.routes.tried if route.outcome == "taken"] == ([taken] if taken else [])
    assert told.matched == (taken is not None)


def test_what_a_tree_led_to_may_be_a_near_miss(asked, config):
    told = asked(config, "http://a/api/", headers={"x-a": "2"})

    assert [route.name for route in told.routes.tried] == ["api", "two"]
    assert "trailing slash" in told.nearest.failures[0].hint


def test_a_tree_that_leads_nowhere(asked, config):
    del config["virtual_hosts"][0]["matcher"]["on_no_match"]

    told = asked(config, "http://a/")

    assert (told.matched, told.routes.count, told.plan.answer.details) == (False, 0, "route_not_found")


def test_a_tree_as_text(asked, config):
    assert """
matcher of v
  ✓ request header x-a is one of '1', '2': it is '1'
    ✓ request header x-b is one of '1': it is '1'

routes of v (1 route)
  ✓ #0 both  prefix /  forward to both
""" in render([asked(config, "http://a/", headers={"x-a": "1", "x-b": "1"})])


@pytest.fixture
def plugin(to):
    def branch(name):
        type = "envoy.extensions.router.cluster_specifiers.matcher.v3.ClusterAction"
        return {"action": {"name": "c", "typed_config": typed(type, cluster=name)}}

    type = "envoy.extensions.router.cluster_specifiers.matcher.v3.MatcherClusterSpecifier"
    specifier = typed(type, cluster_matcher=exact("x-a", {"1": branch("one")}, on_no_match=branch("other")))
    extension = {"extension": {"name": "m", "typed_config": specifier}}
    return [to("p", {"prefix": "/"}, route={"inline_cluster_specifier_plugin": extension})]


@pytest.mark.parametrize(("value", "cluster", "verdict"), [("1", "one", "yes"), ("2", "other", "no")])
def test_a_plugin_that_names_the_cluster(asked, plugin, value, cluster, verdict):
    told = asked(plugin, "http://a/", headers={"x-a": value})

    upstream = told.plan.upstream
    assert (upstream.cluster, upstream.draw) == (cluster, None)
    assert upstream.cluster_told_by.startswith("the cluster of a matcher")
    assert [(step.seen, step.verdict) for step in upstream.matcher] == [(value, verdict)]
    assert f"request header x-a is one of '1': it is {value!r}" in render([told])
