"""Every timeout of the connection manager and of routes: when, and what becomes of whom."""

import asyncio

import pytest

from weft.testing.transcript import read_message

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n"
HEAD = b"GET / HTTP/1.1\r\nhost: "
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def common(**more):
    return {"common_http_protocol_options": more}


def route(**more):
    return [{"match": {"prefix": "/"}, "route": {"cluster": "u", **more}}]


CASES = [
    # name, connection manager, route, what the client sends, after, status, body, stat
    ("head", {"request_headers_timeout": "2s"}, {}, HEAD, 2, 408, b"request header timeout", "downstream_rq_header_timeout"),
    ("head-idle", {"stream_idle_timeout": "3s"}, {}, HEAD, 3, 408, b"stream timeout", "downstream_rq_idle_timeout"),
    ("head-request", {"request_timeout": "4s"}, {}, HEAD, 4, 408, b"request timeout", "downstream_rq_timeout"),
    ("head-duration", common(max_stream_duration="5s"), {}, HEAD, 5, 408, b"downstream duration timeout", "downstream_rq_max_duration_reached"),
    ("empty-lines", {"stream_idle_timeout": "3s"}, {}, b"\r\n\r\n", 3, 408, b"stream timeout", "downstream_rq_idle_timeout"),
    ("body", {"request_timeout": "2s"}, {}, POST + b"some", 2, 408, b"request timeout", "downstream_rq_timeout"),
    ("body-idle", {"stream_idle_timeout": "3s"}, {}, POST + b"some", 3, 408, b"stream timeout", "downstream_rq_idle_timeout"),
    ("body-duration", common(max_stream_duration="5s"), {}, POST + b"some", 5, 408, b"downstream duration timeout", "downstream_rq_max_duration_reached"),
    ("body-route", {}, {"timeout": "1s"}, POST + b"some", None, 0, b"", ""),
    ("answer", {}, {"timeout": "2s"}, GET, 2, 504, b"upstream request timeout", "cluster.u.upstream_rq_timeout"),
    ("answer-default", {}, {}, GET, 15, 504, b"upstream request timeout", "cluster.u.upstream_rq_timeout"),
    ("answer-none", {"stream_idle_timeout": "0s"}, {"timeout": "0s"}, GET, None, 0, b"", ""),
    ("answer-asked", {}, {"timeout": "9s"}, GET.replace(b"\r\n\r\n", b"\r\nx-envoy-upstream-rq-timeout-ms: 2500\r\n\r\n"), 9, 504, b"upstream request timeout", "cluster.u.upstream_rq_timeout"),
    ("answer-idle", {"stream_idle_timeout": "3s"}, {}, GET, 3, 504, b"stream timeout", "downstream_rq_idle_timeout"),
    ("answer-idle-of-the-route", {"stream_idle_timeout": "3s"}, {"idle_timeout": "7s"}, GET, 7, 504, b"stream timeout", "downstream_rq_idle_timeout"),
    ("answer-duration", common(max_stream_duration="5s"), {}, GET, 5, 504, b"downstream duration timeout", "downstream_rq_max_duration_reached"),
    ("answer-duration-of-the-route", common(max_stream_duration="5s"), {"max_stream_duration": {"max_stream_duration": "6s"}}, GET, 6, 504, b"downstream duration timeout", "downstream_rq_max_duration_reached"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("hcm", "routes", "sent", "after", "status", "body", "stat"),
    [pytest.param(*case[1:], id=case[0]) for case in CASES],
)
async def test_what_ends_an_exchange(world, loop, hcm, routes, sent, after, status, body, stat):
    async with world(hcm=hcm, routes=route(**routes)) as w:
        client = await w.client()
        begin = loop.time()
        client.send(sent)
        if after is None:
            await client.quiet(200)
            return
        await client.until(lambda: bool(client.received), "an answer")
        assert loop.time() - begin == pytest.approx(after, abs=0.01)
        response = await read_message(client, request=False)
        assert (response.status, response.body) == (status, body)
        assert w.stat(stat) == 1
        if status == 408:
            assert response.values(b"connection") == [b"close"]
            assert await client.closed() == "eof"


async def test_a_request_in_pieces_has_its_time_from_its_first_byte(world, loop):
    async with world(hcm={"request_timeout": "4s"}) as w:
        client = await w.client()
        begin = loop.time()
        for piece in (b"POST / HT", b"TP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n", b"ab", b"c"):
            client.send(piece)
            await asyncio.sleep(0.9)
        await client.until(lambda: bool(client.received), "an answer")
        assert loop.time() - begin == pytest.approx(4, abs=0.01)
        assert client.received.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("end", ["x: 1\r\n\r\n", "bad header\r\n\r\n"])
async def test_a_head_that_arrives_in_time_is_not_too_late_afterwards(world, loop, end):
    """Whatever was armed for it is off, also when what followed was refused."""
    times = {
        "request_headers_timeout": "2s",
        "request_timeout": "3s",
        "stream_idle_timeout": "10s",
        "delayed_close_timeout": "8s",
    }
    async with world(hcm=times, routes=route(timeout="9s")) as w:
        client = await w.client()
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n")
        await asyncio.sleep(1)
        client.send(end.encode())
        if end.startswith("bad"):
            assert (await read_message(client, request=False)).status == 400
            await asyncio.sleep(6)
            assert client.received == b""
        else:
            await client.quiet(5)
        assert (w.stat("downstream_rq_header_timeout"), w.stat("downstream_rq_timeout")) == (0, 0)


async def test_every_byte_either_way_starts_the_idle_time_of_a_stream_anew(world, loop):
    async with world(hcm={"stream_idle_timeout": "5s"}, routes=route(timeout="0s")) as w:
        client = await w.client()
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n")
        for _ in range(3):
            await asyncio.sleep(4)
            client.send(b"x")
        peer, _ = await w.request()
        await asyncio.sleep(4)
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n")
        for _ in range(3):
            await asyncio.sleep(4)
            peer.send(b"y")
        begin = loop.time()
        await client.closed()
        assert loop.time() - begin == pytest.approx(5, abs=0.01)
        assert client.received.endswith(b"yyy")
        assert peer.ended
        assert w.stat("downstream_rq_idle_timeout") == 1


async def test_a_tunnel_may_be_silent_for_as_long_as_a_stream(world, loop):
    hcm = {"upgrade_configs": [{"upgrade_type": "websocket"}], "stream_idle_timeout": "5s"}
    async with world(hcm=hcm) as w:
        client = await w.client()
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        peer, _ = await w.request()
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        for _ in range(5):
            await asyncio.sleep(4)
            client.send(b"ping")
            await peer.read(4)
        begin = loop.time()
        await client.closed()
        assert loop.time() - begin == pytest.approx(5, abs=0.01)


async def test_a_response_that_has_begun_and_takes_too_long_is_broken_off(world, loop):
    async with world(routes=route(timeout="3s")) as w:
        client = await w.client()
        begin = loop.time()
        client.send(GET)
        peer, _ = await w.request()
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n")
        await asyncio.sleep(2)
        peer.send(b"y")
        await client.closed()
        assert loop.time() - begin == pytest.approx(3, abs=0.01)
        assert client.received.endswith(b"\r\n\r\ny")
        assert peer.ended


async def test_an_idle_connection(world, loop):
    async with world(hcm=common(idle_timeout="10s"), routes=route(timeout="0s")) as w:
        client = await w.client()
        begin = loop.time()
        await asyncio.sleep(9)
        client.send(GET)
        peer, _ = await w.request()
        await asyncio.sleep(30)  # not idle: a request is under way
        peer.send(OK)
        await read_message(client, request=False)
        await asyncio.sleep(9)
        client.send(b"GET /direct HTT")  # nor now: one has begun
        await asyncio.sleep(30)
        client.send(b"P/1.1\r\nhost: a\r\n\r\n")
        peer, _ = await w.request(peer)
        peer.send(OK)
        await read_message(client, request=False)
        await client.closed()
        assert loop.time() - begin == pytest.approx(9 + 30 + 9 + 30 + 10, abs=0.01)
        assert w.stat("downstream_cx_idle_timeout") == 1
        silent = await w.client()
        begin = loop.time()
        await silent.closed()
        assert loop.time() - begin == pytest.approx(10, abs=0.01)


async def test_timeouts_of_one_exchange_do_not_end_the_next(world, loop):
    hcm = {
        "request_timeout": "3s",
        "request_headers_timeout": "2s",
        "stream_idle_timeout": "4s",
        **common(max_stream_duration="5s"),
    }
    async with world(hcm=hcm, routes=route(timeout="3s")) as w:
        client = await w.client()
        peer = None
        for _ in range(12):
            client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx")
            peer, _ = await w.request(peer)
            await asyncio.sleep(0.9)
            peer.send(OK)
            assert (await read_message(client, request=False)).status == 200
            await asyncio.sleep(0.8)


@pytest.mark.parametrize("field", ["idle_timeout", "max_stream_duration", "timeout"])
async def test_timeouts_of_one_route_do_not_end_the_exchange_of_another(world, field):
    value = {"max_stream_duration": "3s"} if field == "max_stream_duration" else "3s"
    routes = [
        {"match": {"prefix": "/short"}, "route": {"cluster": "u", "timeout": "0s", field: value}},
        *route(timeout="0s"),
    ]
    async with world(hcm={"stream_idle_timeout": "0s"}, routes=routes) as w:
        client = await w.client()
        client.send(b"GET /short HTTP/1.1\r\nhost: a\r\n\r\n")
        peer, _ = await w.request()
        await asyncio.sleep(1)
        peer.send(OK)
        await read_message(client, request=False)
        client.send(GET)
        peer, _ = await w.request(peer)
        await client.quiet(100)
        peer.send(OK)
        assert (await read_message(client, request=False)).status == 200
