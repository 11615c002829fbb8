"""What speaks HTTP, as real Envoy sees it."""

import pytest

from weft.proxy.listener.http_inspector import MOST, NOT_HTTP, PREFACE, UNDECIDED, protocol_of


@pytest.mark.parametrize(
    ("data", "protocol"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "http/1.1"),
        (b"GET / HTTP/1.1\n", "http/1.1"),
        (b"foo / HTTP/1.1\r\nrest", "http/1.1"),
        (b"GET  / HTTP/1.1\r\n", "http/1.1"),
        (b"GET\t/ HTTP/1.1 \r\n", "http/1.1"),
        (b"GET http://x/ HTTP/1.1\r\n", "http/1.1"),
        (b"CONNECT x:1 HTTP/1.1\r\n", "http/1.1"),
        (b"OPTIONS * HTTP/1.1\r\n", "http/1.1"),
        (b"PRI / HTTP/1.1\r\n", "http/1.1"),
        (b"GET / HTTP/1.0\r\n", "http/1.0"),
        (b"GET / HTTP/0.9\r\n", "http/1.0"),
        (b"GET / HTTP/2.0\r\n", "http/1.0"),
        (b"GET /\r\n", "http/1.0"),
        (PREFACE[:-2] + b"X\n", "http/1.0"),
        (PREFACE, "h2c"),
        (PREFACE + b"more", "h2c"),
        (PREFACE[:-1], UNDECIDED),
        (b"", UNDECIDED),
        (b"GET / HTTP/1.1", UNDECIDED),
        (b"GET / HTTP/1.1\r", UNDECIDED),
        (b"X" * 70, UNDECIDED),
        (b"GET /" + b"a" * MOST, NOT_HTTP),
        (b"\r\nGET / HTTP/1.1\r\n", NOT_HTTP),
        (b" GET / HTTP/1.1\r\n", NOT_HTTP),
        (b"GET /a b HTTP/1.1\r\n", NOT_HTTP),
        (b"GET x HTTP/1.1\r\n", NOT_HTTP),
        (b"GET / HTTP/1.12\r\n", NOT_HTTP),
        (b"GET / HTTP/3\r\n", NOT_HTTP),
        (b"GET / http/1.1\r\n", NOT_HTTP),
        (b"GE\x00 / HTTP/1.1\r\n", NOT_HTTP),
        (b"HTTP/1.1 200 OK\r\n", NOT_HTTP),
        (b"hello\r\n", NOT_HTTP),
        (b"hello world\r\n", NOT_HTTP),
        (b"\x16\x03\x01\x02\x00", NOT_HTTP),
    ],
)
def test_protocol_of(data, protocol):
    assert protocol_of(data) == protocol
    # A prefix is undecided, or decided alike: no verdict is taken back when more comes.
    for cut in range(min(len(data), 40)):
        assert protocol_of(data[:cut]) in (UNDECIDED, protocol)
