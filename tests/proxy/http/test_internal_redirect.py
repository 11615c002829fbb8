"""Following redirects: the client sees one exchange, and nothing is left of those in between."""

import asyncio

import pytest

from weft.proxy.http.filter import HttpFilter
from weft.proxy.http.internal_redirect import absolute_url
from weft.testing.peer import Upstream
from weft.testing.transcript import read_message

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
FOUND = b"HTTP/1.1 302 Found\r\nlocation: http://b/there\r\ncontent-length: 0\r\n\r\n"
PROTOCOL = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
TRAILERS = {"typed_extension_protocol_options": {PROTOCOL: {
    "@type": "type.googleapis.com/" + PROTOCOL, "explicit_http_config": {"http_protocol_options": {"enable_trailers": True}},
}}}  # fmt: skip


def redirecting(policy=None, there=None, **more):
    endpoint = {"address": {"socket_address": {"address": "10.0.0.9", "port_value": 81}}}
    return {
        "routes": [
            {"match": {"prefix": "/there"}, "route": {"cluster": "t", **(there or {})}},
            {"match": {"prefix": "/"}, "route": {"cluster": "u", "internal_redirect_policy": policy or {}}},
        ],
        "clusters": [{
            "name": "t",
            "connect_timeout": "2s",
            "load_assignment": {"cluster_name": "t", "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]},
        }],
        **more,
    }  # fmt: skip


def listen():
    return Upstream.listen("10.0.0.9", 81)


@pytest.mark.parametrize(("location", "wanted"), [
    (b"http://a/b", (b"http", b"a", b"/b")),
    (b"HTTPS://A:1/b?c#d", (b"https", b"A:1", b"/b?c")),
    (b"http://a", (b"http", b"a", b"/")),
    (b"http://a#x/y", (b"http", b"a", b"/")),
    (b"http://a?b/c", (b"http", b"a", b"/?b/c")),
    (b"http://u:p@a/b", (b"http", b"a", b"/b")),
    (b"http://[::1]:8/b", (b"http", b"[::1]:8", b"/b")),
    (b"http://[::1]/b", (b"http", b"[::1]", b"/b")),
    (b"ftp://a/b", (b"ftp", b"a", b"/b")),
    (b"", None), (b"/b", None), (b"//a/b", None), (b"a", None), (b"http:/a", None), (b"http://", None),
    (b"http:///b", None), (b"http://a:/b", None), (b"http://a:x/b", None), (b"http://a:65536/b", None),
    (b"http://a:999999999/b", None), (b"http://a b/", None), (b"http://a/ b", None), (b"http://a/\r\nx", None),
    (b"http://a/\xe4", None), (b"http://a<b/", None), (b"://a/b", None), (b"http://:80/b", None),
])  # fmt: skip
def test_urls(location, wanted):
    assert absolute_url(location) == wanted


async def test_a_redirect_is_followed_and_the_connection_goes_on(world):
    async with world(**redirecting()) as w, await listen() as there:
        client = await w.client()
        for _ in range(3):
            client.send(GET)
            peer, _ = await w.request(w.upstream.peers[0] if w.upstream.peers else None)
            peer.send(FOUND)
            target = there.peers[0] if there.peers else await there.accept()
            request = await read_message(target, request=True)
            assert request.start == b"GET /there HTTP/1.1"
            assert request.values(b"x-envoy-original-url") == [b"http://a/"]
            target.send(OK)
            assert (await read_message(client, request=False)).body == b"ok"
        assert len(w.upstream.peers) == len(there.peers) == 1
        assert w.stat("downstream_rq_total") == 6
        assert w.stat("downstream_rq_completed") == 3
        assert w.stat("cluster.u.upstream_internal_redirect_succeeded_total") == 3
        assert w.stat("cluster.u.upstream_rq_completed") == 0


async def test_a_loop_ends_at_the_most_that_is_allowed(world):
    async with world(**redirecting({"max_internal_redirects": 50})) as w:
        client = await w.client()
        client.send(GET)
        peer = await w.upstream.accept()
        for _ in range(51):
            await read_message(peer, request=True)
            peer.send(FOUND.replace(b"//b/there", b"//a/"))
        assert (await read_message(client, request=False)).status == 302
        assert w.stat("passthrough_internal_redirect_too_many_redirects") == 1


@pytest.mark.parametrize(("limits", "size", "followed"), [
    ({}, 10_000, True),
    ({}, 10_001, False),
    ({"request_body_buffer_limit": 20_000, "per_request_buffer_limit_bytes": 10}, 20_000, True),
    ({"request_body_buffer_limit": 20_000}, 20_001, False),
    ({"per_request_buffer_limit_bytes": 5}, 6, False),
    ({"request_body_buffer_limit": 0}, 1, False),
    ({"request_body_buffer_limit": 0}, 0, True),
])  # fmt: skip
async def test_a_body_is_kept_up_to_the_limit_of_the_route_or_the_connection(world, limits, size, followed):
    setting = redirecting(buffer=10_000)
    setting["routes"][1].update(limits)
    async with world(**setting) as w, await listen() as there:
        client = await w.client()
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % size)
        peer = await w.upstream.accept()
        await peer.read_until(b"\r\n\r\n")
        for at in range(0, size, 1000):
            client.send(bytes(min(1000, size - at)))
            await peer.read(min(1000, size - at))
        peer.send(FOUND)
        if followed:
            target = await there.accept()
            assert (await read_message(target, request=True)).body == bytes(size)
            target.send(OK)
        assert (await read_message(client, request=False)).status == (200 if followed else 302)
        assert w.stat("cluster.u.retry_or_shadow_abandoned") == (0 if followed else 1)
        assert w.stat("cluster.u.upstream_internal_redirect_failed_total") == (0 if followed else 1)


