"""Peers that leave, stall or break at every byte and moment: one exchange is lost, and nothing else.

What is checked after every one of them (see ``conftest``): every gauge and limit back at zero, no deadline
armed, no connection left on either side, no traceback logged.
"""

import asyncio

import pytest

from weft.testing.network import Link, byte_by_byte
from weft.testing.transcript import read_message

CHUNKED = {"http_protocol_options": {"enable_trailers": True}}
REQUESTS = {
    "get": b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    "length": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nsome data",
    "chunked": b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nsome\r\n0\r\nx: 1\r\n\r\n",
    "upgrade": b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nearly",
    "connect": b"CONNECT far.test:80 HTTP/1.1\r\nhost: far.test:80\r\n\r\nearly",
    "tunnel": b"CONNECT near.test:80 HTTP/1.1\r\nhost: near.test:80\r\n\r\nearly",
    "two": b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\n",
}
RESPONSES = {
    "length": b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nsome data",
    "chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nsome\r\n0\r\nx: 1\r\n\r\n",
    "close": b"HTTP/1.1 200 OK\r\nx: 1\r\n\r\nsome data",
    "switch": b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nframes",
    "interim": b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
}
ENDS_HERE = [{"upgrade_type": "CONNECT", "connect_config": {}}]
CONNECTS = [
    {
        "match": {
            "connect_matcher": {},
            "headers": [{"name": ":authority", "string_match": {"prefix": "near"}}],
        },
        "route": {"cluster": "u", "upgrade_configs": ENDS_HERE},
    },
    {"match": {"connect_matcher": {}}, "route": {"cluster": "u"}},
    {"match": {"prefix": "/"}, "route": {"cluster": "u"}},
]
HCM = {
    **CHUNKED,
    "upgrade_configs": [{"upgrade_type": "websocket"}, {"upgrade_type": "CONNECT"}],
    "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": CONNECTS}]},
}


async def answer_all(world, response):
    for peer in world.upstream.peers:
        if b"\r\n\r\n" in peer.received and not peer.lost:
            peer.take()
            peer.send(response)
    await world.rest()


@pytest.mark.parametrize("end", ["close", "reset", "send_eof"])
@pytest.mark.parametrize("kind", sorted(REQUESTS))
async def test_a_client_leaves_after_every_byte_of_its_request(world, kind, end):
    request = REQUESTS[kind]
    async with world(hcm=HCM) as w:
        for cut in range(len(request) + 1):
            client = await w.client()
            client.send(request[:cut])
            await w.rest()
            getattr(client, end)()
            await w.rest()
            client.close()
            await w.rest()
            assert w.stat("downstream_rq_active") == 0, cut
            assert w.stat("cluster.u.upstream_rq_active") == 0, cut


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("kind", ["length", "chunked", "close", "switch", "interim"])
async def test_a_client_leaves_after_every_byte_of_its_response(world, kind, end):
    response = RESPONSES[kind]
    request = REQUESTS["upgrade" if kind == "switch" else "get"]
    async with world(hcm=HCM) as w:
        for cut in range(len(response) + 1):
            client = await w.client()
            client.send(request)
            await w.rest()
            peer = next(
                peer for peer in w.upstream.peers if peer.received and not peer.ended and not peer.lost
            )
            peer.take()
            peer.send(response[:cut])
            await w.rest()
            getattr(client, end)()
            await w.rest()
            assert w.stat("downstream_rq_active") == 0, cut
            assert w.stat("cluster.u.upstream_rq_active") == 0, cut
            peer.send(response[cut:])
            await w.rest()


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("kind", sorted(RESPONSES))
@pytest.mark.parametrize("asks", ["get", "length", "chunked", "upgrade"])
async def test_a_host_leaves_after_every_byte_of_its_response(world, asks, kind, end):
    response = RESPONSES[kind]
    async with world(hcm=HCM) as w:
        for cut in range(len(response) + 1):
            client = await w.client()
            client.send(REQUESTS[asks])
            await w.rest()
            peer = next(
                peer for peer in w.upstream.peers if peer.received and not peer.ended and not peer.lost
            )
            peer.take()
            peer.send(response[:cut])
            await w.rest()
            getattr(peer, end)()
            await w.rest()
            if cut < response.index(b"\r\n\r\n") + 4:
                assert client.received.startswith(
                    (b"HTTP/1.1 502 Bad Gateway", b"HTTP/1.1 503 Service Unavailable")
                )
            elif kind == "length" and cut < len(response):
                assert client.ended, "the client sees that the response is not whole"
                assert not client.received.endswith(b"some data")
            elif kind == "chunked" and cut < len(response):
                assert client.ended
                assert not client.received.endswith(b"0\r\n\r\n")
            client.close()
            await w.rest()
            assert w.stat("downstream_rq_active") == 0, cut
            assert w.stat("cluster.u.upstream_rq_active") == 0, cut


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_host_leaves_after_every_byte_of_its_answer_to_connect(world, end):
    response = b"HTTP/1.1 200 OK\r\nx: 1\r\n\r\npayload"
    head = len(response) - len(b"payload")
    async with world(hcm=HCM) as w:
        for cut in range(len(response) + 1):
            client = await w.client()
            client.send(REQUESTS["connect"])
            await w.rest()
            peer = w.upstream.peers[-1]
            assert not peer.take().endswith(b"early")
            peer.send(response[:cut])
            await w.rest()
            getattr(peer, end)()
            await w.rest()
            assert client.ended
            if cut < head:
                assert client.received.startswith((b"HTTP/1.1 502 ", b"HTTP/1.1 503 "))
            else:
                assert client.received.endswith(b"\r\n\r\n" + response[head:cut])
            client.close()
            await w.rest()
            assert w.stat("downstream_rq_active") == 0, cut
            assert w.stat("cluster.u.upstream_rq_active") == 0, cut


