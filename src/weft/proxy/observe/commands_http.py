"""Commands about the HTTP exchange: headers, path, query, gRPC status, ids."""

import uuid
from random import Random
from typing import Final
from urllib.parse import unquote_to_bytes

from weft.http.headers import bit_of
from weft.proxy.clock import Clock
from weft.proxy.observe.commands import (
    ALONE,
    LENGTH,
    OPTIONAL,
    REQUIRED,
    UNCHECKED,
    Command,
    Constant,
    FormatError,
    Number,
    Operator,
    Plain,
    Table,
    Unchecked,
    alone,
    nothing,
    truncated,
)
from weft.proxy.observe.stream_info import StreamInfo

_NAME: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


def _header_name(name: str) -> bytes:
    raw = name.lower().encode()
    if not _NAME.issuperset(raw[1:] if raw.startswith(b":") else raw):
        raise FormatError("Invalid header configuration. Format string contains invalid characters.")
    return raw


def _header_names(parameter: str) -> tuple[bytes, bytes]:
    """``MAIN?ALTERNATIVE``; the second is empty when there is none."""
    main, _, alternative = parameter.partition("?")
    if "?" in alternative:
        raise FormatError(f"More than 1 alternative header specified in token: {parameter}")
    return _header_name(main), _header_name(alternative)


class _RequestHeader(Operator):
    def __init__(self, name: bytes) -> None:
        self._name = name
        self._bit = bit_of(name)

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        request = info.request
        if request is None:
            return None
        headers = request.headers
        bit = self._bit
        if bit and not headers.mask & bit:
            return None
        name = self._name
        for field in headers.fields:
            if field.name == name:
                return field.value
        return None


