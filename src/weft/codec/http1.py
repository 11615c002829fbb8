"""HTTP/1 framing, both sides: heads, bodies of a known length, chunked bodies, trailers.

The theory: a head is found by its empty line, cut into lines once, and every line is looked up in
a table of lines seen before.  Clients repeat themselves, so nearly every header field costs one
dictionary look-up instead of a validation; a line that was never seen is validated byte by byte
(RFC 9110 5.5 and 5.6.2) and remembered.  The table is a pure function's memory, bounded in number
and size.

What is accepted is what Envoy's default parser accepts: bare LF as a line end, obsolete line
folding (unfolded), leading empty lines.  What is refused is refused with its status.  Framing is
recomputed when a message is forwarded, never copied: see :mod:`weft.proxy.http.server1` and
:mod:`weft.proxy.upstream.http1` for the two users.
"""

import re
from typing import Final

from weft.codec.errors import PeerError
from weft.http.headers import (
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    JOINABLE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    Field,
    Headers,
)
from weft.http.joined import JOINED_IN_REQUESTS, JOINED_IN_RESPONSES

CODEC_ERROR: Final = "http1.codec_error"
INVALID_CHARACTERS: Final = "http1.invalid_characters"
_ODD: Final = HOST | CONTENT_LENGTH | TRANSFER_ENCODING | CONNECTION
"""Fields that the parser itself must look at."""

METHODS: Final[frozenset[bytes]] = frozenset(
    b"ACL BIND CHECKOUT CONNECT COPY DELETE GET HEAD LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MOVE "
    b"MSEARCH NOTIFY OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SOURCE "
    b"SUBSCRIBE TRACE UNBIND UNLINK UNLOCK UNSUBSCRIBE".split()
)
"""The methods that Envoy forwards unless custom methods are allowed."""

_FRAMING: Final = (b"content-length", b"transfer-encoding")
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_TARGET_BYTES: Final = bytes(range(0x21, 0x7F))
_VERSION: Final = re.compile(rb"HTTP/(\d)\.(\d)")
_DIGITS: Final = re.compile(rb"[0-9]{1,18}")
_HEX: Final[frozenset[int]] = frozenset(b"0123456789abcdefABCDEF")

_SEEN: Final[dict[bytes, Field]] = {}
_SEEN_MOST: Final = 2048
_SEEN_LINE: Final = 256
"""Bytes of the longest line that is remembered: with ``_SEEN_MOST`` about 1 MiB per worker."""


class Http1Options:
    """How strict to be; one per connection manager or cluster."""

    def __init__(
        self,
        *,
        max_head: int = 60 * 1024,
        max_fields: int = 100,
        allow_chunked_length: bool = False,
        allow_http_10: bool = False,
        default_host: bytes = b"",
        allow_custom_methods: bool = False,
        keep_trailers: bool = False,
    ) -> None:
        self.max_head: int = max_head
        """Bytes; Envoy's ``max_request_headers_kb`` (60 KiB), its precedent."""
        self.max_fields: int = max_fields
        self.allow_chunked_length: bool = allow_chunked_length
        """With both framings present ``transfer-encoding`` wins and ``content-length`` is dropped."""
        self.allow_http_10: bool = allow_http_10
        self.default_host = default_host
        self.allow_custom_methods: bool = allow_custom_methods
        self.keep_trailers: bool = keep_trailers


class RequestHead:
    """A parsed request head.  ``end`` is the offset of the first byte after it."""

    def __init__(self, method: bytes, target: bytes, minor: int, headers: Headers, end: int) -> None:
        self.method = method
        self.target = target
        self.minor: int = minor
        """0 or 1, of HTTP/1.x."""
        self.headers = headers
        """Without ``host`` and ``transfer-encoding``."""
        self.end: int = end
        self.header_bytes: int = 0
        """Names, values and three bytes a field, as Envoy counts."""
        self.host: bytes | None = None
        self.length: int = 0
        """Body bytes; -1 for chunked."""
        self.length_given: bool = False
        self.keep_alive: bool = True
        self.upgrade: bool = False
        """``connection: upgrade`` with an ``upgrade`` header."""


