"""Raw TCP towards a host, in the place of HTTP/1: the far end of a CONNECT that ends here.

The router asks a pool for a connection and reads a response, whatever the protocol.  A
:class:`TunnelPool` makes connections that carry one request each: when one stands, the response is a
200 of ours, and what follows on either side is the other's as it is.  The end of what the host sends is
the end of the response; a reset breaks it off.
"""

from typing import TYPE_CHECKING

from weft.http.headers import Headers
from weft.http.message import Request, Response
from weft.proxy.context import WorkerContext
from weft.proxy.upstream.host import Host
from weft.proxy.upstream.http1 import TUNNEL, UpstreamConnection
from weft.proxy.upstream.pool import Http1Pool, Http1Pools

if TYPE_CHECKING:
    from weft.proxy.upstream.cluster import Cluster


class TunnelConnection(UpstreamConnection):
    def send(self, request: Request, data: bytes, end: bool, upgrade: bool) -> None:
        """``request`` stays here; ``data`` goes before all that the client sends."""
        reader = self.reader
        if reader is None:
            return
        self.protocol = ""
        self.last_use = True
        self.header_sent = 0
        self.wire_sent = 0
        self._request_chunked = False
        self._upgrade = False
        self._state = TUNNEL
        if data:
            self._write(data)
        if end:
            self._request_over()
        reader.on_response(Response(200, b"", Headers()), b"", False, self.pool.clock.now())

    def eof_received(self) -> bool:
        """The host has said all it has to say: the response is complete."""
        self._eof = True
        reader = self.reader
        if reader is None:
            self.pool.forget(self)
            return False
        self._half_closes = not self._request_done
        self._finished(keep=False)
        reader.on_data(b"", True, self.pool.clock.now())
        return False


class TunnelPool(Http1Pool):
    """Connections of raw TCP.  The waiting, the limits and the counting are those of every pool."""

    def new_connection(self) -> UpstreamConnection:
        return TunnelConnection(self, self.context.numbers.next())


def tunnel_pool_of(context: WorkerContext, cluster: "Cluster", host: Host, priority: int) -> Http1Pool:
    """The pool of ``host`` at ``priority``, made on first use."""
    pools = host.tcp_pool
    if not isinstance(pools, Http1Pools):
        pools = Http1Pools()
        host.tcp_pool = pools
    pool = pools.by_priority[priority]
    if pool is None or pool.cluster is not cluster:
        pool = TunnelPool(context, cluster, host, priority)
        pools.by_priority[priority] = pool
    return pool
