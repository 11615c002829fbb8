"""Expectations are what Envoy does, found by asking it."""

import pytest
from google.protobuf.json_format import ParseDict

from weft.api.problems import Where
from weft.api.schema import find_type, message_class, schema
from weft.http.headers import Headers
from weft.http.message import Request, Response
from weft.proxy import extensions
from weft.proxy.address import NOWHERE
from weft.proxy.clock import Clock
from weft.proxy.http import stream
from weft.proxy.http.header_mutation import HEADER_MUTATION, HeaderMutationFilter, mutate_query
from weft.proxy.observe.stream_info import ConnectionInfo, StreamInfo
from weft.proxy.route.table import route_table
from weft.proxy.runtime import Runtime

pytestmark = pytest.mark.skipif(
    stream.__file__.endswith(".so"),
    reason="a fake stream cannot stand in for the compiled class; tests/differential and tests/examples cover it",
)


class StoppedLoop:
    def time(self):
        return 0.0


class FakeStream(StreamInfo):
    """As much of a stream as a filter sees."""

    def __init__(self, request):
        super().__init__(ConnectionInfo(1, 0.0, NOWHERE, NOWHERE), 0.0)
        self.request = request

    def filter_table(self):
        return {} if self.route is None else self.route.filter_settings

    def every_setting(self, name):
        return self.route.every_setting(name, self.route.action.choose(self.request, 0, Runtime(), self))


CLOCK = Clock(StoppedLoop(), wall=lambda: 0.0)
OVERWRITE = "OVERWRITE_IF_EXISTS_OR_ADD"


def set_header(name, value, action="APPEND_IF_EXISTS_OR_ADD", **more):
    return {"append": {"header": {"key": name, "value": value}, "append_action": action, **more}}


def set_parameter(name, value, action="APPEND_IF_EXISTS_OR_ADD"):
    return {"append": {"record": {"key": name, "value": value}, "action": action}}


def settings_of(mutations, **more):
    where = Where.nowhere()
    message = ParseDict({"mutations": mutations, **more}, message_class(HEADER_MUTATION.type)(), descriptor_pool=schema().pool)
    return HEADER_MUTATION.settings(message, where), [str(problem) for problem in where.problems.items]


def play(mutations, fields=(), path="/", response=(), route=None, **more):
    """(request, response) after the filter has seen both."""
    settings, problems = settings_of(mutations, **more)
    assert problems == []
    request = Request(b"GET", path.encode(), b"a.test", b"http", Headers())
    for name, value in fields:
        request.headers.add(name, value)
    stream = FakeStream(request)
    stream.route = route
    back = Response(200, b"", Headers())
    for name, value in response:
        back.headers.add(name, value)
    subject = HeaderMutationFilter(settings, CLOCK)
    subject.name = "hm"
    assert subject.on_request(request, stream) is None
    stream.response = back
    subject.on_response(back, stream)
    return request, back


def text(headers):
    return [(field.name.decode(), field.value.decode()) for field in headers.fields]


@pytest.mark.parametrize(("mutations", "result"), [
    ([set_header("x-a", "1"), {"remove": "X-B"}], [("x-a", "old"), ("x-a", "1")]),
    ([{"remove": "x-a"}, set_header("x-a", "1", "ADD_IF_ABSENT")], [("x-b", "b"), ("x-a", "1")]),
    ([set_header("x-a", "1", OVERWRITE), set_header("x-c", "%REQ(x-a)%")], [("x-b", "b"), ("x-a", "1"), ("x-c", "1")]),
    ([set_header("x-c", "1", "OVERWRITE_IF_EXISTS"), set_header("x-b", "1", "OVERWRITE_IF_EXISTS")], [("x-a", "old"), ("x-b", "1")]),
    ([set_header("x-c", "%REQ(none)%")], [("x-a", "old"), ("x-b", "b")]),
    ([set_header("x-c", "", keep_empty_value=True)], [("x-a", "old"), ("x-b", "b"), ("x-c", "")]),
    ([{"remove_on_match": {"key_matcher": {"prefix": "x-"}}}, set_header("x-c", "1")], [("x-c", "1")]),
])  # fmt: skip
def test_request_headers_one_after_another(mutations, result):
    request, _ = play({"request_mutations": mutations}, [("x-a", "old"), ("x-b", "b")])
    assert text(request.headers) == result


def test_response_headers():
    _, response = play(
        {"response_mutations": [set_header("x-code", "%RESPONSE_CODE%"), set_header("vary", "b"), {"remove": "x-a"}]},
        response=[("x-a", "1"), ("vary", "a")],
    )
    assert text(response.headers) == [("vary", "a,b"), ("x-code", "0")]


