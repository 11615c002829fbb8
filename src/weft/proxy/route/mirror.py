"""Request mirroring as routes write it (``request_mirror_policies``).

The most specific list that is not empty holds: the route's, the virtual host's, the table's.
:mod:`weft.proxy.http.mirror` makes the shadows.
"""

from typing import Any

from weft.api.problems import Where
from weft.api.values import fraction
from weft.http.headers import Headers
from weft.http.joined import JOINED_IN_REQUESTS
from weft.http.message import Request
from weft.proxy.clock import Clock
from weft.proxy.observe.stream_info import StreamInfo
from weft.proxy.route.domains import port_start
from weft.proxy.route.header_mutations import HeaderMutation, header_mutations_of, mutate
from weft.proxy.runtime import Chance, Runtime


class Mirror:
    """One policy: which requests get a shadow, where it goes and what is different about it."""

    __slots__ = ("chance", "cluster", "cluster_header", "host", "mutations", "suffix")

    def __init__(self, cluster: str, *, cluster_header: bytes = b"") -> None:
        self.cluster: str = cluster
        """Empty when a request header names it."""
        self.cluster_header: bytes = cluster_header
        self.chance: Chance | None = None
        """None: every request."""
        self.suffix: bool = True
        """Add ``-shadow`` to the host, so that logs of the shadow cluster tell."""
        self.host: bytes = b""
        """In place of the host, and without a suffix; empty to leave it."""
        self.mutations: tuple[HeaderMutation, ...] = ()

    def target(self, request: Request, random_value: int, runtime: Runtime) -> str:
        """The cluster for a shadow of ``request``; empty for no shadow."""
        chance = self.chance
        if chance is not None and not chance.hits_value(random_value, runtime):
            return ""
        if self.cluster:
            return self.cluster
        name = request.header(self.cluster_header)
        return "" if name is None else name.decode("utf-8", "replace")

    def head(self, request: Request, info: StreamInfo, clock: Clock) -> Request:
        """The head of a shadow of ``request``, which is as the router sends it upstream."""
        headers: Headers = request.headers.copy()
        if self.mutations:
            mutate(headers, self.mutations, JOINED_IN_REQUESTS, info, clock)
        authority = self.host
        if not authority:
            authority = shadow_host(request.authority) if self.suffix else request.authority
        return Request(request.method, request.path, authority, request.scheme, headers, request.version)

    def describe(self) -> str:
        return self.cluster or f"header {self.cluster_header.decode('latin-1')}"


def shadow_host(authority: bytes) -> bytes:
    """``host-shadow``; a port stays at the end."""
    at = port_start(authority)
    if at < 0:
        return authority + b"-shadow"
    return authority[:at] + b"-shadow" + authority[at:]


# -- from configuration ----------------------------------------------------------------------------


def mirrors(messages: Any, where: Where) -> tuple[Mirror, ...] | None:
    """From ``repeated RouteAction.RequestMirrorPolicy``; None for an empty list."""
    found = [_mirror(message, where.item(i)) for i, message in enumerate(messages)]
    return tuple(found) if found else None


def _mirror(message: Any, where: Where) -> Mirror:
    if message.cluster and message.cluster_header:
        where.problem(
            f"Only one of cluster '{message.cluster}' or cluster_header '{message.cluster_header}' "
            "in request mirror policy can be specified"
        )
    elif not message.cluster and not message.cluster_header:
        where.problem(
            "Exactly one of cluster or cluster_header in request mirror policy need to be specified"
        )
    mirror = Mirror(message.cluster, cluster_header=message.cluster_header.lower().encode())
    if message.HasField("runtime_fraction"):
        share = fraction(message.runtime_fraction.default_value)
        mirror.chance = Chance(*share, message.runtime_fraction.runtime_key)
    mirror.suffix = not message.disable_shadow_host_suffix_append
    mirror.host = message.host_rewrite_literal.encode()
    mirror.mutations = header_mutations_of(message, "request_headers_mutations", where)
    return mirror
