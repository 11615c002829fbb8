"""A finished request, as its stream leaves it to the logs."""

from random import Random

import pytest
from google.protobuf import struct_pb2
from google.protobuf.json_format import ParseDict

from weft.api.convert import from_struct
from weft.api.problems import Where
from weft.http.headers import Headers
from weft.http.message import Request, Response
from weft.proxy.address import Address
from weft.proxy.clock import Clock
from weft.proxy.context import WorkerContext
from weft.proxy.deadlines import Deadlines
from weft.proxy.observe.stats import Store
from weft.proxy.observe.stream_info import ConnectionInfo, StreamInfo
from weft.proxy.route.table import route_table
from weft.proxy.runtime import Runtime
from weft.proxy.upstream.cluster import Cluster
from weft.proxy.upstream.dns import SystemResolver
from weft.proxy.upstream.host import NO_LOCALITY, Host
from weft.proxy.upstream.settings import cluster_settings
from weft.testing import VirtualLoop

START = 1000.0
"""Loop time at which the requests here begin."""
WALL = 1_790_000_000.123456
"""The same on the wall: 2026-09-21 14:13:20.123456 UTC."""


class Now:
    """What a clock needs of a loop: 2.5 s after the start of the requests."""

    def time(self):
        return START + 2.5


def message(full_name, value):
    where = Where.nowhere()
    made = from_struct(ParseDict(value, struct_pb2.Struct()), full_name, where)
    assert where.problems.items == []
    return made


def metadata(**values):
    return {"filter_metadata": {"ns": values}}


@pytest.fixture
def clock():
    return Clock(Now(), wall=lambda: WALL + 2.5)


@pytest.fixture(scope="session")
def table():
    route = {
        "name": "books",
        "match": {"prefix": "/"},
        "direct_response": {"status": 200},
        "metadata": metadata(owner="ann", limits={"rps": 100000}),
    }
    virtual_host = {"name": "vh", "domains": ["*"], "metadata": metadata(zone="z1"), "routes": [route]}
    where = Where.nowhere()
    config = message("envoy.config.route.v3.RouteConfiguration", {"virtual_hosts": [virtual_host]})
    return route_table(config, where)


@pytest.fixture(scope="session")
def cluster():
    value = {"name": "books-v1", "alt_stat_name": "books_alt", "metadata": metadata(tier="gold")}
    settings = cluster_settings(message("envoy.config.cluster.v3.Cluster", value), Where.nowhere())
    loop = VirtualLoop(0)
    context = WorkerContext(
        loop=loop,
        clock=Clock(loop),
        deadlines=Deadlines(loop),
        random=Random(1),
        stats=Store(),
        runtime=Runtime(),
        clusters=None,
        log_files=None,
    )
    yield Cluster(settings, context, SystemResolver(loop))
    loop.close()


@pytest.fixture
def info(table, cluster):
    """``GET /books?id=7&q=%41%0a`` answered with 200 by an upstream."""
    connection = ConnectionInfo(17, START - 1, Address("192.0.2.9", 4711), Address("198.51.100.1", 443))
    connection.direct_remote = Address("10.1.2.3", 999)
    connection.direct_local = Address("10.0.0.1", 8443)
    connection.server_name = "books.example"
    connection.filter_chain_name = "main-chain"
    connection.listener_metadata = {"ns": {"team": "edge"}}
    info = StreamInfo(connection, START)
    info.remote = Address("2001:db8:1:2::7", 0)
    headers = Headers.of([
        (b"user-agent", b"curl/8"),
        (b"x-request-id", b"11111111-2222-4333-8444-555555555555"),
        (b"x-two", b"first"),
        (b"x-two", b"second"),
        (b"x-empty", b""),
        (b"x-forwarded-client-cert", b'By=me;Hash=ab;Subject="CN=\\"x\\",O=y";URI=spiffe://a,URI=spiffe://b;DNS=d'),
    ])  # fmt: skip
    info.request = Request(
        b"GET", b"/books?id=7&q=%41%0a&flag&id=8", b"books.example:8080", b"https", headers
    )
    info.response = Response(200, b"", Headers.of([(b"content-type", b"text/plain"), (b"x-kind", b"paper")]))
    info.response_trailers = Headers.of([(b"x-sum", b"abc")])
    info.status = 200
    info.details = "via upstream"
    info.protocol = "HTTP/1.1"
    info.upstream_protocol = "HTTP/2"
    info.access_log_type = "DownstreamEnd"
    info.virtual_host = table.virtual_host(info.request)
    info.route = table.find(info.request, info, 0, Runtime())
    info.cluster_name = cluster.name
    info.cluster = cluster
    info.host = Host(Address("203.0.113.5", 80), "b1.books:80", 0, NO_LOCALITY)
    info.host.metadata = {"ns": {"rack": "r9"}}
    info.upstream_remote = info.host.address
    info.upstream_local = Address("10.0.0.1", 5555)
    info.upstream_connection_id = 21
    info.attempts = 2
    info.attempted_hosts = ["203.0.113.4:80", "203.0.113.5:80"]
    info.bytes_received, info.bytes_sent = 3, 100000
    info.wire_received, info.wire_sent = 301, 302
    info.upstream_wire_received, info.upstream_wire_sent = 303, 304
    info.header_received, info.header_sent = 201, 202
    info.upstream_header_received, info.upstream_header_sent = 203, 204
    info.request_end = START + 0.01
    info.upstream_connect_start, info.upstream_connect_end = START + 0.011, START + 0.013
    info.first_upstream_sent, info.last_upstream_sent = START + 0.014, START + 0.015
    info.first_upstream_received, info.last_upstream_received = START + 0.2, START + 0.25
    info.first_downstream_sent, info.last_downstream_sent = START + 0.201, START + 0.3
    info.end = START + 0.301
    info.dynamic_metadata = {
        "f": {"text": "a\nb", "number": 1.5, "yes": True, "none": None, "deep": {"z": [1.0, "x"], "a": 0.1}}
    }
    info.filter_state = {"who": 'say "hi"', "map": {"field": "inner", "other": [1]}}
    return info


@pytest.fixture
def bare():
    """A TCP connection of which nothing is known but its ends."""
    connection = ConnectionInfo(1, START, Address("192.0.2.1", 1234), Address(path="/run/a.sock"))
    info = StreamInfo(connection, START)
    info.end = START + 0.25
    return info