class ResponseHead:
    """A parsed response head."""

    def __init__(self, status: int, minor: int, headers: Headers, end: int) -> None:
        self.status: int = status
        self.minor: int = minor
        self.headers = headers
        """Without ``transfer-encoding``; ``content-length`` stays, it describes the resource."""
        self.end: int = end
        self.header_bytes: int = 0
        """Names, values and three bytes a field, as Envoy counts."""
        self.length: int = -2
        """Body bytes; -1 chunked; -2 until the connection closes."""
        self.keep_alive: bool = True
        self.upgrade: bool = False


def _parse_line(line: bytes) -> Field:
    """A header line that is not in the table yet; raises PeerError, never returns a bad field."""
    colon = line.find(b":")
    if colon <= 0:
        raise PeerError(
            CODEC_ERROR, "header line without a name" if colon == 0 else "header line without a colon"
        )
    name = line[:colon]
    if _TOKEN.fullmatch(name) is None:
        raise PeerError(CODEC_ERROR, "invalid character in a header name")
    value = line[colon + 1 :].strip(b" \t\r")
    if b"\r" in value:
        if name.lower() in _FRAMING:
            raise PeerError(CODEC_ERROR, "a CR inside a field that frames the message")
        value = value.replace(b"\r", b"")  # as Envoy's parser; what is left is judged like any value
    if _VALUE.fullmatch(value) is None:
        raise PeerError(INVALID_CHARACTERS, "invalid character in a header value")
    field = Field(name.lower(), value)
    if field.bit & CONNECTION:
        field.note = _options_of(value)
    elif field.bit & CONTENT_LENGTH:
        field.note = int(value) if _DIGITS.fullmatch(value) is not None else -1
    if len(line) <= _SEEN_LINE:
        if len(_SEEN) >= _SEEN_MOST:
            _SEEN.clear()
        _SEEN[line] = field
    return field


CLOSE: Final = 1
KEEP_ALIVE: Final = 2
WANTS_UPGRADE: Final = 4
NAMES_OTHERS: Final = 8
"""``connection`` names header fields, which are for this hop only."""


def _options_of(value: bytes) -> int:
    """The ``connection`` options that framing depends on, as bits."""
    out = 0
    for token in value.lower().split(b","):
        token = token.strip(b" \t")
        if token == b"close":
            out |= CLOSE
        elif token == b"keep-alive":
            out |= KEEP_ALIVE
        elif token == b"upgrade":
            out |= WANTS_UPGRADE
        elif token:
            out |= NAMES_OTHERS
    return out


class _NotPlain(Exception):
    """A head with bare LF or folded lines: cut it the slow way."""


def head_end(data: bytes, start: int) -> int:
    """Offset just after the empty line that ends a head; -1 when it is not there yet."""
    crlf = data.find(b"\n\r\n", start)
    if crlf < 0:
        lone = data.find(b"\n\n", start)
        return -1 if lone < 0 else lone + 2
    lone = data.find(b"\n\n", start, crlf + 1)
    return crlf + 3 if lone < 0 else lone + 2


def _lines(block: bytes) -> list[bytes]:
    """Lines of a head that is not plain CRLF lines: bare LF ends, folded lines joined."""
    out: list[bytes] = []
    for raw in block.split(b"\n"):
        line = raw[:-1] if raw.endswith(b"\r") else raw
        if line[:1] in (b" ", b"\t"):
            if len(out) < 2:
                raise PeerError(CODEC_ERROR, "continuation line before any header")
            out[-1] = out[-1].rstrip(b" \t\r") + b" " + line.strip(b" \t\r")
        else:
            out.append(line)
    return out


def _too_large(what: str) -> PeerError:
    return PeerError("http1." + what, what.replace("_", " "), 431)


def _joined(fields: list[Field], names: frozenset[bytes]) -> list[Field]:
    """Several fields of a name that may have but one become one, in the place of the first."""
    out: list[Field] = []
    places: dict[bytes, int] = {}
    for field in fields:
        name = field.name
        if name not in names or field.bit & (HOST | CONTENT_LENGTH | TRANSFER_ENCODING | CONNECTION):
            out.append(field)  # framing judges these itself
        elif name in places:
            at = places[name]
            before = out[at].value
            if not before:
                out[at] = field
            elif field.value:
                out[at] = Field(name, before + b"," + field.value)
        else:
            places[name] = len(out)
            out.append(field)
    return out


