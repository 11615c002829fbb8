"""Mirror policies: which list holds, which requests, where to, and what the shadow's head is."""

import pytest

from weft.proxy.route.mirror import shadow_host
from weft.proxy.runtime import Runtime


def to(cluster, **more):
    return {"cluster": cluster, **more}


def table(*policies, host=(), table=()):
    route = {"match": {"prefix": "/"}, "route": {"cluster": "c", "request_mirror_policies": list(policies)}}
    hosts = [{"name": "v", "domains": ["*"], "routes": [route], "request_mirror_policies": list(host)}]
    return {"virtual_hosts": hosts, "request_mirror_policies": list(table)}


def mirrors_of(table_of, *policies, **more):
    mirrors = table_of(table(*policies, **more)).virtual_hosts[0].routes[0].action.mirrors
    return mirrors or ()


@pytest.mark.parametrize(("route", "host", "whole", "wanted"), [
    ([], [], [], []),
    ([], [], [to("t")], ["t"]),
    ([], [to("h"), to("i")], [to("t")], ["h", "i"]),
    ([to("r")], [to("h")], [to("t")], ["r"]),
    ([to("r"), to("r")], [], [to("t")], ["r", "r"]),
])  # fmt: skip
def test_the_most_specific_list_holds(table_of, route, host, whole, wanted):
    assert [one.cluster for one in mirrors_of(table_of, *route, host=host, table=whole)] == wanted


@pytest.mark.parametrize(("authority", "wanted"), [
    (b"a", b"a-shadow"),
    (b"a.b:80", b"a.b-shadow:80"),
    (b"[::1]", b"[::1]-shadow"),
    (b"[::1]:80", b"[::1]-shadow:80"),
])  # fmt: skip
def test_the_suffix_goes_before_the_port(authority, wanted):
    assert shadow_host(authority) == wanted


@pytest.mark.parametrize(("fraction", "values", "hits"), [
    (None, {}, 100),
    ({"default_value": {"numerator": 30}}, {}, 30),
    ({"default_value": {"numerator": 30}, "runtime_key": "k"}, {"k": 70}, 70),
    ({"default_value": {"numerator": 30}, "runtime_key": "k"}, {"other": 70}, 30),
    ({"default_value": {"numerator": 0}}, {}, 0),
])  # fmt: skip
def test_a_share_of_requests(table_of, request_of, fraction, values, hits):
    (mirror,) = mirrors_of(table_of, to("m", **({} if fraction is None else {"runtime_fraction": fraction})))

    targets = [mirror.target(request_of(), number, Runtime(values)) for number in range(100)]

    assert targets.count("m") == hits
    assert targets.count("") == 100 - hits


@pytest.mark.parametrize(("headers", "cluster"), [([("x-to", "m")], "m"), ([("x-to", "")], ""), ([], "")])
def test_a_cluster_that_a_header_names(table_of, request_of, headers, cluster):
    (mirror,) = mirrors_of(table_of, {"cluster_header": "X-To"})

    assert mirror.target(request_of(headers=headers), 1, Runtime()) == cluster
    assert mirror.describe() == "header x-to"


def test_the_head_of_a_shadow_is_a_copy(table_of, request_of, info_of, clock):
    edits = [
        {"remove": "x-away"},
        {"append": {"header": {"key": "x-path", "value": "%REQ(:PATH)%"}}},
        {"remove_on_match": {"key_matcher": {"prefix": "x-secret-"}}},
    ]
    (mirror,) = mirrors_of(table_of, to("m", request_headers_mutations=edits, host_rewrite_literal="other:1"))
    request = request_of("/p", headers=[("x-away", "1"), ("x-secret-a", "1"), ("x-kept", "1")])
    before = request.headers.items()

    head = mirror.head(request, info_of(request), clock)

    assert (head.method, head.path, head.authority, head.scheme) == (b"GET", b"/p", b"other:1", b"http")
    assert head.headers.items() == [(b"x-kept", b"1"), (b"x-forwarded-proto", b"http"), (b"x-path", b"/p")]
    assert (request.headers.items(), request.authority) == (before, b"a.test")


def test_the_host_can_be_left(table_of, request_of, info_of, clock):
    (mirror,) = mirrors_of(table_of, to("m", disable_shadow_host_suffix_append=True))

    assert mirror.head(request_of(host="a:1"), info_of(), clock).authority == b"a:1"


@pytest.mark.parametrize(("policy", "problem"), [
    ({}, "request_mirror_policies[0]: Exactly one of cluster or cluster_header in request mirror policy need to be specified"),
    (to("a", cluster_header="b"), "Only one of cluster 'a' or cluster_header 'b' in request mirror policy can be specified"),
    (to("a", request_headers_mutations=[{"append": {"header": {"key": ":path", "value": "x"}}}]), "[0].append.header.key: :-prefixed or host headers may not be modified"),
])  # fmt: skip
@pytest.mark.parametrize("where", ["route", "host", "table"])
def test_problems(load, policy, problem, where):
    config = table(policy) if where == "route" else table(**{where: [policy]})

    _, problems = load(config)

    assert len(problems) == 1
    assert problem in problems[0]
