"""Damaged requests and responses cost one connection each: no traceback, no neighbour, no odd byte onwards.

The corpus is what the differential suites send, damaged at random.  h11, which is stricter than HTTP
has to be, reads everything that the proxy sends upstream and downstream.
"""

import asyncio
from pathlib import Path
from random import Random

import h11
import pytest

from weft.testing import VirtualLoop, run
from weft.testing.damage import damage, sent_by
from weft.testing.network import Link, random_pieces
from weft.testing.peer import Client, Upstream, Waited
from weft.testing.proxy import proxy
from weft.testing.suites import load_suites

SUITES = load_suites(Path(__file__).parent.parent / "differential")
REQUESTS = sent_by("C", SUITES)
RESPONSES = sent_by("U", SUITES)
ROUNDS = 150


class StrictUpstream:
    """An asyncio protocol that reads with h11 and answers ``answer`` to every request."""

    broken: list[str]

    def __init__(self, seen, broken, answers):
        self.seen = seen
        self.broken = broken
        self.answers = answers
        self.reader = h11.Connection(h11.SERVER)
        self.raw = b""
        self.method = b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.raw += data
        try:
            self.reader.receive_data(data)
            while True:
                event = self.reader.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    break
                if isinstance(event, h11.Request):
                    self.seen.append(event)
                    self.method = event.method
                if isinstance(event, h11.EndOfMessage):
                    self.answer()
                if isinstance(event, h11.ConnectionClosed):
                    break
        except h11.RemoteProtocolError as error:
            self.broken.append(f"{error}: {self.raw!r}")
            self.transport.abort()

    def answer(self):
        data = self.answers()
        if data is not None:
            self.transport.write(data)
            self.transport.close()
            return
        head = h11.Response(status_code=200, headers=[("content-length", "2")])
        self.transport.write(self.reader.send(head))
        if self.method != b"HEAD":
            self.transport.write(self.reader.send(h11.Data(data=b"ok")))
        self.reader.send(h11.EndOfMessage())
        self.raw = b""
        if self.reader.our_state is h11.DONE and self.reader.their_state is h11.DONE:
            self.reader.start_next_cycle()
        else:
            self.transport.close()

    def eof_received(self):
        return False

    def connection_lost(self, error):
        pass

    def pause_writing(self):
        pass

    def resume_writing(self):
        pass


def config(listener, port):
    return f"""
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
          access_log:
          - name: file
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: /dev/null
          {listener}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: /}}
                route: {{cluster: u, timeout: 1s}}
          http_filters:
          - name: router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: u
    connect_timeout: 1s
    load_assignment:
      cluster_name: u
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}
"""


LISTENERS = {
    "default": "use_remote_address: true",
    "open": "http_protocol_options: {accept_http_10: true, allow_chunked_length: true, enable_trailers: true}\n"
    "          upgrade_configs: [{upgrade_type: websocket}]\n          proxy_100_continue: true",
    "paths": "normalize_path: true\n          merge_slashes: true\n"
    "          path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD\n          via: weft\n"
    "          stream_error_on_invalid_http_message: true",
}


async def bystander_is_served(bystander):
    bystander.send(b"GET /bystander HTTP/1.1\r\nhost: a\r\n\r\n")
    assert (await bystander.read_until(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200 OK\r\n")


def read_as_client(data, ended, bodyless):
    """h11 must understand what a client is sent; a response that breaks off is broken off by a close."""
    reader = h11.Connection(h11.CLIENT)
    method = "HEAD" if bodyless else "GET"
    reader.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(data)
    try:
        while reader.next_event() not in (h11.NEED_DATA, h11.PAUSED):
            if reader.their_state in (h11.DONE, h11.CLOSED, h11.MUST_CLOSE, h11.SWITCHED_PROTOCOL):
                return
    except h11.RemoteProtocolError as error:
        raise AssertionError(f"{error}: {data!r}") from None
    assert ended or not data, f"an unfinished response, and the connection stays open: {data!r}"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("listener", list(LISTENERS))
def test_damaged_requests(listener, seed):
    random = Random(f"{listener} {seed}")
    seen, broken = [], []

    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: StrictUpstream(seen, broken, lambda: None), "127.0.0.1", 81)
        async with proxy(config(LISTENERS[listener], 81)) as running:
            bystander = await running.connect("main")
            for turn in range(ROUNDS):
                loop.network.link = Link(chunks=random_pieces) if turn % 2 else Link()
                data = damage(random.choice(REQUESTS), REQUESTS, random)
                client = await running.connect("main")
                client.send(data)
                await asyncio.sleep(0.01)
                client.send_eof()
                try:
                    await client.closed(within=5)
                except Waited:
                    pytest.fail(f"neither closed nor answered: {data!r} {bytes(client.received)!r}")
                client.close()
                assert not running.bugs, data
                assert not broken, data
                if turn % 20 == 0:
                    loop.network.link = Link()
                    await bystander_is_served(bystander)
            await bystander_is_served(bystander)
            await asyncio.sleep(2)
            assert running.connections == 1
            assert running.stat("cluster.u.upstream_rq_active") == 0
            bystander.close()
        server.close()

    run(main, loop=VirtualLoop(seed))

    assert len(seen) > ROUNDS / 10


@pytest.mark.parametrize("seed", range(3))
def test_damaged_responses(seed):
    random = Random(seed)
    seen, broken = [], []
    script = []

    async def main():
        loop = asyncio.get_running_loop()
        answers = lambda: script.pop() if script else None  # noqa: E731
        server = await loop.create_server(lambda: StrictUpstream(seen, broken, answers), "127.0.0.1", 81)
        async with proxy(config(LISTENERS["open"], 81)) as running:
            bystander = await running.connect("main")
            for turn in range(ROUNDS):
                loop.network.link = Link(chunks=random_pieces) if turn % 2 else Link()
                method = random.choice(["GET", "GET", "HEAD"])
                client = await running.connect("main")
                script.append(damage(random.choice(RESPONSES), RESPONSES, random))
                data = script[-1]
                client.send(f"{method} / HTTP/1.1\r\nhost: a\r\n\r\n".encode())
                await asyncio.sleep(3)
                assert not script, data
                assert not running.bugs, data
                read_as_client(bytes(client.received), client.ended, method == "HEAD")
                client.close()
                if turn % 20 == 0:
                    loop.network.link = Link()
                    await bystander_is_served(bystander)
            await bystander_is_served(bystander)
            await asyncio.sleep(2)
            assert running.connections == 1
            assert running.stat("cluster.u.upstream_rq_active") == 0
            bystander.close()
        server.close()

    run(main, loop=VirtualLoop(seed))


@pytest.mark.parametrize("seed", range(2))
async def test_noise(seed, loop):
    """Not even HTTP."""
    random = Random(seed)
    upstream = await Upstream.listen(port=81)
    async with proxy(config(LISTENERS["open"], 81)) as running:
        for _ in range(100):
            client = await running.connect("main")
            client.send(random.randbytes(random.randrange(1, 300)))
            await asyncio.sleep(0.01)
            client.send_eof()
            await client.closed(within=5)
            client.close()
        await asyncio.sleep(2)
        assert running.connections == 0
        assert not upstream.peers
    upstream.close()
    assert isinstance(client, Client)
