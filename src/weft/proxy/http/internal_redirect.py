"""Internal redirects: a redirect of the upstream that the proxy follows in the client's place.

The stream that met it ends, with a log line of its own, and a new one takes its place before the
same client: routed anew in the same table, filtered anew.  Only a request that has arrived whole can
be sent again, its body from a :class:`~weft.proxy.http.kept_body.KeptBody`.  What cannot be followed is passed on and counted.
"""

from typing import Any, Final

from weft.http.headers import Field
from weft.http.message import Request, Response
from weft.proxy.http.forwarding import HOST_CHARS
from weft.proxy.http.stream import Stream
from weft.proxy.route.forward import Forward
from weft.proxy.route.internal_redirect import InternalRedirectPolicy
from weft.proxy.route.table import Route

_SCHEMES: Final = (b"http", b"https")
_NOT_IN_URLS: Final = bytes(range(33)) + bytes(range(127, 256))


class Redirects:
    """What one request has met so far: it goes from stream to stream."""

    def __init__(self) -> None:
        self.followed: int = 0
        self.state: dict[str, Any] = {}
        """The predicates' own."""


def absolute_url(location: bytes) -> tuple[bytes, bytes, bytes] | None:
    """(scheme, authority, path with query) of an absolute URL; None for all others."""
    if len(location.translate(None, _NOT_IN_URLS)) != len(location):
        return None
    scheme, separator, rest = location.partition(b"://")
    scheme = scheme.lower()
    if not separator or not scheme.isalpha():
        return None
    rest = rest.partition(b"#")[0]
    cut = len(rest)
    for stop in (b"/", b"?"):
        at = rest.find(stop)
        if 0 <= at < cut:
            cut = at
    authority = rest[:cut].rpartition(b"@")[2]
    path = rest[cut:]
    if not path.startswith(b"/"):
        path = b"/" + path
    host, colon, port = authority.rpartition(b":")
    if not colon or authority.endswith(b"]"):
        host = authority
    elif not port.isdigit() or int(port[:6]) > 65535:
        return None
    if not host or authority.translate(None, HOST_CHARS):
        return None
    return scheme, authority, path


def follow(stream: Stream, policy: InternalRedirectPolicy, response: Response) -> Stream | None:
    """The stream that takes the place of ``stream``, which is still to be ended; None, counted, when
    the redirect is to be passed on."""
    cluster = stream.cluster
    assert cluster is not None
    kept = stream.kept
    location = response.headers.joined(b"location")
    if stream.request_done and kept is not None and not kept.overflowed and location is not None:
        request = _request(stream, policy, response, location)
        if request is not None:
            cluster.stats.upstream_internal_redirect_succeeded_total += 1
            return _successor(stream, request, response.status)
    cluster.stats.upstream_internal_redirect_failed_total += 1
    return None


def _request(
    stream: Stream, policy: InternalRedirectPolicy, response: Response, location: bytes
) -> Request | None:
    """The request for the new place; None, counted, when it must not go there."""
    stats = stream.manager.stats
    url = absolute_url(location)
    if url is None:
        stats.passthrough_internal_redirect_bad_location += 1
        return None
    scheme, authority, path = url
    old = stream.head
    secure = old.scheme != b"http" and stream.connection.transport_protocol == "tls"
    target_secure = scheme == b"https"
    if scheme not in _SCHEMES or (secure != target_secure and not policy.cross_scheme):
        stats.passthrough_internal_redirect_unsafe_scheme += 1
        return None
    redirects = stream.redirects
    if redirects is None:
        redirects = Redirects()
        stream.redirects = redirects
    if redirects.followed >= policy.most:
        stats.passthrough_internal_redirect_too_many_redirects += 1
        return None
    headers = old.headers.copy()
    for name in policy.copied_headers:
        headers.drop(name)
        for value in response.headers.find_all(name):
            headers.append(Field(name, value))
    request = Request(old.method, path, authority, scheme, headers, old.version)
    route = stream.route_table.find(request, stream, stream.random, stream.manager.runtime)
    if route is None:
        stats.passthrough_internal_redirect_no_route += 1
        return None
    for predicate in policy.predicates:
        if not predicate.accepts(redirects.state, route.name, secure, target_secure):
            stats.passthrough_internal_redirect_predicate += 1
            return None
    redirects.followed += 1
    headers.put(
        Field(b"x-envoy-original-url", (b"https://" if secure else b"http://") + old.authority + old.path)
    )
    _shown(stream, request, route)
    return request


def _shown(stream: Stream, request: Request, route: Route) -> None:
    """As in Envoy, the log line of the old stream shows where it was sent."""
    stream.request = request
    stream.route = route
    stream.virtual_host = route.virtual_host
    stream.cluster_name = ""
    action = route.action
    if isinstance(action, Forward) and action.specifier is None:
        name = action.choose(request, stream.random, stream.manager.runtime, stream).cluster
        if name in stream.manager.context.clusters:
            stream.cluster_name = name


def _successor(stream: Stream, request: Request, status: int) -> Stream:
    manager = stream.manager
    kept = stream.kept
    if status == 303 and request.method not in (b"GET", b"HEAD"):
        # RFC 9110 15.4.4: the answer to what was sent is to be fetched.
        request.method = b"GET"
        request.headers.drop(b"content-length")
        kept = None
    new = Stream(manager, stream.downstream, stream.connection, request, stream.start)
    new.route_table = stream.route_table
    new.redirects = stream.redirects
    new.kept = kept
    new.protocol = stream.protocol
    new.remote = stream.remote
    new.internal = stream.internal
    new.request_done = True
    new.request_end = manager.clock.current
    new.bytes_received = stream.bytes_received
    new.header_received = stream.header_received
    new.wire_received = stream.wire_received
    return new


def replace(stream: Stream, new: Stream, response: Response) -> None:
    """End ``stream``, which has met a redirect, and begin ``new`` in its place."""
    manager = stream.manager
    stream.response = response
    stream.status = response.status
    stream.details = "internal_redirect"
    stream.attempt = None
    stream.finish(manager.clock.current)
    kept = new.kept
    new.kept = None
    data = b"" if kept is None else kept.whole()
    new.downstream.replaced(stream, new)
    manager.began(new)
    if manager.forwarding.admit_again(new):
        new.begin(data, True)
