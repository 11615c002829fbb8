"""What a table makes of one request: everything that tests of Envoy's tool ask about."""

import asyncio
import json

import pytest
from google.protobuf import json_format

from weft.api.schema import message_class
from weft.proxy.clock import Clock
from weft.proxy.route.cluster_specifier import ClusterSpecifier
from weft.proxy.route_check.files import TESTS, load_table
from weft.proxy.route_check.outcome import play

INPUT = TESTS.removesuffix("Validation") + "ValidationInput"


@pytest.fixture
def outcome(tmp_path):
    """The outcome of a request in a table; ``routes`` are those of one virtual host, or a whole table."""
    loop = asyncio.new_event_loop()

    def run(routes, path="/", authority="a.test", method="GET", **given):
        table = routes if isinstance(routes, dict) else host(routes)
        (tmp_path / "r.json").write_text(json.dumps(table))
        message = message_class(INPUT)()
        json_format.ParseDict({"path": path, "authority": authority, "method": method, **given}, message)
        return play(load_table(str(tmp_path / "r.json")), message, Clock(loop))

    yield run
    loop.close()


def host(routes, **more):
    return {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes, **more}]}


def to(cluster, prefix="/", match=None, **more):
    return {"match": {"prefix": prefix, **(match or {})}, "route": {"cluster": cluster, **more}}


def headers(*pairs):
    return [{"key": key, "value": value} for key, value in pairs]


def add(key, value, **more):
    return [{"header": {"key": key, "value": value}, **more}]


# -- the request that is sent ----------------------------------------------------------------------


def test_what_every_request_has(outcome):
    request = outcome([to("c")], "/x?y", "a.test", "PUT").request

    assert (request.method, request.path, request.authority, request.scheme) == (
        b"PUT",
        b"/x?y",
        b"a.test",
        b"http",
    )
    assert request.headers.items() == [(b"x-forwarded-proto", b"http")]


def test_ssl_and_internal(outcome):
    request = outcome([to("c")], ssl=True, internal=True).request

    assert request.scheme == b"https"
    assert request.headers.items() == [(b"x-forwarded-proto", b"https"), (b"x-envoy-internal", b"true")]


def test_more_headers_are_added_as_they_would_arrive(outcome):
    given = headers(
        ("X-A", "1"), ("x-a", "2"), ("accept", "a"), ("Accept", "b"), (":path", "z"), ("host", "b")
    )
    request = outcome([to("c")], additional_request_headers=given).request

    assert request.headers.items()[1:] == [(b"x-a", b"1"), (b"x-a", b"2"), (b"accept", b"a,b")]
    assert (request.path, request.authority) == (b"/,z", b"a.test,b")


def test_pseudo_headers_that_are_added(outcome):
    given = headers((":method", "M"), (":scheme", "s"), (":authority", "b"))
    request = outcome([to("c")], additional_request_headers=given).request

    assert (request.method, request.scheme, request.authority) == (b"GET,M", b"http,s", b"a.test,b")


# -- which route -----------------------------------------------------------------------------------


def test_no_virtual_host_and_no_route(outcome):
    table = host([to("c", "/only")])
    table["virtual_hosts"][0]["domains"] = ["b.test"]

    for got in (outcome(table), outcome(table, authority="b.test")):
        assert (got.route, got.cluster, got.status) == (None, None, None)
        assert not got.forwards
        assert not got.answers
        assert got.location == b""


def test_headers_choose_the_route(outcome):
    routes = [
        to("both", match={"headers": [{"name": "a"}, {"name": "b", "string_match": {"exact": "1"}}]}),
        to("grpc", match={"grpc": {}}),
        to("number", match={"headers": [{"name": "n", "range_match": {"start": 1, "end": 10}}]}),
        to("none"),
    ]
    cases = [
        ([], "none"),
        ([("a", "x"), ("b", "1")], "both"),
        ([("a", "x"), ("b", "2")], "none"),
        ([("content-type", "application/grpc")], "grpc"),
        ([("content-type", "application/grpc-web")], "none"),
        ([("n", "9")], "number"),
        ([("n", "10")], "none"),
    ]

    got = [outcome(routes, additional_request_headers=headers(*pairs)).cluster for pairs, _ in cases]
    assert got == [wanted for _, wanted in cases]


