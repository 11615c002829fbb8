"""CONNECT: forwarded, ended here, refused; and the bytes of those who do not wait for an answer."""

import asyncio

import pytest

from weft.http.message import Response
from weft.proxy.http.filter import HttpFilter
from weft.testing.transcript import read_message

CONNECT = b"CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
OPEN = b"HTTP/1.1 200 OK\r\n\r\n"
HCM = {"upgrade_configs": [{"upgrade_type": "CONNECT"}]}
ROUTER = {"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}  # fmt: skip
MARK = "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"


def route(upgrade=None, **more):
    """A route of CONNECT requests."""
    configs = {} if upgrade is None else {"upgrade_configs": [{"upgrade_type": "CONNECT", **upgrade}]}
    return [{"match": {"connect_matcher": {}}, "route": {"cluster": "u", **configs, **more}}]


def ends_here(**config):
    return route({"connect_config": config})


async def answer_of(client):
    return await read_message(client, request=False, bodyless=True)


async def tunnel(w, client, sent=CONNECT):
    """Open one that ends here."""
    client.send(sent)
    peer = await w.upstream.accept()
    response = await answer_of(client)
    assert (response.status, response.values(b"connection")) == (200, [])
    assert not response.values(b"transfer-encoding") + response.values(b"content-length")
    return peer


# -- forwarded ----------------------------------------------------------------------------------------


async def test_a_forwarded_connect_opens_a_tunnel(world):
    async with world(hcm=HCM, routes=route()) as w:
        client = await w.client()
        client.send(CONNECT)
        peer, request = await w.request()
        assert (request.start, request.values(b"host")) == (b"CONNECT a.test:443 HTTP/1.1", [b"a.test:443"])
        peer.send(OPEN + b"hello")
        assert (await answer_of(client)).status == 200
        assert await client.read(5) == b"hello"
        client.send(SMUGGLED)
        assert await peer.read(len(SMUGGLED)) == SMUGGLED
        assert w.stat("downstream_cx_upgrades_active") == 1
        peer.close()
        assert await client.closed() == "eof"
        assert (w.stat("downstream_cx_upgrades_total"), w.stat("downstream_rq_total")) == (1, 1)


@pytest.mark.parametrize("apart", [False, True])
async def test_early_bytes_wait_until_the_tunnel_is_open(world, apart):
    async with world(hcm=HCM, routes=route()) as w:
        client = await w.client()
        client.send(CONNECT + (b"" if apart else b"early"))
        peer, _ = await w.request()
        if apart:
            client.send(b"early")
        await peer.quiet(1)
        peer.send(OPEN)
        assert await peer.read(5) == b"early"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno",
        b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nlocation: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        b"HTTP/1.1 500 Oh\r\n\r\n",
        b"",
    ],
)
async def test_early_bytes_of_a_refused_tunnel_are_nobodys(world, answer):
    async with world(hcm=HCM, routes=[*route(), {"match": {"prefix": "/"}, "route": {"cluster": "u"}}]) as w:
        client = await w.client()
        client.send(CONNECT + SMUGGLED)
        peer, _ = await w.request()
        if answer:
            peer.send(answer)
        if not answer or b"500" in answer:
            peer.close()
        response = await read_message(client, request=False)
        assert response.status >= 300
        assert response.values(b"connection") == [b"close"]
        assert await client.closed() == "eof"
        assert not client.received
        assert await peer.closed() == "eof"
        assert not peer.received
        assert w.stat("downstream_rq_total") == 1


async def test_a_length_in_the_answer_is_dropped(world):
    async with world(hcm=HCM, routes=route()) as w:
        client = await w.client()
        client.send(CONNECT)
        peer, _ = await w.request()
        peer.send(b"HTTP/1.1 201 Created\r\ncontent-length: 3\r\n\r\nabcdef")
        response = await answer_of(client)
        assert (response.status, response.values(b"content-length")) == (201, [])
        assert await client.read(6) == b"abcdef"


