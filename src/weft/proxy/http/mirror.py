"""Mirroring: the shadows of a request that is on its way upstream.

The router asks here only when a route has mirrors, once the request has been sent: whom the main
request does not reach has no shadow either.  From then on the stream tells its shadows what it tells
the router, and what becomes of them is none of its business (:mod:`weft.proxy.upstream.shadow`).
"""

from typing import Final

from weft.http.headers import Field
from weft.http.message import Request
from weft.proxy.context import WorkerContext
from weft.proxy.http.stream import Stream
from weft.proxy.route.mirror import Mirror
from weft.proxy.upstream.pool import pool_of
from weft.proxy.upstream.shadow import Shadow

_INTERNAL: Final = Field(b"x-envoy-internal", b"true")


def copy_head(request: Request) -> Request:
    """The head as it is now: the router may go on changing its own."""
    return Request(
        request.method,
        request.path,
        request.authority,
        request.scheme,
        request.headers.copy(),
        request.version,
    )


def start_shadows(
    context: WorkerContext,
    stream: Stream,
    mirrors: tuple[Mirror, ...],
    head: Request,
    timeout: float,
    told: Field | None,
    data: bytes,
    end: bool,
) -> None:
    """``timeout`` in seconds, and ``told`` the header that tells the upstream of it, if it is told."""
    started: list[Shadow] = []
    for mirror in mirrors:
        name = mirror.target(head, stream.random, context.runtime)
        cluster = context.clusters.get(name) if name else None
        if cluster is None:
            continue
        request = mirror.head(head, stream, context.clock)
        headers = request.headers
        # It comes from this proxy, not from the client.
        headers.put(_INTERNAL)
        _append_address(request, context.identity.address)
        if told is not None:
            headers.put(told)
        host = cluster.pick(stream)
        if host is None:
            context.shadows.rq_total += 1
            cluster.stats.count_response(503, True)
            continue
        shadow = Shadow(context.shadows, pool_of(context, cluster, host, 0), request, timeout)
        started.append(shadow)
        shadow.begin(data, end)
    if started and not end:
        stream.shadows = started


def _append_address(request: Request, address: str) -> None:
    if not address:
        return
    headers = request.headers
    before = headers.joined(b"x-forwarded-for")
    own = address.encode()
    headers.put(Field(b"x-forwarded-for", own if before is None else before + b"," + own))