@pytest.mark.parametrize("end", [
    b"content-length: 5\r\n\r\nhello",
    b"content-length: 500\r\n\r\nhello",
    b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n",
    b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    b"\r\nhello",
], ids=["length", "unfinished", "chunked", "trailers", "unfinished-chunks", "until-close"])  # fmt: skip
async def test_the_body_of_a_redirect_is_swallowed(world, end):
    async with world(**redirecting(cluster=TRAILERS)) as w, await listen() as there:
        client = await w.client()
        client.send(GET)
        peer, _ = await w.request()
        peer.send(b"HTTP/1.1 302 Found\r\nlocation: http://b/there\r\n" + end)
        target = await there.accept()
        await read_message(target, request=True)
        assert w.limits()[1:] == (0, 0)
        target.send(OK)
        response = await read_message(client, request=False)
        assert (response.status, response.body, response.trailers) == (200, b"ok", [])


@pytest.mark.parametrize("policy", [None, {"redirect_response_codes": [303]}])
async def test_what_comes_after_trailers_belongs_to_nobody(world, policy):
    """A response with trailers in one piece gives its connection back once, followed or not."""
    async with world(**redirecting(policy, cluster=TRAILERS)) as w, await listen() as there:
        client = await w.client()
        for _ in range(2):
            client.send(GET)
            again = policy is not None and w.upstream.peers
            peer, _ = await w.request(w.upstream.peers[0] if again else None)
            peer.send(FOUND.replace(b"content-length: 0\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx: 1\r\n\r\n"))
            if policy is None:
                target = there.peers[0] if there.peers else await there.accept()
                await read_message(target, request=True)
                target.send(OK)
            assert (await read_message(client, request=False)).status == (200 if policy is None else 302)


async def test_a_client_that_leaves_after_a_redirect(world):
    async with world(**redirecting()) as w, await listen() as there:
        client = await w.client()
        client.send(GET)
        peer, _ = await w.request()
        peer.send(FOUND)
        target = await there.accept()
        await read_message(target, request=True)
        client.close()
        assert await target.closed() == "eof"
        assert w.stat("downstream_rq_rx_reset") == 1


async def test_each_route_has_its_own_timeout(world, loop):
    async with world(**redirecting(there={"timeout": "4s"})) as w, await listen() as there:
        client = await w.client()
        client.send(GET)
        peer, _ = await w.request()
        await asyncio.sleep(10)
        begin = loop.time()
        peer.send(FOUND)
        await there.accept()
        assert (await read_message(client, request=False)).status == 504
        assert loop.time() - begin == pytest.approx(4, abs=0.01)
        assert w.stat("cluster.t.upstream_rq_timeout") == 1
        assert w.stat("cluster.u.upstream_rq_timeout") == 0


async def test_the_stream_idle_timeout_of_the_new_route_holds(world, loop):
    async with world(**redirecting(there={"timeout": "0s", "idle_timeout": "3s"})) as w, await listen() as there:
        client = await w.client()
        client.send(GET)
        peer, _ = await w.request()
        peer.send(FOUND)
        await there.accept()
        begin = loop.time()
        assert (await read_message(client, request=False)).status == 504
        assert loop.time() - begin == pytest.approx(3, abs=0.01)


async def test_filters_run_again_and_each_stream_ends_once(world):
    seen = []

    class Watching(HttpFilter):
        async def on_request(self, request, stream):
            await asyncio.sleep(0.5)
            seen.append(request.path)

        def on_complete(self, stream):
            seen.append((stream.details, stream.status))

    async with world(**redirecting(filters=[Watching])) as w, await listen() as there:
        client = await w.client()
        client.send(GET)
        peer, _ = await w.request()
        peer.send(FOUND)
        target = await there.accept()
        await read_message(target, request=True)
        target.send(OK)
        assert (await read_message(client, request=False)).status == 200
        assert seen == [b"/", ("internal_redirect", 302), b"/there", ("via_upstream", 200)]


async def test_a_host_that_cannot_be_reached_after_a_redirect(world, loop):
    loop.network.silent.add(("10.0.0.9", 81))
    async with world(**redirecting()) as w:
        client = await w.client()
        client.send(GET)
        peer, _ = await w.request()
        peer.send(FOUND)
        response = await read_message(client, request=False)
        assert response.status == 503
        assert b"connection timeout" in response.body


async def test_a_redirect_to_what_is_answered_here(world):
    here = {"match": {"prefix": "/here"}, "direct_response": {"status": 200, "body": {"inline_string": "here"}}}
    setting = redirecting()
    async with world(**{**setting, "routes": [here, *setting["routes"]]}) as w:
        client = await w.client()
        client.send(GET + GET)
        for _ in range(2):
            peer, _ = await w.request(w.upstream.peers[0] if w.upstream.peers else None)
            peer.send(FOUND.replace(b"//b/there", b"//b/here"))
            assert (await read_message(client, request=False)).body == b"here"
