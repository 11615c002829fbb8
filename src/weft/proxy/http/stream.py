"""One request and its response, between a downstream codec and the router.

A stream is the record of itself (:class:`~weft.proxy.observe.stream_info.StreamInfo`) and three
steps: :meth:`Stream.begin` (admit, route, request filters, router), :meth:`Stream.respond` and its
kin (response filters, headers of the house, codec), :meth:`Stream.finish` (stats, access log).
It knows no protocol: :class:`Downstream` is what it writes to.

Whatever goes wrong ends in :meth:`Stream.reply` (a local reply) or :meth:`Stream.abort`.
"""

import asyncio
import inspect
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final

from mypy_extensions import mypyc_attr

from weft.http.headers import Field, Headers
from weft.http.message import Request, Response
from weft.proxy.http.asked import asked_grpc_timeout, is_grpc_call
from weft.proxy.http.filter import HttpFilter
from weft.proxy.observe import flags
from weft.proxy.observe.stream_info import ConnectionInfo, StreamInfo
from weft.proxy.route.forward import Forward
from weft.proxy.route.timeouts import StreamLimit, grpc_timeout_field

if TYPE_CHECKING:
    from weft.proxy.http.connection_manager import ConnectionManager, UpgradeChain
    from weft.proxy.http.internal_redirect import Redirects
    from weft.proxy.http.kept_body import KeptBody
    from weft.proxy.http.router import Attempt, Router
    from weft.proxy.route.table import Route, RouteTable
    from weft.proxy.upstream.shadow import Shadow


_NO_SETTINGS: Final[dict[str, Any]] = {}
_AT_ONCE: Final = 0.000001
"""Seconds; 0 would mean no limit."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Downstream:
    """What a stream answers to: one exchange on a client's connection, of any protocol."""

    buffer_limit: int
    """Bytes of a request that may wait here."""

    def send(self, stream: "Stream", response: Response, data: bytes, end: bool) -> None:
        """The head and, when ``data`` or ``end`` say so, (a part of) the body."""
        raise NotImplementedError

    def send_data(self, stream: "Stream", data: bytes, end: bool) -> None:
        raise NotImplementedError

    def send_trailers(self, stream: "Stream", trailers: Headers) -> None:
        raise NotImplementedError

    def send_interim(self, status: int, headers: Headers) -> None:
        """A 1xx response."""
        raise NotImplementedError

    def abort(self, stream: "Stream") -> None:
        """The response cannot be completed: the client must see that it is broken."""
        raise NotImplementedError

    def idle_after(self, stream: "Stream", seconds: float) -> None:
        """The stream idle timeout of this stream; 0 for none."""
        raise NotImplementedError

    def ends_after(self, stream: "Stream", seconds: float) -> None:
        """The longest this stream may take; 0 for no limit."""
        raise NotImplementedError

    def pause_request(self) -> None:
        """The upstream takes no more of the body for now."""
        raise NotImplementedError

    def resume_request(self) -> None:
        raise NotImplementedError

    def replaced(self, stream: "Stream", by: "Stream") -> None:
        """``by``, whose request has arrived whole, takes the place of ``stream``."""
        raise NotImplementedError

    def completed(self, stream: "Stream") -> None:
        """The stream is over: count it."""
        raise NotImplementedError

    def client_is_slow(self) -> bool:
        """The client does not take what is written: do not read more from upstream."""
        raise NotImplementedError

    def request_awaited(self, stream: "Stream", seconds: float) -> None:
        """Arm the response timeout; 0 disarms."""
        raise NotImplementedError


