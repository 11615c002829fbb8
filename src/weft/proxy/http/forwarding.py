"""The rules of a good intermediary: what is checked and changed in every request and response.

:meth:`Forwarding.admit` runs once per request, before routing: version, host, path normalization,
trust (``x-forwarded-*``, ``x-envoy-*``), request id, hop-by-hop headers.  Policy and upstream see
exactly what it leaves.  :meth:`Forwarding.finish_response` is its counterpart.
"""

from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from weft.codec.errors import PeerError
from weft.codec.http1 import CODEC_ERROR, NAMES_OTHERS, RequestHead, has_expect_continue
from weft.http.headers import (
    CONNECTION,
    DATE,
    ENVOY,
    EXPECT,
    FORWARDED_FOR,
    FORWARDED_OTHER,
    FORWARDED_PROTO,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    REQUEST_ID,
    SERVER,
    TE,
    UNDERSCORE,
    UPGRADE,
    USER_AGENT,
    VIA,
    Field,
    Headers,
)
from weft.http.message import Request, Response
from weft.http.path import FORWARD, REDIRECT, PathPolicy
from weft.proxy.address import Address, CidrSet
from weft.proxy.http.settings import (
    APPEND_IF_ABSENT,
    DROP,
    OVERWRITE,
    REJECT,
    STRIP_ANY_PORT,
    STRIP_NO_PORT,
    HcmSettings,
)
from weft.proxy.route.forward import Forward

if TYPE_CHECKING:
    from weft.proxy.clock import Clock
    from weft.proxy.http.connection_manager import ConnectionManager
    from weft.proxy.http.stream import Stream

_HTTP: Final = Field(b"x-forwarded-proto", b"http")
_HTTPS: Final = Field(b"x-forwarded-proto", b"https")
_INTERNAL: Final = Field(b"x-envoy-internal", b"true")
_HOP: Final = CONNECTION | KEEP_ALIVE | PROXY_CONNECTION | UPGRADE
_LOOKED_AT: Final = _HOP | ENVOY | FORWARDED_FOR | FORWARDED_OTHER | TE | UNDERSCORE | FORWARDED_PROTO