@pytest.mark.parametrize(("mutations", "path", "result"), [
    ([set_parameter("n", "1")], "/x", "/x?n=1"),
    ([set_parameter("n", "1")], "/x?b&c=2", "/x?b=&c=2&n=1"),
    ([set_parameter("a", "1")], "/x?b=1&a=0", "/x?a=0&a=1&b=1"),
    ([set_parameter("a", "%REQ(x-a)%", OVERWRITE), {"remove": "b"}], "/x?a=0&b=2&a=z", "/x?a=h"),
    ([set_parameter("a", "1", "ADD_IF_ABSENT")], "/x?a=0", "/x?a=0"),
    ([set_parameter("c", "1", "OVERWRITE_IF_EXISTS")], "/x?a=0", "/x?a=0"),
    ([set_parameter("b", "1", "OVERWRITE_IF_EXISTS")], "/x?b&b", "/x?b=1"),
    ([{"remove": "a"}], "/x?a=1", "/x"),
    ([set_parameter("n", "é/?&=")], "/x", "/x?n=%C3%A9%2F%3F%26%3D"),
    ([set_parameter("n", "%REQ(none)%")], "/x", "/x?n="),
    ([{"remove": "n"}], "/x?a=%41&%62=1", "/x?a=A&b=1"),
    ([{"remove": "n"}], "/x?a=%26&b=%20%23%0d", "/x?a=%26&b=%20%23%0D"),
    ([{"remove": "n"}], "/x?=q&&a=%zz", "/x?=q&=&a=%25zz"),
])  # fmt: skip
def test_query_parameters(mutations, path, result):
    request, _ = play({"query_parameter_mutations": mutations}, [("x-a", "h")], path)
    assert request.path == result.encode()


def test_trailers():
    settings, problems = settings_of({
        "request_trailers_mutations": [set_header("x-t", "up")], "response_trailers_mutations": [{"remove": "x-t"}],
    })  # fmt: skip
    assert problems == []
    subject = HeaderMutationFilter(settings, CLOCK)
    stream = FakeStream(Request(b"GET", b"/", b"h", b"http", Headers()))
    up, down = Headers(), Headers.of([(b"x-t", b"1")])

    subject.on_request_trailers(up, stream)
    subject.on_response_trailers(down, stream)

    assert (text(up), text(down)) == ([("x-t", "up")], [])


def per_route(value):
    find_type(HEADER_MUTATION.route_type)
    return {"hm": {
        "@type": "type.googleapis.com/" + HEADER_MUTATION.route_type,
        "mutations": {"request_mutations": [set_header("x-all", value), set_header("x-who", value, OVERWRITE)]},
    }}  # fmt: skip


@pytest.mark.parametrize(("most_specific_wins", "order"), [
    (False, ["filter", "cluster", "route", "host", "table"]),
    (True, ["filter", "table", "host", "route", "cluster"]),
])  # fmt: skip
def test_every_place_of_the_route_takes_part(most_specific_wins, order):
    config = {
        "typed_per_filter_config": per_route("table"),
        "virtual_hosts": [{
            "name": "v", "domains": ["*"], "typed_per_filter_config": per_route("host"),
            "routes": [{
                "match": {"prefix": "/"}, "typed_per_filter_config": per_route("route"),
                "route": {"weighted_clusters": {"clusters": [
                    {"name": "c", "weight": 1, "typed_per_filter_config": per_route("cluster")},
                ]}},
            }],
        }],
    }  # fmt: skip
    per_route("")
    message = ParseDict(config, message_class("envoy.config.route.v3.RouteConfiguration")(), descriptor_pool=schema().pool)
    where = Where.nowhere()
    route = route_table(message, where).virtual_hosts[0].routes[0]
    assert where.problems.items == []

    request, _ = play(
        {"request_mutations": [set_header("x-all", "filter")]}, route=route, most_specific_header_mutations_wins=most_specific_wins
    )

    assert [value for name, value in text(request.headers) if name == "x-all"] == order
    assert request.headers["x-who"] == order[-1].encode()


@pytest.mark.parametrize(("mutations", "problem"), [
    ({"request_mutations": [set_header(":path", "/x")]}, "mutations.request_mutations[0].append.header.key: :-prefixed or host"),
    ({"response_mutations": [set_header("x", "%NO%")]}, "mutations.response_mutations[0].append.header.value"),
    ({"request_mutations": [{}]}, "a header mutation needs one of"),
    ({"query_parameter_mutations": [{}]}, "One of 'append'/'remove' must be specified."),
    ({"query_parameter_mutations": [set_parameter("n", 5)]}, "only a string value"),
    ({"query_parameter_mutations": [{"remove": "a", **set_parameter("n", "x")}]}, "Only one of 'append'/'remove'"),
])  # fmt: skip
def test_problems(mutations, problem):
    _, problems = settings_of(mutations)
    assert len(problems) == 1
    assert problem in problems[0]


def test_it_is_found_by_either_type():
    assert extensions.find("http_filter", "any", HEADER_MUTATION.type) is HEADER_MUTATION
    assert extensions.find_for_route(HEADER_MUTATION.route_type) is HEADER_MUTATION
    assert extensions.find_for_route(HEADER_MUTATION.type) is HEADER_MUTATION
    assert extensions.find_for_route("no.such.Type") is None
    assert extensions.find_for_route("") is None


def test_no_query_stays_none():
    assert mutate_query(b"/x?", (), None, CLOCK) == b"/x"