class Stream(StreamInfo):
    def __init__(
        self,
        manager: "ConnectionManager",
        downstream: Downstream,
        connection: ConnectionInfo,
        request: Request,
        now: float,
    ) -> None:
        super().__init__(connection, now)
        self.manager = manager
        self.downstream = downstream
        self.request = request
        self.head: Request = request
        """The same; never None here, unlike in the record of a TCP connection."""
        self.random: int = manager.random.getrandbits(63)
        """Drawn once, so that a choice made twice is made the same."""
        self.route_table: RouteTable = manager.route_table
        """For life, whatever table the manager has meanwhile."""
        self.route_cleared: bool = False
        """``route`` is to be found again by whoever needs it (:meth:`current_route`)."""
        self.attempt: Attempt | None = None
        self.shadows: list[Shadow] | None = None
        """Copies of the request that get the rest of its body."""
        self.kept: KeptBody | None = None
        """The body, where it may have to be sent again."""
        self.redirects: Redirects | None = None
        """What internal redirects the request has met."""
        self.filters: list[HttpFilter] | None = None
        self.request_done: bool = False
        """The whole request has arrived."""
        self.response_started: bool = False
        self.response_done: bool = False
        self.finished: bool = False
        self.upgrade: bool = False
        """The client asked for another protocol, or for a tunnel (CONNECT), and may."""
        self.idle_timeout: float = manager.settings.stream_idle_timeout
        """Seconds without a byte either way; the route may say otherwise."""
        self.aborted: bool = False
        """The response was broken off."""
        self.internal: bool = False
        """The request comes from inside the mesh."""
        self.shows_id: bool = False
        """The response carries the request id: the caller asked for a trace."""
        self.close_after: bool = False
        """The downstream connection must not be used again."""
        self.failed: bool = False
        """A filter raised: none is asked any more."""
        self._held: list[tuple[bytes, bool, Headers | None]] | None = None
        """The body, while an asynchronous filter is waited for."""
        self._held_size: int = 0
        self._holds_client: bool = False
        """The client's reading is paused for that."""
        self._task: asyncio.Task[None] | None = None

    # -- the request -----------------------------------------------------------------------------

    def begin(self, data: bytes, end: bool) -> None:
        """The head is admitted (see ``forwarding.admit``): route it, filter it, send it on."""
        manager = self.manager
        self._find_route()
        if self.upgrade and not manager.forwarding.may_upgrade(self):
            return
        chain = manager.filter_chain
        if self.upgrade and manager.upgrade_chains:
            chain = self._upgrade_chain().filters
        if chain.plain:
            self._router().start(self, data, end)
            return
        self.filters = chain.create(self)
        self._filter_request(0, data, end)

    def upgrade_kind(self) -> bytes:
        """As ``upgrade_type`` names it, in lower case."""
        if self.head.method == b"CONNECT":
            return b"connect"
        return (self.head.headers.find(b"upgrade") or b"").lower()

    def _upgrade_chain(self) -> "UpgradeChain":
        manager = self.manager
        return manager.upgrade_chains.get(self.upgrade_kind(), manager.plain_chain)

    def _router(self) -> "Router":
        manager = self.manager
        if self.upgrade and manager.upgrade_chains:
            return self._upgrade_chain().router
        return manager.router

    def _find_route(self) -> None:
        route = self.route_table.find(self.head, self, self.random, self.manager.runtime)
        self.route = route
        if route is not None:
            virtual_host = route.virtual_host
            self.virtual_host = virtual_host
            if virtual_host.virtual_clusters:
                self.virtual_cluster = virtual_host.virtual_cluster(self.head)
            action = route.action
            if isinstance(action, Forward) and action.has_stream_times:
                self.route_times(action)

    def route_times(self, action: Forward) -> None:
        """What the route says of the stream's own timeouts."""
        if action.idle_timeout is not None:
            self.idle_timeout = action.idle_timeout
            self.downstream.idle_after(self, action.idle_timeout)
        if action.stream_limit is not None:
            self._limit(action.stream_limit)

    def _limit(self, limit: StreamLimit) -> None:
        """``max_stream_duration`` of the route, or the client's ``grpc-timeout``; a gRPC server is told."""
        headers = self.head.headers
        default = round(self.manager.max_stream_duration * 1000)
        longest = limit.longest(asked_grpc_timeout(headers), default)
        grpc = is_grpc_call(headers)
        if longest is None:
            if grpc and default:
                headers.drop(b"grpc-timeout")
            self.downstream.ends_after(self, 0.0)
            return
        if grpc:
            headers.put(grpc_timeout_field(longest))
        self.downstream.ends_after(self, longest / 1000 if longest else _AT_ONCE)

    def _filter_request(self, first: int, data: bytes, end: bool) -> None:
        filters = self.filters
        assert filters is not None
        try:
            for i in range(first, len(filters)):
                answer: Any = filters[i].on_request(self.head, self)
                if self.finished:
                    return
                if answer is None:
                    continue
                if inspect.isawaitable(answer):
                    self._held = [(data, end, None)] if data or end else []
                    self._held_size = len(data)
                    self._task = self.manager.loop.create_task(self._wait(answer, i))
                    return
                self.answer(answer)
                return
            if data or end:
                data = self._filter_data(data, end)
        except Exception:
            self._filter_failed()
            return
        if not self.finished and not self.response_started:
            self._router().start(self, data, end)

    def _filter_failed(self) -> None:
        """A filter raised.  It costs this request and no other."""
        self.manager.bug(self, "an HTTP filter")
        self.failed = True
        self.details = "filter_exception"
        self.reply(500, b"", 0, "filter_exception")

    async def _wait(self, answer: Awaitable[Any], index: int) -> None:
        """An ``async def on_request``: the body waits in ``_held`` meanwhile."""
        try:
            response = await answer
        except Exception:
            self._release()
            self._filter_failed()
            return
        held = self._release()
        if self.finished:
            return
        try:
            self._go_on(response, index, held)
        except Exception:
            self._filter_failed()

    def _release(self) -> list[tuple[bytes, bool, Headers | None]]:
        """The waiting is over: what was held meanwhile."""
        held = self._held or []
        self._held = None
        self._task = None
        if self._holds_client:
            self._holds_client = False
            self.downstream.resume_request()
        return held

    def _go_on(
        self, response: Response | None, index: int, held: list[tuple[bytes, bool, Headers | None]]
    ) -> None:
        if response is not None:
            self.answer(response)
            return
        data = b"".join([piece for piece, _, _ in held])
        end = bool(held) and held[-1][1]
        self._filter_request(index + 1, data, end and held[-1][2] is None)
        if held and held[-1][2] is not None:
            self.request_trailers_arrived(held[-1][2])

    def arrived(self, data: bytes, end: bool) -> None:
        """What came with the head is about to be forwarded.

        Whoever answers before that answers the head alone, and leaves the body unread: the
        connection is not used again.
        """
        self.bytes_received += len(data)
        if end:
            self.request_done = True
            if not self.request_end:
                self.request_end = self.start

    def _shadow(self, data: bytes, end: bool, trailers: Headers | None) -> None:
        """Tell the shadows what came; whatever they do, it is not felt."""
        try:
            for shadow in self.shadows or ():
                if trailers is not None:
                    shadow.request_trailers(trailers)
                else:
                    shadow.request_data(data, end)
        except Exception:
            self.manager.bug(self, "mirroring")
            self.shadows = None

    def keep(self, data: bytes) -> None:
        """A piece of the body, as it is sent upstream."""
        if self.kept is not None and not self.kept.add(data) and self.cluster is not None:
            self.cluster.stats.retry_or_shadow_abandoned += 1

    def _filter_data(self, data: bytes, end: bool) -> bytes:
        for http_filter in self.filters or ():
            data = http_filter.on_request_data(data, end, self)
        return data

    def request_data(self, data: bytes, end: bool, now: float) -> None:
        """More of the body arrived."""
        self.bytes_received += len(data)
        if end:
            self.request_done = True
            self.request_end = now
        if self._held is not None:
            self._held.append((data, end, None))
            self._held_size += len(data)
            if self._held_size > self.downstream.buffer_limit and not self._holds_client:
                self._holds_client = True
                self.downstream.pause_request()
            return
        if self.filters is not None and not self.failed:
            try:
                data = self._filter_data(data, end)
            except Exception:
                self._filter_failed()
                return
        if self.kept is not None:
            self.keep(data)
        attempt = self.attempt
        if attempt is not None:
            attempt.request_data(data, end)
        if self.shadows is not None:
            self._shadow(data, end, None)

    def request_trailers_arrived(self, trailers: Headers) -> None:
        """The body is over and trailers came with its end."""
        self.request_trailers = trailers
        self.request_done = True
        self.request_end = self.manager.clock.now()
        if self._held is not None:
            self._held.append((b"", True, trailers))
            return
        if self.filters is not None and not self.failed:
            try:
                for http_filter in self.filters:
                    http_filter.on_request_trailers(trailers, self)
            except Exception:
                self._filter_failed()
                return
        if self.attempt is not None:
            self.attempt.request_trailers(trailers)
        if self.shadows is not None:
            self._shadow(b"", True, trailers)

    # -- the response ----------------------------------------------------------------------------

    def answer(self, response: Response) -> None:
        """A filter answers in the upstream's place."""
        self.reply(
            response.status, response.body, 0, self.details or "filter_response", response.headers.fields
        )

    def reply(
        self,
        status: int,
        body: bytes,
        flag: int,
        details: str,
        fields: list[Field] | None = None,
        content_type: Field | None = None,
    ) -> None:
        """Answer locally: the one place where responses of the house are made.

        ``content_type`` stands above what header rules say; else they stand above ``text/plain``.
        """
        self.flags |= flag
        if not self.details:
            self.details = details
        if self.finished or self.response_done:
            return
        if status == 400 and not self.manager.settings.stream_error_on_invalid:
            self.close_after = True
        if self.attempt is not None:
            self.attempt.cancel()
            self.attempt = None
        if self.response_started:
            self.abort(0, details)
            return
        self.manager.local_reply.send(self, status, body, fields, content_type)

    def respond(self, response: Response, data: bytes, end: bool) -> None:
        """The head of a response, with as much of the body as is there."""
        self.response_started = True
        filters = self.filters
        if filters is not None and not self.failed:
            try:
                for i in range(len(filters) - 1, -1, -1):
                    filters[i].on_response(response, self)
                if data or end:
                    data = self._filter_response_data(data, end)
            except Exception:
                self.response_started = False
                self._filter_failed()
                return
            if self.finished:
                return
        self.response = response
        self.status = response.status
        self.manager.forwarding.finish_response(self, response)
        self.bytes_sent = len(data)
        self.response_done = end
        self.downstream.send(self, response, data, end)

    def _filter_response_data(self, data: bytes, end: bool) -> bytes:
        filters = self.filters
        if filters is not None:
            for i in range(len(filters) - 1, -1, -1):
                data = filters[i].on_response_data(data, end, self)
        return data

    def respond_data(self, data: bytes, end: bool) -> None:
        if self.filters is not None:
            try:
                data = self._filter_response_data(data, end)
            except Exception:
                self._filter_failed()
                return
            if self.finished:
                return
        self.bytes_sent += len(data)
        self.response_done = end
        self.downstream.send_data(self, data, end)

    def respond_trailers(self, trailers: Headers) -> None:
        filters = self.filters
        if filters is not None:
            try:
                for i in range(len(filters) - 1, -1, -1):
                    filters[i].on_response_trailers(trailers, self)
            except Exception:
                self._filter_failed()
                return
            if self.finished:
                return
        self.response_trailers = trailers
        self.response_done = True
        self.downstream.send_trailers(self, trailers)

    def abort(self, flag: int, details: str) -> None:
        """Break the response off: it has begun and cannot be completed."""
        self.flags |= flag
        if not self.details or self.details == "via_upstream":
            self.details = details
        self.close_after = True
        self.aborted = True
        self.manager.stats.downstream_rq_tx_reset += 1
        if not self.finished:
            self.downstream.abort(self)

    def client_gone(self, flag: int = flags.DOWNSTREAM_CONNECTION_TERMINATION, details: str = "") -> None:
        """The downstream connection is lost, or the client gave the stream up."""
        if self.finished:
            return
        self.flags |= flag
        self.details = details or "downstream_remote_disconnect"
        if self.attempt is not None:
            self.attempt.cancel()
            self.attempt = None
        self.finish(self.manager.clock.now())

    def timed_out(self) -> None:
        """The route's timeout (armed by the router) is over."""
        if self.attempt is not None:
            self.attempt.timed_out()

    def finish(self, now: float) -> None:
        """The stream is over, one way or another: count it and log it.  Idempotent."""
        if self.finished:
            return
        self.finished = True
        self.end = now
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self.shadows is not None:
            try:
                for shadow in self.shadows:
                    shadow.stream_over()
            except Exception:
                self.manager.bug(self, "mirroring")
            self.shadows = None
        if self.filters is not None:
            for http_filter in self.filters:
                try:
                    http_filter.on_complete(self)
                except Exception:
                    self.manager.bug(self, "the end of an HTTP filter")
        self.downstream.completed(self)

    # -- for filters -----------------------------------------------------------------------------

    def filter_settings(self, name: str) -> object | None:
        """The most specific ``typed_per_filter_config`` for the filter configured as ``name``."""
        found: object | None = self.filter_table().get(name)
        return found

    def filter_table(self) -> dict[str, Any]:
        """All of ``typed_per_filter_config`` that holds for this stream, by filter name."""
        route = self.current_route()
        if route is None:
            return _NO_SETTINGS
        action = route.action
        if isinstance(action, Forward) and action.specifier is None:
            target = action.choose(self.head, self.random, self.manager.runtime, self)
            if target.filter_settings is not None:
                return target.filter_settings
        settings: dict[str, Any] = route.filter_settings
        return settings

    def current_route(self) -> "Route | None":
        """The route, found again first when a filter has cleared it; None for none."""
        if self.route_cleared:
            self.route_cleared = False
            self._house_times()
            self._find_route()
        return self.route

    def _house_times(self) -> None:
        """The connection manager's timeouts, where the route that was found before had its own."""
        manager = self.manager
        if self.idle_timeout != manager.stream_idle_timeout:
            self.idle_timeout = manager.stream_idle_timeout
            self.downstream.idle_after(self, self.idle_timeout)
        self.downstream.ends_after(self, manager.max_stream_duration)

    def clear_route(self) -> None:
        """A filter changed what routes look at: whoever asks next finds the route again.

        However many filters clear it, it is found once; nobody asking, not at all.
        """
        self.route = None
        self.virtual_host = None
        self.virtual_cluster = ""
        self.route_cleared = True

    def every_setting(self, name: str) -> list[Any]:
        """What table, virtual host, route and weighted cluster say to the filter ``name``, in that order."""
        route = self.current_route()
        if route is None:
            return []
        action = route.action
        target = None
        if isinstance(action, Forward) and action.specifier is None:
            target = action.choose(self.head, self.random, self.manager.runtime, self)
        return route.every_setting(name, target)
