"""A request played to a connection manager that nobody is connected to.

The codec parses it, ``forwarding`` admits it, the router answers it where there is nothing to forward:
the same objects as in a worker, in a context of their own (stats that nobody reads, no clusters, no HTTP
filters, no logs), so what they say here is what they do there.
"""

import asyncio
from dataclasses import replace
from random import Random
from typing import Final

from weft.codec.errors import PeerError
from weft.codec.http1 import parse_request
from weft.http.headers import Field, Headers
from weft.http.message import Request, Response
from weft.proxy.address import Address
from weft.proxy.clock import Clock
from weft.proxy.context import WorkerContext
from weft.proxy.deadlines import Deadlines
from weft.proxy.explain.explanation import Answer, Change
from weft.proxy.explain.question import Question
from weft.proxy.explain.tables import Sources, Table
from weft.proxy.http.connection_manager import ConnectionManager
from weft.proxy.http.mirror import copy_head
from weft.proxy.http.stream import Downstream, Stream
from weft.proxy.observe import flags
from weft.proxy.observe.files import LogFiles
from weft.proxy.observe.stats import Store
from weft.proxy.observe.stream_info import ConnectionInfo
from weft.proxy.process.runtime_layers import parsed
from weft.proxy.route.forward import Forward
from weft.proxy.route.match import shown
from weft.proxy.runtime import Runtime
from weft.proxy.upstream.directory import Clusters

LONGEST_BODY: Final = 1024
"""Characters of an answer's body that are told."""
_INTERNAL: Final = b"x-envoy-internal"


class Nobody(Downstream):
    """A client that only remembers what it is answered."""

    def __init__(self) -> None:
        self.buffer_limit = 0
        self.response: Response | None = None
        self.body = b""
        self.idle: float | None = None
        """What the route says in place of the connection manager, in seconds; likewise ``longest``."""
        self.longest: float | None = None

    def send(self, stream: Stream, response: Response, data: bytes, end: bool) -> None:
        self.response = response
        self.body = data

    def send_data(self, stream: Stream, data: bytes, end: bool) -> None:
        self.body += data

    def send_trailers(self, stream: Stream, trailers: Headers) -> None:
        pass

    def send_interim(self, status: int, headers: Headers) -> None:
        pass

    def abort(self, stream: Stream) -> None:
        pass

    def idle_after(self, stream: Stream, seconds: float) -> None:
        self.idle = seconds

    def ends_after(self, stream: Stream, seconds: float) -> None:
        self.longest = seconds

    def completed(self, stream: Stream) -> None:
        pass