_BLANK: Final = (b" ", b"\t")


def check_head_size(size: int, options: Http1Options) -> None:
    """For a head that has not ended after ``size`` bytes."""
    if size > options.max_head:
        raise _too_large("headers_too_large")


def _fields(lines: list[bytes], options: Http1Options, joined: frozenset[bytes]) -> Headers:
    fields: list[Field] = []
    mask = 0
    again = 0
    seen = _SEEN
    for i in range(1, len(lines)):
        line = lines[i]
        field = seen.get(line)
        if field is None:
            if b"\n" in line or line[:1] in _BLANK:
                raise _NotPlain
            field = _parse_line(line)
        fields.append(field)
        again |= mask & field.bit
        mask |= field.bit
    if again & JOINABLE:
        fields = _joined(fields, joined)
    if len(fields) > options.max_fields:
        raise _too_large("too_many_headers")
    return Headers(fields, mask)


def _head_lines(data: bytes, start: int, end: int) -> list[bytes]:
    """Lines of the head in ``data[start:end]``, cut the slow way."""
    stop = end - 3 if data[end - 2] == 13 else end - 2
    if data[stop - 1] == 13:
        stop -= 1
    return _lines(data[start:stop])


def parse_request(data: bytes, start: int, options: Http1Options, searched: int = 0) -> RequestHead | None:
    """The head of a request at ``start``; None when it has not all arrived.

    ``searched`` is how much of ``data`` an earlier call has seen, so that a head which arrives in
    a thousand pieces is not searched a thousand times.  Raises PeerError with the status to answer.
    """
    size = len(data)
    while start < size and (data[start] == 13 or data[start] == 10):
        start += 1
    if start == size:
        return None
    look_from = max(start, searched - 3)
    stop = data.find(b"\r\n\r\n", look_from)
    if stop >= 0 and stop - start <= options.max_head:
        # Nearly always: plain lines.  Whatever is odd about a line shows when it is not in the table.
        try:
            return _request(data[start:stop].split(b"\r\n"), start, stop + 4, options)
        except _NotPlain:
            pass
    end = head_end(data, look_from)
    if end < 0:
        # A simple-request of HTTP/0.9 has no headers and no empty line.
        if not options.allow_custom_methods:
            _check_first_byte(data, start)
        newline = data.find(b"\n", look_from)
        if newline >= 0 and data.find(b"\n", start, newline) < 0:
            if data.find(b"\r", start, newline - 1) >= 0:
                raise PeerError(CODEC_ERROR, "a lone CR in the request line")
            words = data[start:newline].split()
            if len(words) < 3:
                return _request_line_only(words, newline + 1, options)
            if _VERSION.fullmatch(words[2]) is None or words[0] not in METHODS:
                _request_line(words, options)
        check_head_size(size - start, options)
        return None
    if end - start > options.max_head:
        raise _too_large("headers_too_large")
    newline = data.find(b"\n", start)
    words = data[start:newline].split()
    if len(words) < 3 and data.find(b"\r", start, newline - 1) < 0:
        # It ends with its line, whatever follows.
        return _request_line_only(words, newline + 1, options)
    return _request(_head_lines(data, start, end), start, end, options)


def _request(lines: list[bytes], start: int, end: int, options: Http1Options) -> RequestHead:
    words = lines[0].split(b" ")
    if len(words) != 3:
        if b"\n" in lines[0]:
            raise _NotPlain
        if b"\r" in lines[0]:
            raise PeerError(CODEC_ERROR, "a lone CR in the request line")
        _check_first_byte(lines[0], 0)
        words = lines[0].split()
        if len(words) < 3:
            return _request_line_only(words, start + len(lines[0]) + 2, options)
        if len(words) > 3:
            raise PeerError(CODEC_ERROR, "malformed request line")
    if words[2] == b"HTTP/1.1" and words[0] in METHODS:
        minor = 1
        if words[1].translate(None, _TARGET_BYTES) or not words[1]:
            kind = INVALID_CHARACTERS if b"\0" in words[1] else CODEC_ERROR
            raise PeerError(kind, "invalid character in the request target")
    else:
        if b"\n" in lines[0]:
            raise _NotPlain
        if b"\r" in lines[0]:
            raise PeerError(CODEC_ERROR, "a lone CR in the request line")
        minor = _request_line(words, options)
    headers = _fields(lines, options, JOINED_IN_REQUESTS)
    head = RequestHead(words[0], words[1], minor, headers, end)
    head.header_bytes = end - start - len(lines[0]) - 3 - len(lines)
    if minor == 0:
        head.keep_alive = False
    if headers.mask & _ODD:
        _request_framing(head, options)
    if minor == 0 and not options.allow_http_10:
        raise PeerError("low_version", "only HTTP/1.1 is spoken here", 426)
    return head


