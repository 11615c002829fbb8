"""One worker with an HTTP and a TCP listener before one upstream, all in memory."""

from contextlib import asynccontextmanager

import pytest

from weft.testing.peer import Upstream
from weft.testing.proxy import proxy
from weft.testing.transcript import read_message

CONFIG = """
static_resources:
  listeners:
  - name: http
    address: {{socket_address: {{address: 127.0.0.1, port_value: 80}}}}
    per_connection_buffer_limit_bytes: {buffer}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: http
          stream_idle_timeout: {stream_idle}
          common_http_protocol_options: {{idle_timeout: {idle}}}
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: u, timeout: {timeout}}}}}]}}
          http_filters:
          - name: router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  - name: tcp
    address: {{socket_address: {{address: 127.0.0.1, port_value: 90}}}}
    per_connection_buffer_limit_bytes: {buffer}
    filter_chains:
    - filters:
      - name: tcp
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: tcp
          cluster: u
  clusters:
  - name: u
    connect_timeout: 1s
    per_connection_buffer_limit_bytes: {buffer}
    load_assignment:
      cluster_name: u
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 10.0.0.1, port_value: 81}}}}}}
        - endpoint: {{address: {{socket_address: {{address: 10.0.0.2, port_value: 81}}}}}}
"""


@asynccontextmanager
async def running_world(buffer=65536, stream_idle="300s", idle="3600s", timeout="15s"):
    text = CONFIG.format(buffer=buffer, stream_idle=stream_idle, idle=idle, timeout=timeout)
    async with (
        await Upstream.listen("10.0.0.1", 81) as one,
        await Upstream.listen("10.0.0.2", 81) as two,
        proxy(text) as running,
    ):
        yield running, one, two


@pytest.fixture
def world():
    return running_world


async def serve(upstream):
    """Answer every request of every connection, for as long as they last."""
    import asyncio

    tasks = []

    async def answer(peer):
        while not peer.ended:
            await peer.until(lambda: bool(peer.received or peer.ended), "a request")
            if peer.received:
                await read_message(peer, request=True)
                peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        peer.close()

    try:
        while True:
            peer = await upstream.accept(within=1e9)
            peer.within = 1e9
            tasks.append(asyncio.create_task(answer(peer)))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def serving():
    return serve
