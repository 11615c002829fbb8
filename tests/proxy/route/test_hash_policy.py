"""What a request hashes to: each method, how several mix, and the cookies that are made."""

import pytest
import xxhash

from weft.http.headers import Headers
from weft.http.message import Request
from weft.proxy.address import Address
from weft.proxy.observe.stream_info import ConnectionInfo, StreamInfo
from weft.proxy.route.hash_policy import NO_HASH, connection_hash_policy


def request_of(*headers, path=b"/"):
    fields = Headers()
    for name, value in headers:
        fields.add(name, value)
    return Request(b"GET", path, b"a.example", b"http", fields)


def info_of(remote="1.2.3.4", **state):
    info = StreamInfo(ConnectionInfo(1, 0.0, Address(remote, 50), Address("10.0.0.1", 80)), 0.0)
    info.filter_state = state or None
    return info


def xx(text):
    return xxhash.xxh64_intdigest(text)


@pytest.fixture
def policy(table_of):
    def build(*methods):
        route = {"match": {"prefix": "/"}, "route": {"cluster": "a", "hash_policy": list(methods)}}
        return table_of([route]).virtual_hosts[0].routes[0].action.hash_policy

    return build


HEADER = {"header": {"header_name": "X-User"}}


@pytest.mark.parametrize(
    ("method", "request_", "expected"),
    [
        (HEADER, request_of((b"x-user", b"ann")), xx(b"ann")),
        (HEADER, request_of((b"x-user", b"b"), (b"x-user", b"a")), xx(b"ab")),
        (HEADER, request_of((b"x-user", b"")), xx(b"")),
        (HEADER, request_of(), NO_HASH),
        ({"header": {"header_name": ":path"}}, request_of(path=b"/p?q"), xx(b"/p?q")),
        (
            {
                "header": {
                    "header_name": "x-user",
                    "regex_rewrite": {"pattern": {"regex": "-.*$"}, "substitution": ""},
                }
            },
            request_of((b"x-user", b"ann-7")),
            xx(b"ann"),
        ),
        ({"cookie": {"name": "s"}}, request_of((b"cookie", b'a=1; s="v"')), xx(b"v")),
        ({"cookie": {"name": "s"}}, request_of((b"cookie", b"s=")), NO_HASH),
        ({"query_parameter": {"name": "q"}}, request_of(path=b"/?a=1&q=%41"), xx(b"%41")),
        ({"query_parameter": {"name": "q"}}, request_of(path=b"/?q"), xx(b"")),
        ({"query_parameter": {"name": "q"}}, request_of(path=b"/"), NO_HASH),
        ({"connection_properties": {"source_ip": True}}, request_of(), xx(b"1.2.3.4")),
        ({"filter_state": {"key": "k"}}, request_of(), xx(b"kept")),
        ({"filter_state": {"key": "other"}}, request_of(), NO_HASH),
    ],
)
def test_a_method(policy, method, request_, expected):
    assert policy(method).hash(request_, info_of(k="kept")) == expected


def test_a_source_that_is_not_asked_for_is_no_method(policy):
    assert policy({"connection_properties": {"source_ip": False}}) is None


def test_several_methods_mix_and_the_same_twice_does_not_cancel_out(policy):
    request = request_of((b"x-user", b"ann"))
    one = xx(b"ann")
    turned = ((one << 1) | (one >> 63)) & (2**64 - 1)
    assert policy(HEADER, HEADER).hash(request, info_of()) == turned ^ one


def test_a_terminal_method_ends_the_list_once_there_is_a_hash(policy):
    both = policy({**HEADER, "terminal": True}, {"query_parameter": {"name": "q"}})
    assert both.hash(request_of((b"x-user", b"ann"), path=b"/?q=1"), info_of()) == xx(b"ann")
    assert both.hash(request_of(path=b"/?q=1"), info_of()) == xx(b"1")


def test_a_cookie_is_made_for_who_has_none(policy):
    made = policy(
        {"cookie": {"name": "s", "ttl": "60s", "path": "/p", "attributes": [{"name": "Secure"}, {"name": "SameSite", "value": "Lax"}]}}
    )  # fmt: skip
    info = info_of()
    value = b"%016x" % xx(b"1.2.3.4:5010.0.0.1:80")

    assert made.hash(request_of(), info) == xx(value)
    assert [field.value for field in info.set_cookies] == [
        b's="' + value + b'"; Max-Age=60; Path=/p; Secure; SameSite=Lax; HttpOnly'
    ]


def test_a_cookie_of_the_session_has_no_age(policy):
    info = info_of()
    policy({"cookie": {"name": "s", "ttl": "0s"}}).hash(request_of(), info)
    assert b"Max-Age" not in info.set_cookies[0].value


def test_no_cookie_is_made_where_that_is_not_wanted(policy):
    info = info_of()
    assert policy({"cookie": {"name": "s", "ttl": "60s"}}).hash(request_of(), info, False) == NO_HASH
    assert info.set_cookies is None


def test_a_wrong_pattern_is_a_problem_with_its_place(load):
    rewrite = {"pattern": {"regex": "("}, "substitution": ""}
    policy = {"header": {"header_name": "a", "regex_rewrite": rewrite}}
    _, problems = load([{"match": {"prefix": "/"}, "route": {"cluster": "a", "hash_policy": [policy]}}])
    assert len(problems) == 1
    assert "hash_policy[0].header.regex_rewrite.pattern" in problems[0]


def test_connections_hash_without_a_request(message):
    policies = [
        message("envoy.type.v3.HashPolicy", {"source_ip": {}}),
        message("envoy.type.v3.HashPolicy", {"filter_state": {"key": "k"}}),
    ]
    one, two = xx(b"1.2.3.4"), xx(b"kept")
    turned = ((one << 1) | (one >> 63)) & (2**64 - 1)
    assert connection_hash_policy(policies).hash(None, info_of(k="kept")) == turned ^ two
    assert connection_hash_policy([]) is None
    # What looks at requests has nothing to say of a connection.


def test_methods_of_requests_say_nothing_of_connections(policy):
    methods = [HEADER, {"cookie": {"name": "s", "ttl": "1s"}}, {"query_parameter": {"name": "q"}}]
    assert policy(*methods).hash(None, info_of()) == NO_HASH