async def test_early_bytes_are_bounded(world):
    async with world(hcm=HCM, routes=route(), buffer=10_000) as w:
        client = await w.client()
        client.send(CONNECT)
        peer, _ = await w.request()
        client.send(b"x" * 3_000_000)
        await asyncio.sleep(5)
        assert client.transport.get_write_buffer_size() > 0
        peer.send(OPEN)
        assert await peer.read(3_000_000) == b"x" * 3_000_000


@pytest.mark.parametrize(
    "target",
    [b"/x", b"a.test", b"a.test:", b":443", b"a.test:x", b"a.test:65536", b"me@a.test:443", b"a:b:1", b"*", b"http://a.test:443/", b"a.test:443/x"],
)  # fmt: skip
async def test_targets_that_are_none(world, target):
    async with world(hcm=HCM, routes=route()) as w:
        client = await w.client()
        client.send(CONNECT.replace(b"CONNECT a.test:443", b"CONNECT " + target) + SMUGGLED)
        response = await read_message(client, request=False)
        assert response.status == 400
        assert await client.closed() == "eof"
        assert w.upstream.peers == []


@pytest.mark.parametrize(
    ("field", "status"), [(b"content-length: 5", 400), (b"transfer-encoding: chunked", 501)]
)
async def test_connect_has_no_body(world, field, status):
    async with world(hcm=HCM, routes=route()) as w:
        client = await w.client()
        client.send(CONNECT[:-2] + field + b"\r\n\r\nearly")
        assert (await read_message(client, request=False)).status == status
        assert await client.closed() == "eof"


# -- refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hcm", "routes", "status"),
    [
        ({}, route(), 403),
        ({}, [{"match": {"prefix": "/"}, "route": {"cluster": "u"}}], 404),
        ({"upgrade_configs": [{"upgrade_type": "CONNECT", "enabled": False}]}, route(), 403),
        (HCM, route({"enabled": False}), 403),
        (HCM, [{"match": {"prefix": "/"}, "route": {"cluster": "u"}}], 404),
        (HCM, [{"match": {"connect_matcher": {}}, "direct_response": {"status": 451}}], 451),
        (HCM, [{"match": {"connect_matcher": {}}, "redirect": {"host_redirect": "b"}}], 301),
    ],
)
async def test_connect_where_it_is_not_wanted(world, hcm, routes, status):
    async with world(hcm=hcm, routes=routes) as w:
        client = await w.client()
        client.send(CONNECT + SMUGGLED)
        response = await read_message(client, request=False)
        assert (response.status, response.values(b"location")) == (status, [])
        assert await client.closed() == "eof"
        assert w.upstream.peers == []
        assert w.stat("downstream_rq_ws_on_non_ws_route") == int(status == 403)
        assert w.stat("downstream_rq_total") == 1


# -- ended here ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("hcm", [HCM, {}], ids=["allowed", "allowed-by-the-route"])
async def test_a_tunnel_that_ends_here(world, hcm):
    async with world(hcm=hcm, routes=ends_here()) as w:
        client = await w.client()
        peer = await tunnel(w, client, CONNECT + b"early")
        assert await peer.read(5) == b"early"
        peer.send(b"late")
        assert await client.read(4) == b"late"
        client.send(SMUGGLED)
        assert await peer.read(len(SMUGGLED)) == SMUGGLED
        peer.send(b"bye")
        peer.close()
        assert await client.read_all() == b"bye"
        stats = {name: w.stat(f"cluster.u.{name}") for name in ("upstream_rq_total", "upstream_rq_200", "upstream_cx_http1_total")}  # fmt: skip
        assert stats == {"upstream_rq_total": 1, "upstream_rq_200": 1, "upstream_cx_http1_total": 0}


async def test_the_client_leaves_a_tunnel(world):
    async with world(hcm=HCM, routes=ends_here()) as w:
        client = await w.client()
        peer = await tunnel(w, client)
        client.send_eof()
        assert await peer.closed() == "eof"


