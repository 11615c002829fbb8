"""``x-envoy-*`` headers of callers near and far, and what clients learn of attempts."""

import pytest

from weft.testing.transcript import read_message

EDGE = {"use_remote_address": True}
INTERNAL = {
    "use_remote_address": True,
    "internal_address_config": {"cidr_ranges": [{"address_prefix": "127.0.0.1", "prefix_len": 32}]},
}
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
EVERYWHERE = (
    b"x-envoy-retry-on",
    b"x-envoy-upstream-rq-timeout-alt-response",
    b"x-envoy-ip-tags",
    b"x-envoy-original-url",
)
AT_EDGES = (b"x-envoy-original-path", b"x-envoy-original-host", b"x-envoy-decorator-operation", b"x-envoy-downstream-service-node")  # fmt: skip


@pytest.mark.parametrize(
    ("hcm", "passed"),
    [
        (INTERNAL, {b"x-envoy-ip-tags", b"x-envoy-original-url", *AT_EDGES}),
        (EDGE, set()),
        ({}, set(AT_EDGES)),
    ],
    ids=["internal", "edge", "external"],
)
async def test_what_reaches_a_host(world, hcm, passed):
    async with world(hcm=hcm) as w:
        client = await w.client()
        names = EVERYWHERE + AT_EDGES
        client.send(
            b"GET / HTTP/1.1\r\nhost: a\r\n" + b"".join(name + b": 1\r\n" for name in names) + b"\r\n"
        )
        _, request = await w.request()
        assert {name for name, _ in request.headers if name in names} == passed


@pytest.mark.parametrize(("hcm", "shown"), [(INTERNAL, True), (EDGE, False)])
async def test_a_forced_trace_shows_the_request_id(world, hcm, shown):
    async with world(hcm=hcm) as w:
        client = await w.client()
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\nx-envoy-force-trace: 1\r\n\r\n")
        peer, request = await w.request()
        peer.send(OK)
        response = await read_message(client, request=False)
        wanted = request.values(b"x-request-id") if shown else []
        assert response.values(b"x-request-id") == wanted


@pytest.mark.parametrize(("answered", "status"), [(True, 200), (False, 504)])
async def test_the_client_learns_of_attempts(world, answered, status):
    host = {
        "name": "all",
        "domains": ["*"],
        "include_attempt_count_in_response": True,
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "u", "timeout": "1s"}}],
    }
    async with world(hcm={"route_config": {"virtual_hosts": [host]}}) as w:
        client = await w.client()
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        peer, _ = await w.request()
        if answered:
            peer.send(OK)
        response = await read_message(client, request=False)
        assert (response.status, response.values(b"x-envoy-attempt-count")) == (status, [b"1"])


async def test_a_bad_request_is_the_last_of_its_connection(world):
    routes = [{"match": {"prefix": "/"}, "direct_response": {"status": 400}}]
    async with world(routes=routes) as w:
        client = await w.client()
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        response = await read_message(client, request=False)
        assert (response.status, response.values(b"connection")) == (400, [b"close"])
        assert await client.closed() == "eof"