@pytest.mark.parametrize("kind", ["length", "chunked"])
async def test_a_host_leaves_after_every_byte_of_the_request(world, kind):
    request = REQUESTS[kind]
    async with world(hcm=HCM) as w:
        head = request.index(b"\r\n\r\n") + 4
        for cut in range(head, len(request)):
            client = await w.client()
            client.send(request[:cut])
            await w.rest()
            next(peer for peer in w.upstream.peers if not peer.lost).close()
            await w.rest()
            client.send(request[cut:])
            await w.rest()
            assert client.received.startswith(b"HTTP/1.1 503 "), cut
            client.close()
            await w.rest()


@pytest.mark.parametrize(
    "kind", sorted(REQUESTS.keys() - {"tunnel"})
)  # which is answered before its time is out
async def test_time_runs_out_after_every_byte_of_the_request(world, kind):
    request = REQUESTS[kind]
    times = {
        "stream_idle_timeout": "7s",
        "request_timeout": "5s",
        "request_headers_timeout": "3s",
        "common_http_protocol_options": {"idle_timeout": "9s", "max_stream_duration": "8s"},
    }
    async with world(hcm={**HCM, **times}) as w:
        for cut in range(len(request) + 1):
            client = await w.client()
            client.send(request[:cut])
            assert await client.closed(within=30) == "eof", cut
            if cut:
                assert client.received.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 504 ")), cut
                assert client.received.count(b"HTTP/1.1 ") == (
                    2 if kind == "two" and cut > len(request) / 2 else 1
                )
            client.close()
            await w.rest()
            assert w.stat("downstream_rq_active") == 0, cut


@pytest.mark.parametrize("kind", ["length", "chunked", "switch"])
async def test_time_runs_out_after_every_byte_of_the_response(world, kind):
    response = RESPONSES[kind]
    request = REQUESTS["upgrade" if kind == "switch" else "get"]
    async with world(hcm={**HCM, "stream_idle_timeout": "7s"}) as w:
        for cut in range(len(response)):
            client = await w.client()
            client.send(request)
            await w.rest()
            peer = next(
                peer for peer in w.upstream.peers if peer.received and not peer.ended and not peer.lost
            )
            peer.take()
            peer.send(response[:cut])
            await asyncio.sleep(7.1)
            begun = cut >= response.index(b"\r\n\r\n") + 4
            assert client.received.startswith(
                response[:12] if begun else (b"HTTP/1.1 504 ", b"HTTP/1.1 408 ")
            )
            await w.rest()
            assert peer.ended, "the host hears of it"
            assert client.ended or not begun, "and the client, unless it has a whole answer"
            client.close()
            await w.rest()


@pytest.mark.parametrize("asks", ["get", "length", "chunked"])
@pytest.mark.parametrize("kind", ["length", "chunked", "close"])
async def test_every_byte_alone(world, loop, asks, kind):
    loop.network.link = Link(chunks=byte_by_byte)
    async with world(hcm=HCM) as w:
        for _ in range(3):
            client = await w.client()
            client.send(REQUESTS[asks])
            peer, _ = await w.request(next((peer for peer in w.upstream.peers if not peer.lost), None))
            peer.send(RESPONSES[kind])
            if kind == "close":
                peer.close()
            response = await read_message(client, request=False)
            assert response.body == (b"some" if kind == "chunked" else b"some data")
            client.close()
            await w.rest()


async def test_pipelined_requests_whose_client_leaves_between(world):
    async with world() as w:
        for answered in range(4):
            client = await w.client()
            client.send(REQUESTS["two"] * 2)
            await w.rest()
            for _ in range(answered):
                await answer_all(w, RESPONSES["length"])
            assert client.received.count(b"HTTP/1.1 200 OK") == answered
            client.close()
            await w.rest()
            assert w.gauges().keys() <= {"cluster.u.upstream_cx_active", "cluster.u.upstream_cx_http1_active"}