def _check_first_byte(data: bytes, start: int) -> None:
    if _TOKEN.match(data, start) is None:
        raise PeerError(CODEC_ERROR, "invalid method")


def _request_line_only(words: list[bytes], end: int, options: Http1Options) -> RequestHead:
    """HTTP/0.9, or a line that is no request line at all."""
    if (
        len(words) == 2
        and words[0] in METHODS
        and words[1][:1] == b"/"
        and not words[1].translate(None, _TARGET_BYTES)
    ):
        head = RequestHead(words[0], words[1], 0, Headers(), end)
        head.keep_alive = False
        if not options.allow_http_10:
            raise PeerError("low_version", "HTTP/0.9 is not allowed", 426)
        return head
    raise PeerError(CODEC_ERROR, "malformed request line")


def _request_line(words: list[bytes], options: Http1Options) -> int:
    """The slow check of a request line; the minor version."""
    method = words[0]
    if _TOKEN.fullmatch(method) is None or (method not in METHODS and not options.allow_custom_methods):
        raise PeerError(CODEC_ERROR, "invalid method")
    if len(words) != 3:
        raise PeerError(CODEC_ERROR, "malformed request line")
    if words[1].translate(None, _TARGET_BYTES):
        raise PeerError(CODEC_ERROR, "invalid character in the request target")
    match = _VERSION.fullmatch(words[2])
    if match is None:
        raise PeerError(CODEC_ERROR, "invalid HTTP version")
    if words[2] == b"HTTP/1.1":
        return 1
    return 0


def _request_framing(head: RequestHead, options: Http1Options) -> None:
    """Take ``host`` and the framing headers out of the fields, and judge them."""
    headers = head.headers
    kept: list[Field] = []
    encodings: list[bytes] = []
    length = -1
    options_given = 0
    for field in headers.fields:
        bit = field.bit
        if not bit & _ODD:
            kept.append(field)
        elif bit & HOST:
            head.host = field.value if head.host is None else head.host + b"," + field.value
        elif bit & CONTENT_LENGTH:
            length = _content_length(field, length)
            kept.append(field)
        elif bit & TRANSFER_ENCODING:
            encodings.append(field.value)
        else:
            options_given |= field.note
            kept.append(field)
    headers.fields = kept
    mask = headers.mask
    if options_given:
        if options_given & CLOSE:
            head.keep_alive = False
        elif options_given & KEEP_ALIVE and head.minor == 0:
            head.keep_alive = True
        if options_given & WANTS_UPGRADE:
            head.upgrade = head.minor == 1 and bool(mask & UPGRADE)
    if encodings or mask & TRANSFER_ENCODING:
        chunked = len(encodings) == 1 and encodings[0].lower() == b"chunked"
        if length >= 0 and not (options.allow_chunked_length and chunked):
            raise PeerError(
                "http1.content_length_and_chunked_not_allowed", "both transfer-encoding and content-length"
            )
        if head.minor == 0:
            raise PeerError(CODEC_ERROR, "transfer-encoding in HTTP/1.0")
        if not chunked:
            raise PeerError("http1.invalid_transfer_encoding", "unsupported transfer-encoding", 501)
        if head.method == b"CONNECT":
            raise PeerError("http1.invalid_transfer_encoding", "transfer-encoding with CONNECT", 501)
        if length >= 0:
            headers.drop(b"content-length")
        head.length = -1
        return
    if length >= 0:
        if head.method == b"CONNECT" and length > 0:
            raise PeerError("http1.body_disallowed", "content-length with CONNECT")
        head.length = length
        head.length_given = True


