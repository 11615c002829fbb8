"""Route tables from dicts, and what a request gets from them."""

from dataclasses import dataclass, field

import pytest
from google.protobuf.json_format import ParseDict

from weft.api.problems import Where
from weft.api.schema import find_type, message_class, schema
from weft.http.headers import Headers
from weft.http.message import Request, Response
from weft.proxy.address import NOWHERE
from weft.proxy.clock import Clock
from weft.proxy.observe.stream_info import ConnectionInfo, StreamInfo
from weft.proxy.route.table import DIRECT, FORWARD, REDIRECT, route_table
from weft.proxy.runtime import Runtime


class StoppedLoop:
    def time(self):
        return 1000.0


CLOCK = Clock(StoppedLoop(), wall=lambda: 1_700_000_000.0)


@dataclass
class Answer:
    """What became of a request."""

    status: int = 0
    cluster: str = ""
    path: str = ""
    host: str = ""
    location: str = ""
    body: bytes = b""
    sent: list = field(default_factory=list)
    """Header fields that go upstream."""
    received: list = field(default_factory=list)
    """Header fields that come back to the client."""
    route: object = None


def message_of(name, value):
    for full_name in ("envoy.config.route.v3.FilterConfig", "envoy.extensions.filters.http.router.v3.Router"):
        find_type(full_name)
    find_type("envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute")
    find_type("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")
    return ParseDict(value, message_class(name)(), descriptor_pool=schema().pool)


@pytest.fixture
def message():
    return message_of


@pytest.fixture
def load():
    """(table, problems) of a RouteConfiguration; routes alone mean one virtual host for ``*``."""

    def build(config):
        if isinstance(config, list):
            config = {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": config}]}
        where = Where.nowhere()
        table = route_table(message_of("envoy.config.route.v3.RouteConfiguration", config), where)
        return table, [str(problem) for problem in where.problems.errors]

    return build


@pytest.fixture
def table_of(load):
    def build(config):
        table, problems = load(config)
        assert problems == []
        return table

    return build


@pytest.fixture
def request_of():
    def build(path="/", host="a.test", headers=(), method="GET", proto="http"):
        fields = Headers()
        for name, value in [*headers, ("x-forwarded-proto", proto)]:
            fields.add(name, value)
        return Request(method.encode(), path.encode("latin-1"), host.encode(), proto.encode(), fields)

    return build


@pytest.fixture
def info_of():
    def build(request=None):
        info = StreamInfo(ConnectionInfo(1, 0.0, NOWHERE, NOWHERE), 0.0)
        info.request = request
        return info

    return build


@pytest.fixture
def clock():
    return CLOCK


@pytest.fixture
def ask(request_of, info_of):
    """Send a request through a table as the router does, and see what comes out."""

    def send(table, path="/", host="a.test", headers=(), *, random=0, runtime=None, response=(), **more):
        request = request_of(path, host, headers, **more)
        runtime = Runtime(runtime)
        info = info_of(request)
        route = table.find(request, info, random, runtime)
        if route is None:
            return Answer(status=404)
        action = route.action
        answer = Answer(route=route)
        back = Headers()
        for name, value in response:
            back.add(name, value)
        info.response = Response(200, b"", back)
        if action.kind == FORWARD:
            target = action.choose(request, random, runtime)
            if target.host_rewrite:
                request.authority = target.host_rewrite
            for rules in (target.request_headers, route.request_headers):
                if rules is not None:
                    rules.apply(request.headers, info, CLOCK)
            action.rewrite(request, info, CLOCK)
            answer.status = 200
            answer.cluster = target.cluster
            answer.path = request.path.decode("latin-1")
            answer.host = request.authority.decode()
            answer.sent = [(f.name.decode(), f.value.decode()) for f in request.headers.fields if f.name != b"x-forwarded-proto"]
            for rules in (target.response_headers, route.response_headers):
                if rules is not None:
                    rules.apply(back, info, CLOCK)
        elif action.kind == REDIRECT:
            answer.status = action.status
            answer.location = action.location(request, info, CLOCK).decode("latin-1")
        elif action.kind == DIRECT:
            answer.status = action.status
            answer.body = action.body
        else:
            answer.status = 404
        if action.kind != FORWARD and route.response_headers is not None:
            route.response_headers.apply(back, info, CLOCK)
        answer.received = [(f.name.decode(), f.value.decode()) for f in back.fields]
        return answer

    return send
