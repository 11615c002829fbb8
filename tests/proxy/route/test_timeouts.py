"""``grpc-timeout`` and what routes make of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.proxy.route.timeouts import (
    GrpcTimeout,
    StreamLimit,
    grpc_timeout_field,
    parse_grpc_timeout,
    unsigned,
)


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [
        (b"2H", 7_200_000),
        (b"3M", 180_000),
        (b"4S", 4000),
        (b"5m", 5),
        (b"1u", 1),
        (b"1000u", 1),
        (b"1001u", 2),
        (b"1n", 1),
        (b"1000001n", 2),
        (b"0S", 0),
        (b"99999999H", 99_999_999 * 3_600_000),
        (b"000000000001S", 1000),
        (b"+1S", 1000),
        (b"100000000m", None),
        (b"18446744073709551617S", None),
        (b"9" * 10_000 + b"S", None),
        (b"5", None),
        (b"S", None),
        (b"", None),
        (None, None),
        (b"5s", None),
        (b"-5S", None),
        (b"1.5S", None),
        ("\N{ARABIC-INDIC DIGIT FIVE}S".encode(), None),
    ],
)
def test_what_a_client_says(value, milliseconds):
    assert parse_grpc_timeout(value) == milliseconds


@pytest.mark.parametrize(
    ("milliseconds", "value"),
    [
        (0, b"0m"),
        (1500, b"1500m"),
        (99_999_999, b"99999999m"),
        (100_000_000, b"100000S"),
        (99_999_999_999, b"99999999S"),
        (100_000_000_000, b"1666666M"),
        (99_999_999 * 3_600_000, b"99999999H"),
        (1 << 80, b"99999999H"),
    ],
)
def test_what_a_server_is_told(milliseconds, value):
    field = grpc_timeout_field(milliseconds)
    assert (field.name, field.value) == (b"grpc-timeout", value)


@given(st.integers(0, 1 << 48))
def test_what_is_told_is_never_more_and_nearly_all(milliseconds):
    told = parse_grpc_timeout(grpc_timeout_field(milliseconds).value)
    assert told is not None
    assert milliseconds * 0.96 - 1 <= told <= milliseconds


@pytest.mark.parametrize(
    ("text", "number"),
    [(b"0", 0), (b" 12 ", 12), (b"+7", 7), (b"++7", None), (b"-0", None), (b"1 2", None), (b"", None), (b" ", None), (b"18446744073709551615", (1 << 64) - 1), (b"18446744073709551616", None), (b"0" * 500 + b"1", 1)],
)  # fmt: skip
def test_numbers_in_headers(text, number):
    assert unsigned(text) == number


@pytest.mark.parametrize(
    ("limit", "asked", "default", "longest"),
    [
        (StreamLimit(None, None, 0), None, 0, None),
        (StreamLimit(None, None, 0), 50, 0, None),
        (StreamLimit(None, None, 0), 50, 700, 700),
        (StreamLimit(300, None, 0), 50, 700, 300),
        (StreamLimit(0, None, 0), 50, 700, None),
        (StreamLimit(300, 100, 0), None, 0, 300),
        (StreamLimit(300, 100, 0), 50, 0, 50),
        (StreamLimit(300, 100, 0), 5000, 0, 100),
        (StreamLimit(300, 0, 0), 5000, 700, 5000),
        (StreamLimit(300, 0, 20), 50, 0, 30),
        (StreamLimit(300, 40, 20), 50, 0, 20),
        (StreamLimit(300, 0, 50), 50, 0, 0),
        (StreamLimit(300, 0, 90), 50, 0, 0),
        (StreamLimit(300, 0, 0), 0, 700, 0),
    ],
)
def test_how_long_a_stream_may_take(limit, asked, default, longest):
    assert limit.longest(asked, default) == longest


@pytest.mark.parametrize(
    ("grpc", "asked", "timeout"),
    [
        (GrpcTimeout(0, 0), None, 0),
        (GrpcTimeout(0, 0), 50, 50),
        (GrpcTimeout(300, 0), None, 300),
        (GrpcTimeout(300, 0), 0, 300),
        (GrpcTimeout(300, 0), 50, 50),
        (GrpcTimeout(300, 0), 5000, 300),
        (GrpcTimeout(0, 20), 50, 30),
        (GrpcTimeout(0, 50), 50, 50),
        (GrpcTimeout(0, 90), 50, 50),
        (GrpcTimeout(300, 20), None, 300),
    ],
)
def test_how_long_an_answer_may_take(grpc, asked, timeout):
    assert grpc.timeout(asked) == timeout