async def test_a_tunnel_is_reset(world):
    async with world(hcm=HCM, routes=ends_here()) as w:
        client = await w.client()
        peer = await tunnel(w, client)
        peer.reset()
        await client.closed()
        assert w.stat("cluster.u.upstream_cx_destroy_remote_with_active_rq") == 1


async def test_early_bytes_of_a_host_that_is_not_there(world):
    async with world(hcm=HCM, routes=ends_here()) as w:
        w.upstream.stop_listening()
        client = await w.client()
        client.send(CONNECT + SMUGGLED)
        response = await read_message(client, request=False)
        assert response.status == 503
        assert await client.closed() == "eof"
        assert not client.received


@pytest.mark.parametrize(
    ("config", "preface"),
    [
        ({"version": "V1"}, b"PROXY TCP4 127.0.0.1 127.0.0.1 "),
        ({"version": "V2"}, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\1\x7f\0\0\1"),
    ],
)
async def test_a_host_is_told_who_the_client_is(world, config, preface):
    async with world(hcm=HCM, routes=ends_here(proxy_protocol_config=config)) as w:
        client = await w.client()
        peer = await tunnel(w, client, CONNECT + b"early")
        data = await peer.read_until(b"early")
        assert data.startswith(preface)


@pytest.mark.parametrize("framing", [b"content-length: 4\r\n\r\nping", b"transfer-encoding: chunked\r\n\r\n4\r\nping\r\n0\r\n\r\n"])  # fmt: skip
async def test_post_into_a_tunnel(world, framing):
    configs = [{"upgrade_type": "CONNECT", "connect_config": {"allow_post": True}}]
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "u", "upgrade_configs": configs}}]
    async with world(hcm=HCM, routes=routes) as w:
        client = await w.client()
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\n" + framing)
        peer = await w.upstream.accept()
        assert await peer.read_all() == b"ping"
        peer.send(b"pong")
        peer.close()
        response = await read_message(client, request=False)
        assert (response.status, response.body) == (200, b"pong")
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        peer, request = await w.request()
        assert request.start == b"GET / HTTP/1.1"


@pytest.mark.parametrize(
    ("more", "after"),
    [
        ({"idle_timeout": "5s"}, 5),
        ({"max_stream_duration": {"max_stream_duration": "7s"}}, 7),
        ({"timeout": "1s"}, 300),
    ],
)
async def test_what_ends_a_quiet_tunnel(world, loop, more, after):
    async with world(hcm=HCM, routes=route({"connect_config": {}}, **more)) as w:
        client = await w.client()
        begin = loop.time()
        peer = await tunnel(w, client)
        await client.closed(within=400)
        assert loop.time() - begin == pytest.approx(after, abs=0.01)
        assert await peer.closed() == "eof"


async def test_bytes_of_either_side_keep_a_tunnel(world):
    async with world(hcm=HCM, routes=route({"connect_config": {}}, idle_timeout="5s")) as w:
        client = await w.client()
        peer = await tunnel(w, client)
        for sender, receiver in ((client, peer), (peer, client)) * 3:
            await asyncio.sleep(4)
            sender.send(b"x")
            assert await receiver.read(1) == b"x"


@pytest.mark.parametrize("towards_host", [True, False])
async def test_a_slow_reader_slows_the_writer(world, towards_host):
    async with world(hcm=HCM, routes=ends_here(), buffer=10_000) as w:
        client = await w.client()
        peer = await tunnel(w, client)
        writer, reader = (client, peer) if towards_host else (peer, client)
        reader.pause()
        writer.send(b"x" * 3_000_000)
        await asyncio.sleep(5)
        assert writer.transport.get_write_buffer_size() > 0
        reader.resume()
        assert await reader.read(3_000_000) == b"x" * 3_000_000


