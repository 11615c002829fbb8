"""Assertions that hold and those that do not, in the tool's words."""

import pytest
from google.protobuf import json_format

from weft.api.problems import Problems
from weft.api.schema import message_class
from weft.http.headers import Headers
from weft.http.message import Request
from weft.proxy.route.match import PREFIX, PathMatch, RouteMatch
from weft.proxy.route.respond import Redirect
from weft.proxy.route.table import Route, RouteTable, VirtualCluster, VirtualHost
from weft.proxy.route_check.compare import Assertions
from weft.proxy.route_check.coverage import Coverage
from weft.proxy.route_check.files import ROUTES
from weft.proxy.route_check.outcome import Outcome

ASSERT = "envoy.RouterCheckToolSchema.ValidationAssert"


class Marks(Coverage):
    def __init__(self):
        super().__init__(message_class(ROUTES)(), RouteTable(""))
        self.marked = []

    def mark(self, outcome, what):
        self.marked.append(what)


def failures(outcome, **expected):
    message = message_class(ASSERT)()
    json_format.ParseDict(expected, message)
    marks = Marks()
    problems = Problems()
    found = [str(failure) for failure in Assertions(message, problems.where).failures(outcome, marks)]
    assert problems.items == []
    return found, marks.marked


def _route(clusters=()):
    virtual_host = VirtualHost("vh")
    virtual_host.virtual_clusters = tuple(VirtualCluster(name, ()) for name in clusters)
    return Route("r", virtual_host, RouteMatch(PathMatch(PREFIX, b"/")), Redirect())


def forwarded(clusters=()):
    outcome = Outcome(
        Request(b"GET", b"/new?q", b"new.test", b"http", Headers.of([(b"a", b"1"), (b"a", b"2")])), Headers()
    )
    outcome.response.add("x", "y")
    outcome.route = _route(clusters)
    outcome.cluster = "c"
    outcome.timeout = 30.0
    return outcome


def answered():
    outcome = Outcome(Request(b"GET", b"/", b"a", b"http", Headers()), Headers())
    outcome.route = _route()
    outcome.status, outcome.response_status, outcome.location = 302, b"302", b"http://b/"
    return outcome


def unmatched():
    return Outcome(Request(b"GET", b"/", b"a", b"http", Headers()), Headers())


RIGHT = {
    "cluster_name": "c", "virtual_cluster_name": "vc", "virtual_host_name": "vh", "path_rewrite": "/new?q",
    "host_rewrite": "new.test", "path_redirect": "", "code_redirect": 0, "timeout": "30s",
}  # fmt: skip


def test_all_that_is_right_of_a_route_that_forwards():
    found, marked = failures(forwarded(["vc"]), **RIGHT)

    assert found == []
    assert marked == list(RIGHT)[:7]


def test_all_that_is_wrong_in_the_tools_order():
    found, marked = failures(
        forwarded(["vc"]),
        response_header_fields=[{"key": "x", "value": "n"}],
        request_header_fields=[{"key": "a", "value": "2"}],
        timeout="1.5s", code_redirect=301, path_redirect="/r", host_rewrite="h", path_rewrite="/p",
        virtual_host_name="v", virtual_cluster_name="w", cluster_name="d",
    )  # fmt: skip

    assert marked == []
    assert found == [
        "expected: [d], actual: [c], test type: cluster_name",
        "expected: [w], actual: [vc], test type: virtual_cluster_name",
        "expected: [v], actual: [vh], test type: virtual_host_name",
        "expected: [/p], actual: [/new?q], test type: path_rewrite",
        "expected: [h], actual: [new.test], test type: host_rewrite",
        "expected: [/r], actual: [], test type: path_redirect",
        "expected: [301], actual: [0], test type: code_redirect",
        "expected: [1500], actual: [30000], test type: timeout",
        "expected: [2], actual: [1], test type: request_header_fields",
        "expected: [n], actual: [y], test type: response_header_fields",
    ]


def test_a_redirect_forwards_nothing():
    nothing = dict.fromkeys(list(RIGHT)[:5], "")
    found, _ = failures(answered(), **nothing, path_redirect="http://b/", code_redirect=302, timeout="0s")

    assert found == []


def test_no_route_is_nothing_at_all():
    found, _ = failures(unmatched(), **dict.fromkeys(list(RIGHT)[:6], ""), code_redirect=0)
    assert found == []
    found, _ = failures(unmatched(), cluster_name="c", path_redirect="x")
    assert found == [
        "expected: [c], actual: [], test type: cluster_name",
        "expected: [x], actual: [], test type: path_redirect",
    ]


def test_nothing_asserted_is_right():
    assert failures(forwarded()) == ([], [])


def test_a_virtual_host_without_virtual_clusters():
    assert failures(forwarded(), virtual_cluster_name="")[0] == []