class Rehearsal:
    def __init__(
        self, table: Table, question: Question, sources: Sources, loop: asyncio.AbstractEventLoop
    ) -> None:
        deadlines = Deadlines(loop)
        stats = Store()
        runtime = {**sources.runtime, **{key: parsed(text) for key, text in question.runtime.items()}}
        context = WorkerContext(
            loop=loop,
            clock=Clock(loop),
            deadlines=deadlines,
            random=Random(0),
            stats=stats,
            runtime=Runtime(runtime),
            clusters=Clusters(),
            log_files=LogFiles(deadlines, stats),
            identity=sources.identity,
        )
        settings = replace(table.settings, filters=(), access_logs=())
        self.manager = ConnectionManager(settings, context)
        self.downstream = Nobody()
        info = ConnectionInfo(0, 0.0, Address(question.remote, 0), Address("127.0.0.1", table.port))
        info.transport_protocol = "tls" if question.tls else "raw_buffer"
        info.listener_name = table.listener
        info.filter_chain_name = table.filter_chain
        self._info = info
        self._question = question
        self.admission: tuple[Change, ...] = ()
        self.refusal: Answer | None = None
        """How admission answered in place of any route."""
        self.why: str = ""
        """What the codec says of a request that it refuses."""
        self.stream = self._admit()

    def _admit(self) -> Stream:
        question = self._question
        manager = self.manager
        connect = question.method == b"CONNECT"  # which names a host in the place of a path
        path = b"" if connect else question.path
        fields = b"".join([b"%b: %b\r\n" % pair for pair in question.headers])
        head = b"%b %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (
            question.method,
            question.authority if connect else path,
            question.authority,
            fields,
        )
        request = Request(question.method, path, question.authority, b"http", Headers())
        for name, value in question.headers:
            request.headers.append(Field(name, value))
        stream = self._stream(request)
        before = copy_head(request)
        try:
            parsed_head = parse_request(head, 0, manager.options)
            if parsed_head is None:
                raise PeerError("http1.codec_error", "not a whole request")
            request = Request(
                parsed_head.method, parsed_head.target, parsed_head.host or b"", b"http", parsed_head.headers
            )
            stream = self._stream(request)
            stream.upgrade = connect
            admitted = manager.forwarding.admit(stream, parsed_head)
        except PeerError as error:
            self.refusal = Answer(status=error.status, flags="DPE", details=error.kind)
            self.why = error.text
            return stream
        if not admitted:
            self.refusal = self._answer(stream)
            return stream
        if question.internal:
            self._trust(stream, before)
        if question.tls:
            before.scheme = b"https"
        self.admission = _changes(before, stream.head)
        return stream

    def _stream(self, request: Request) -> Stream:
        stream = Stream(self.manager, self.downstream, self._info, request, 0.0)
        stream.random = self._question.random
        stream.protocol = "HTTP/1.1"
        stream.request_done = True
        return stream

    def _trust(self, stream: Stream, before: Request) -> None:
        """As if the client were one from inside the mesh, which may say what others may not."""
        headers = stream.head.headers
        stream.internal = True
        private = self.manager.route_table.internal_only_headers
        headers.drop(b"x-envoy-external-address")
        for field in before.headers.fields:
            mine = field.name.startswith(b"x-envoy-") or field.name in private
            if mine and headers.find(field.name) is None:
                headers.append(field)
        headers.set(_INTERNAL, b"true")

    def answer(self) -> Answer | None:
        """What the house answers to the admitted request; None when it would be forwarded.

        Sets the stream's route.  Spoils the stream's request: routers rewrite it.
        """
        stream = self.stream
        stream.begin(b"", True)
        if self.downstream.response is None:
            return None
        if stream.details == "cluster_not_found" and stream.route is not None:
            if isinstance(stream.route.action, Forward):
                return None  # here there are no clusters at all
        return self._answer(stream)

    def _answer(self, stream: Stream) -> Answer:
        response = self.downstream.response
        status = response.status if response is not None else stream.status
        location = response.headers.find(b"location") if response is not None else None
        return Answer(
            status=status,
            flags=flags.short(stream.flags),
            details=stream.details,
            location="" if location is None else shown(location),
            body=shown(self.downstream.body)[:LONGEST_BODY],
        )

    @property
    def response_headers(self) -> list[tuple[str, str]]:
        response = self.downstream.response
        return [] if response is None else pairs(response.headers)


def pairs(headers: Headers) -> list[tuple[str, str]]:
    return [(shown(field.name), shown(field.value)) for field in headers.fields]


def _changes(before: Request, after: Request) -> tuple[Change, ...]:
    """What differs, but for headers that admission added: those are in the request that is shown."""
    out = []
    for what in ("path", "authority", "scheme"):
        old, new = getattr(before, what), getattr(after, what)
        if old != new:
            out.append(Change(what=what, before=shown(old), after=shown(new)))
    for name in dict.fromkeys(field.name for field in before.headers.fields):
        old, new = before.headers.joined(name), after.headers.joined(name)
        if old != new:
            out.append(
                Change(what=f"header {shown(name)}", before=shown(old or b""), after=shown(new or b""))
            )
    return tuple(out)
