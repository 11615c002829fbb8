"""Mirroring: whatever becomes of a shadow, the request that it copies does not feel it."""

import asyncio

import pytest

from weft.proxy.http.filter import HttpFilter
from weft.testing.peer import Upstream
from weft.testing.transcript import read_message

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LAST = OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
SIZE = 3_000_000
PROTOCOL = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def shadow_cluster(**more):
    endpoint = {"address": {"socket_address": {"address": "10.0.0.9", "port_value": 81}}}
    return {
        "name": "s",
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": "s", "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]},
        **more,
    }


def mirrored(**more):
    return {
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "u", "request_mirror_policies": [{"cluster": "s"}], **more}}],
        "clusters": [shadow_cluster()],
    }  # fmt: skip


def listen(**more):
    return Upstream.listen("10.0.0.9", 81, **more)


async def exchange(world, data=GET):
    """One request that the main upstream answers at once, and how long that took."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    request, response = await world.exchange(data, LAST)
    assert response.status == 200
    return request, loop.time() - begin


async def test_a_shadow_that_never_answers_is_ended_by_the_timeout_of_the_route(world, loop):
    async with world(**mirrored(timeout="5s")) as w, await listen() as shadows:
        begin = loop.time()
        _, took = await exchange(w)
        peer = await shadows.accept()
        copy = await read_message(peer, request=True)
        assert took < 0.1
        assert copy.values(b"host") == [b"a-shadow"]
        assert await peer.closed() == "eof"
        assert loop.time() - begin == pytest.approx(5, abs=0.1)
        assert w.stat("cluster.s.upstream_rq_timeout") == 1
        assert w.stat("cluster.s.internal.upstream_rq_504") == 1
        assert w.stat("cluster.u.upstream_rq_timeout") == 0


async def test_a_shadow_that_cannot_connect(world, loop):
    loop.network.silent.add(("10.0.0.9", 81))
    async with world(**mirrored()) as w:
        _, took = await exchange(w)
        assert took < 0.1
        await asyncio.sleep(3)
        assert w.stat("cluster.s.upstream_cx_connect_timeout") == 1
        assert w.stat("cluster.s.internal.upstream_rq_503") == 1
        assert w.stat("cluster.u.upstream_rq_503") == 0


@pytest.mark.parametrize("behaviour", ["stalls", "is silent", "is slow to connect"])
async def test_a_large_body_and_a_shadow_that_does_not_take_it(world, loop, behaviour):
    if behaviour != "stalls":
        loop.network.silent.add(("10.0.0.9", 81))
    body = bytes(SIZE)
    head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % SIZE
    async with world(**mirrored()) as w, await listen(reading=False):
        client = await w.client()
        if behaviour == "is slow to connect":
            client.send(head)
            peer, start = await w.upstream.accept(), b""
            start = await peer.read_until(b"\r\n\r\n")
            client.send(body)
        else:
            client.send(head + body)
            peer = await w.upstream.accept()
            start = await peer.read_until(b"\r\n\r\n")
        assert start.startswith(b"POST / ")
        begin = loop.time()
        assert await peer.read(SIZE) == body
        assert loop.time() - begin < 1
        peer.send(OK)
        assert (await read_message(client, request=False)).status == 200
        assert w.stat("cluster.s.retry_or_shadow_abandoned") == 1
        assert w.stat("cluster.u.retry_or_shadow_abandoned") == 0


async def test_what_waits_for_a_shadow_is_bounded(world, loop):
    """The main host is slower than the client: its back-pressure is what the client feels, no other."""
    async with world(**mirrored()) as w, await listen(reading=False) as shadows:
        client = await w.client()
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % SIZE)
        peer = await w.upstream.accept()
        await peer.read_until(b"\r\n\r\n")
        stalled = await shadows.accept()
        sent = 0
        while not w.stat("cluster.s.retry_or_shadow_abandoned"):
            client.send(bytes(50_000))
            sent += 50_000
            await peer.read(50_000)
        # A megabyte to wait, what the transport takes before it says so, and what the link holds.
        assert 1_000_000 < sent < 2_500_000
        await w.rest()
        assert w.stat("downstream_flow_control_paused_reading_total") == 0
        client.send(bytes(SIZE - sent))
        await peer.read(SIZE - sent)
        peer.send(OK)
        assert (await read_message(client, request=False)).status == 200
        stalled.resume()
        await stalled.closed()
        assert stalled.total < sent + 1000


async def test_a_shadow_that_keeps_up_gets_the_whole_of_a_large_body(world):
    body = bytes(SIZE)
    async with world(**mirrored()) as w, await listen() as shadows:
        request, _ = await exchange(w, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % SIZE + body)
        assert request.body == body
        peer = await shadows.accept()
        assert (await read_message(peer, request=True)).body == body
        peer.send(OK)
        await w.rest()
        assert w.stat("cluster.s.internal.upstream_rq_200") == 1
        assert w.stat("cluster.s.retry_or_shadow_abandoned") == 0


async def test_the_response_of_a_shadow_is_read_and_dropped_without_end(world):
    async with world(**mirrored(timeout="5s")) as w, await listen() as shadows:
        await exchange(w)
        peer = await shadows.accept()
        await read_message(peer, request=True)
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(100):
            await peer.send_all(bytes(100_000))
        assert w.stat("cluster.s.upstream_cx_rx_bytes_total") > 10_000_000
        assert w.stat("cluster.s.upstream_flow_control_paused_reading_total") == 0
        assert await peer.closed() in ("eof", "reset")


@pytest.mark.parametrize("complete", [False, True])
async def test_a_client_that_leaves(world, complete):
    async with world(**mirrored()) as w, await listen() as shadows:
        client = await w.client()
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n" + (b"abcd" if complete else b"ab"))
        peer = await shadows.accept()
        await peer.read_until(b"ab")
        client.close()
        if complete:
            await peer.quiet(1)
            peer.send(OK)
            await w.rest()
            assert w.stat("cluster.s.internal.upstream_rq_200") == 1
        else:
            assert await peer.closed() == "eof"
            assert w.stat("cluster.s.upstream_rq_completed") == 0


async def test_trailers_reach_a_shadow_that_connects_late_and_one_that_is_there(world, loop):
    options = {"typed_extension_protocol_options": {PROTOCOL: {
        "@type": "type.googleapis.com/" + PROTOCOL, "explicit_http_config": {"http_protocol_options": {"enable_trailers": True}},
    }}}  # fmt: skip
    message = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx-sum: 1\r\n\r\n"
    setting = {**mirrored(), "clusters": [shadow_cluster(**options)]}
    async with world(**setting, hcm={"http_protocol_options": {"enable_trailers": True}}) as w, await listen() as shadows:
        await exchange(w, message)
        peer = await shadows.accept()
        copy = await read_message(peer, request=True)
        assert (copy.body, copy.trailers) == (b"ab", [(b"x-sum", b"1")])
        peer.send(OK)
        client = await w.client()
        client.send(message[: message.index(b"2\r\n")])
        copy = await peer.read_until(b"\r\n\r\n")
        client.send(message[message.index(b"2\r\n") :])
        assert await peer.read_until(b"\r\n\r\n") == b"2\r\nab\r\n0\r\nx-sum: 1\r\n\r\n"
        peer.send(OK)
        _, main = await w.request()
        assert main.body == b"ab"


async def test_a_worker_that_ends_takes_its_shadows_along(world, loop):
    async with world(**mirrored(timeout="0s")) as w, await listen() as shadows:
        await exchange(w)
        peer = await shadows.accept()
        worker = w.running.worker
        for client in w.clients:
            client.close()
        begin = loop.time()
        await worker.drain(4)
        assert loop.time() - begin == pytest.approx(4, abs=0.1)
        assert len(worker.context.shadows.active) == 1
        worker.context.shadows.close()
        assert await peer.closed() == "eof"


async def test_draining_waits_no_longer_than_its_shadows(world, loop):
    async with world(**mirrored()) as w, await listen() as shadows:
        await exchange(w)
        peer = await shadows.accept()
        loop.call_later(1, peer.send, OK)
        begin = loop.time()
        await w.running.worker.drain(10)
        assert loop.time() - begin == pytest.approx(1, abs=0.1)


async def test_limits_of_the_shadow_cluster_hold_and_are_given_back(world):
    limits = {"circuit_breakers": {"thresholds": [{"max_requests": 1, "max_connections": 1, "max_pending_requests": 1}]}}
    async with world(**{**mirrored(), "clusters": [shadow_cluster(**limits)]}) as w, await listen() as shadows:
        for _ in range(5):
            await exchange(w)
        assert w.stat("cluster.s.upstream_rq_pending_overflow") == 3
        assert w.stat("cluster.s.internal.upstream_rq_503") == 3
        peer = await shadows.accept()
        for _ in range(2):
            await read_message(peer, request=True)
            peer.send(OK)
        await w.rest()
        cluster = w.running.worker.context.clusters.get("s").limits[0]
        assert (cluster.requests, cluster.pending) == (0, 0)
        assert w.stat("http.async-client.rq_total") == 5


async def test_a_shadow_that_fails_on_the_way_costs_itself_alone(world):
    """An operator that raises is a bug, told as one; the request goes its way."""
    policy = {"cluster": "s", "request_headers_mutations": [{"append": {"header": {"key": "x-state", "value": "%FILTER_STATE(weft.test:PLAIN)%"}}}]}

    class Raises:
        def __str__(self):
            raise RuntimeError("cannot be shown")

    class Setting(HttpFilter):
        def on_request(self, request, stream):
            stream.filter_state = {"weft.test": Raises()}

    route = {"match": {"prefix": "/"}, "route": {"cluster": "u", "request_mirror_policies": [policy]}}
    async with world(routes=[route], clusters=[shadow_cluster()], filters=[Setting], bugs=1) as w:
        request, _ = await exchange(w)
        assert request.start == b"GET / HTTP/1.1"
        assert w.stat("bugs") == 1
