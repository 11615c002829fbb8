"""The life of a client's connection: exchanges one after another, framing, early ends, closing."""

import asyncio

import pytest

from weft.testing.network import Link
from weft.testing.transcript import read_message

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
DIRECT = b"GET /direct HTTP/1.1\r\nhost: a\r\n\r\n"
OLD = {"http_protocol_options": {"accept_http_10": True}}
TRAILERS = {"http_protocol_options": {"enable_trailers": True}}
UPGRADES = {"upgrade_configs": [{"upgrade_type": "websocket"}]}
UPGRADE = b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"


def options(**http1):
    return {
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http_protocol_options": http1},
            }
        }
    }


# -- one after another ----------------------------------------------------------------------------


async def test_one_connection_on_each_side_carries_many_exchanges(world):
    async with world() as w:
        client = await w.client()
        peer = None
        for number in range(20):
            client.send(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % number)
            peer, request = await w.request(peer)
            assert request.start == b"GET /%d HTTP/1.1" % number
            peer.send(OK)
            assert (await read_message(client, request=False)).body == b"ok"
        assert w.stat("downstream_cx_total") == w.stat("cluster.u.upstream_cx_total") == 1
        assert w.stat("downstream_rq_2xx") == 20
        assert not client.ended


@pytest.mark.parametrize(
    ("request_", "answer", "kept"),
    [
        (GET, OK, True),
        (b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", OK, False),
        (GET, b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", True),
        (GET, b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\nhost: a\r\n\r\n", OK, False),
        (b"GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n", OK, True),
        (b"GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n",
         b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", False),
    ],
)  # fmt: skip
async def test_who_keeps_the_connection(world, request_, answer, kept):
    async with world(hcm=OLD) as w:
        client = await w.client()
        client.send(request_)
        peer, _ = await w.request()
        peer.send(answer)
        response = await read_message(client, request=False)
        await w.rest()
        assert bool(client.ended) is not kept
        old = b"HTTP/1.0" in request_
        assert response.start == (b"HTTP/1.0 200 OK" if old else b"HTTP/1.1 200 OK")
        assert response.values(b"connection") == (
            [] if kept and not old else [b"keep-alive"] if kept else [b"close"]
        )


async def test_max_requests_per_connection(world):
    async with world(hcm={"common_http_protocol_options": {"max_requests_per_connection": 3}}) as w:
        client = await w.client()
        closes = [(await w.ask(client, DIRECT)).values(b"connection") for _ in range(3)]
        assert closes == [[], [], [b"close"]]
        assert await client.closed() == "eof"
        assert w.stat("downstream_cx_max_requests_reached") == 1


# -- pipelining -----------------------------------------------------------------------------------


async def test_pipelined_requests_go_one_by_one_and_are_answered_in_order(world):
    async with world() as w:
        client = await w.client()
        client.send(
            b"".join(b"POST /%d HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc" % i for i in range(5))
        )
        peer = None
        for number in range(5):
            peer, request = await w.request(peer)
            assert (request.start, request.body) == (b"POST /%d HTTP/1.1" % number, b"abc")
            await peer.quiet(0.1)
            assert w.stat("downstream_rq_active") == 1
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % number)
            assert (await read_message(client, request=False)).body == b"%d" % number
        assert len(w.upstream.peers) == 1


async def test_the_order_holds_when_bytes_arrive_in_the_same_turn_of_the_loop(world):
    """uvloop may deliver a client's bytes after a response is complete and before anything that was
    put off to the next turn."""
    async with world() as w:
        client = await w.client()
        first, second = b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /2 HTTP/1.1\r\nhost: a\r\n\r\n"
        client.send(first + second[:9])
        peer, _ = await w.request()
        (server,) = [
            one.get_protocol()
            for one in w.running.loop.network.transports.values()
            if type(one.get_protocol()).__name__ == "ServerConnection"
        ]
        (connection,) = (
            w.running.worker.context.clusters.get("u").hosts[0].http1_pool.by_priority[0].connections
        )
        connection.data_received(OK)
        server.data_received(second[9:])
        peer, request = await w.request(peer)
        assert request.start == b"GET /2 HTTP/1.1"
        peer.send(OK)
        await client.until(lambda: client.received.count(b"200 OK") == 2, "two answers")
        assert w.stat("downstream_cx_protocol_error") == 0


async def test_reading_stops_when_much_is_pipelined(world, loop):
    loop.network.link = Link(capacity=4000)
    async with world(buffer=10_000) as w:
        client = await w.client()
        for _ in range(4000):
            client.send(GET)
        peer, _ = await w.request()
        await asyncio.sleep(1)
        waiting = client.transport.get_write_buffer_size()
        assert waiting > 4000 * len(GET) - 10_000 - 4 * 4000
        # It goes on as the answers do.
        for _ in range(20):
            peer.send(OK)
            peer, _ = await w.request(peer)
        for _ in range(600):
            peer.send(OK)
            peer, _ = await w.request(peer)
        assert client.transport.get_write_buffer_size() < waiting
        client.reset()


async def test_held_bytes_are_not_copied_again_and_again(world):
    """A thousand small pieces after a request under way cost a thousand small things."""
    async with world() as w:
        client = await w.client()
        client.send(GET)
        peer, _ = await w.request()
        for _ in range(3000):
            client.send(b"x" * 100)
            await w.rest()
        (server,) = [
            one.get_protocol()
            for one in w.running.loop.network.transports.values()
            if type(one.get_protocol()).__name__ == "ServerConnection"
        ]
        assert (len(server._held), server._held_size) == (3000, 300_000)
        peer.send(OK)
        await client.read_until(b"ok")
        assert (await read_message(client, request=False)).status == 431
        assert (server._held, server._held_size) == ([], 0)


@pytest.mark.parametrize("path", [b"/direct", b"/none"])
async def test_answers_do_not_pile_up_for_a_client_that_does_not_read(world, loop, path):
    """S5: many pipelined requests that are answered here; the answers wait at the client's pleasure."""
    loop.network.link = Link(capacity=4000)
    body = "x" * 2000
    routes = [
        {"match": {"prefix": "/direct"}, "direct_response": {"status": 200, "body": {"inline_string": body}}},
        {"match": {"prefix": "/none"}, "redirect": {"path_redirect": "/" + body}},
    ]
    async with world(buffer=10_000, routes=routes) as w:
        client = await w.client(reading=False)
        request = b"GET %b HTTP/1.1\r\nhost: a\r\n\r\n" % path
        for _ in range(2000):
            client.send(request)
        await asyncio.sleep(1)
        most = max(
            one.most_buffered
            for one in loop.network.transports.values()
            if type(one.get_protocol()).__name__ == "ServerConnection"
        )
        assert most < 20_000
        assert w.stat("downstream_rq_total") < 20
        client.resume()
        await client.until(lambda: client.received.count(b"HTTP/1.1 ") == 2000, "all answers")
        assert w.stat("downstream_rq_total") == 2000


async def test_empty_lines_before_a_request_are_not_kept(world):
    async with world(hcm={"stream_idle_timeout": "0s"}) as w:
        client = await w.client()
        for _ in range(50):
            client.send(b"\r\n" * 1000)
            await w.rest()
        (server,) = [
            one.get_protocol()
            for one in w.running.loop.network.transports.values()
            if type(one.get_protocol()).__name__ == "ServerConnection"
        ]
        assert server._rest == b""
        assert (await w.ask(client, DIRECT)).body == b"here"


# -- bodies and their framing -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "framing"),
    [
        (b"content-length: 5\r\n\r\nhello", "length"),
        (b"transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", "chunked"),
    ],
)
async def test_bodies_are_framed_anew_both_ways(world, body, framing):
    async with world() as w:
        request, response = await w.exchange(
            b"POST / HTTP/1.1\r\nhost: a\r\n" + body, b"HTTP/1.1 200 OK\r\n" + body
        )
        assert (request.framing, request.body) == (framing, b"hello")
        assert (response.framing, response.body) == (framing, b"hello")


async def test_bodies_flow_while_they_arrive(world):
    async with world() as w:
        client = await w.client()
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        peer = await w.upstream.accept()
        await peer.read_until(b"\r\n\r\n")
        for piece in (b"one", b"two", b"three"):
            client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            assert await peer.read_until(piece + b"\r\n") == b"%x\r\n%b\r\n" % (len(piece), piece)
        client.send(b"0\r\n\r\n")
        assert await peer.read_until(b"\r\n\r\n") == b"0\r\n\r\n"
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n")
        await client.read_until(b"\r\n\r\n")
        for piece in (b"ab", b"c", b"def"):
            peer.send(piece)
            assert await client.read(len(piece)) == piece


@pytest.mark.parametrize(
    ("hcm", "cluster", "up", "down"),
    [
        (TRAILERS, options(enable_trailers=True), True, True),
        (TRAILERS, {}, False, False),
        ({}, options(enable_trailers=True), False, False),
    ],
    ids=["both", "client-side", "host-side"],
)
async def test_trailers(world, hcm, cluster, up, down):
    async with world(hcm=hcm, cluster=cluster) as w:
        body = b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 1\r\n\r\n"
        request, response = await w.exchange(
            b"POST / HTTP/1.1\r\nhost: a\r\n" + body, b"HTTP/1.1 200 OK\r\n" + body
        )
        assert request.trailers == ([(b"x-sum", b"1")] if up else [])
        assert response.trailers == ([(b"x-sum", b"1")] if down else [])
        assert (request.body, response.body) == (b"ab", b"ab")


NO_BODY = [
    (b"HEAD / HTTP/1.1", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n", [b"100"]),
    (b"HEAD / HTTP/1.1", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", []),
    (b"HEAD / HTTP/1.1", b"HTTP/1.1 200 OK\r\n\r\n", []),
    (b"GET / HTTP/1.1", b"HTTP/1.1 204 No Content\r\n\r\n", []),
    (b"GET / HTTP/1.1", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 100\r\n\r\n", [b"100"]),
    (b"GET / HTTP/1.1", b"HTTP/1.1 304 Not Modified\r\n\r\n", []),
]


@pytest.mark.parametrize(("line", "answer", "length"), NO_BODY)
async def test_responses_without_a_body(world, line, answer, length):
    async with world() as w:
        client = await w.client()
        for _ in range(2):
            client.send(line + b"\r\nhost: a\r\n\r\n")
            peer, _ = await w.request(w.upstream.peers[0] if w.upstream.peers else None)
            peer.send(answer)
            response = await read_message(client, request=False, bodyless=True)
            assert response.values(b"content-length") == length
            await client.quiet(0.1)
        assert w.stat("cluster.u.upstream_cx_total") == 1, "the connections can be used again"


@pytest.mark.parametrize("status", [200, 204, 304])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_direct_responses_of_every_kind(world, status, method):
    routes = [
        {"match": {"prefix": "/"}, "direct_response": {"status": status, "body": {"inline_string": "body"}}}
    ]
    async with world(routes=routes) as w:
        client = await w.client()
        bodyless = method == b"HEAD" or status != 200
        for _ in range(2):
            response = await w.ask(client, method + b" / HTTP/1.1\r\nhost: a\r\n\r\n", bodyless=bodyless)
            assert (response.status, response.body) == (status, b"" if bodyless else b"body")
            assert response.values(b"content-length") == ([b"4"] if status != 204 else [])
            await client.quiet(0.01)


# -- 1xx ------------------------------------------------------------------------------------------


async def test_100_continue_from_here(world):
    async with world() as w:
        client = await w.client()
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hi")
        peer, request = await w.request()
        assert (request.body, request.values(b"expect")) == (b"hi", [])
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
        assert (await read_message(client, request=False)).status == 200


async def test_100_continue_from_the_host(world):
    async with world(hcm={"proxy_100_continue": True}) as w:
        client = await w.client()
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        peer = await w.upstream.accept()
        assert b"expect: 100-continue" in await peer.read_until(b"\r\n\r\n")
        await client.quiet(1)
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await client.read_until(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.send(b"hi")
        assert await peer.read(2) == b"hi"
        peer.send(OK)
        assert (await read_message(client, request=False)).status == 200


# -- ends before the end ------------------------------------------------------------------------------


async def test_an_answer_before_the_end_of_the_request(world):
    """The client reads it, and is told that the connection ends; the rest of its body is thrown away."""
    async with world() as w:
        client = await w.client()
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nbegun")
        peer = await w.upstream.accept()
        await peer.read_until(b"begun")
        peer.send(b"HTTP/1.1 413 Too Much\r\ncontent-length: 2\r\n\r\nno")
        response = await read_message(client, request=False)
        assert (response.status, response.body, response.values(b"connection")) == (413, b"no", [b"close"])
        client.send(b"x" * 1000)
        assert await client.closed() == "eof", "not a reset, which would overtake the answer"
        assert peer.ended, "the host hears that no more comes"
        assert w.stat("downstream_rq_response_before_rq_complete") == 1


@pytest.mark.parametrize(("timeout", "after"), [(None, 1.0), ("5s", 5.0), ("0s", 0.0)])
async def test_a_client_that_does_not_close_is_closed(world, loop, timeout, after):
    async with world(hcm={} if timeout is None else {"delayed_close_timeout": timeout}) as w:
        client = await w.client()
        client.send(b"nonsense\r\n\r\n")
        await client.closed()
        begin = loop.time()
        while w.running.connections:
            await asyncio.sleep(0.01)
        assert loop.time() - begin == pytest.approx(after, abs=0.05)
        assert w.stat("downstream_cx_delayed_close_timeout") == (1 if after else 0)


@pytest.mark.parametrize("how", ["refused", "closed", "idle", "broken"])
async def test_a_client_that_stops_reading_is_not_waited_for(world, loop, how):
    """What is written cannot go out, and the connection would stay for ever."""
    loop.network.link = Link(capacity=1000)
    body = "x" * 4000
    routes = [
        {"match": {"prefix": "/direct"}, "direct_response": {"status": 200, "body": {"inline_string": body}}}
    ]
    hcm = {"common_http_protocol_options": {"idle_timeout": "10s"}, "stream_idle_timeout": "20s"}
    async with world(routes=routes, hcm=hcm) as w:
        client = await w.client(reading=False)
        if how == "refused":
            client.send(b"POST /direct HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n")
        elif how == "closed":
            client.send(b"GET /direct HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        elif how == "idle":
            client.send(DIRECT)
        else:
            client.send(GET)
            peer, _ = await w.request()
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n" + b"x" * 5000)
            await asyncio.sleep(0.1)
            peer.close()
        await asyncio.sleep(0.1)
        assert w.running.connections == 1
        await asyncio.sleep(14)
        assert w.running.connections == 0
        assert w.stat("downstream_cx_delayed_close_timeout") == 1


async def test_a_slow_client_may_read_its_last_answer_to_the_end(world, loop):
    """``delayed_close_timeout`` is for clients that take nothing, not for slow ones."""
    loop.network.link = Link(capacity=1000, latency=0.01)
    routes = [
        {
            "match": {"prefix": "/direct"},
            "direct_response": {"status": 200, "body": {"inline_string": "x" * 4000}},
        }
    ]
    for close in (
        b"GET /direct HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        b"POST /direct HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n",
    ):
        async with world(routes=routes) as w:
            client = await w.client(reading=False)
            client.send(close)
            for _ in range(12):
                await asyncio.sleep(0.7)
                client.resume()
                await w.rest()
                client.pause()
            client.resume()
            response = await read_message(client, request=False)
            assert len(response.body) == 4000


@pytest.mark.parametrize(
    "sent", [b"", b"GET", GET, GET + GET, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab"]
)
async def test_a_half_closed_connection_is_a_closed_one(world, sent):
    async with world() as w:
        client = await w.client()
        client.send(sent)
        await w.rest()
        client.send_eof()
        await w.rest()
        assert client.ended
        assert w.stat("downstream_rq_active") == 0
        assert w.stat("cluster.u.upstream_rq_active") == 0


# -- upgrades -----------------------------------------------------------------------------------------


async def test_an_upgrade_becomes_a_tunnel(world):
    async with world(hcm=UPGRADES) as w:
        client = await w.client()
        client.send(UPGRADE)
        peer, request = await w.request()
        assert (request.values(b"upgrade"), request.values(b"connection")) == ([b"websocket"], [b"upgrade"])
        peer.send(SWITCH + b"hello ")
        response = await read_message(client, request=False)
        assert (response.status, response.values(b"upgrade")) == (101, [b"websocket"])
        for _ in range(3):
            peer.send(b"GET / HTTP/1.1\r\n\r\n")
            client.send(b"\x00\xff\r\n")
            assert await peer.read(4) == b"\x00\xff\r\n"
        assert await client.read(6 + 18 * 3) == b"hello " + b"GET / HTTP/1.1\r\n\r\n" * 3
        assert w.stat("downstream_cx_upgrades_active") == 1
        peer.close()
        assert await client.closed() == "eof"
    assert w.stat("downstream_cx_upgrades_total") == 1


@pytest.mark.parametrize("length", [b"", b"content-length: 0\r\n", b"content-length: 00\r\n"])
@pytest.mark.parametrize("cut", [0, 1, 5])
async def test_early_data_waits_until_the_upgrade_is_granted(world, cut, length):
    """S11: it never reaches a host that has not agreed, for it would be read as a request there."""
    early = b"GET /smuggled HTTP/1.1\r\n\r\n"
    async with world(hcm=UPGRADES) as w:
        client = await w.client()
        client.send(UPGRADE[:-2] + length + b"\r\n" + early[:cut])
        peer, _ = await w.request()
        client.send(early[cut:])
        await peer.quiet(1)
        peer.send(SWITCH)
        assert await peer.read(len(early)) == early
        assert (await read_message(client, request=False)).status == 101


@pytest.mark.parametrize(
    "answer", [OK, b"HTTP/1.1 400 No\r\n\r\nno", b"HTTP/1.1 426 No\r\ncontent-length: 0\r\n\r\n"]
)
async def test_an_upgrade_that_is_not_granted(world, answer):
    async with world(hcm=UPGRADES) as w:
        client = await w.client()
        client.send(UPGRADE + b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n")
        peer, _ = await w.request()
        peer.send(answer)
        if b"content-length" not in answer:
            await w.rest()
            peer.close()
        response = await read_message(client, request=False)
        assert response.values(b"connection") == [b"close"]
        assert peer.received == b""
        await client.closed()


async def test_early_data_is_bounded(world, loop):
    loop.network.link = Link(capacity=4000)
    async with world(hcm=UPGRADES, buffer=10_000) as w:
        client = await w.client()
        client.send(UPGRADE)
        peer, _ = await w.request()
        for _ in range(100):
            client.send(b"x" * 1000)
        await asyncio.sleep(1)
        assert client.transport.get_write_buffer_size() > 100_000 - 10_000 - 4 * 4000
        peer.send(SWITCH)
        assert await peer.read(100_000) == b"x" * 100_000
        assert (await read_message(client, request=False)).status == 101


async def test_early_data_behind_a_body(world):
    async with world(hcm=UPGRADES) as w:
        client = await w.client()
        client.send(UPGRADE.replace(b"\r\n\r\n", b"\r\ncontent-length: 4\r\n\r\n"))
        await w.rest()
        client.send(b"body")
        peer, request = await w.request()
        assert request.body == b"body"
        client.send(b"early")
        await peer.quiet(1)
        peer.send(SWITCH)
        assert await peer.read(5) == b"early"
        client.send(b"more")
        assert await peer.read(4) == b"more"
        await client.read_until(b"\r\n\r\n")


async def test_an_upgrade_nobody_configured_is_refused(world):
    async with world() as w:
        client = await w.client()
        assert (await w.ask(client, UPGRADE)).status == 403
        assert w.stat("downstream_rq_ws_on_non_ws_route") == 1
        assert not w.upstream.peers


# -- back-pressure --------------------------------------------------------------------------------------


async def test_a_host_that_stops_reading_stops_the_client_from_the_first_write_on(world, loop):
    """One write that is more than the host takes, and the client must not be read further."""
    loop.network.link = Link(capacity=64_000)
    async with world(buffer=10_000) as w:
        w.upstream.reading = False
        client = await w.client()
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 1_000_000)
        await asyncio.sleep(1)
        first = client.transport.get_write_buffer_size()
        await asyncio.sleep(5)
        assert client.transport.get_write_buffer_size() == first
        assert first > 1_000_000 - 6 * 64_000
        w.upstream.peers[0].resume()
        peer, request = await w.request(w.upstream.peers[0])
        assert len(request.body) == 1_000_000
        peer.send(OK)
        assert (await read_message(client, request=False)).status == 200


async def test_a_body_that_waits_for_a_connection_is_bounded(world, loop):
    loop.network.link = Link(capacity=4000)
    async with world(buffer=10_000, cluster={"connect_timeout": "100s"}) as w:
        loop.network.silent.add(("10.0.0.1", 81))
        client = await w.client()
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 1_000_000)
        await asyncio.sleep(5)
        assert client.transport.get_write_buffer_size() > 1_000_000 - 10_000 - 4 * 4000
        assert w.stat("downstream_flow_control_paused_reading_total") == 1
        client.reset()
        # Who does not read does not see that; it shows when there is something to write.
        await asyncio.sleep(100)


async def test_a_client_that_stops_reading_stops_the_host(world, loop):
    loop.network.link = Link(capacity=4000)
    async with world(buffer=10_000) as w:
        client = await w.client(reading=False)
        client.send(GET)
        peer, _ = await w.request()
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 1_000_000)
        await asyncio.sleep(5)
        assert peer.transport.get_write_buffer_size() > 1_000_000 - 20_000 - 6 * 4000
        assert w.stat("cluster.u.upstream_flow_control_paused_reading_total") == 1
        client.resume()
        assert len((await read_message(client, request=False)).body) == 1_000_000
        client.send(GET)
        peer, _ = await w.request(peer)
        peer.send(OK)
        assert (await read_message(client, request=False)).body == b"ok"


# -- draining -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["idle", "waiting", "answering"])
async def test_draining(world, loop, when):
    async with world() as w:
        client = await w.client()
        peer = None
        if when != "idle":
            client.send(GET)
            peer, _ = await w.request()
        if when == "answering":
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
            await client.read_until(b"\r\n\r\n")
        (server,) = [
            one.get_protocol()
            for one in loop.network.transports.values()
            if type(one.get_protocol()).__name__ == "ServerConnection"
        ]
        server.drain()
        begin = loop.time()
        await client.quiet(0.5)
        if when == "waiting":
            peer.send(OK)
            assert (await read_message(client, request=False)).values(b"connection") == [b"close"]
        elif when == "answering":
            peer.send(b"ok")
            assert await client.read(2) == b"ok"
        await client.closed()
        assert loop.time() - begin < 2


async def test_the_longest_life_of_a_connection(world, loop):
    async with world(hcm={"common_http_protocol_options": {"max_connection_duration": "10s"}}) as w:
        client = await w.client()
        await w.ask(client, DIRECT)
        begin = loop.time()
        await client.closed()
        assert 10 <= loop.time() - begin <= 12
        assert w.stat("downstream_cx_max_duration_reached") == 1
