"""One HTTP filter, one request: what becomes of it.

    played = play(FaultFilter(FaultSettings(delay=0.25, delayed=Chance.ALWAYS)), REQUEST)
    assert (played.elapsed, played.status) == (0.25, None)

The filter stands before the router of a real worker on a loop of its own, between a scripted client
and a scripted upstream.
"""

import asyncio
from dataclasses import dataclass, field

from weft.http.message import Request
from weft.proxy.http.filter import HttpFilter
from weft.proxy.http.stream import Stream
from weft.testing.loop import run
from weft.testing.peer import Client, Peer, Upstream
from weft.testing.proxy import proxy
from weft.testing.transcript import Message, read_message

REQUEST = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

_CONFIG = """
static_resources:
  listeners:
  - name: main
    address: {socket_address: {address: 127.0.0.1, port_value: 80}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: main
          route_config:
            virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: upstream}}]}]
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: upstream
    load_assignment:
      cluster_name: upstream
      endpoints:
      - lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 81}}}}]
"""


@dataclass(slots=True, kw_only=True)
class Played:
    """What happened.  Header names are as on the wire."""

    elapsed: float = 0.0
    """Seconds from the request to its arrival upstream, or to the answer."""
    status: int | None = None
    """What the filter answered; None when it let the request pass."""
    request: Message | None = None
    """What the upstream got; None when it got nothing."""
    response: Message | None = None
    """What the client got; None when the connection ended without a response."""
    flags: int = 0
    details: str = ""
    stats: dict[str, int] = field(default_factory=dict)
    """Every counter and gauge that is not 0."""


def play(
    http_filter: HttpFilter, request: bytes | Request = REQUEST, *, response: bytes = RESPONSE, seed: int = 0
) -> Played:
    """Send ``request`` through ``http_filter``; the upstream answers ``response``."""
    data = request if isinstance(request, bytes) else _wire(request)
    return run(lambda: _play(http_filter, data, response, seed), seed=seed)


async def _play(http_filter: HttpFilter, data: bytes, response: bytes, seed: int) -> Played:
    loop = asyncio.get_running_loop()
    played = Played()
    watch = _Watch(played)
    async with (
        await Upstream.listen("127.0.0.1", 81) as upstream,
        proxy(_CONFIG, seed=seed, http_filters=[lambda: watch, lambda: http_filter]) as running,
    ):
        client = await running.connect("main")
        begin = loop.time()
        client.send(data)
        await _first(client, upstream)
        played.elapsed = loop.time() - begin
        if upstream.peers:
            peer: Peer = upstream.peers[0]
            played.request = await read_message(peer, request=True)
            peer.send(response)
            if b"content-length" not in response.lower() and b"chunked" not in response.lower():
                peer.close()
        await client.until(lambda: bool(client.received or client.ended), "a response")
        if client.received:
            played.response = await read_message(client, request=False, bodyless=data.startswith(b"HEAD "))
            if played.request is None:
                played.status = played.response.status
        client.close()
        await asyncio.sleep(0.001)
        played.stats = running.stats()
    return played


async def _first(client: Client, upstream: Upstream) -> None:
    """Until somebody heard something."""
    loop = asyncio.get_running_loop()
    heard = loop.create_task(client.until(lambda: bool(client.received or client.ended), "an answer"))
    passed = loop.create_task(
        upstream.until(lambda: any(peer.received for peer in upstream.peers), "the request")
    )
    done, pending = await asyncio.wait((heard, passed), return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()


class _Watch(HttpFilter):
    """Notes what the stream knows of itself at its end."""

    def __init__(self, played: Played) -> None:
        self._played = played

    def on_complete(self, stream: Stream) -> None:
        self._played.flags = stream.flags
        self._played.details = stream.details


def _wire(request: Request) -> bytes:
    lines = [b"%s %s HTTP/1.1\r\nhost: %s\r\n" % (request.method, request.path, request.authority)]
    lines += [entry.wire for entry in request.headers.fields]
    return b"".join(lines) + b"\r\n"
