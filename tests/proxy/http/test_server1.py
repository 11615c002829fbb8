"""HTTP/1 towards clients, on the virtual loop: what the differential exchanges cannot time or count."""

import asyncio

import pytest

from weft.testing.peer import Upstream
from weft.testing.proxy import proxy

CONFIG = """
static_resources:
  listeners:
  - name: main
    address: {{socket_address: {{address: 127.0.0.1, port_value: 80}}}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: main
          {options}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: /direct}}
                direct_response: {{status: 200, body: {{inline_string: here}}}}
              - match: {{prefix: /}}
                route: {{cluster: u, timeout: 10s}}
          http_filters:
          - name: router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: u
    type: STATIC
    load_assignment:
      cluster_name: u
      endpoints:
      - lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 81}}}}}}}}]
"""
GET = b"GET /direct HTTP/1.1\r\nhost: a\r\n\r\n"


def config(options=""):
    return CONFIG.format(options=options)


def gauges(running):
    """Every gauge of requests and connections under way that is not 0."""
    return {
        name: value
        for name, value in running.stats().items()
        if name.startswith(("http.", "cluster.", "listener.main"))
        and name.endswith(("_active", "_buffered"))
        and value
    }


async def test_pipelined_requests_are_answered_in_order():
    async with proxy(config()) as running:
        client = await running.connect("main")
        client.send(b"".join(b"GET /direct/%d HTTP/1.1\r\nhost: a\r\n\r\n" % i for i in range(50)))
        await client.until(lambda: client.received.count(b"HTTP/1.1 200 OK") == 50, "fifty answers")
        client.close()
        await asyncio.sleep(0.01)
        assert running.stats()["http.main.downstream_rq_total"] == 50
        assert gauges(running) == {}


@pytest.mark.parametrize("cut", range(0, 75, 5))
async def test_a_client_that_leaves_anywhere_leaves_nothing_behind(cut):
    request = b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 30\r\n\r\n" + b"x" * 30
    async with await Upstream.listen("127.0.0.1", 81), proxy(config()) as running:
        client = await running.connect("main")
        client.send(request[:cut])
        await asyncio.sleep(0.01)
        client.close()
        await asyncio.sleep(0.01)
        assert gauges(running) == {}


@pytest.mark.parametrize("cut", range(0, 60, 4))
async def test_a_host_that_leaves_anywhere_costs_one_request(cut):
    response = b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n" + b"y" * 20
    async with await Upstream.listen("127.0.0.1", 81) as upstream, proxy(config()) as running:
        client = await running.connect("main")
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        peer = await upstream.accept()
        await peer.until(lambda: b"\r\n\r\n" in peer.received, "the request")
        peer.send(response[:cut])
        peer.close()
        await client.until(lambda: bool(client.received or client.ended), "an answer or an end")
        await asyncio.sleep(0.01)
        if cut < response.index(b"\r\n\r\n") + 4:
            assert client.received[9:12] in (b"502", b"503")
        client.close()
        await asyncio.sleep(0.01)
        assert gauges(running) == {}


@pytest.mark.parametrize(("options", "sent", "after", "status", "stat"), [
    pytest.param("request_headers_timeout: 2s", b"GET / HT", 2.0, b"408", "downstream_rq_header_timeout", id="headers"),
    pytest.param("request_timeout: 3s", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nx", 3.0, b"408", "downstream_rq_timeout", id="request"),
    pytest.param("stream_idle_timeout: 4s", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", 4.0, b"504", "downstream_rq_idle_timeout", id="stream-idle"),
    pytest.param("", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", 10.0, b"504", "downstream_rq_5xx", id="route"),
])  # fmt: skip
async def test_timeouts_answer_when_they_say(options, sent, after, status, stat):
    loop = asyncio.get_running_loop()
    async with await Upstream.listen("127.0.0.1", 81), proxy(config(options)) as running:
        client = await running.connect("main")
        begin = loop.time()
        client.send(sent)
        client.within = 60
        await client.until(lambda: bool(client.received), "an answer")
        assert loop.time() - begin == pytest.approx(after, abs=0.05)
        assert client.received[9:12] == status
        client.close()
        await asyncio.sleep(0.01)
        assert running.stats()[f"http.main.{stat}"] == 1
        assert gauges(running) == {}


async def test_an_idle_connection_ends():
    loop = asyncio.get_running_loop()
    async with proxy(config("common_http_protocol_options: {idle_timeout: 5s}")) as running:
        client = await running.connect("main")
        client.send(GET)
        await client.until(lambda: b"here" in client.received, "the answer")
        begin = loop.time()
        client.within = 60
        await client.closed()
        client.close()
        assert loop.time() - begin == pytest.approx(5.0, abs=0.05)
        assert running.stats()["http.main.downstream_cx_idle_timeout"] == 1


async def test_bytes_after_the_last_request_are_read_and_thrown_away():
    async with proxy(config()) as running:
        client = await running.connect("main")
        client.send(b"NONSENSE\x00\r\n\r\n" + b"z" * 100_000)
        await client.closed()
        client.close()
        assert client.received.startswith(b"HTTP/1.1 400 Bad Request")
        assert running.stats()["http.main.downstream_cx_protocol_error"] == 1
