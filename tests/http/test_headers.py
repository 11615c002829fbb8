"""Header fields: an ordered multi-map, against a list of pairs that does the same slowly."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.http.headers import (
    CONNECTION,
    ENVOY,
    HOST,
    JOINABLE,
    UNDERSCORE,
    Field,
    Headers,
    bit_of,
)
from weft.http.joined import JOINED_IN_REQUESTS, JOINED_IN_RESPONSES
from weft.http.message import Request, Response

NAMES = [b"a", b"b", b"x-envoy-a", b"connection", b"x_y", b"cookie"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "put", "drop", "copy"]),
        st.sampled_from(NAMES),
        st.sampled_from([b"", b"1", b"2"]),
    ),
    max_size=25,
)


@given(STEPS)
@settings(max_examples=400, deadline=None)
def test_random_histories(steps):
    headers, model = Headers(), []
    for what, name, value in steps:
        if what == "add":
            headers.append(Field(name, value))
            model.append((name, value))
        elif what == "put":
            headers.put(Field(name, value))
            at = next((i for i, pair in enumerate(model) if pair[0] == name), None)
            if at is None:
                model.append((name, value))
            else:
                model[at] = (name, value)
                model[at + 1 :] = [pair for pair in model[at + 1 :] if pair[0] != name]
        elif what == "drop":
            assert headers.drop(name) is any(pair[0] == name for pair in model)
            model = [pair for pair in model if pair[0] != name]
        else:
            copy = headers.copy()
            headers.append(Field(b"only-here", b""))
            headers = copy

        assert headers.items() == model
        assert len(headers) == len(model)
        assert list(headers) == [name for name, _ in model]
        for one in NAMES:
            values = [v for n, v in model if n == one]
            assert headers.find_all(one) == values
            assert headers.find(one) == (values[0] if values else None)
            assert headers.joined(one) == (b",".join(values) if values else None)
            assert (one in headers) is bool(values)
            if values:
                assert headers.mask & bit_of(one) == bit_of(one), "the mask says what may be there"
        assert headers.size() == sum(len(n) + len(v) for n, v in model)


def test_users_may_write_names_in_any_case():
    headers = Headers.of([(b"X-A", b"1")])
    headers["X-b"] = "2"
    headers.add("x-A", "3")
    assert (headers["x-a"], headers["X-B"], headers.get_all("X-a")) == (b"1", b"2", [b"1", b"3"])
    assert headers.get("none") is None
    assert headers.get("none", b"x") == b"x"
    del headers["X-A"]
    assert headers.items() == [(b"x-b", b"2")]
    assert headers.remove("x-b")
    assert not headers.remove("x-b")
    assert 5 not in headers
    with pytest.raises(KeyError):
        headers["x-a"]


@pytest.mark.parametrize("value", [b"a\r\nb: c", "a\nb", b"a\0b", "\r"])
@pytest.mark.parametrize("write", [Headers.add, Headers.set, Headers.__setitem__])
def test_values_that_would_make_another_header_are_refused(value, write):
    headers = Headers()
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        write(headers, "x", value)
    assert headers.items() == []


@pytest.mark.parametrize("name", ["", "a b", "a:", b"a\r\nb", "\xe4", "a\0"])
@pytest.mark.parametrize("write", [Headers.add, Headers.set, Headers.__setitem__])
def test_names_that_are_none_are_refused(name, write):
    headers = Headers()
    with pytest.raises(ValueError, match="not the name"):
        write(headers, name, "1")
    assert headers.items() == []


def test_a_field_knows_its_wire_form():
    assert Field(b"x-a", b"1").wire == b"x-a: 1\r\n"
    assert Field(b"x-a", b"").wire == b"x-a: \r\n"


@pytest.mark.parametrize(
    ("name", "has", "has_not"),
    [
        (b"host", HOST, CONNECTION),
        (b"x-envoy-anything", ENVOY, UNDERSCORE),
        (b"x-envoy_", UNDERSCORE, ENVOY),
        (b"x-envoy-a_b", ENVOY | UNDERSCORE, HOST),
        (b"x-foo", 0, ENVOY | UNDERSCORE | HOST),
    ],
)
def test_bits(name, has, has_not):
    assert bit_of(name) & has == has
    assert not bit_of(name) & has_not


def test_every_name_that_joins_is_joinable():
    for name in JOINED_IN_REQUESTS | JOINED_IN_RESPONSES:
        assert bit_of(name) & JOINABLE
    assert not bit_of(b"cookie") & JOINABLE
    assert not bit_of(b"set-cookie") & JOINABLE


def test_messages_resolve_the_names_of_http_2():
    request = Request(b"GET", b"/p?q", b"h", b"https", Headers.of([(b"x", b"1"), (b"x", b"2")]))
    found = {
        name: request.header(name)
        for name in (b":path", b":method", b":authority", b":scheme", b"host", b"x", b":odd")
    }
    assert found == {
        b":path": b"/p?q", b":method": b"GET", b":authority": b"h", b":scheme": b"https",
        b"host": b"h", b"x": b"1", b":odd": None,
    }  # fmt: skip
    assert (request.header_all(b"x"), request.header_all(b":path"), request.header_all(b":odd")) == (
        [b"1", b"2"],
        [b"/p?q"],
        [],
    )
    response = Response(204, headers=Headers.of([(b"x", b"1")]))
    assert (response.header(b":status"), response.header_all(b":status"), response.header(b"x")) == (
        b"204",
        [b"204"],
        b"1",
    )