async def test_tunnels_have_the_limits_of_the_cluster(world):
    limits = {"circuit_breakers": {"thresholds": [{"max_connections": 1, "max_pending_requests": 1}]}}
    async with world(hcm=HCM, routes=ends_here(), cluster=limits) as w:
        first, second, third = [await w.client() for _ in range(3)]
        peer = await tunnel(w, first)
        second.send(CONNECT)
        await second.quiet(1)
        third.send(CONNECT)
        assert (await read_message(third, request=False)).status == 503
        assert w.stat("cluster.u.upstream_cx_overflow") == 1
        peer.close()
        assert await first.closed() == "eof"
        await w.upstream.accept()
        assert (await answer_of(second)).status == 200


async def test_draining_waits_for_a_tunnel(world, loop):
    async with world(hcm=HCM, routes=ends_here()) as w:
        client = await w.client()
        peer = await tunnel(w, client)
        draining = loop.create_task(w.running.worker.drain(10))
        await asyncio.sleep(5)
        client.send(b"x")
        assert await peer.read(1) == b"x"
        peer.close()
        assert await client.closed() == "eof"
        await draining


# -- filters ------------------------------------------------------------------------------------------


def marks(value):
    mutation = {"append": {"header": {"key": "x-marked", "value": value}}}
    typed = {"@type": MARK, "mutations": {"request_mutations": [mutation]}}
    return [{"name": "marks", "typed_config": typed}, ROUTER]


@pytest.mark.parametrize(
    ("asked", "marked"),
    [
        (CONNECT, b"connect"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: tea\r\n\r\n", b"tea"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: milk\r\n\r\n", b"plain"),
        (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"plain"),
    ],
)
async def test_upgrades_with_filters_of_their_own(world, asked, marked):
    hcm = {
        "http_filters": marks("plain"),
        "upgrade_configs": [
            {"upgrade_type": "CONNECT", "filters": marks("connect")},
            {"upgrade_type": "tea", "filters": marks("tea")},
            {"upgrade_type": "milk"},
        ],
    }
    async with world(hcm=hcm, routes=route()) as w:
        client = await w.client()
        client.send(asked)
        _, request = await w.request()
        assert request.values(b"x-marked") == [marked]


class Finder(HttpFilter):
    """Makes a request match a route that it did not match."""

    def on_request(self, request, stream):
        request.headers["x-found"] = "1"
        stream.clear_route()


async def test_a_route_that_is_found_later_allows_no_tunnel(world):
    routes = route()
    routes[0]["match"]["headers"] = [{"name": "x-found", "present_match": True}]
    async with world(routes=routes, filters=[Finder]) as w:
        client = await w.client()
        client.send(CONNECT + SMUGGLED)
        assert (await read_message(client, request=False)).status == 403
        assert await client.closed() == "eof"
        assert w.upstream.peers == []


class Later(HttpFilter):
    async def on_request(self, request, stream):
        await asyncio.sleep(1)
        return Response(401) if b"x-refuse" in request.headers else None


@pytest.mark.parametrize("refused", [False, True])
async def test_early_bytes_wait_for_a_filter_that_waits(world, refused):
    async with world(hcm=HCM, routes=ends_here(), filters=[Later]) as w:
        client = await w.client()
        head = CONNECT[:-2] + (b"x-refuse: 1\r\n" if refused else b"") + b"\r\n"
        client.send(head + SMUGGLED)
        response = await answer_of(client)
        if refused:
            assert response.status == 401
            assert await client.closed() == "eof"
            assert w.upstream.peers == []
        else:
            peer = await w.upstream.accept()
            assert await peer.read(len(SMUGGLED)) == SMUGGLED


@pytest.mark.parametrize("moment", ["at-once", "connecting", "open"])
async def test_a_client_that_gives_up(world, loop, moment):
    async with world(hcm=HCM, routes=ends_here()) as w:
        client = await w.client()
        client.send(CONNECT + b"early")
        if moment == "connecting":
            await w.rest()
        elif moment == "open":
            await answer_of(client)
        client.reset()
        await asyncio.sleep(1)
        busy = {name for name in w.gauges() if "upstream_cx" not in name}
        assert busy == set()
