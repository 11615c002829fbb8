"""What trusted callers ask of the router, on the virtual clock."""

import pytest

from weft.testing.transcript import read_message

ROUTER = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
TRUSTING = {
    "use_remote_address": True,
    "internal_address_config": {"cidr_ranges": [{"address_prefix": "127.0.0.1", "prefix_len": 32}]},
}
DENYING = {"use_remote_address": True}


def manager(base=TRUSTING, **router):
    return {**base, "http_filters": [{"name": "router", "typed_config": {**ROUTER, **router}}]}


def route(**more):
    return [{"match": {"prefix": "/"}, "route": {"cluster": "u", **more}}]


def ask(*fields, path=b"/", method=b"GET"):
    return b"".join(
        [method, b" ", path, b" HTTP/1.1\r\nhost: a\r\n", *[f + b"\r\n" for f in fields], b"\r\n"]
    )


GRPC = b"content-type: application/grpc"


@pytest.mark.parametrize(
    ("hcm", "action", "fields", "after", "status", "flag"),
    [
        (manager(), {}, [b"x-envoy-upstream-rq-timeout-ms: 2500"], 2.5, 504, b""),
        (manager(), {}, [b"x-envoy-upstream-rq-timeout-ms: never"], 15, 504, b""),
        (manager(), {}, [b"x-envoy-upstream-rq-timeout-ms: " + b"9" * 5000], 15, 504, b""),
        (manager(DENYING), {}, [b"x-envoy-upstream-rq-timeout-ms: 2500"], 15, 504, b""),
        (manager(suppress_envoy_headers=True), {}, [b"x-envoy-upstream-rq-timeout-ms: 2500"], 2.5, 504, b""),
        (manager(), {}, [b"x-envoy-expected-rq-timeout-ms: 2500"], 15, 504, b""),
        (manager(respect_expected_rq_timeout=True), {}, [b"x-envoy-expected-rq-timeout-ms: 2500", b"x-envoy-upstream-rq-timeout-ms: 9000"], 2.5, 504, b""),
        (manager(), {"timeout": "3s"}, [b"x-envoy-upstream-rq-timeout-alt-response: 1"], 3, 204, b""),
        (manager(), {"max_stream_duration": {"grpc_timeout_header_max": "4s"}}, [GRPC, b"grpc-timeout: 2S"], 2, 200, b"grpc-status: 4"),
        (manager(), {"max_stream_duration": {"grpc_timeout_header_max": "4s"}}, [GRPC, b"grpc-timeout: 9S"], 4, 200, b"grpc-status: 4"),
        (manager(), {"max_stream_duration": {"grpc_timeout_header_max": "0s", "grpc_timeout_header_offset": "0.5s"}}, [GRPC, b"grpc-timeout: 9S"], 8.5, 200, b"grpc-status: 4"),
        (manager(), {"max_stream_duration": {"grpc_timeout_header_max": "0s"}}, [GRPC, b"grpc-timeout: 0S"], 0, 200, b"grpc-status: 4"),
        (manager(), {"max_stream_duration": {"grpc_timeout_header_max": "4s"}}, [b"grpc-timeout: 2S"], 2, 504, b""),
        (manager(), {"max_grpc_timeout": "4s"}, [GRPC, b"grpc-timeout: 2S"], 2, 200, b"grpc-status: 14"),
        (manager(), {"max_grpc_timeout": "4s"}, [GRPC], 4, 200, b"grpc-status: 14"),
        (manager(), {"max_grpc_timeout": "4s"}, [b"grpc-timeout: 2S"], 15, 504, b""),
        ({**manager(), "common_http_protocol_options": {"max_stream_duration": "3s"}}, {"timeout": "9s", "max_stream_duration": {}}, [], 3, 504, b""),
        ({**manager(), "common_http_protocol_options": {"max_stream_duration": "3s"}}, {"max_stream_duration": {"grpc_timeout_header_max": "0s"}}, [GRPC, b"grpc-timeout: 6S"], 6, 200, b"grpc-status: 4"),
        ({**manager(), "common_http_protocol_options": {"max_stream_duration": "3s"}}, {}, [GRPC], 3, 200, b"grpc-status: 4"),
    ],
)  # fmt: skip
async def test_when_a_caller_is_told(world, loop, hcm, action, fields, after, status, flag):
    async with world(hcm=hcm, routes=route(**action)) as w:
        client = await w.client()
        begin = loop.time()
        client.send(ask(*fields))
        await client.until(lambda: bool(client.received), "an answer")
        assert loop.time() - begin == pytest.approx(after, abs=0.01)
        response = await read_message(client, request=False)
        assert response.status == status
        assert not flag or tuple(flag.split(b": ")) in response.headers
        if status == 204:
            assert response.body == b""


