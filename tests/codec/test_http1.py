"""Heads: what is accepted, what is refused and as what, whatever pieces it comes in."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from weft.codec import http1
from weft.codec.errors import PeerError
from weft.codec.http1 import Http1Options, parse_request, parse_response, status_line
from weft.http.headers import CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, Field, Headers

STRICT = Http1Options()
OLD = Http1Options(allow_http_10=True)
BOTH = Http1Options(allow_chunked_length=True)
CUSTOM = Http1Options(allow_custom_methods=True)


def request(data, options=STRICT):
    """(method, target, minor, host, length, keep_alive, upgrade, headers), or the refusal."""
    try:
        head = parse_request(data, 0, options)
    except PeerError as error:
        return error.status, error.kind
    if head is None:
        return None
    assert head.end <= len(data)
    return head


def items(head):
    return [(name.decode(), value.decode("latin-1")) for name, value in head.headers.items()]


def refusal(outcome):
    assert isinstance(outcome, tuple), f"not refused: {outcome}"
    return outcome


# -- request lines ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "method", "target"),
    [
        (b"GET / HTTP/1.1", b"GET", b"/"),
        (b"POST /a?b=c&d HTTP/1.1", b"POST", b"/a?b=c&d"),
        (b"OPTIONS * HTTP/1.1", b"OPTIONS", b"*"),
        (b"CONNECT a:443 HTTP/1.1", b"CONNECT", b"a:443"),
        (b"GET http://a/b HTTP/1.1", b"GET", b"http://a/b"),
        (b"GET  /two  HTTP/1.1", b"GET", b"/two"),
        (b"GET\t/tab\tHTTP/1.1", b"GET", b"/tab"),
        (b"GET /trailing HTTP/1.1 ", b"GET", b"/trailing"),
        (b"QUERY / HTTP/1.1", b"QUERY", b"/"),
    ],
)
def test_request_lines_that_pass(line, method, target):
    for end in (b"\r\n", b"\n"):
        head = request(line + end + b"host: a" + end + end)
        assert (head.method, head.target, head.minor, head.host) == (method, target, 1, b"a")


@pytest.mark.parametrize(
    ("line", "status", "kind"),
    [
        (b"GET /", 426, "low_version"),
        (b"GET / HTTP/1.0", 426, "low_version"),
        (b"GET / HTTP/2.0", 400, None),
        (b"GET / HTTP/1.2", 400, None),
        (b"GET / HTTP/1.10", 400, None),
        (b"GET / http/1.1", 400, None),
        (b"GET / HTTP/1", 400, None),
        (b"GET / HTTP/1.1 x", 400, None),
        (b"GET /a b HTTP/1.1", 400, None),
        (b" GET / HTTP/1.1", 400, None),
        (b"\tGET / HTTP/1.1", 400, None),
        (b"get / HTTP/1.1", 400, None),
        (b"MEOW / HTTP/1.1", 400, None),
        (b"G\0T / HTTP/1.1", 400, None),
        (b"GET /\x00 HTTP/1.1", 400, "http1.invalid_characters"),
        (b"GET /\x7f HTTP/1.1", 400, "http1.codec_error"),
        (b"GET /\xff HTTP/1.1", 400, "http1.codec_error"),
        (b"GET /\r HTTP/1.1", 400, None),
        (b"GET / HTTP/1.1\r", 400, None),
        (b"GET", 400, None),
        (b"host: a", 400, None),
        (b":", 400, None),
    ],
)
def test_request_lines_that_do_not(line, status, kind):
    for end in (b"\r\n", b"\n"):
        if line == b"GET / HTTP/1.1\r" and end == b"\n":
            continue  # that is CRLF
        found = refusal(request(line + end + b"host: a" + end + end))
        if line in (b"GET / HTTP/2.0", b"GET / HTTP/1.2"):
            assert found[0] in (400, 426)
        else:
            assert found[0] == status
        assert kind is None or found[1] == kind


def test_custom_methods_where_allowed():
    assert request(b"MEOW / HTTP/1.1\r\nhost: a\r\n\r\n", CUSTOM).method == b"MEOW"
    assert refusal(request(b"ME@W / HTTP/1.1\r\nhost: a\r\n\r\n", CUSTOM))[0] == 400


@pytest.mark.parametrize(
    ("data", "keep_alive"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\nconnection: keep-alive, close\r\n\r\n", False),
        (b"GET /\r\n", False),
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nConnection: a, CLOSE , b\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nconnection: closed\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nconnection: keep-alive\r\nconnection: close\r\n\r\n", False),
    ],
)
def test_who_keeps_the_connection(data, keep_alive):
    head = request(data, OLD)
    assert head.keep_alive is keep_alive
    assert head.end == len(data)


@pytest.mark.parametrize(
    ("headers", "minor", "upgrade"),
    [
        (b"connection: upgrade\r\nupgrade: websocket\r\n", 1, True),
        (b"connection: keep-alive, Upgrade\r\nupgrade: websocket\r\n", 1, True),
        (b"connection: upgrade\r\n", 1, False),
        (b"upgrade: websocket\r\n", 1, False),
        (b"connection: upgrade\r\nupgrade: websocket\r\n", 0, False),
    ],
)
def test_who_wants_an_upgrade(headers, minor, upgrade):
    assert request(b"GET / HTTP/1.%d\r\n" % minor + headers + b"\r\n", OLD).upgrade is upgrade


# -- header lines -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (b"X-A: 1\r\n", [("x-a", "1")]),
        (b"x-a:1\r\n", [("x-a", "1")]),
        (b"x-a: \t 1 \t \r\n", [("x-a", "1")]),
        (b"x-a:\r\n", [("x-a", "")]),
        (b"x-a: \r\n", [("x-a", "")]),
        (b"x-a: b:c\r\n", [("x-a", "b:c")]),
        (b"x-a: \xe4\xff\x80\r\n", [("x-a", "\xe4\xff\x80")]),
        (b"x-a: a\tb\r\n", [("x-a", "a\tb")]),
        (b"!#$%&'*+-.^_`|~9: x\r\n", [("!#$%&'*+-.^_`|~9", "x")]),
        (b"x-a: 1\nx-b: 2\r\n", [("x-a", "1"), ("x-b", "2")]),
        (b"x-a: 1\r\r\nx-b: 2\r\n", [("x-a", "1"), ("x-b", "2")]),
        (b"x-a: 1\r2\r\n", [("x-a", "12")]),
        (b"x-a: 1\r\n 2\r\n", [("x-a", "1 2")]),
        (b"x-a: 1\r\n\t 2 \r\n  3\r\nx-b: 4\r\n", [("x-a", "1 2 3"), ("x-b", "4")]),
        (b"x-a:\r\n 1\r\n", [("x-a", "1")]),
        (b"x-a: 1\r\nx-a: 2\r\n", [("x-a", "1"), ("x-a", "2")]),
    ],
)
def test_header_lines_that_pass(lines, expected):
    head = request(b"GET / HTTP/1.1\r\n" + lines + b"\r\n")
    assert items(head) == expected
    for field in head.headers.fields:
        assert field.wire == field.name + b": " + field.value + b"\r\n"


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        (b"nonsense\r\n", None),
        (b": x\r\n", None),
        (b"x a: 1\r\n", None),
        (b"x-a : 1\r\n", None),
        (b"x(a: 1\r\n", None),
        (b"x\xe4: 1\r\n", None),
        (b" folded: 1\r\n", None),
        (b"\tfolded: 1\r\n", None),
        (b"x-a: \x00\r\n", "http1.invalid_characters"),
        (b"x-a: a\x01\r\n", "http1.invalid_characters"),
        (b"x-a: \x7f\r\n", "http1.invalid_characters"),
        (b"\x00x: 1\r\n", None),
        (b"content-length: 1\r\ncontent-length: 1\r\n", "http1.codec_error"),
    ],
)
def test_header_lines_that_do_not(lines, kind):
    status, found = refusal(request(b"GET / HTTP/1.1\r\n" + lines + b"\r\n"))
    assert status == 400
    assert kind is None or found == kind


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (b"accept: a\r\naccept: b\r\n", [("accept", "a,b")]),
        (b"accept: a\r\nx: 1\r\naccept: b\r\naccept: c\r\n", [("accept", "a,b,c"), ("x", "1")]),
        (b"accept:\r\naccept: b\r\n", [("accept", "b")]),
        (b"accept: a\r\naccept:\r\n", [("accept", "a")]),
        (b"cookie: a\r\ncookie: b\r\n", [("cookie", "a"), ("cookie", "b")]),
        (b"x-forwarded-for: a\r\nx-forwarded-for: b\r\n", [("x-forwarded-for", "a,b")]),
        (b"x-own: a\r\nx-own: b\r\n", [("x-own", "a"), ("x-own", "b")]),
    ],
)
def test_fields_that_may_be_there_once_join(lines, expected):
    assert items(request(b"GET / HTTP/1.1\r\n" + lines + b"\r\n")) == expected


def test_host_leaves_the_fields():
    head = request(b"GET / HTTP/1.1\r\nx: 1\r\nHost: A.b:1\r\ny: 2\r\n\r\n")
    assert (head.host, items(head)) == (b"A.b:1", [("x", "1"), ("y", "2")])
    assert request(b"GET / HTTP/1.1\r\nx: 1\r\n\r\n").host is None
    assert request(b"GET / HTTP/1.1\r\nhost:\r\n\r\n").host == b""
    # Two hosts make one that nothing takes for a host.
    assert request(b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n").host == b"a,b"


# -- framing: every combination -------------------------------------------------------------------

CL, TE = b"content-length: ", b"transfer-encoding: "
FRAMINGS = [
    # (lines, request length or refusal, the same with allow_chunked_length, of a response)
    ([], 0, 0, -2),
    ([CL + b"0"], 0, 0, 0),
    ([CL + b"5"], 5, 5, 5),
    ([CL + b"00005"], 5, 5, 5),
    ([CL + b"999999999999999999"], 10**18 - 1, 10**18 - 1, 10**18 - 1),
    ([CL + b"9999999999999999999"], 400, 400, None),
    ([CL + b"9" * 5000], 400, 400, None),
    ([CL], 400, 400, None),
    ([CL + b"-1"], 400, 400, None),
    ([CL + b"+1"], 400, 400, None),
    ([CL + b"0x5"], 400, 400, None),
    ([CL + b"5 5"], 400, 400, None),
    ([CL + b"5,5"], 400, 400, None),
    ([CL + b"1_0"], 400, 400, None),
    ([CL + b"\xb2"], 400, 400, None),
    ([CL + b"5", CL + b"5"], 400, 400, None),
    ([CL + b"5", CL + b"6"], 400, 400, None),
    ([TE + b"chunked"], -1, -1, -1),
    ([TE + b"Chunked"], -1, -1, -1),
    ([TE + b"identity"], 501, 501, None),
    ([TE], 501, 501, None),
    ([TE + b"gzip, chunked"], 501, 501, None),
    ([TE + b"chunked, gzip"], 501, 501, None),
    ([TE + b"chunked, chunked"], 501, 501, None),
    ([TE + b"chunked", TE + b"chunked"], 501, 501, None),
    ([TE + b"gzip", TE + b"chunked"], 501, 501, None),
    ([TE + b"xchunked"], 501, 501, None),
    ([TE + b"\x0bchunked"], 400, 400, None),
    ([CL + b"5", TE + b"chunked"], 400, -1, None),
    ([TE + b"chunked", CL + b"5"], 400, -1, None),
    ([TE + b"chunked", CL + b"0"], 400, -1, None),
    ([TE + b"chunked", CL + b"x"], 400, 400, None),
    ([TE + b"gzip", CL + b"5"], 400, 400, None),
    ([TE + b"chunked", CL + b"5", CL + b"5"], 400, 400, None),
]


@pytest.mark.parametrize(
    ("lines", "length", "lenient", "_"),
    FRAMINGS,
    ids=lambda v: b" ".join(v)[:40] if isinstance(v, list) else "",
)
def test_framing_of_requests(lines, length, lenient, _):
    data = b"POST / HTTP/1.1\r\nhost: a\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    for options, expected in ((STRICT, length), (BOTH, lenient)):
        found = request(data, options)
        if expected in (400, 501):
            assert refusal(found)[0] == expected
            continue
        assert found.length == expected
        names = [name for name, _ in items(found)]
        assert "transfer-encoding" not in names
        assert names.count("content-length") == (1 if expected >= 0 and lines else 0)
        assert found.length_given is ("content-length" in names)


@pytest.mark.parametrize(
    ("lines", "length", "_", "expected"),
    FRAMINGS,
    ids=lambda v: b" ".join(v)[:40] if isinstance(v, list) else "",
)
def test_framing_of_responses(lines, length, _, expected):
    data = b"HTTP/1.1 200 OK\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    if expected is None:
        with pytest.raises(PeerError):
            parse_response(data, 0, STRICT)
        return
    head = parse_response(data, 0, STRICT)
    assert head.length == expected
    assert "transfer-encoding" not in dict(items(head))


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (b"CONNECT a:1 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", 501),
        (b"CONNECT a:1 HTTP/1.1\r\ncontent-length: 1\r\n\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\ncontent-length: 0\r\n\r\n", 0),
        (b"GET / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\ncontent-length: 3\r\n\r\n", 3),
    ],
)
def test_framing_that_depends_on_the_request(data, outcome):
    found = request(data, OLD)
    assert (refusal(found)[0] if isinstance(found, tuple) else found.length) == outcome


# -- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [True, False], ids=["crlf", "lf"])
@pytest.mark.parametrize("parse", ["request", "response"])
def test_the_size_of_a_head(plain, parse):
    first = b"GET / HTTP/1.1" if parse == "request" else b"HTTP/1.1 200 OK"
    function = parse_request if parse == "request" else parse_response
    end = b"\r\n" if plain else b"\n"
    options = Http1Options(max_head=1000)

    def head(size):
        bare = first + end + b"x: " + end + end
        return bare.replace(b"x: ", b"x: " + b"y" * (size - len(bare)))

    assert len(head(1000)) == 1000
    assert function(head(1000), 0, options) is not None
    for size in (1010, 5000):
        with pytest.raises(PeerError) as refused:
            function(head(size), 0, options)
        assert (refused.value.status, refused.value.kind) == (431, "http1.headers_too_large")
    assert function(head(990)[:-1], 0, options) is None
    with pytest.raises(PeerError) as refused:
        function(head(1020)[:1001], 0, options)
    assert refused.value.status == 431


@pytest.mark.parametrize(("count", "status"), [(99, None), (100, None), (101, 431), (2000, 431)])
def test_the_number_of_fields(count, status):
    for lines in (b"x: 1\r\n" * count, b"".join(b"x-%d: 1\r\n" % i for i in range(count))):
        found = request(b"GET / HTTP/1.1\r\n" + lines + b"\r\n")
        if status is None:
            assert len(found.headers) == count
        else:
            assert refusal(found) == (status, "http1.too_many_headers")
    # Those that join are one.
    assert len(request(b"GET / HTTP/1.1\r\n" + b"accept: 1\r\n" * count + b"\r\n").headers) == 1


# -- pieces ---------------------------------------------------------------------------------------


def test_leading_empty_lines_are_no_request():
    for blank in (b"\r\n", b"\n", b"\r\n\r\n", b"\r", b"\r\r\n"):
        assert parse_request(blank, 0, STRICT) is None
        head = parse_request(blank + b"GET / HTTP/1.1\r\n\r\n", 0, STRICT)
        assert head.end == len(blank) + 18


def test_a_head_ends_at_its_first_empty_line():
    """What follows is the body, or the next request."""
    for end in (b"\r\n\r\n", b"\n\n", b"\n\r\n", b"\r\n\n"):
        data = b"GET / HTTP/1.1\r\nx: 1" + end
        for more in (b"", b"\r\n", b"\n", b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"x\r\n\r\n"):
            assert request(data + more).end == len(data), (end, more)
            assert parse_request(b"?" * 7 + data + more, 7, STRICT).end == len(data) + 7


HEADS = st.lists(
    st.sampled_from(
        [b"GET / HTTP/1.1", b"GET /", b"POST /x HTTP/1.0", b"host: a", b"x: 1", b"x:\r2", b" fold", b"\t", b"",
         b"content-length: 3", b"transfer-encoding: chunked", b"accept: a", b"accept: b", b"bad", b": ", b"\0",
         b"connection: close", b"HTTP/1.1 200 OK", b"HTTP/1.1 2", b"G", b"x" * 70]
    ),
    max_size=8,
)  # fmt: skip
ENDS = st.lists(st.sampled_from([b"\r\n", b"\n", b"\r", b"\r\r\n"]), min_size=8, max_size=8)


def outcome(parse, data, start, options, searched=0):
    try:
        head = parse(data, start, options, searched)
    except PeerError as error:
        return ("refused", error.status, error.kind)
    if head is None:
        return None
    if parse is parse_request:
        rest = (head.method, head.target, head.host, head.upgrade, head.length_given)
    else:
        rest = (head.status,)
    mask_of = 0
    for field in head.headers.fields:
        mask_of |= field.bit
    assert mask_of & ~head.headers.mask == 0, "the mask says what may be there"
    return (head.minor, head.end, head.length, head.keep_alive, head.headers.items(), rest)


def in_pieces(parse, data, options, sizes):
    """Feed ``data`` as a connection does: what was there is searched once."""
    at = seen = 0
    for size in sizes:
        at = min(len(data), at + size)
        found = outcome(parse, data[:at], 0, options, seen)
        if found is not None:
            return found
        seen = at
        if at == len(data):
            return None
    return outcome(parse, data, 0, options, seen)


@pytest.mark.parametrize("parse", [parse_request, parse_response])
@given(lines=HEADS, ends=ENDS, sizes=st.lists(st.integers(1, 9), max_size=40), old=st.booleans())
@example(
    lines=[b"GET / HTTP/1.1", b"x: 1", b"", b""],
    ends=[b"\n", b"\n", b"\n", b"\r\n"] * 2,
    sizes=[1] * 40,
    old=False,
)
@example(lines=[b"GET /", b""], ends=[b"\n"] * 8, sizes=[6], old=True)
@example(lines=[b"GET /", b""], ends=[b"\r\r\n"] * 8, sizes=[8], old=True)
@example(lines=[b"GET /", b" fold", b"GET / HTTP/1.1", b""], ends=[b"\r\n"] * 3 + [b"\n"] * 5, sizes=[1, 6], old=True)
@settings(max_examples=400, deadline=None)
def test_pieces_change_nothing(parse, lines, ends, sizes, old):
    data = b"".join(line + end for line, end in zip(lines, ends, strict=False))
    options = Http1Options(allow_http_10=old, max_head=400)
    whole = outcome(parse, data, 0, options)
    cut = in_pieces(parse, data, options, sizes)
    if whole is not None and whole[0] == "refused":
        # It may be refused before its end arrives, then maybe for the first of two reasons.
        assert (cut or ("",))[0] == "refused"
    else:
        assert cut == whole


@pytest.mark.parametrize("parse", [parse_request, parse_response])
@given(data=st.binary(max_size=300), start=st.integers(0, 3))
@settings(max_examples=500, deadline=None)
def test_random_bytes_raise_peer_errors_only(parse, data, start):
    outcome(parse, data, min(start, len(data)), OLD)


SEEDS = [
    b"POST /a?b HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\nConnection: keep-alive, x-y\r\nX-Y: 1\r\n\r\nabc",
    b"GET http://a/ HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\nset-cookie: a=b\r\nvary: a\r\nvary: b\r\n\r\n0123456789",
]


@pytest.mark.parametrize("parse", [parse_request, parse_response])
@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.integers(0, 150), st.integers(0, 3), st.binary(max_size=4)), max_size=6),
)
@settings(max_examples=600, deadline=None)
def test_damaged_heads_raise_peer_errors_only(parse, seed, edits):
    data = bytearray(seed)
    for at, remove, insert in edits:
        data[at : at + remove] = insert
    for options in (STRICT, OLD, BOTH, CUSTOM):
        outcome(parse, bytes(data), 0, options)


class Counted(bytes):
    """Bytes that note how much of them is searched."""

    scanned = 0

    def find(self, what, start=0, end=None):
        stop = len(self) if end is None else end
        at = bytes.find(self, what, start, stop)
        Counted.scanned += (stop if at < 0 else at) - start
        return at


@pytest.mark.parametrize(
    ("parse", "data"),
    [
        (parse_request, b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: 1\r\n" * 4000),
        (parse_request, b"GET / HTTP/1.1\r\nx: " + b"y" * 60_000),
        (parse_request, b"GET / HTTP/1.1\n" + b"x: 1\n y\n" * 4000),
        (parse_response, b"HTTP/1.1 200 OK\r\n" + b"x: 1\r\n" * 4000),
        (parse_response, b"HTTP/1.1 200 OK\nx: " + b"y" * 50_000),
    ],
    ids=["fields", "one-value", "folded", "response", "response-value"],
)
def test_a_head_byte_by_byte_is_searched_once(parse, data):
    """S4: the cost of a head is its length, not its length times the number of its pieces."""
    Counted.scanned = 0
    for at in range(1, len(data), 7):
        assert parse(Counted(data[:at]), 0, Http1Options(max_head=1 << 20), max(0, at - 7)) is None
    assert Counted.scanned < 30 * len(data)


# -- the table of lines seen ------------------------------------------------------------------------


@given(lines=HEADS, ends=ENDS)
@settings(max_examples=200, deadline=None)
def test_lines_seen_before_change_nothing(lines, ends):
    data = b"".join(line + end for line, end in zip(lines, ends, strict=False)) + b"\r\n"
    for parse in (parse_request, parse_response):
        http1._SEEN.clear()
        fresh = outcome(parse, data, 0, OLD)
        again = outcome(parse, data, 0, OLD)
        assert again == fresh


def test_the_table_is_bounded():
    http1._SEEN.clear()
    for i in range(3 * http1._SEEN_MOST):
        head = request(b"GET / HTTP/1.1\r\nx-%d: 1\r\n\r\n" % i)
        assert items(head) == [(f"x-{i}", "1")]
        assert len(http1._SEEN) <= http1._SEEN_MOST
    http1._SEEN.clear()
    request(b"GET / HTTP/1.1\r\nx: " + b"y" * 2000 + b"\r\n\r\n")
    assert http1._SEEN == {}
    # A line that is refused is not remembered either.
    refusal(request(b"GET / HTTP/1.1\r\nb\x00d: 1\r\n\r\n"))
    assert http1._SEEN == {}


def test_status_lines_are_remembered_within_bounds():
    before = len(http1._STATUS_SEEN)
    parse_response(b"HTTP/1.1 200 " + b"x" * 5000 + b"\r\n\r\n", 0, STRICT)
    assert len(http1._STATUS_SEEN) == before
    for i in range(1000):
        parse_response(b"HTTP/1.1 200 reason %d\r\n\r\n" % i, 0, STRICT)
    assert len(http1._STATUS_SEEN) <= 256


def test_notes_survive_the_table():
    for _ in range(2):
        head = request(b"POST / HTTP/1.1\r\ncontent-length: 7\r\nconnection: close, x\r\n\r\n")
        assert (head.length, head.keep_alive) == (7, False)


# -- responses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "status", "minor"),
    [
        (b"HTTP/1.1 200 OK", 200, 1),
        (b"HTTP/1.1 200", 200, 1),
        (b"HTTP/1.1 200 ", 200, 1),
        (b"HTTP/1.0 404 Not Found", 404, 0),
        (b"HTTP/1.1 999 Odd", 999, 1),
        (b"HTTP/1.1 100 Continue", 100, 1),
    ],
)
def test_status_lines_that_pass(line, status, minor):
    for end in (b"\r\n", b"\n"):
        head = parse_response(line + end + end, 0, STRICT)
        assert (head.status, head.minor, head.keep_alive, head.length) == (status, minor, minor == 1, -2)


@pytest.mark.parametrize(
    "line",
    [b"HTTP/1.1 20 OK", b"HTTP/1.1 2000", b"HTTP/1.1 099 x", b"HTTP/1.1  200", b"HTTP/2.0 200", b"http/1.1 200 OK",
     b"HTTP/1.1 200\x00", b"HTTP/1.1 200 a\x01", b"HTTP/1.1 200 \xff", b"200 OK", b"\r\nHTTP/1.1 200 OK", b"GET / HTTP/1.1",
     b"HTTP/1.1 2x0 OK", b"HTTP/1.1 \xb2\xb2\xb2"],
)  # fmt: skip
def test_status_lines_that_do_not(line):
    for end in (b"\r\n", b"\n"):
        with pytest.raises(PeerError):
            parse_response(line + end + end, 0, STRICT)


@pytest.mark.parametrize(
    ("headers", "keep_alive", "minor"),
    [
        (b"", True, 1),
        (b"connection: close\r\n", False, 1),
        (b"", False, 0),
        (b"connection: keep-alive\r\n", True, 0),
    ],
)
def test_who_keeps_the_upstream_connection(headers, keep_alive, minor):
    data = b"HTTP/1.%d 200 OK\r\n" % minor + headers + b"\r\n"
    assert parse_response(data, 0, STRICT).keep_alive is keep_alive


def test_response_fields_join_by_their_own_list():
    head = parse_response(
        b"HTTP/1.1 200 OK\r\nvary: a\r\nset-cookie: a\r\nvary: b\r\nset-cookie: b\r\n\r\n", 0, STRICT
    )
    assert items(head) == [("vary", "a,b"), ("set-cookie", "a"), ("set-cookie", "b")]
    # ``accept`` joins in requests only.
    assert len(parse_response(b"HTTP/1.1 200 OK\r\naccept: a\r\naccept: b\r\n\r\n", 0, STRICT).headers) == 2


# -- small things -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (200, b"HTTP/1.1 200 OK\r\n"),
        (431, b"HTTP/1.1 431 Request Header Fields Too Large\r\n"),
        (299, b"HTTP/1.1 299 Unknown\r\n"),
    ],
)
def test_status_line(status, line):
    assert status_line(status) == line
    assert status_line(status) is status_line(status)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"100-continue", True), (b"100-Continue", True), (b"200-ok", False), (None, False)],
)
def test_expect(value, expected):
    headers = Headers() if value is None else Headers([Field(b"expect", value)], EXPECT)
    assert http1.has_expect_continue(headers) is expected


def test_the_mask_tells_of_every_field():
    head = request(b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: x\r\n\r\n")
    assert head.headers.mask & (HOST | CONTENT_LENGTH | CONNECTION) == HOST | CONTENT_LENGTH | CONNECTION
    assert not head.headers.mask & TRANSFER_ENCODING


@pytest.mark.parametrize(
    "field", [b"content-length: 1\r0", b"Transfer-Encoding: chun\rked", b"content-length: 0\r\r0"]
)
def test_what_frames_a_message_has_no_cr_inside(field):
    assert refusal(request(b"POST / HTTP/1.1\r\nhost: a\r\n" + field + b"\r\n\r\n"))[0] == 400