_EDGE_ONLY: Final = frozenset(
    (
        b"x-envoy-decorator-operation",
        b"x-envoy-downstream-service-cluster",
        b"x-envoy-downstream-service-node",
        b"x-envoy-original-path",
        b"x-envoy-original-host",
    )
)
"""Stripped from requests that come from outside the mesh (an edge proxy)."""
_TRUSTED_ONLY: Final = frozenset(
    (
        b"x-envoy-retriable-status-codes",
        b"x-envoy-retriable-header-names",
        b"x-envoy-retry-on",
        b"x-envoy-retry-grpc-on",
        b"x-envoy-max-retries",
        b"x-envoy-upstream-alt-stat-name",
        b"x-envoy-upstream-rq-timeout-ms",
        b"x-envoy-upstream-rq-per-try-timeout-ms",
        b"x-envoy-upstream-rq-timeout-alt-response",
        b"x-envoy-expected-rq-timeout-ms",
        b"x-envoy-force-trace",
        b"x-envoy-ip-tags",
        b"x-envoy-original-url",
        b"x-envoy-hedge-on-per-try-timeout",
    )
)
"""Stripped from every request that is not internal."""
_PROTECTED: Final = frozenset((b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"))
_MOST_NOMINATED: Final = 10


class Forwarding:
    def __init__(self, settings: HcmSettings, manager: "ConnectionManager") -> None:
        self.settings = settings
        self.manager = manager
        self.clock: Clock = manager.clock
        # What every request looks at, without a hop.
        self._allow_http_10: bool = settings.options.allow_http_10
        self._absolute: bool = settings.allow_absolute_url
        self._strip: bool = settings.strip_port != STRIP_NO_PORT
        self._strip_dot: bool = settings.strip_trailing_host_dot
        self._generate_id: bool = settings.generate_request_id
        self._use_remote: bool = settings.use_remote_address
        self._hops: int = settings.xff_num_trusted_hops
        self._skip_append: bool = settings.skip_xff_append
        self._append_port: bool = settings.append_x_forwarded_port
        self._add_user_agent: bool = settings.add_user_agent
        self._scheme: bytes = settings.scheme_override
        self._server_mode: int = settings.server_mode
        self._has_via: bool = bool(settings.via)
        self._echo_id: bool = settings.always_set_request_id
        self._any_internal: bool = bool(settings.internal_cidrs)
        self._private_names: tuple[bytes, ...] = manager.route_table.internal_only_headers
        self._server: Field = Field(b"server", settings.server_name)
        self._via: Field = Field(b"via", settings.via)
        self._internal = CidrSet(settings.internal_cidrs)
        self._date: Field = Field(b"date", b"")
        self._user_agent: Field = Field(b"user-agent", manager.context.identity.cluster.encode())
        self._paths = PathPolicy(
            normalize=settings.normalize_path,
            merge_slashes=settings.merge_slashes,
            escaped_slashes=settings.escaped_slashes,
        )
        self._plain_path: bool = not (
            settings.normalize_path or settings.merge_slashes or settings.escaped_slashes
        )

    def admit(self, stream: "Stream", head: RequestHead) -> bool:
        """Judge and prepare the request; false when it has been answered here."""
        settings = self.settings
        request = stream.head
        headers = request.headers
        if head.minor == 0 and not self._allow_http_10:
            raise PeerError("low_version", "HTTP/1.0 is not allowed", 426)
        self._target(stream, head)
        mask = headers.mask
        if mask & _LOOKED_AT:
            if mask & UNDERSCORE and settings.underscores:
                self._underscores(stream)
            if mask & (_HOP | TE):
                self._hop_by_hop(stream, head)
        authority = request.authority
        if not authority or authority.translate(None, HOST_CHARS):
            if authority:
                raise PeerError("http.invalid_authority", "invalid character in the host")
            if mask & EXPECT:
                self._expect(stream)
            if head.minor == 0 and head.host is None and settings.options.default_host:
                request.authority = settings.options.default_host
            elif head.host is None:
                stream.reply(400, b"", 0, "missing_host_header")
                return False
        elif mask & EXPECT:
            self._expect(stream)
        path = request.path
        if path[:1] != b"/" and request.method != b"CONNECT":
            self.manager.stats.downstream_rq_non_relative_path += 1
            stream.reply(404, b"", 0, "absolute_path_rejected")
            return False
        if (not self._plain_path or b"#" in path) and path and not self._normalize(stream):
            return False
        if self._strip:
            self._strip_port(stream)
        if self._strip_dot:
            _strip_dot(request)
        self._trust(stream)
        if self._generate_id:
            if not mask & REQUEST_ID:
                headers.append(Field(b"x-request-id", _uuid(self.manager.random.getrandbits(128))))
            elif self._use_remote and not settings.preserve_external_request_id:
                # An edge proxy does not believe a stranger's id.
                headers.put(Field(b"x-request-id", _uuid(self.manager.random.getrandbits(128))))
        return True

    def admit_again(self, stream: "Stream") -> bool:
        """Of a request that was admitted before, judge the new authority and path; likewise."""
        if (not self._plain_path or b"#" in stream.head.path) and not self._normalize(stream):
            return False
        if self._strip:
            self._strip_port(stream)
        if self._strip_dot:
            _strip_dot(stream.head)
        return True

    def _expect(self, stream: "Stream") -> None:
        """``expect: 100-continue`` is granted here, unless the upstream is to be asked."""
        headers = stream.head.headers
        if not self.manager.proxy_100_continue and has_expect_continue(headers):
            headers.drop(b"expect")
            stream.downstream.send_interim(100, Headers())

    def _target(self, stream: "Stream", head: RequestHead) -> None:
        """Absolute-form and authority-form targets (RFC 9112 3.2)."""
        request = stream.head
        target = request.path
        if stream.upgrade:
            self._connect_target(stream, target)
            return
        if target[:1] == b"/":
            return
        scheme, sep, rest = target.partition(b"://")
        if sep and self._absolute and scheme.lower() in (b"http", b"https"):
            cut = len(rest)
            for stop in (b"/", b"?", b"#"):
                at = rest.find(stop)
                if 0 <= at < cut:
                    cut = at
            authority = rest[:cut]
            path = rest[cut:]
            if b"@" in authority or not authority:
                raise PeerError("http1.invalid_url", "the target's authority is not a host")
            request.authority = authority
            request.path = path or b"/"
        elif not self._absolute and sep:
            return
        elif target != b"*" or request.method != b"OPTIONS":
            kind = "http1.invalid_scheme" if sep else "http1.invalid_url" if target == b"*" else CODEC_ERROR
            raise PeerError(kind, "the target is neither a path nor an absolute URL")

    def _connect_target(self, stream: "Stream", target: bytes) -> None:
        """CONNECT names a host and a port, and nothing else (RFC 9112 3.2.3)."""
        host, _, port = target.rpartition(b":")
        if (
            not host
            or not port.isdigit()
            or len(port) > 5
            or int(port) > 65535
            or host.translate(None, HOST_CHARS)
            or (b":" in host and not (host.startswith(b"[") and host.endswith(b"]")))
        ):
            raise PeerError("http1.invalid_url", "the target of CONNECT is host:port")
        request = stream.head
        request.authority = target
        request.path = b""
        request.headers.drop(b"content-length")

    def _normalize(self, stream: "Stream") -> bool:
        request = stream.head
        fragment = b"#" in request.path
        outcome, request.path = self._paths.apply(request.path)
        if outcome == FORWARD:
            return True
        if outcome == REDIRECT:
            self.manager.stats.downstream_rq_redirected_with_normalized_path += 1
            stream.reply(307, b"", 0, "path_normalization_failed", [Field(b"location", request.path)])
            return False
        if fragment:
            stream.close_after = True
        self.manager.stats.downstream_rq_failed_path_normalization += 1
        stream.reply(400, b"", 0, "path_normalization_failed")
        return False

    def _strip_port(self, stream: "Stream") -> None:
        request = stream.head
        if request.method == b"CONNECT":
            return  # the port is half of what is asked for
        host, sep, port = request.authority.rpartition(b":")
        if (
            not sep
            or not port.isdigit()
            or len(port) > 10
            or host.endswith(b":")
            or (host.startswith(b"[") and not host.endswith(b"]"))
        ):
            return
        if self.settings.strip_port == STRIP_ANY_PORT or int(port) == stream.connection.local.port:
            request.authority = host

    def _underscores(self, stream: "Stream") -> None:
        headers = stream.head.headers
        kept = [field for field in headers.fields if not field.bit & UNDERSCORE]
        if len(kept) == len(headers.fields):
            return
        if self.settings.underscores == REJECT:
            self.manager.codec_stats.requests_rejected_with_underscores_in_headers += 1
            raise PeerError("http1.unexpected_underscore", "an underscore in a header name")
        if self.settings.underscores == DROP:
            self.manager.codec_stats.dropped_headers_with_underscores += len(headers.fields) - len(kept)
            headers.fields = kept

    def _hop_by_hop(self, stream: "Stream", head: RequestHead) -> None:
        """Connection-level headers end here, except those of an upgrade."""
        headers = stream.head.headers
        if head.upgrade and head.method != b"CONNECT":
            if (headers.find(b"upgrade") or b"").lower() != b"h2c":
                stream.upgrade = True
                return
            headers.drop(b"http2-settings")
            head.upgrade = False
        named: set[bytes] = set()
        kept: list[Field] = []
        for field in headers.fields:
            bit = field.bit
            if not bit & _HOP:
                kept.append(field)
            elif bit & CONNECTION and field.note & NAMES_OTHERS:
                self._nominated(field.value, named)
        headers.fields = [field for field in kept if field.name not in named] if named else kept
        if headers.mask & TE:
            self._te(headers)

    def _nominated(self, value: bytes, named: set[bytes]) -> None:
        """Headers that ``connection`` names are for this hop only."""
        for token in value.lower().split(b","):
            token = token.strip(b" \t")
            if token and token not in (b"close", b"keep-alive", b"upgrade", b"te"):
                named.add(token)
        if (
            named & _PROTECTED
            or any(token.startswith(b":") for token in named)
            or len(named) > _MOST_NOMINATED
        ):
            raise PeerError(
                "http1.connection_header_rejected", "connection names a header that is not its own"
            )

    def _te(self, headers: Headers) -> None:
        value = headers.joined(b"te")
        if value is None:
            return
        if b"trailers" in [token.strip() for token in value.lower().split(b",")]:
            headers.put(Field(b"te", b"trailers"))
        else:
            headers.drop(b"te")

    def may_upgrade(self, stream: "Stream") -> bool:
        """By the route where it says something, else by the connection manager; refuses else."""
        kind = stream.upgrade_kind()
        settings = self.settings.upgrades.get(kind)
        allowed = settings is not None and settings.enabled
        route = stream.route
        if route is not None and isinstance(route.action, Forward):
            allowed = route.action.upgrades.get(kind, allowed)
            if route.action.specifier is None:  # a plugin is asked once, by the router
                stream.cluster_name = route.action.choose(
                    stream.head, stream.random, self.manager.runtime, stream
                ).cluster
        if not allowed:
            stream.upgrade = False
            if route is None:
                return True  # answered 404 in the end; the router lets no tunnel pass that was not allowed
            self.manager.stats.downstream_rq_ws_on_non_ws_route += 1
            stream.close_after = True
            stream.reply(403, b"", 0, "upgrade_failed")
        return allowed

    def _trust(self, stream: "Stream") -> None:
        """Who is the client, how did it come, and which of its headers are believed."""
        settings = self.settings
        headers = stream.head.headers
        mask = headers.mask
        connection = stream.connection
        internal = False
        edge = False
        if self._use_remote:
            remote: Address | None = connection.remote
            single = not mask & FORWARDED_FOR
            if self._hops and mask & FORWARDED_FOR:
                remote, single = _last_forwarded(headers.joined(b"x-forwarded-for"), self._hops - 1)
            if not self._skip_append:
                self._append_forwarded_for(headers, connection.remote)
            if self._hops == 0 or not mask & FORWARDED_PROTO:
                headers.put(_HTTP if connection.transport_protocol != "tls" else _HTTPS)
            if settings.append_x_forwarded_port and (
                settings.xff_num_trusted_hops == 0 or headers.find(b"x-forwarded-port") is None
            ):
                headers.put(Field(b"x-forwarded-port", b"%d" % connection.local.port))
            edge = True
        else:
            remote = None
            single = False
            if mask & FORWARDED_FOR:
                remote, single = _last_forwarded(
                    headers.joined(b"x-forwarded-for"), settings.xff_num_trusted_hops
                )
            if not mask & FORWARDED_PROTO:
                if self._scheme:
                    headers.append(_HTTPS if self._scheme == b"https" else _HTTP)
                else:
                    headers.append(_HTTP if connection.transport_protocol != "tls" else _HTTPS)
        if remote is not None:
            stream.remote = remote
            if single and self._any_internal and remote.ip in self._internal:
                internal = True
        if mask & ENVOY:
            headers.drop(b"x-envoy-internal")
        if mask & FORWARDED_OTHER and not settings.forward_client_cert:
            # Nobody has shown a certificate here: what claims to tell of one is forged.
            headers.drop(b"x-forwarded-client-cert")
        if internal:
            stream.internal = True
            if mask & ENVOY and headers.find(b"x-envoy-force-trace") is not None:
                stream.shows_id = True
            headers.put(_INTERNAL)
            edge = False
        elif mask & ENVOY:
            kept = [
                field
                for field in headers.fields
                if not field.bit & ENVOY
                or (field.name not in _TRUSTED_ONLY and not (edge and field.name in _EDGE_ONLY))
            ]
            headers.fields = kept
        if edge:
            headers.put(Field(b"x-envoy-external-address", (remote or connection.remote).ip.encode()))
        if not internal:
            for name in self._private_names:
                headers.drop(name)
        proto = headers.find(b"x-forwarded-proto") if mask & FORWARDED_PROTO else None
        if proto is not None and proto.lower() in (b"http", b"https"):
            stream.head.scheme = proto.lower()
        elif connection.transport_protocol == "tls":
            stream.head.scheme = b"https"
        if self._scheme:
            stream.head.scheme = self._scheme
        if self._add_user_agent:
            headers.put(Field(b"x-envoy-downstream-service-cluster", self._user_agent.value))
            if not mask & USER_AGENT:
                headers.append(self._user_agent)
            if self.manager.context.identity.node_id:
                headers.put(
                    Field(b"x-envoy-downstream-service-node", self.manager.context.identity.node_id.encode())
                )
        if self._has_via:
            before = headers.joined(b"via") if mask & VIA else None
            headers.put(self._via if before is None else Field(b"via", before + b", " + settings.via))

    def _append_forwarded_for(self, headers: Headers, remote: Address) -> None:
        if not remote.ip:
            return
        # Our own address stands for loopback: it would mean nothing to whoever reads it.
        local = self.manager.context.identity.address
        ip = (local if local and remote.ip in ("127.0.0.1", "::1") else remote.ip).encode()
        before = headers.joined(b"x-forwarded-for") if headers.mask & FORWARDED_FOR else None
        headers.put(Field(b"x-forwarded-for", ip if before is None else before + b"," + ip))

    def finish_response(self, stream: "Stream", response: Response) -> None:
        """The headers of the house, on their way to the client."""
        headers = response.headers
        mask = headers.mask
        settings = self.settings
        if mask & _HOP and not (response.status == 101 and stream.upgrade):
            headers.fields = [field for field in headers.fields if not field.bit & _HOP]
        if not mask & DATE or headers.find(b"date") is None:
            date_value = self.clock.date(self.clock.current)
            if self._date.value is not date_value:
                self._date = Field(b"date", date_value)
            headers.fields.append(self._date)
        if self._server_mode == OVERWRITE:
            if mask & SERVER:
                headers.put(self._server)
            else:
                headers.fields.append(self._server)
        elif self._server_mode == APPEND_IF_ABSENT and (not mask & SERVER or headers.find(b"server") is None):
            headers.append(self._server)
        if self._has_via:
            before = headers.joined(b"via") if mask & VIA else None
            headers.put(self._via if before is None else Field(b"via", before + b", " + settings.via))
        if self._echo_id or stream.shows_id:
            request_id = stream.head.headers.find(b"x-request-id")
            if request_id is not None:
                headers.put(Field(b"x-request-id", request_id))


def _uuid(bits: int) -> bytes:
    """A version-4 UUID (RFC 9562 5.4) of random bits."""
    text = bits.to_bytes(16, "big").hex()
    variant = _VARIANT[bits & 3]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}".encode()


_VARIANT: Final = "89ab"


def _strip_dot(request: Request) -> None:
    host, colon, port = request.authority.partition(b":")
    if host.endswith(b"."):
        request.authority = host[:-1] + colon + port


HOST_CHARS: Final = bytes(set(range(0x21, 0x7F)) - set(b'"<>\\^`{|}/?#@,'))
"""What may stand in an authority: one host, no user, no path (RFC 3986 3.2)."""


def _last_forwarded(value: bytes | None, hops: int) -> tuple[Address | None, bool]:
    """The address ``hops`` before the last in ``x-forwarded-for``, and whether it was the only one."""
    if not value:
        return None, False
    parts = value.split(b",")
    if hops >= len(parts):
        return None, False
    text = parts[-1 - hops].strip().decode("latin-1")
    try:
        ip = ip_address(text.strip("[]"))
    except ValueError:
        return None, False
    return Address(str(ip), 0), len(parts) == 1