def _content_length(field: Field, before: int) -> int:
    if field.note < 0:
        raise PeerError(CODEC_ERROR, "invalid content-length")
    if before >= 0:
        raise PeerError(CODEC_ERROR, "more than one content-length")
    return field.note


def opens_tunnel(method: bytes, status: int) -> bool:
    """Whether this answer ends HTTP on the connection: any success of CONNECT, 101 of an upgrade."""
    if method == b"CONNECT":
        return 200 <= status < 300  # RFC 9110 9.3.6
    return status == 101


def parse_response(data: bytes, start: int, options: Http1Options, searched: int = 0) -> ResponseHead | None:
    """The head of a response at ``start``; None when it has not all arrived.

    ``searched`` as in :func:`parse_request`.
    ``length`` speaks of the fields alone: the caller knows about HEAD, 204 and 304.
    """
    size = len(data)
    look_from = max(start, searched - 3)
    stop = data.find(b"\r\n\r\n", look_from)
    if stop >= 0 and stop - start <= options.max_head:
        try:
            return _response(data[start:stop].split(b"\r\n"), start, stop + 4, options)
        except _NotPlain:
            pass
    end = head_end(data, look_from)
    if end < 0:
        prefix = data[start : start + 5]
        if not b"HTTP/".startswith(prefix) and prefix != b"HTTP/":
            raise PeerError(CODEC_ERROR, "malformed status line", 502)
        newline = data.find(b"\n", start)
        if newline >= 0:
            _status(data[start:newline].rstrip(b"\r"))
        check_head_size(size - start, options)
        return None
    if end - start > options.max_head:
        raise _too_large("headers_too_large")
    return _response(_head_lines(data, start, end), start, end, options)


_STATUS_SEEN: Final[dict[bytes, int]] = {}
"""Status line -> minor version * 1000 + status."""


