"""Questions: what can be asked, and what is wrong with what cannot."""

import json

import pytest

from weft.proxy.explain.access_log import asked_in
from weft.proxy.explain.question import WrongQuestion, question
from weft.proxy.explain.tables import Table, choose


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ({"url": "http://a.test/x?y=1"}, (False, b"a.test", b"/x?y=1")),
        ({"url": "https://a.test:8443"}, (True, b"a.test:8443", b"/")),
        ({"url": "a.test/x"}, (False, b"a.test", b"/x")),
        ({"url": "a.test:80/x"}, (False, b"a.test:80", b"/x")),
        ({"url": "http://a.test?x"}, (False, b"a.test", b"/?x")),
        ({"url": "http://a.test/x#y"}, (False, b"a.test", b"/x#y")),
        ({"url": "http://[::1]:80/x"}, (False, b"[::1]:80", b"/x")),
        ({"url": "/x", "authority": "a"}, (False, b"a", b"/x")),
        ({"url": "http://a/x", "authority": "b", "path": "/y", "scheme": "https"}, (True, b"b", b"/y")),
        ({"headers": {"Host": "a", ":path": "/p", ":scheme": "https"}}, (True, b"a", b"/p")),
        ({"authority": "a", "tls": True}, (True, b"a", b"/")),
    ],
)
def test_where_a_request_goes(value, wanted):
    asked = question(value)

    assert (asked.tls, asked.authority, asked.path) == wanted


def test_headers_in_both_forms():
    pairs = ((b"a", b"1"), (b"a", b"2"), (b"b", b"x y"))

    assert question({"authority": "h", "headers": {"A": ["1", 2], "b": " x y "}}).headers == pairs
    assert question({"authority": "h", "headers": [["A", "1"], ["a", "2"], ["b", "x y"]]}).headers == pairs
    assert question({"headers": [[":method", "PUT"], [":authority", "h"]]}).method == b"PUT"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "expected an object with method, authority, path, ..., not a list"),
        ({}, "authority: missing: which host is asked for?"),
        ({"authority": "a", "methd": "GET"}, "methd: there is no such field"),
        ({"authority": 1}, "authority: expected text, not a number"),
        ({"authority": "a\r\nb"}, "authority: '\\r' cannot stand here"),
        ({"authority": "a", "path": "/a b"}, "path: ' ' cannot stand here"),
        ({"authority": "a", "path": "/\ud800"}, "path: text that UTF-8 cannot carry"),
        ({"authority": "a", "scheme": "ftp"}, "scheme: expected http or https, not 'ftp'"),
        ({"url": "ftp://a/"}, "url: expected http or https, not 'ftp'"),
        ({"url": "http://[a/"}, "url: not a URL: "),
        ({"authority": "a", "headers": "x"}, "headers: expected an object or a list of pairs, not text"),
        ({"authority": "a", "headers": [["x"]]}, "headers[0]: expected [name, value]"),
        ({"authority": "a", "headers": {"x": None}}, "headers.x: expected text, not null"),
        ({"authority": "a", "headers": {"x": "a\nb"}}, "headers.x: '\\n' cannot stand here"),
        ({"authority": "a", "headers": [["", "b"]]}, "headers[0]: a header needs a name"),
        ({"authority": "a", "headers": {"x": ["1"] * 1001}}, "headers: 1001 headers; at most 1000 are taken"),
        ({"authority": "a", "random": -1}, "random: expected a whole number from 0 to "),
        ({"authority": "a", "random": True}, "random: expected a whole number"),
        ({"authority": "a", "runtime": []}, "runtime: expected an object of keys and values, not a list"),
        ({"authority": "a", "runtime": {"k": []}}, "runtime.k: expected a value, not a list"),
        ({"authority": "a", "tls": 1}, "tls: expected true or false, not a number"),
        ({"authority": "a", "remote": "here"}, "remote: expected an IP address, not 'here'"),
    ],
)
def test_what_cannot_be_asked(value, problem):
    with pytest.raises(WrongQuestion) as caught:
        question(value)

    assert str(caught.value).startswith(problem)


# -- which tables ----------------------------------------------------------------------------------