@pytest.mark.parametrize(
    ("matcher", "told"),
    [
        ({"name": "X", "string_match": {"exact": "y"}}, None),
        ({"name": "x", "string_match": {"exact": "z"}}, "expected: [x: z], actual: [x: y], test type: response_header_matches.string_match.exact"),
        ({"name": "x", "string_match": {"exact": "y"}, "invert_match": True}, "expected: [x: y], actual: NOT [x: y], test type: response_header_matches.string_match.exact"),
        ({"name": "no", "string_match": {"exact": "z"}}, "expected: [no: z], actual: [no: NULL], test type: response_header_matches.string_match.exact"),
        ({"name": "x", "string_match": {"prefix": "z"}}, "actual: [x: y], test type: response_header_matches.string_match.prefix"),
        ({"name": "x", "string_match": {"suffix": "z"}}, "actual: [x: y], test type: response_header_matches.string_match.suffix"),
        ({"name": "x", "string_match": {"contains": "z"}}, "actual: [x: y], test type: response_header_matches.string_match.contains"),
        ({"name": "x", "string_match": {"safe_regex": {"regex": "z+"}}}, "actual: [x: y], test type: response_header_matches.string_match.safe_regex"),
        ({"name": "x", "exact_match": "z"}, "actual: [x: y], test type: response_header_matches.exact_match"),
        ({"name": "x", "exact_match": "y", "invert_match": True}, "actual: [x: y], test type: response_header_matches.exact_match"),
        ({"name": "x", "prefix_match": "z"}, "actual: [x: y], test type: response_header_matches.prefix_match"),
        ({"name": "x", "suffix_match": "z"}, "actual: [x: y], test type: response_header_matches.suffix_match"),
        ({"name": "x", "contains_match": "z"}, "actual: [x: y], test type: response_header_matches.contains_match"),
        ({"name": "x", "safe_regex_match": {"regex": "z"}}, "actual: [x: y], test type: response_header_matches.safe_regex_match"),
        ({"name": "x", "range_match": {"start": 1, "end": 2}}, "actual: [x: y], test type: response_header_matches.range_match"),
        ({"name": "x", "present_match": True, "invert_match": True}, "expected: [has(x):false], actual: [has(x):true], test type: response_header_matches.present_match"),
        ({"name": "no", "present_match": True}, "expected: [has(no):true], actual: [has(no):false], test type: response_header_matches.present_match"),
        ({"name": "no"}, "expected: [has(no):true], actual: [has(no):false], test type: response_header_matches.present_match"),
        ({"name": "no", "invert_match": True}, None),
        ({"name": ":status"}, "expected: [has(:status):true], actual: [has(:status):false], test type: response_header_matches.present_match"),
    ],
)  # fmt: skip
def test_matchers_of_response_headers(matcher, told):
    assert failures(forwarded(), response_header_matches=[matcher])[0] == ([] if told is None else [told])


def test_matchers_of_request_headers():
    matchers = [
        {"name": ":path", "string_match": {"exact": "/new?q"}},
        {"name": ":authority", "string_match": {"exact": "old"}},
        {"name": "A", "string_match": {"exact": "2"}},
        {"name": "a", "string_match": {"exact": "3"}},
    ]

    assert failures(forwarded(), request_header_matches=matchers)[0] == [
        "expected: [:authority: old], actual: [:authority: new.test], test type: request_header_matches.string_match.exact",
        "expected: [a: 3], actual: [a: 1], test type: request_header_matches.string_match.exact",
    ]


def test_the_status_among_response_headers():
    exact = {"name": ":status", "string_match": {"exact": "302"}}

    assert failures(answered(), response_header_matches=[exact])[0] == []
    assert failures(answered(), response_header_fields=[{"key": ":status", "value": "302"}])[0] == []
    assert failures(forwarded(), response_header_fields=[{"key": ":status", "value": ""}])[0] == []


def test_the_metadata_of_a_route():
    outcome = forwarded()
    outcome.route.metadata = {"ns": {"k": "v"}}

    def told(space, key, value):
        return failures(outcome, route_metadata=[{"namespace": space, "key": key, "value": value}])[0]

    assert told("ns", "k", "v") == []
    assert told("ns", "k", "w") == ["expected: [ns.k: w], actual: [ns.k: v], test type: route_metadata"]
    assert told("other", "k", "w") == [
        "expected: [other.k: w], actual: [other.k: NULL], test type: route_metadata"
    ]
    assert failures(unmatched(), route_metadata=[{"namespace": "a", "key": "b", "value": "c"}])[0] != []


def test_a_matcher_that_cannot_be_compiled_is_a_problem():
    message = message_class(ASSERT)()
    json_format.ParseDict(
        {"response_header_matches": [{"name": "x", "safe_regex_match": {"regex": "("}}]}, message
    )
    problems = Problems()
    Assertions(message, problems.where)

    assert problems.errors[0].path.startswith("response_header_matches[0].safe_regex_match")


def test_a_plugin_that_raised():
    outcome = forwarded()
    outcome.bug = "ValueError: no"

    assert failures(outcome, cluster_name="c")[0] == [
        "actual: [ValueError: no], test type: cluster_specifier"
    ]