def _response(lines: list[bytes], start: int, end: int, options: Http1Options) -> ResponseHead:
    first = lines[0]
    known = _STATUS_SEEN.get(first, -1)
    if known < 0:
        known = _status(first)
        if len(_STATUS_SEEN) < 256 and len(first) <= 64:
            _STATUS_SEEN[first] = known
    headers = _fields(lines, options, JOINED_IN_RESPONSES)
    head = ResponseHead(known % 1000, known // 1000, headers, end)
    head.header_bytes = end - start - len(first) - 3 - len(lines)
    if known < 1000:
        head.keep_alive = False
    if headers.mask & (CONTENT_LENGTH | TRANSFER_ENCODING | CONNECTION):
        _response_framing(head, options)
    return head


def _status(first: bytes) -> int:
    """Minor version * 1000 + status of a status line."""
    if b"\n" in first:
        raise _NotPlain
    version = first[:9]
    if version not in (b"HTTP/1.1 ", b"HTTP/1.0 "):
        raise PeerError(CODEC_ERROR, "malformed status line", 502)
    code = first[9:12]
    if len(code) != 3 or not code.isdigit() or first[12:13] not in (b" ", b"", b"\t"):
        raise PeerError(CODEC_ERROR, "malformed status line", 502)
    if _VALUE.fullmatch(first) is None or not first.isascii():
        raise PeerError(CODEC_ERROR, "invalid character in the status line", 502)
    if int(code) < 100:
        raise PeerError(CODEC_ERROR, "invalid status", 502)
    return int(code) + (1000 if version == b"HTTP/1.1 " else 0)


def _response_framing(head: ResponseHead, options: Http1Options) -> None:
    headers = head.headers
    encodings: list[bytes] = []
    length = -1
    given = 0
    for field in headers.fields:
        bit = field.bit
        if bit & CONTENT_LENGTH:
            length = _content_length(field, length)
        elif bit & TRANSFER_ENCODING:
            encodings.append(field.value)
        elif bit & CONNECTION:
            given |= field.note
    if encodings:
        headers.drop(b"transfer-encoding")
    if given & CLOSE:
        head.keep_alive = False
    elif given & KEEP_ALIVE and head.minor == 0:
        head.keep_alive = True
    head.upgrade = given & WANTS_UPGRADE != 0 and headers.mask & UPGRADE != 0
    if encodings:
        if length >= 0 and not options.allow_chunked_length:
            raise PeerError(CODEC_ERROR, "both transfer-encoding and content-length", 502)
        if len(encodings) != 1 or encodings[0].lower() != b"chunked":
            raise PeerError(CODEC_ERROR, "unsupported transfer-encoding", 502)
        if length >= 0:
            headers.drop(b"content-length")
        head.length = -1
    elif length >= 0:
        head.length = length


def has_expect_continue(headers: Headers) -> bool:
    if not headers.mask & EXPECT:
        return False
    value = headers.find(b"expect")
    return value is not None and value.lower() == b"100-continue"


# -- chunked bodies -----------------------------------------------------------------------------

_SIZE: Final = 0
_EXTENSION: Final = 1
_DATA: Final = 2
_DATA_END: Final = 3
_TRAILERS: Final = 4
_DONE: Final = 5


class ChunkedDecoder:
    """A chunked body, in whatever pieces it arrives.

    :meth:`feed` returns the offset after what it consumed; ``pieces`` holds the body bytes found,
    which the caller takes and clears.
    """

    def __init__(self, options: Http1Options) -> None:
        self.options = options
        self.pieces: list[bytes] = []
        self.trailers: Headers | None = None
        self.done: bool = False
        self._state: int = _SIZE
        self._size: int = 0
        self._digits: int = 0
        self._cr: bool = False
        """The line that is being read has had its CR."""
        self._skipped: int = 0
        """Bytes of the chunk's extension, or of all trailers, so far."""
        self._line = b""

    def feed(self, data: bytes, pos: int) -> int:
        size = len(data)
        while pos < size:
            state = self._state
            if state == _DATA:
                stop = min(size, pos + self._size)
                if pos == 0 and stop == size:
                    self.pieces.append(data)
                else:
                    self.pieces.append(data[pos:stop])
                self._size -= stop - pos
                pos = stop
                if self._size == 0:
                    self._state = _DATA_END
            elif state == _SIZE:
                byte = data[pos]
                pos += 1
                if self._cr and byte != 10:
                    raise PeerError(CODEC_ERROR, "a lone CR in a chunk size")
                if byte in _HEX:
                    self._digits += 1
                    if self._digits > 15:
                        raise PeerError(CODEC_ERROR, "chunk size overflow")
                    self._size = self._size * 16 + int(data[pos - 1 : pos], 16)
                elif byte == 10:
                    if not self._cr:
                        raise PeerError(CODEC_ERROR, "chunk size line without CR")
                    self._size_done()
                elif self._digits == 0 and byte not in (32, 9, 13):
                    raise PeerError(CODEC_ERROR, "invalid chunk size")
                elif byte == 59 or byte == 32 or byte == 9:
                    self._state = _EXTENSION
                elif byte == 13:
                    self._cr = True
                else:
                    raise PeerError(CODEC_ERROR, "invalid chunk size")
            elif state == _EXTENSION:
                newline = data.find(b"\n", pos)
                stop = size if newline < 0 else newline
                self._skipped += stop - pos
                if self._skipped > self.options.max_head:
                    raise PeerError(CODEC_ERROR, "chunk extension too long")
                cr = data.find(b"\r", pos, stop)
                if (self._cr and stop > pos) or 0 <= cr < stop - 1:
                    raise PeerError(CODEC_ERROR, "a lone CR in a chunk extension")
                self._cr = self._cr or cr >= 0
                if newline < 0:
                    return size
                if not self._cr:
                    raise PeerError(CODEC_ERROR, "chunk size line without CR")
                pos = newline + 1
                self._size_done()
            elif state == _DATA_END:
                byte = data[pos]
                pos += 1
                if byte == 10:
                    self._state = _SIZE
                elif byte != 13:
                    raise PeerError(CODEC_ERROR, "chunk data longer than its size")
            elif state == _TRAILERS:
                newline = data.find(b"\n", pos)
                stop = size if newline < 0 else newline + 1
                self._line += data[pos:stop]
                self._skipped += stop - pos
                pos = stop
                if self._skipped > self.options.max_head:
                    raise _too_large("trailers_too_large")
                if newline >= 0:
                    self._trailer_line()
            else:
                return pos
            if self._state == _DONE:
                return pos
        return pos

    def _size_done(self) -> None:
        if self._digits == 0:
            raise PeerError(CODEC_ERROR, "invalid chunk size")
        self._digits = 0
        self._cr = False
        self._skipped = 0
        if self._size:
            self._state = _DATA
        else:
            self._state = _TRAILERS
            self._line = b""

    def _trailer_line(self) -> None:
        line = self._line[:-1]
        if line.endswith(b"\r"):
            line = line[:-1]
        if line[:1] in (b" ", b"\t"):
            raise PeerError(CODEC_ERROR, "folded trailer")
        self._line = b""
        if not line:
            self._state = _DONE
            self.done = True
            return
        field = _parse_line(line)
        if not self.options.keep_trailers or field.bit & _NOT_IN_TRAILERS:
            return
        if self.trailers is None:
            self.trailers = Headers()
        self.trailers.append(field)
        if len(self.trailers.fields) > self.options.max_fields:
            raise _too_large("too_many_trailers")

    def take(self) -> bytes:
        """The body bytes found so far, joined; the decoder forgets them."""
        pieces = self.pieces
        if not pieces:
            return b""
        out = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.pieces = []
        return out


_NOT_IN_TRAILERS: Final = HOST | CONTENT_LENGTH | TRANSFER_ENCODING | CONNECTION | UPGRADE | TE | TRAILER
"""What frames or routes a message may not come after it (RFC 9110 6.5.1)."""


def chunk(data: bytes) -> bytes:
    """One chunk around ``data``, which is not empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: Headers | None) -> bytes:
    if trailers is None or not trailers.fields:
        return b"0\r\n\r\n"
    return b"0\r\n" + b"".join([field.wire for field in trailers.fields]) + b"\r\n"


REASONS: Final[dict[int, bytes]] = {
    100: b"Continue", 101: b"Switching Protocols", 102: b"Processing", 103: b"Early Hints",
    200: b"OK", 201: b"Created", 202: b"Accepted", 203: b"Non-Authoritative Information",
    204: b"No Content", 205: b"Reset Content", 206: b"Partial Content", 207: b"Multi-Status",
    208: b"Already Reported", 226: b"IM Used",
    300: b"Multiple Choices", 301: b"Moved Permanently", 302: b"Found", 303: b"See Other",
    304: b"Not Modified", 305: b"Use Proxy", 307: b"Temporary Redirect", 308: b"Permanent Redirect",
    400: b"Bad Request", 401: b"Unauthorized", 402: b"Payment Required", 403: b"Forbidden",
    404: b"Not Found", 405: b"Method Not Allowed", 406: b"Not Acceptable",
    407: b"Proxy Authentication Required", 408: b"Request Timeout", 409: b"Conflict", 410: b"Gone",
    411: b"Length Required", 412: b"Precondition Failed", 413: b"Payload Too Large",
    414: b"URI Too Long", 415: b"Unsupported Media Type", 416: b"Range Not Satisfiable",
    417: b"Expectation Failed", 421: b"Misdirected Request", 422: b"Unprocessable Entity",
    423: b"Locked", 424: b"Failed Dependency", 425: b"Too Early", 426: b"Upgrade Required",
    428: b"Precondition Required", 429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error", 501: b"Not Implemented", 502: b"Bad Gateway",
    503: b"Service Unavailable", 504: b"Gateway Timeout", 505: b"HTTP Version Not Supported",
    506: b"Variant Also Negotiates", 507: b"Insufficient Storage", 508: b"Loop Detected",
    510: b"Not Extended", 511: b"Network Authentication Required",
    599: b"Last Unassigned Server Error Code",  # a name of Envoy's own
}  # fmt: skip

_STATUS_LINES: Final[dict[int, bytes]] = {}


def status_line(status: int) -> bytes:
    """``HTTP/1.1 200 OK`` with its line end."""
    line = _STATUS_LINES.get(status)
    if line is None:
        line = b"HTTP/1.1 %d %b\r\n" % (status, REASONS.get(status, b"Unknown"))
        _STATUS_LINES[status] = line
    return line