@pytest.fixture
def three(managed):
    one, two = {"name": "r1"}, {"name": "r2"}
    return tuple(
        Table(settings=managed({}, {"virtual_hosts": [], **name}).settings, listener=listener)
        for name, listener in ((one, "in"), (two, "in"), (one, "out"))
    )


@pytest.mark.parametrize(
    ("value", "places"),
    [
        ({}, [("in", "r1"), ("in", "r2"), ("out", "r1")]),
        ({"listener": "in"}, [("in", "r1"), ("in", "r2")]),
        ({"table": "r1"}, [("in", "r1"), ("out", "r1")]),
        ({"listener": "out", "table": "r1"}, [("out", "r1")]),
    ],
)
def test_tables_are_chosen(three, value, places):
    chosen = choose(three, question({"authority": "a", **value}))

    assert [(table.listener, table.name) for table in chosen] == places


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"listener": "outt"}, "listener: no listener with a route table is named 'outt'; did you mean 'out'?"),
        ({"listener": "x"}, "listener: no listener with a route table is named 'x'; there is in, out"),
        ({"table": "local"}, "table: no route table is named 'local'; there is r1, r2"),
        ({"listener": "out", "table": "r2"}, "table: no route table is named 'r2'; there is r1"),
    ],
)
def test_tables_that_are_not_there(three, value, problem):
    with pytest.raises(WrongQuestion) as caught:
        choose(three, question({"authority": "a", **value}))

    assert str(caught.value) == problem


def test_no_table_at_all():
    with pytest.raises(WrongQuestion, match="there is no route table"):
        choose((), question({"authority": "a"}))


# -- access logs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        ({"method": "GET", "path": "/a", "authority": "h"}, (b"GET", b"h", b"/a", False)),
        ({":method": "GET", ":path": "/a", ":authority": "h"}, (b"GET", b"h", b"/a", False)),
        ({"req_method": "PUT", "uri": "/a", "Host": "h", "X-Forwarded-Proto": "https"}, (b"PUT", b"h", b"/a", True)),
        ({"http.method": "GET", "http.url": "https://h/a?b"}, (b"GET", b"h", b"/a?b", True)),
        ({"http": {"request_method": "GET", "request_uri": "/a", "host": "h"}}, (b"GET", b"h", b"/a", False)),
        ({"request": "POST /a HTTP/1.1", "host": "h"}, (b"POST", b"h", b"/a", False)),
        ({"method": "GET", "path": "http://h/a"}, (b"GET", b"h", b"/a", False)),
        ({"path": "/rewritten", "x_envoy_original_path": "/a", "authority": "h"}, (b"GET", b"h", b"/a", False)),
        ({"path": "/a", "x-envoy-original-path": "-", "authority": "h", "method": None}, (b"GET", b"h", b"/a", False)),
    ],
)
def test_a_line_of_an_access_log(record, wanted):
    asked = question(asked_in(json.dumps(record)))

    assert (asked.method, asked.authority, asked.path, asked.tls) == wanted


def test_headers_of_an_access_log():
    record = {
        "path": "/", "authority": "h", "x_forwarded_for": "1.1.1.1", "user_agent": "curl", "request_id": "r1", "x-version": 2,
        "x-envoy-upstream-service-time": "4", "upstream_host": "10.0.0.1:80", "response_code": 404, "cookie": "-",
        "headers": {"X-Other": "o", "user-agent": "again"}, "downstream_remote_address": "10.1.1.1:4000",
    }  # fmt: skip

    asked = question(asked_in(json.dumps(record)))

    assert dict(asked.headers) == {
        b"x-forwarded-for": b"1.1.1.1", b"user-agent": b"curl", b"x-request-id": b"r1", b"x-version": b"2", b"x-other": b"o",
    }  # fmt: skip
    assert asked.remote == "10.1.1.1"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[2026-01-01] GET / HTTP/1.1", "log: not a line of JSON"),
        ("[1]", "log: a log line is expected to be a JSON object"),
        ('{"status": 404}', "log: the line has no path (a field such as path or :path); its fields are status"),
        ("[" * 100_000, "log: not a line of JSON"),
    ],
)
def test_a_line_that_is_none(line, problem):
    with pytest.raises(WrongQuestion) as caught:
        asked_in(line)

    assert str(caught.value).startswith(problem)