class _PseudoHeader(Operator):
    """``:path`` and its like, which are attributes of the request."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        request = info.request
        return None if request is None else request.header(self._name) or None


class _Method(Operator):
    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        request = info.request
        return None if request is None else request.method


class _TargetPath(Operator):
    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        request = info.request
        return None if request is None else request.path or None


class _Authority(Operator):
    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        request = info.request
        return None if request is None else request.authority or None


class _ResponseHeader(Operator):
    def __init__(self, name: bytes) -> None:
        self._name = name

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        response = info.response
        if response is None:
            return None
        name = self._name
        if name == b":status":
            return b"%d" % response.status
        for field in response.headers.fields:
            if field.name == name:
                return field.value
        return None


class _ResponseTrailer(Operator):
    def __init__(self, name: bytes) -> None:
        self._name = name

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        trailers = info.response_trailers
        return None if trailers is None else trailers.find(self._name)


class _Either(Operator):
    """The first operator that has something to say."""

    def __init__(self, first: Operator, second: Operator) -> None:
        self._first = first
        self._second = second

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        raw = self._first.raw(info, clock)
        return self._second.raw(info, clock) if raw is None else raw


def _request_header(name: bytes) -> Operator:
    if name == b":method":
        return _Method()
    if name == b":path":
        return _TargetPath()
    if name in (b":authority", b"host"):
        return _Authority()
    return _PseudoHeader(name) if name.startswith(b":") else _RequestHeader(name)


def _req(parameter: str, length: int | None) -> Operator:
    main, alternative = _header_names(parameter)
    operator = _request_header(main)
    if alternative:
        operator = _Either(operator, _request_header(alternative))
    return truncated(operator, length)


def _resp(parameter: str, length: int | None) -> Operator:
    main, alternative = _header_names(parameter)
    operator: Operator = _ResponseHeader(main)
    if alternative:
        operator = _Either(operator, _ResponseHeader(alternative))
    return truncated(operator, length)


def _trailer(parameter: str, length: int | None) -> Operator:
    main, alternative = _header_names(parameter)
    operator: Operator = _ResponseTrailer(main)
    if alternative:
        operator = _Either(operator, _ResponseTrailer(alternative))
    return truncated(operator, length)


# -- path and query -------------------------------------------------------------------------


class _Path(Operator):
    def __init__(self, source: Operator) -> None:
        self._source = source

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        path = self._source.raw(info, clock)
        return None if path is None else path.partition(b"?")[0]


_ORIGINAL_PATH: Final = b"x-envoy-original-path"


def _path(parameter: str, length: int | None) -> Operator:
    query, _, source = parameter.partition(":")
    source = source.partition(":")[0]
    if query not in ("", "WQ", "NQ"):
        raise FormatError(f"Invalid PATH option: '{query}', only 'WQ'/'NQ' are allowed")
    if source == "ORIG":
        operator: Operator = _RequestHeader(_ORIGINAL_PATH)
    elif source == "PATH":
        operator = _TargetPath()
    elif source in ("", "ORIG_OR_PATH"):
        operator = _Either(_RequestHeader(_ORIGINAL_PATH), _TargetPath())
    else:
        raise FormatError(f"Invalid PATH option: '{source}', only 'ORIG'/'PATH'/'ORIG_OR_PATH' are allowed")
    return truncated(_Path(operator) if query == "NQ" else operator, length)


def _req_without_query(parameter: str, length: int | None) -> Operator:
    main, alternative = _header_names(parameter)
    operator = _request_header(main)
    if alternative:
        operator = _Either(operator, _request_header(alternative))
    return truncated(_Path(operator), length)


class _QueryParam(Unchecked):
    """The first value of one query parameter, percent-decoded."""

    def __init__(self, name: str) -> None:
        self._name = name.encode()

    def found(self, info: StreamInfo, clock: Clock) -> bytes | None:
        request = info.request
        if request is None:
            return None
        name = self._name
        for pair in request.path.partition(b"?")[2].partition(b"#")[0].split(b"&"):
            key, _, value = pair.partition(b"=")
            if (key if b"%" not in key else unquote_to_bytes(key)) == name and pair:
                return unquote_to_bytes(value) if b"%" in value else value
        return None


class _QueryParams(Operator):
    def __init__(self, decoded: bool) -> None:
        self._decoded = decoded

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        request = info.request
        if request is None:
            return None
        _, mark, query = request.path.partition(b"?")
        if not mark:
            return None
        return _decoded(query) if self._decoded and b"%" in query else query


_HEX: Final = {b"%02x" % byte: bytes([byte]) for byte in range(256)}
_STAY_ENCODED: Final = frozenset(bytes([*range(33), *range(127, 256)]) + b'"<>\\^{|}')


def _decoded(query: bytes) -> bytes:
    """Percent-decoded where the result is a plain character; a ``%`` before anything else than two
    hexadecimal digits is dropped, save at the very end (Envoy's reading)."""
    head, *pieces = query.split(b"%")
    out = [head]
    for i, piece in enumerate(pieces):
        plain = _HEX.get(piece[:2].lower())
        if plain is None:
            at_end = i == len(pieces) - 1 and len(piece) < 2
            out.append(b"%" + piece if at_end else piece)
        elif plain[0] in _STAY_ENCODED:
            out.append(b"%" + piece)
        else:
            out.append(plain + piece[2:])
    return b"".join(out)


def _query_params(parameter: str, length: int | None) -> Operator:
    if parameter not in ("", "ORIG", "DECODED"):
        raise FormatError(f"Invalid QUERY_PARAMS option: '{parameter}', only 'ORIG'/'DECODED' are allowed")
    return truncated(_QueryParams(parameter == "DECODED"), length)


# -- sizes ----------------------------------------------------------------------------------


class _RequestHeadersBytes(Number):
    """Names and values, pseudo-headers included, as they are when the line is written."""

    def number(self, info: StreamInfo, clock: Clock) -> int:
        request = info.request
        if request is None:
            return 0
        size = request.headers.size()
        for name, value in (
            (b":authority", request.authority),
            (b":path", request.path),
            (b":method", request.method),
            (b":scheme", request.scheme),
        ):
            if value:
                size += len(name) + len(value)
        return size


class _ResponseHeadersBytes(Number):
    def number(self, info: StreamInfo, clock: Clock) -> int:
        response = info.response
        return 0 if response is None else response.headers.size() + len(b":status200")


class _ResponseTrailersBytes(Number):
    def number(self, info: StreamInfo, clock: Clock) -> int:
        return 0 if info.response_trailers is None else info.response_trailers.size()


# -- gRPC -----------------------------------------------------------------------------------

_GRPC_NAMES: Final = (
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
)
"""By number: as ``CAMEL_STRING`` and as ``SNAKE_STRING``."""

GRPC_OF_HTTP: Final = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
"""The gRPC status of an HTTP answer without one (gRPC's http-grpc-status-mapping); else 2."""

NO_STATUS: Final = -2
INVALID_STATUS: Final = -1


def grpc_status(info: StreamInfo) -> int:
    """The gRPC status of a stream: from trailers, else headers, else the HTTP status.

    NO_STATUS when there is no response, INVALID_STATUS when the field is not a number.
    """
    response = info.response
    value: bytes | None = None
    if info.response_trailers is not None:
        value = info.response_trailers.find(b"grpc-status")
    if not value and response is not None:
        value = response.headers.find(b"grpc-status")
    if value:
        return int(value) if value.isdigit() and len(value) < 19 else INVALID_STATUS
    status = info.status
    return NO_STATUS if status == 0 else GRPC_OF_HTTP.get(status, 2)


def is_grpc(info: StreamInfo) -> bool:
    request = info.request
    if request is None:
        return False
    content_type = request.headers.find(b"content-type")
    return content_type is not None and (
        content_type == b"application/grpc" or content_type.startswith(b"application/grpc+")
    )


class _GrpcStatus(Operator):
    def __init__(self, style: int) -> None:
        self._style = style
        """Column of the names; 2 for the number."""

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        if not is_grpc(info):
            return None
        status = grpc_status(info)
        if status == NO_STATUS:
            return None
        if self._style < 2 and 0 <= status < len(_GRPC_NAMES):
            return _GRPC_NAMES[status][self._style].encode()
        return b"%d" % status

    def value(self, info: StreamInfo, clock: Clock) -> Plain:
        if self._style < 2:
            return self.raw(info, clock)
        status = grpc_status(info) if is_grpc(info) else NO_STATUS
        return None if status == NO_STATUS else status


def _grpc(parameter: str, length: int | None) -> Operator:
    styles = {"": 0, "CAMEL_STRING": 0, "SNAKE_STRING": 1, "NUMBER": 2}
    if parameter not in styles:
        raise FormatError(
            f"GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. Got: {parameter}"
        )
    return _GrpcStatus(styles[parameter])


# -- who ------------------------------------------------------------------------------------


class _ServerName(Operator):
    """``REQUESTED_SERVER_NAME``: SNI, or the host that the request names."""

    def __init__(self, host: Operator | None, host_first: bool) -> None:
        self._host = host
        self._host_first = host_first

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        host = self._host
        if host is not None and self._host_first:
            return host.raw(info, clock)
        name = info.connection.server_name
        if name:
            return _host_name(name)
        return None if host is None else host.raw(info, clock)


_HOST_CHARACTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.")


def _host_name(name: str) -> bytes:
    """A server name as it may be printed: what no host name has becomes ``_``, and says so."""
    if _HOST_CHARACTERS.issuperset(name):
        return name.encode()
    return b"invalid:" + "".join([c if c in _HOST_CHARACTERS else "_" for c in name]).encode()


def _server_name(parameter: str, length: int | None) -> Operator:
    which, _, source = parameter.partition(":")
    source = source.partition(":")[0]
    if which not in ("", "SNI_ONLY", "SNI_FIRST", "HOST_FIRST"):
        raise FormatError(
            f"Invalid REQUESTED_SERVER_NAME option: '{which}', only 'SNI_ONLY'/'SNI_FIRST'/'HOST_FIRST' are allowed"
        )
    original = _RequestHeader(b"x-envoy-original-host")
    if source == "ORIG":
        host: Operator = original
    elif source == "HOST":
        host = _Authority()
    elif source in ("", "ORIG_OR_HOST"):
        host = _Either(original, _Authority())
    else:
        raise FormatError(
            f"Invalid REQUESTED_SERVER_NAME option: '{source}', only 'ORIG_OR_HOST'/'HOST'/'ORIG' are allowed"
        )
    return _ServerName(None if which in ("", "SNI_ONLY") else host, which == "HOST_FIRST")


class _Xfcc(Operator):
    """One key of ``x-forwarded-client-cert``: its first value in the first element that has it."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        request = info.request
        header = None if request is None else request.headers.find(b"x-forwarded-client-cert")
        return None if header is None else xfcc_value(header, self._key)


def xfcc_value(header: bytes, key: bytes) -> bytes | None:
    """``key`` is lower-case.  None when it is missing or the quotes of the header do not match."""
    parts: list[bytes] = []
    start = 0
    quoted = escaped = False
    for i, byte in enumerate(header):
        if escaped:
            escaped = False
        elif quoted and byte == 0x5C:
            escaped = True
        elif byte == 0x22:
            quoted = not quoted
        elif not quoted and byte in b";,":
            parts.append(header[start:i])
            start = i + 1
    if quoted:
        return None
    parts.append(header[start:])
    for part in parts:
        name, _, value = part.partition(b"=")
        if name.strip(b" \t").lower() == key:
            value = value.strip(b" \t")
            if len(value) >= 2 and value.startswith(b'"') and value.endswith(b'"'):
                value = value[1:-1].replace(b'\\"', b'"').replace(b"\\\\", b"\\")
            return value
    return None


_XFCC_KEYS: Final = ("by", "hash", "cert", "chain", "subject", "uri", "dns")


def _xfcc(parameter: str, length: int | None) -> Operator:
    if not parameter:
        raise FormatError("XFCC_VALUE command requires a subcommand")
    if parameter.lower() not in _XFCC_KEYS:
        raise FormatError(f"XFCC_VALUE command does not support subcommand: {parameter}")
    return _Xfcc(parameter.lower().encode())


class UniqueIds:
    """Where ``%UNIQUE_ID%`` draws from; a worker puts its own source of chance here."""

    def __init__(self) -> None:
        self.random = Random()


UNIQUE_IDS: Final = UniqueIds()


def _unique_id() -> bytes:
    return str(uuid.UUID(int=UNIQUE_IDS.random.getrandbits(128), version=4)).encode()


class _UniqueId(Operator):
    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        return _unique_id()


class _StreamId(Operator):
    """The request id, the same on every hop; one of its own for a stream that is no request."""

    def __init__(self) -> None:
        self._header = _RequestHeader(b"x-request-id")

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        return _unique_id() if info.request is None else self._header.raw(info, clock)


class LocalReplyBody(Operator):
    """The body that the proxy was about to send; ``substitution_format`` puts it here."""

    def __init__(self) -> None:
        self.body = b""

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        return self.body


TABLE: Final[Table] = {
    "REQ": Command(REQUIRED | LENGTH, _req),
    "REQUEST_HEADER": Command(REQUIRED | LENGTH, _req),
    "RESP": Command(REQUIRED | LENGTH, _resp),
    "RESPONSE_HEADER": Command(REQUIRED | LENGTH, _resp),
    "TRAILER": Command(REQUIRED | LENGTH, _trailer),
    "RESPONSE_TRAILER": Command(REQUIRED | LENGTH, _trailer),
    "PATH": Command(OPTIONAL | LENGTH, _path),
    "QUERY_PARAM": Command(REQUIRED | LENGTH, lambda name, length: truncated(_QueryParam(name), length)),
    "QUERY_PARAMS": Command(OPTIONAL | LENGTH, _query_params),
    "REQUEST_HEADERS_BYTES": alone(_RequestHeadersBytes),
    "RESPONSE_HEADERS_BYTES": alone(_ResponseHeadersBytes),
    "RESPONSE_TRAILERS_BYTES": alone(_ResponseTrailersBytes),
    "GRPC_STATUS": Command(OPTIONAL, _grpc),
    "GRPC_STATUS_NUMBER": alone(lambda: _GrpcStatus(2)),
    "REQUESTED_SERVER_NAME": Command(OPTIONAL, _server_name),
    "XFCC_VALUE": Command(UNCHECKED, _xfcc),
    "STREAM_ID": alone(_StreamId),
    "UNIQUE_ID": alone(_UniqueId),
    "LOCAL_REPLY_BODY": alone(LocalReplyBody),
    "TRACE_ID": nothing(),
    "SPAN_ID": nothing(),
    "CUSTOM_FLAGS": Command(ALONE, lambda parameter, length: Constant(b"")),
}

EXTENSIONS: Final[dict[str, Table]] = {
    "envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery": {
        "REQ_WITHOUT_QUERY": Command(REQUIRED | LENGTH, _req_without_query),
    },
    "envoy.extensions.formatter.metadata.v3.Metadata": {},
}
"""Commands that a format has only when its ``formatters`` name the extension (by type)."""