def test_a_cluster_that_a_header_names(outcome):
    routes = [{"match": {"prefix": "/h"}, "route": {"cluster_header": ":authority"}}, {"match": {"prefix": "/"}, "route": {"cluster_header": "to"}}]  # fmt: skip

    assert outcome(routes, "/h", "some").cluster == "some"
    assert outcome(routes, "/b").cluster == ""
    assert outcome(routes, "/b", additional_request_headers=headers(("to", "there"))).cluster == "there"


WEIGHTED = {"clusters": [{"name": f"c{i}", "weight": weight} for i, weight in enumerate((30, 30, 40))]}


@pytest.mark.parametrize(
    ("random_value", "cluster"),
    [
        (0, "c0"), (29, "c0"), (30, "c1"), (59, "c1"), (60, "c2"), (99, "c2"), (115, "c0"), (560, "c2"),
        # Through a C int: -1 as an unsigned number of 64 bits ends with 15.
        (0xFFFFFFFF, "c0"), (1 << 32, "c0"), ((1 << 32) + 45, "c1"), ((1 << 31) - 1, "c1"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "weights"])
def test_weighted_clusters_by_the_random_value(outcome, random_value, cluster, prefix):
    action = {"weighted_clusters": {**WEIGHTED, **({"runtime_key_prefix": prefix} if prefix else {})}}
    routes = [{"match": {"prefix": "/"}, "route": action}]

    assert outcome(routes, random_value=random_value).cluster == cluster
    assert outcome(routes, random_value=random_value, runtime="weights.c2").cluster == cluster


def fraction(numerator, key="k", denominator="HUNDRED"):
    default = {"numerator": numerator, "denominator": denominator}
    return {"runtime_fraction": {"default_value": default, **({"runtime_key": key} if key else {})}}


@pytest.mark.parametrize(
    ("match", "given", "taken"),
    [
        (fraction(100), {}, False),
        (fraction(100), {"runtime": "k"}, True),
        (fraction(100), {"runtime": "other"}, False),
        (fraction(50), {"runtime": "k", "random_value": 49}, True),
        (fraction(50), {"runtime": "k", "random_value": 50}, False),
        (fraction(50, denominator="MILLION"), {"runtime": "k", "random_value": 50}, False),
        (fraction(50, denominator="MILLION"), {"runtime": "k", "random_value": 1_000_049}, True),
        # Nothing becomes 1.
        (fraction(0), {"runtime": "k"}, True),
        (fraction(0), {"runtime": "k", "random_value": 1}, False),
        # Without a key it cannot be enabled.
        (fraction(100, ""), {}, False),
        (fraction(100, ""), {"runtime": "k"}, False),
    ],
)
def test_runtime_fractions(outcome, match, given, taken):
    assert outcome([to("some", match=match), to("all")], **given).cluster == ("some" if taken else "all")


def test_two_fractions_of_one_key_keep_their_defaults(outcome):
    routes = [to("few", match=fraction(10)), to("many", match=fraction(60)), to("all")]

    got = [outcome(routes, runtime="k", random_value=n).cluster for n in (5, 50, 70)]
    assert got == ["few", "many", "all"]


def dynamic(*entries):
    return [
        {"metadata_namespace": space, "value": value, **({"allow_overwrite": True} if over else {})}
        for space, value, over in entries
    ]


@pytest.mark.parametrize(
    ("entries", "cluster"),
    [
        ([], "plain"),
        ([("ns", {"a": {"b": "x"}}, False)], "deep"),
        ([("ns", {"a": {"b": "y"}}, False)], "plain"),
        ([("ns", {"a": {"b": "y"}}, False), ("ns", {"a": {"b": "x"}}, False)], "plain"),
        ([("ns", {"a": {"b": "y"}}, False), ("ns", {"a": {"b": "x"}}, True)], "deep"),
    ],
)
def test_dynamic_metadata(outcome, entries, cluster):
    matcher = {
        "filter": "ns",
        "path": [{"key": "a"}, {"key": "b"}],
        "value": {"string_match": {"exact": "x"}},
    }
    routes = [to("deep", match={"dynamic_metadata": [matcher]}), to("plain")]

    assert outcome(routes, dynamic_metadata=dynamic(*entries)).cluster == cluster


def test_cases_and_query(outcome):
    routes = [
        {"match": {"path": "/Exact", "case_sensitive": False}, "route": {"cluster": "any"}},
        {"match": {"path": "/foo"}, "route": {"cluster": "exact"}},
        to("rest"),
    ]

    got = [outcome(routes, path).cluster for path in ("/exact?q", "/EXACT", "/foo?x=1", "/FOO")]
    assert got == ["any", "any", "exact", "rest"]


# -- what is forwarded -----------------------------------------------------------------------------


def test_rewrites(outcome):
    got = outcome([to("c", "/a", prefix_rewrite="/z", host_rewrite_literal="new")], "/a/b?q=1")

    assert (got.request.path, got.request.authority) == (b"/z/b?q=1", b"new")
    assert got.request.headers.find(b"x-envoy-original-path") == b"/a/b?q=1"


def test_rules_of_every_place(outcome):
    weighted = {"clusters": [{"name": "c", "weight": 1, "host_rewrite_literal": "w", "request_headers_to_add": add("q", "w"), "response_headers_to_add": add("r", "w")}]}  # fmt: skip
    route = {"match": {"prefix": "/"}, "route": {"weighted_clusters": weighted}, "request_headers_to_add": add("q", "r"), "response_headers_to_add": add("r", "r")}  # fmt: skip
    table = host([route], request_headers_to_add=add("q", "v"), response_headers_to_add=add("r", "v"))
    table |= {"request_headers_to_add": add("q", "t"), "response_headers_to_add": add("r", "t"), "response_headers_to_remove": ["gone"]}  # fmt: skip

    got = outcome(table, additional_response_headers=headers(("gone", "1"), ("stays", "1")))
    assert got.request.headers.find_all(b"q") == [b"w", b"r", b"v", b"t"]
    assert got.response.find_all(b"r") == [b"w", b"r", b"v", b"t"]
    assert got.request.authority == b"w"
    assert (got.response.find(b"gone"), got.response.find(b"stays")) == (None, b"1")


def test_commands_in_values(outcome):
    route = {
        **to("c"),
        "name": "here",
        "request_headers_to_add": [
            *add("ip", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
            *add("protocol", "%PROTOCOL%"),
            *add("path", "%REQ(:path)%"),
            *add("route", "%ROUTE_NAME%"),
        ],
        "response_headers_to_add": add("from", "%REQ(:authority)% %RESP(x)% %UPSTREAM_CLUSTER%"),
    }
    got = outcome([route], "/p", additional_response_headers=headers(("x", "y")))

    assert [got.request.headers.find(name) for name in (b"ip", b"protocol", b"path", b"route")] == [b"127.0.0.1", b"HTTP/1.1", b"/p", b"here"]  # fmt: skip
    assert got.response.find(b"from") == b"a.test y c"


def test_timeouts(outcome):
    assert outcome([to("c", timeout="2.5s")]).timeout == 2.5
    assert outcome([to("c")]).timeout == 15.0
    assert outcome([{"match": {"prefix": "/"}, "redirect": {}}]).timeout == 0


def test_a_route_that_is_not_for_forwarding(outcome):
    got = outcome(
        [{"match": {"prefix": "/"}, "non_forwarding_action": {}, "request_headers_to_add": add("a", "b")}],
        "/x",
    )

    assert (got.cluster, got.forwards, got.answers, got.timeout) == ("", True, False, 15.0)
    assert got.request.headers.find(b"a") == b"b"


# -- what is answered ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("redirect", "location", "status"),
    [
        ({"host_redirect": "new"}, b"http://new/a/b?c", 301),
        ({"path_redirect": "/z"}, b"http://a.test/z?c", 301),
        ({"path_redirect": "/z?own"}, b"http://a.test/z?own", 301),
        ({"prefix_rewrite": "/y"}, b"http://a.test/y/b?c", 301),
        ({"https_redirect": True, "response_code": "FOUND"}, b"https://a.test/a/b?c", 302),
        ({"scheme_redirect": "ws", "port_redirect": 81, "response_code": "PERMANENT_REDIRECT"}, b"ws://a.test:81/a/b?c", 308),
        ({"strip_query": True, "response_code": "SEE_OTHER"}, b"http://a.test/a/b", 303),
        ({"regex_rewrite": {"pattern": {"regex": "^/(.)/(.)$"}, "substitution": "/\\2/\\1"}, "response_code": "TEMPORARY_REDIRECT"}, b"http://a.test/b/a?c", 307),
    ],
)  # fmt: skip
def test_redirects(outcome, redirect, location, status):
    got = outcome([{"match": {"prefix": "/a"}, "redirect": redirect}], "/a/b?c")

    assert (got.location, got.status, got.response_status) == (location, status, b"%d" % status)
    assert (got.forwards, got.answers) == (False, True)
    assert got.response.items() == []


@pytest.mark.parametrize(
    ("require", "given", "location"),
    [
        ("ALL", {}, b"https://a.test/x"),
        ("ALL", {"internal": True}, b"https://a.test/x"),
        ("ALL", {"ssl": True}, b""),
        ("EXTERNAL_ONLY", {}, b"https://a.test/x"),
        ("EXTERNAL_ONLY", {"internal": True}, b""),
    ],
)
def test_tls_that_is_required(outcome, require, given, location):
    got = outcome(host([to("c")], require_tls=require, response_headers_to_add=add("a", "b")), "/x", **given)

    assert got.location == location
    assert got.cluster == (None if location else "c")
    assert got.status == (301 if location else None)
    assert got.response.find(b"a") == (None if location else b"b")


def direct(body="pong!", **more):
    return {
        "match": {"prefix": "/"},
        "direct_response": {"status": 203, "body": {"inline_string": body}},
        **more,
    }


def test_a_direct_response(outcome):
    got = outcome([direct()], "/ping?x", ssl=True)

    assert (got.status, got.response_status, got.cluster) == (203, b"203", None)
    assert got.location == b"https://a.test/ping?x"
    assert got.response.items() == [(b"content-length", b"5"), (b"content-type", b"text/plain")]


def test_a_direct_response_without_a_body(outcome):
    got = outcome([{"match": {"prefix": "/"}, "direct_response": {"status": 204}}])

    assert got.response.items() == []


def test_header_rules_of_a_direct_response(outcome):
    plain = add("content-type", "application/json")
    over = [{**plain[0], "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]

    assert (
        outcome([direct(response_headers_to_add=plain)]).response.find(b"content-type")
        == b"text/plain,application/json"
    )
    assert (
        outcome([direct(response_headers_to_add=over)]).response.find(b"content-type") == b"application/json"
    )


def test_a_direct_response_comes_over_what_the_test_gives(outcome):
    given = headers(("content-type", "a/b"), ("x", "1"), (":status", "99"))
    got = outcome([direct()], additional_response_headers=given)

    assert got.response.items() == [
        (b"content-type", b"a/b,text/plain"),
        (b"x", b"1"),
        (b"content-length", b"5"),
    ]
    assert got.response_status == b"99,203"


class Broken(ClusterSpecifier):
    def choose(self, request, info, random_value, runtime):
        raise ValueError("no such thing")


def test_a_plugin_that_raises(tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(host([to("c")])))
    checked = load_table(str(tmp_path / "r.json"))
    checked.table.virtual_hosts[0].routes[0].action.use(Broken())
    given = message_class(INPUT)(authority="a", path="/", method="GET")
    loop = asyncio.new_event_loop()
    got = play(checked, given, Clock(loop))
    loop.close()

    assert (got.cluster, got.bug) == ("", "ValueError: no such thing")
