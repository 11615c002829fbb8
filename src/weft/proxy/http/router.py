"""The router: the last HTTP filter, where downstream and upstream meet.

:meth:`Router.start` does what the route's action says.  For a forward that is one
:class:`Attempt`: pick a host, take a connection from its pool, write the request, and hand the
response back to the stream.  Every way in which that can fail ends in one local reply.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from weft.api.problems import Where
from weft.api.values import without_effect
from weft.http.headers import ENVOY, Field, Headers
from weft.http.message import Response
from weft.proxy.extensions import HttpFilterKind
from weft.proxy.http.asked import Asked, first_invalid, strict_names, take_asked
from weft.proxy.http.internal_redirect import follow, replace
from weft.proxy.http.kept_body import KeptBody
from weft.proxy.http.mirror import copy_head, start_shadows
from weft.proxy.http.stream import Stream
from weft.proxy.observe import flags
from weft.proxy.route.internal_redirect import InternalRedirectPolicy
from weft.proxy.route.table import DIRECT, FORWARD, REDIRECT, DirectResponse, Forward, Redirect
from weft.proxy.upstream.pool import Http1Pool, pool_of
from weft.proxy.upstream.stream import (
    CONNECTION_TERMINATION,
    OVERFLOW,
    REASONS,
    RequestWriter,
    ResponseReader,
)
from weft.proxy.upstream.tunnel import tunnel_pool_of

if TYPE_CHECKING:
    from weft.proxy.context import WorkerContext
    from weft.proxy.http.connection_manager import ConnectionManager
    from weft.proxy.upstream.cluster import Cluster
    from weft.proxy.upstream.host import Host

FIRST_ATTEMPT: Final = Field(b"x-envoy-attempt-count", b"1")
_OVERLOADED: Final = [Field(b"x-envoy-overloaded", b"true")]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    suppress_headers: bool = False
    """Add no ``x-envoy-*``."""
    respect_expected: bool = False
    """``x-envoy-expected-rq-timeout-ms`` of the proxy before us is the timeout."""
    strict: tuple[bytes, ...] = ()
    """Headers whose values must make sense."""


def router_settings(message: Any, where: Where) -> RouterSettings:
    for name in ("upstream_http_filters", "upstream_log"):
        if len(getattr(message, name)):
            where.field(name).problem(f"not supported yet: {name} of the router")
    without_effect(
        message, ("dynamic_stats", "start_child_span", "suppress_grpc_request_failure_code_stats"), where
    )
    return RouterSettings(
        suppress_headers=message.suppress_envoy_headers,
        respect_expected=message.respect_expected_rq_timeout,
        strict=strict_names(message),
    )


class Router:
    """One per connection manager and worker."""

    def __init__(self, settings: RouterSettings, manager: "ConnectionManager") -> None:
        self.manager = manager
        self.envoy_headers: bool = not settings.suppress_headers
        self._respect_expected: bool = settings.respect_expected
        self._strict: tuple[bytes, ...] = settings.strict
        self._expected: dict[float, Field] = {}
        """Timeout in seconds -> the header that tells the upstream of it."""

    def start(self, stream: Stream, data: bytes, end: bool) -> None:
        manager = self.manager
        manager.stats.rq_total += 1
        route = stream.current_route() if stream.route_cleared else stream.route
        if route is None:
            manager.stats.no_route += 1
            stream.reply(404, b"", flags.NO_ROUTE_FOUND, "route_not_found")
            return
        action = route.action
        kind = action.kind
        if kind == FORWARD:
            assert isinstance(action, Forward)
            self._forward(stream, action, data, end)
        elif kind == REDIRECT:
            assert isinstance(action, Redirect)
            manager.stats.rq_direct_response += 1
            location: list[Field] | None = None
            if stream.head.path:  # what has none (CONNECT) has no place to go to
                place = action.location(stream.head, stream, manager.clock, original_path=self.envoy_headers)
                location = [Field(b"location", place)]
            stream.reply(action.status, b"", 0, "direct_response", location)
        elif kind == DIRECT:
            assert isinstance(action, DirectResponse)
            manager.stats.rq_direct_response += 1
            body = action.body
            if action.format is not None:
                body = action.format.body(stream, manager.clock, body)
            stream.reply(action.status, body, 0, "direct_response", action.own_fields(stream.head), action.content_type)
        else:
            manager.stats.no_cluster += 1
            stream.reply(503, b"", flags.NO_CLUSTER_FOUND, "cluster_not_found")

    def _forward(self, stream: Stream, action: Forward, data: bytes, end: bool) -> None:
        manager = self.manager
        context = manager.context
        request = stream.head
        if request.method == b"CONNECT" and not stream.upgrade:
            stream.close_after = True
            stream.reply(403, b"", 0, "upgrade_failed")
            return
        try:
            target = action.choose(request, stream.random, manager.runtime, stream)
        except Exception:
            manager.bug(stream, "a cluster specifier")
            stream.reply(500, b"", 0, "cluster_specifier_exception")
            return
        cluster = context.clusters.get(target.cluster)
        if cluster is None:
            manager.stats.no_cluster += 1
            stream.reply(action.cluster_not_found_status, b"", flags.NO_CLUSTER_FOUND, "cluster_not_found")
            return
        stream.cluster_name = target.cluster
        stream.cluster = cluster
        headers = request.headers
        if self._strict and headers.mask & ENVOY and not self._strictly(stream):
            return
        asked = self.take_asked(headers, action)
        timeout = action.timeout if asked is None else asked.timeout
        host = cluster.pick(stream, action.hash_policy)
        stream.original_path = request.path
        route = stream.route
        assert route is not None
        stream.attempts = 1
        unsound = route.change_request(
            request,
            action,
            target,
            stream,
            manager.clock,
            attempt=FIRST_ATTEMPT,
            original=self.envoy_headers,
        )
        if host is None:
            cluster.stats.count_response(503, stream.internal)
            stream.reply(503, b"no healthy upstream", flags.NO_HEALTHY_UPSTREAM, "no_healthy_upstream")
            return
        if unsound:
            text = f"invalid header value for: {unsound}"
            details = f"filter_removed_required_request_headers{{{text.replace(' ', '_')}}}"
            stream.reply(503, text.encode(), flags.DOWNSTREAM_PROTOCOL_ERROR, details)
            return
        copied = None if action.mirrors is None or stream.upgrade else copy_head(request)
        if action.auto_host_rewrite and host.hostname:
            action.replace_host(request, host.hostname.encode(), self.envoy_headers)
        stream.host = host
        stream.arrived(data, end)
        connect = action.connect
        if connect is not None and connect.ends_here(request.method):
            pool = tunnel_pool_of(context, cluster, host, action.priority)
            first = connect.preface(stream.connection.remote, stream.connection.local) + data
        else:
            pool = pool_of(context, cluster, host, action.priority)
            first = data
        attempt = Attempt(self, stream, cluster, host, pool, timeout)
        if asked is not None and asked.alternative:
            attempt.timeout_status = 204
        attempt.target_response_headers = target.response_headers
        stream.attempt = attempt
        if action.internal_redirects is not None:
            attempt.redirects = action.internal_redirects
            stream.kept = KeptBody(
                route.body_limit if route.body_limit >= 0 else stream.downstream.buffer_limit
            )
            stream.keep(data)
        attempt.begin(first, end)
        if copied is not None and action.mirrors is not None and not stream.finished:
            told_field = self._told(timeout) if timeout and self.envoy_headers else None
            try:
                start_shadows(context, stream, action.mirrors, copied, timeout, told_field, data, end)
            except Exception:
                manager.bug(stream, "mirroring")

    def take_asked(self, headers: Headers, action: Forward) -> Asked | None:
        """Take what the caller asks of us out of ``headers``, and tell the upstream what came of it.

        None where nobody asked: the times of the route hold.
        """
        asked: Asked | None = None
        if headers.mask & ENVOY or action.grpc_timeout is not None:
            asked = take_asked(headers, action, self._respect_expected)
            told = asked.told
        else:
            told = action.timeout
            retry = action.retry
            if retry is not None and retry.per_try_timeout and (not told or retry.per_try_timeout < told):
                told = retry.per_try_timeout
        if told and self.envoy_headers:
            expected = self._told(told)
            if headers.mask & ENVOY:
                headers.put(expected)
            else:
                headers.append(expected)
        if asked is not None and asked.grpc is not None:
            headers.put(asked.grpc)
        return asked

    def _strictly(self, stream: Stream) -> bool:
        """``strict_check_headers``; false when the request has been refused."""
        wrong = first_invalid(stream.head.headers, self._strict)
        if wrong is None:
            return True
        name = wrong.name.decode("latin-1")
        body = b"invalid header '%s' with value '%s'" % (wrong.name, wrong.value)
        details = f"request_headers_failed_strict_check{{{name}}}"
        stream.reply(400, body, flags.INVALID_ENVOY_REQUEST_HEADERS, details)
        return False

    def _told(self, timeout: float) -> Field:
        """The header that tells the upstream how long it has."""
        expected = self._expected.get(timeout)
        if expected is None:
            if len(self._expected) > 256:
                self._expected.clear()
            expected = Field(b"x-envoy-expected-rq-timeout-ms", b"%d" % round(timeout * 1000))
            self._expected[timeout] = expected
        return expected


class Attempt(ResponseReader):
    """One try of one request on one host."""

    def __init__(
        self,
        router: Router,
        stream: Stream,
        cluster: "Cluster",
        host: "Host",
        pool: Http1Pool,
        timeout: float,
    ) -> None:
        self.router = router
        self.stream = stream
        self.cluster = cluster
        self.host = host
        self.pool = pool
        self.timeout: float = timeout
        self.timeout_status: int = 504
        self.writer: RequestWriter | None = None
        self.target_response_headers: Any = None
        self.redirects: InternalRedirectPolicy | None = None
        """Which redirects to follow."""
        self._waiting: list[bytes] = []
        """Body that came before the connection."""
        self._waiting_size: int = 0
        self._waiting_end: bool = False
        self._trailers: Headers | None = None
        self._holds_client: bool = False
        """The client's reading is paused for us."""
        self._over: bool = False
        self._response_begun: bool = False

    def begin(self, data: bytes, end: bool) -> None:
        if data:
            self._waiting.append(data)
            self._waiting_size = len(data)
        self._waiting_end = end
        stream = self.stream
        now = self.router.manager.clock.current
        if self.timeout and stream.request_done:
            stream.downstream.request_awaited(stream, self.timeout)
        stream.upstream_connect_start = now
        self.pool.acquire(self, now)

    # -- the request -----------------------------------------------------------------------------

    def request_data(self, data: bytes, end: bool) -> None:
        if self._over:
            return
        stream = self.stream
        if end and self.timeout:
            stream.downstream.request_awaited(stream, self.timeout)
        writer = self.writer
        if writer is not None:
            writer.send_data(data, end)
            stream.upstream_wire_sent = writer.wire_sent
            if end:
                stream.last_upstream_sent = self.router.manager.clock.current
            return
        if data:
            self._waiting.append(data)
            self._waiting_size += len(data)
        self._waiting_end = end
        if self._waiting_size > self.pool.buffer_limit and not self._holds_client:
            self._holds_client = True
            stream.downstream.pause_request()

    def request_trailers(self, trailers: Headers) -> None:
        if self._over:
            return
        stream = self.stream
        if self.timeout:
            stream.downstream.request_awaited(stream, self.timeout)
        if self.writer is not None:
            self.writer.send_trailers(trailers)
        else:
            self._trailers = trailers

    def client_blocked(self) -> None:
        if self.writer is not None:
            self.writer.pause()

    def client_writable(self) -> None:
        if self.writer is not None:
            self.writer.resume()

    # -- called by the pool ----------------------------------------------------------------------

    def on_ready(self, writer: RequestWriter, now: float) -> None:
        stream = self.stream
        self.writer = writer
        stream.upstream_connect_end = now
        stream.upstream_connection_id = writer.id
        stream.upstream_local = writer.local
        stream.upstream_remote = self.host.address
        stream.upstream_protocol = writer.protocol
        stream.first_upstream_sent = now
        waiting = self._waiting
        data = b"" if not waiting else waiting[0] if len(waiting) == 1 else b"".join(waiting)
        end = self._waiting_end
        writer.send(stream.head, data, end, stream.upgrade)
        if self._over:
            return  # the answer came at once, and was the end
        stream.upstream_header_sent = writer.header_sent
        stream.upstream_wire_sent = writer.wire_sent
        if self._trailers is not None:
            writer.send_trailers(self._trailers)
            end = True
        if end:
            stream.last_upstream_sent = now
        if waiting:
            self._waiting = []
        if writer.blocked:
            self.on_blocked()
        elif self._holds_client:
            self.on_writable()

    def on_failure(self, reason: int, text: str) -> None:
        self._over = True
        self._fail(reason, text)

    def on_blocked(self) -> None:
        if not self._holds_client:
            self._holds_client = True
            self.stream.downstream.pause_request()

    def on_writable(self) -> None:
        if self._holds_client:
            self._holds_client = False
            self.stream.downstream.resume_request()

    def on_interim(self, status: int, headers: Headers) -> None:
        if status != 103:  # Early hints are dropped unseen, as in Envoy.
            self.cluster.stats.count_response(status, self.stream.internal)
        if status != 103 and self.router.manager.proxy_100_continue:
            self.stream.downstream.send_interim(status, headers)

    def on_response(self, response: Response, data: bytes, end: bool, now: float) -> None:
        stream = self.stream
        router = self.router
        manager = router.manager
        redirects = self.redirects
        if redirects is not None:
            if response.status in redirects.statuses and self._redirected(redirects, response, end):
                return
            stream.kept = None  # it will not be sent again
        self._response_begun = True
        stream.first_upstream_received = now
        stream.details = "via_upstream"
        status = response.status
        host = self.host.stats
        if status >= 500:
            host.rq_error += 1
        else:
            host.rq_success += 1
        stats = self.cluster.stats
        stats.count_response(status, stream.internal)
        headers = response.headers
        stream.response = response
        stream.status = status
        if headers.mask & ENVOY and headers.find(b"x-envoy-upstream-canary") == b"true":
            stats.count_canary(status)
        if router.envoy_headers and stream.request_done:
            elapsed = _service_time(int((now - stream.request_end) * 1000.0 + 0.5))
            if headers.mask & ENVOY:
                headers.put(elapsed)
            else:
                headers.append(elapsed)
        if stream.set_cookies is not None:
            for made in stream.set_cookies:
                headers.append(made)
        stream.upstream_header_received = response.header_bytes
        stream.upstream_wire_received = response.wire_bytes + len(data)
        rules = self.target_response_headers
        if rules is not None:
            rules.apply(headers, stream, manager.clock)
        route = stream.route
        if route is not None and route.response_headers is not None:
            route.response_headers.apply(headers, stream, manager.clock)
        if route is not None and route.virtual_host.attempt_count_in_response:
            headers.put(FIRST_ATTEMPT)
        if end:
            self._complete(now)
        elif stream.downstream.client_is_slow():
            self.client_blocked()
        stream.respond(response, data, end)

    def _redirected(self, policy: InternalRedirectPolicy, response: Response, end: bool) -> bool:
        """The response is a redirect: follow it where it may be followed."""
        stream = self.stream
        new = follow(stream, policy, response)
        if new is None:
            return False
        if end:
            self._over = True
            self.writer = None
            if self._holds_client:
                self._holds_client = False
                stream.downstream.resume_request()
        else:
            self.cancel()  # nobody wants its body
        replace(stream, new, response)
        return True

    def on_data(self, data: bytes, end: bool, now: float) -> None:
        self.stream.upstream_wire_received += len(data)
        if end:
            self._complete(now)
        self.stream.respond_data(data, end)

    def on_trailers(self, trailers: Headers, now: float) -> None:
        self._complete(now)
        self.stream.respond_trailers(trailers)

    def on_reset(self, reason: int, text: str) -> None:
        self._over = True
        self.writer = None
        self._fail(reason, text)

    # -- the end ---------------------------------------------------------------------------------

    def _complete(self, now: float) -> None:
        self._over = True
        self.writer = None
        stream = self.stream
        stream.last_upstream_received = now
        if stream.request_end:
            self.cluster.stats.record_time(int((now - stream.request_end) * 1000.0 + 0.5), stream.internal)

    def _fail(self, reason: int, text: str) -> None:
        stream = self.stream
        stream.attempt = None
        if self._holds_client:
            self._holds_client = False
            stream.downstream.resume_request()
        what = REASONS[reason]
        stream.upstream_failure = text if reason != CONNECTION_TERMINATION else ""
        self.host.stats.rq_error += 1
        details = f"upstream_reset_{'after' if self._response_begun else 'before'}_response_started{{{what.text.replace(' ', '_')}"
        if text:
            details += "|" + text.replace(" ", "_")
        details += "}"
        if self._response_begun:
            stream.abort(what.flag, details)
            return
        self.cluster.stats.count_response(what.status, stream.internal)
        body = "upstream connect error or disconnect/reset before headers. reset reason: " + what.text
        stream.reply(
            what.status,
            body.encode(),
            what.flag,
            details,
            _OVERLOADED if reason == OVERFLOW and self.router.envoy_headers else None,
        )

    def timed_out(self) -> None:
        """The route's timeout: 504, or the end of a response that has begun."""
        if self._over:
            return
        stream = self.stream
        self.cluster.stats.upstream_rq_timeout += 1
        self.host.stats.rq_timeout += 1
        begun = self._response_begun
        if not begun:
            self.host.stats.rq_error += 1
            self.cluster.stats.count_response(self.timeout_status, stream.internal)
        self.cancel()
        stream.attempt = None
        if begun:
            stream.abort(flags.UPSTREAM_REQUEST_TIMEOUT, "response_timeout")
        else:
            stream.reply(
                self.timeout_status,
                b"upstream request timeout" if self.timeout_status == 504 else b"",
                flags.UPSTREAM_REQUEST_TIMEOUT,
                "response_timeout",
            )

    def cancel(self) -> None:
        """Nobody wants the response any more."""
        if self._over:
            return
        self._over = True
        if self._holds_client:
            self._holds_client = False
            self.stream.downstream.resume_request()
        writer = self.writer
        if writer is not None:
            self.writer = None
            writer.reset()
        else:
            self.pool.cancel(self)

    def response_sent(self, request_done: bool) -> None:
        """The client has the whole response; a request still arriving is of no use now."""
        if not self._over:
            self.cancel()


_TIMES: Final[list[Field]] = [Field(b"x-envoy-upstream-service-time", b"%d" % ms) for ms in range(1000)]


def _service_time(milliseconds: int) -> Field:
    if 0 <= milliseconds < 1000:
        return _TIMES[milliseconds]
    return Field(b"x-envoy-upstream-service-time", b"%d" % milliseconds)


def _build(settings: RouterSettings, context: "WorkerContext", stat_prefix: str) -> Any:
    """The connection manager makes the router itself: it stands at the end of every chain."""
    return settings


ROUTER: Final = HttpFilterKind(
    name="envoy.filters.http.router",
    type="envoy.extensions.filters.http.router.v3.Router",
    settings=router_settings,
    build=_build,
    terminal=True,
)
