"""Chunked bodies: any cut gives the same, and nothing grows without end."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from weft.codec.errors import PeerError
from weft.codec.http1 import ChunkedDecoder, Http1Options, chunk, last_chunk
from weft.http.headers import Headers

KEEP = Http1Options(keep_trailers=True, max_head=1000)
DROP = Http1Options(max_head=1000)


def decode(data, sizes=(), options=KEEP):
    """(body, trailers, bytes taken), "more" when it is not over, or the refusal."""
    decoder = ChunkedDecoder(options)
    body = b""
    at = 0
    cuts = list(sizes) or [len(data)]
    try:
        for size in [*cuts, len(data)]:
            if at >= len(data) or decoder.done:
                break
            piece = data[at : at + size]
            taken = decoder.feed(piece, 0)
            body += decoder.take()
            assert taken == len(piece) or decoder.done
            at += taken
            if taken < len(piece):
                break
    except PeerError as error:
        return ("refused", error.status, error.kind)
    if not decoder.done:
        return ("more", body)
    return (body, [] if decoder.trailers is None else decoder.trailers.items(), at)


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world"),
        (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
        (b"0005\r\nhello\r\n000\r\n\r\n", b"hello"),
        (b"5;name=value\r\nhello\r\n0;x\r\n\r\n", b"hello"),
        (b'5 ;a="b;c"\r\nhello\r\n0\r\n\r\n', b"hello"),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        (b"1\r\n0\r\n0\r\n\r\n", b"0"),
    ],
)
def test_bodies_that_pass(data, body):
    assert decode(data) == (body, [], len(data))
    assert decode(data + b"GET /next") == (body, [], len(data))
    assert decode(data, [1] * len(data)) == (body, [], len(data))


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\nx\r\n",
        b"0x5\r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"\t5\r\nhello\r\n",
        b";ext\r\n",
        b"5_0\r\n",
        b"5\nhello\r\n",
        b"5\r5\r\nhello\r\n",
        b"5\r\rhello",
        b"5;a\nhello",
        b"5;a\rb\r\nhello",
        b"5;a\r\r\nhello",
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhel\r\n0\r\n\r\nxxxxx",
        b"f" * 16 + b"\r\n",
        b"1" + b"0" * 100 + b"\r\n",
        b"\xb2\r\n",
        b"0\r\n folded: 1\r\n\r\n",
        b"0\r\nbad\r\n\r\n",
        b"0\r\nb d: 1\r\n\r\n",
        b"0\r\nx: \x00\r\n\r\n",
        b"5;" + b"a" * 2000 + b"\r\nhello\r\n",
        b"0\r\n" + b"x: 1\r\n" * 200 + b"\r\n",
        b"0\r\nx: " + b"y" * 2000,
    ],
)
def test_bodies_that_do_not(data):
    found = decode(data)
    assert found[0] == "refused", found
    # However they are cut.
    assert decode(data, [1] * len(data))[0] == "refused"
    for at in range(1, min(len(data), 40)):
        assert decode(data, [at])[0] == "refused", at


def test_trailers():
    data = b"1\r\na\r\n0\r\nX-A: 1\r\nx-b:2 \r\nx-a: 3\nx-c:\r\n\r\n"
    assert decode(data) == (b"a", [(b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3"), (b"x-c", b"")], len(data))
    assert decode(data, [1] * len(data)) == decode(data)
    assert decode(data, options=DROP) == (b"a", [], len(data))


def test_trailers_do_not_frame_or_route():
    names = b"content-length transfer-encoding host connection upgrade te trailer".split()
    data = b"0\r\n" + b"".join(name + b": 5\r\n" for name in names) + b"x: 1\r\n\r\n"
    assert decode(data) == (b"", [(b"x", b"1")], len(data))


@pytest.mark.parametrize("options", [KEEP, DROP], ids=["kept", "dropped"])
def test_all_trailers_together_are_limited(options):
    line = b"x: " + b"y" * 95 + b"\r\n"
    assert decode(b"0\r\n" + line * 9 + b"\r\n", options=options)[0] == b""
    assert decode(b"0\r\n" + line * 11 + b"\r\n", options=options) == (
        "refused",
        431,
        "http1.trailers_too_large",
    )
    assert decode(b"0\r\n" + line * 11, [7] * 200, options=options)[0] == "refused"


def test_the_number_of_trailers_is_limited():
    few = Http1Options(keep_trailers=True, max_fields=3)
    assert len(decode(b"0\r\n" + b"x: 1\r\n" * 3 + b"\r\n", options=few)[1]) == 3
    assert decode(b"0\r\n" + b"x: 1\r\n" * 4 + b"\r\n", options=few) == (
        "refused",
        431,
        "http1.too_many_trailers",
    )


def test_extensions_are_limited_one_by_one():
    data = (b"1;" + b"x" * 900 + b"\r\na\r\n") * 5 + b"0\r\n\r\n"
    assert decode(data) == (b"aaaaa", [], len(data))
    assert decode(data, [13] * len(data)) == (b"aaaaa", [], len(data))


TEXT = st.lists(
    st.sampled_from([b"5", b"0", b"a", b"\r", b"\n", b"\r\n", b";", b" ", b"x", b":", b"hello", b"\t", b"5\r\nhello\r\n",
                     b"0\r\n", b"\r\n\r\n", b"x: 1\r\n"]),
    max_size=14,
).map(b"".join)  # fmt: skip
CUTS = st.lists(st.integers(1, 8), max_size=60)


@given(data=TEXT, cuts=CUTS)
@example(data=b"5\r5\r\nhello", cuts=[2])
@example(data=b"5;a\rb\r\nhello", cuts=[4])
@example(data=b"5;" + b"x" * 100 + b"\r\nhello\r\n0\r\n\r\n", cuts=[103])
@settings(max_examples=1000, deadline=None)
def test_cutting_changes_nothing(data, cuts):
    whole, cut = decode(data), decode(data, cuts)
    if whole[0] == "refused":
        assert cut[:2] == whole[:2]
    else:
        assert cut == whole


@given(data=st.binary(max_size=200), cuts=CUTS)
@settings(max_examples=300, deadline=None)
def test_random_bytes_raise_peer_errors_only(data, cuts):
    for options in (KEEP, DROP):
        decode(data, cuts, options)


@given(
    pieces=st.lists(st.binary(min_size=1, max_size=50), max_size=10),
    trailers=st.lists(
        st.tuples(st.sampled_from([b"x-a", b"x-b"]), st.sampled_from([b"", b"1", b"a b"])), max_size=4
    ),
    cuts=CUTS,
)
@settings(max_examples=300, deadline=None)
def test_what_is_written_is_read(pieces, trailers, cuts):
    data = b"".join(chunk(piece) for piece in pieces) + last_chunk(Headers.of(trailers))
    assert decode(data, cuts) == (b"".join(pieces), trailers, len(data))
    assert re.match(rb"[0-9a-f]+\r\n", data)


def test_a_whole_piece_is_not_copied():
    decoder = ChunkedDecoder(KEEP)
    decoder.feed(b"186a0\r\n", 0)
    piece = b"x" * 50_000
    decoder.feed(piece, 0)
    assert decoder.take() is piece
    assert decoder.take() == b""