@pytest.mark.parametrize(
    ("hcm", "action", "fields", "told"),
    [
        (manager(), {}, [], [b"x-envoy-expected-rq-timeout-ms: 15000"]),
        (manager(suppress_envoy_headers=True), {}, [b"x-envoy-max-retries: 3"], []),
        (manager(), {"timeout": "0s"}, [], []),
        (manager(), {"timeout": "0s"}, [b"x-envoy-upstream-rq-per-try-timeout-ms: 700"], [b"x-envoy-expected-rq-timeout-ms: 700"]),
        (manager(), {}, [b"x-envoy-upstream-rq-per-try-timeout-ms: 700", b"x-envoy-hedge-on-per-try-timeout: true"], [b"x-envoy-expected-rq-timeout-ms: 15000"]),
        (manager(), {}, [b"x-envoy-upstream-rq-per-try-timeout-ms: 700", b"x-envoy-upstream-rq-timeout-ms: 600"], [b"x-envoy-expected-rq-timeout-ms: 600"]),
        (manager(), {"max_grpc_timeout": "4s"}, [GRPC, b"grpc-timeout: 9S"], [b"x-envoy-expected-rq-timeout-ms: 4000", b"grpc-timeout: 4000m"]),
        (manager(), {"max_stream_duration": {"max_stream_duration": "4s"}}, [GRPC], [b"grpc-timeout: 4000m"]),
        ({**manager(), "common_http_protocol_options": {"max_stream_duration": "3s"}}, {"max_stream_duration": {"max_stream_duration": "0s"}}, [GRPC, b"grpc-timeout: 9S"], []),
    ],
)  # fmt: skip
async def test_what_a_host_is_told(world, hcm, action, fields, told):
    async with world(hcm=hcm, routes=route(**action)) as w:
        client = await w.client()
        client.send(ask(*fields))
        peer, request = await w.request()
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await read_message(client, request=False)
        kept = (b"x-envoy-internal", b"x-forwarded-for")
        seen = [
            name + b": " + value
            for name, value in request.headers
            if name not in kept and name.startswith((b"x-envoy-", b"grpc-timeout"))
        ]
        assert sorted(seen) == sorted(told)


STRICT = ["x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-rq-per-try-timeout-ms", "x-envoy-max-retries", "x-envoy-retry-on", "x-envoy-retry-grpc-on"]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "valid"),
    [
        (b"x-envoy-upstream-rq-timeout-ms: 1000", True),
        (b"x-envoy-upstream-rq-timeout-ms: 1s", False),
        (b"x-envoy-upstream-rq-per-try-timeout-ms: -1", False),
        (b"x-envoy-max-retries: many", False),
        (b"x-envoy-retry-on: 5xx, reset,retriable-4xx", True),
        (b"x-envoy-retry-on: 5xx,cancelled", False),
        (b"x-envoy-retry-grpc-on: cancelled,internal", True),
        (b"x-envoy-retry-grpc-on: 5xx", False),
        (b"x-envoy-retriable-status-codes: not looked at", True),
    ],
)
async def test_a_strict_router(world, field, valid):
    async with world(hcm=manager(strict_check_headers=STRICT)) as w:
        client = await w.client()
        client.send(ask(field))
        if valid:
            peer, _ = await w.request()
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            assert (await read_message(client, request=False)).status == 200
            return
        response = await read_message(client, request=False)
        assert response.status == 400
        assert response.body.startswith(b"invalid header '" + field.split(b":")[0])
        assert response.values(b"connection") == [b"close"]


async def test_a_strict_router_does_not_judge_strangers(world):
    async with world(hcm=manager(DENYING, strict_check_headers=STRICT)) as w:
        client = await w.client()
        client.send(ask(b"x-envoy-max-retries: many"))
        _, request = await w.request()
        assert request.values(b"x-envoy-max-retries") == []


async def test_a_call_that_cannot_be_read_is_answered_in_plain_http(world):
    async with world() as w:
        client = await w.client()
        client.send(
            b"POST x HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n"
        )
        response = await read_message(client, request=False)
        assert (response.status, response.values(b"grpc-status")) == (400, [])
