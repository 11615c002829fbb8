"""Expectations are what Envoy does, found by asking it."""

import pytest

from weft.http.headers import Field, Headers
from weft.proxy.route.header_rules import HeaderEdits, append_joined, modern

OLD = [("x-a", "old"), ("x-b", "b1"), ("x-b", "b2")]


def add(name, value, action=None, **more):
    option = {"header": {"key": name, "value": value}, **more}
    return {**option, "append_action": action} if action else option


def route(**rules):
    return {"match": {"prefix": "/"}, "route": {"cluster": "c"}, **rules}


@pytest.mark.parametrize(("rules", "sent"), [
    ({"request_headers_to_add": [add("X-A", "new")]}, [*OLD, ("x-a", "new")]),
    ({"request_headers_to_add": [add("x-a", "new", "ADD_IF_ABSENT")]}, OLD),
    ({"request_headers_to_add": [add("x-n", "new", "ADD_IF_ABSENT")]}, [*OLD, ("x-n", "new")]),
    ({"request_headers_to_add": [add("x-b", "new", "OVERWRITE_IF_EXISTS_OR_ADD")]}, [("x-a", "old"), ("x-b", "new")]),
    ({"request_headers_to_add": [add("x-n", "new", "OVERWRITE_IF_EXISTS_OR_ADD")]}, [*OLD, ("x-n", "new")]),
    ({"request_headers_to_add": [add("x-n", "new", "OVERWRITE_IF_EXISTS")]}, OLD),
    ({"request_headers_to_add": [add("x-b", "new", "OVERWRITE_IF_EXISTS")]}, [("x-a", "old"), ("x-b", "new")]),
    ({"request_headers_to_add": [add("x-b", "new", append=False)]}, [("x-a", "old"), ("x-b", "new")]),
    ({"request_headers_to_add": [add("x-b", "new", append=True)]}, [*OLD, ("x-b", "new")]),
    ({"request_headers_to_remove": ["X-B"]}, [("x-a", "old")]),
    ({"request_headers_to_remove": ["x-a"], "request_headers_to_add": [add("x-a", "new", "ADD_IF_ABSENT")]}, [*OLD[1:], ("x-a", "new")]),
    ({"request_headers_to_add": [add("x-n", "")]}, OLD),
    ({"request_headers_to_add": [add("x-n", "", keep_empty_value=True)]}, [*OLD, ("x-n", "")]),
    ({"request_headers_to_add": [add("x-n", "100%%")]}, [*OLD, ("x-n", "100%")]),
    ({"request_headers_to_add": [add("x-n", "%REQ(x-b)%-%REQ(x-none)%")]}, [*OLD, ("x-n", "b1-")]),
    ({"request_headers_to_add": [add("x-n", "%REQ(x-none)%")]}, OLD),
    ({"request_headers_to_add": [add("x-n", "%REQ(x-none)%", keep_empty_value=True)]}, [*OLD, ("x-n", "")]),
    (
        # Values are those from before; overwrites are written before additions.
        {"request_headers_to_add": [add("x-n", "%REQ(x-a)%"), add("x-a", "new", "OVERWRITE_IF_EXISTS_OR_ADD")]},
        [*OLD[1:], ("x-a", "new"), ("x-n", "old")],
    ),
    ({"request_headers_to_remove": ["x-a"], "request_headers_to_add": [add("x-n", "%REQ(x-a)%")]}, OLD[1:]),
    (
        {"request_headers_to_add": [add("x-n", "1", "ADD_IF_ABSENT"), add("x-n", "2", "ADD_IF_ABSENT")]},
        [*OLD, ("x-n", "1"), ("x-n", "2")],
    ),
])  # fmt: skip
def test_one_place(table_of, ask, rules, sent):
    assert ask(table_of([route(**rules)]), headers=OLD).sent == sent


def test_names_that_have_one_field_are_joined(table_of, ask):
    table = table_of([route(
        request_headers_to_add=[add("user-agent", "new"), add("vary", "new"), add("referer", "new")],
        response_headers_to_add=[add("user-agent", "new"), add("vary", "new"), add("etag", "new")],
    )])  # fmt: skip
    old = [("user-agent", "old"), ("vary", "old")]

    answer = ask(table, headers=old, response=old)

    assert answer.sent == [("user-agent", "old,new"), ("vary", "old"), ("vary", "new"), ("referer", "new")]
    assert answer.received == [("user-agent", "old"), ("vary", "old,new"), ("user-agent", "new"), ("etag", "new")]


@pytest.mark.parametrize(("old", "new", "joined"), [(b"a", b"b", b"a,b"), (b"", b"b", b"b"), (b"a", b"", b"a")])
def test_joining(old, new, joined):
    headers = Headers.of([(b"x", old)])
    append_joined(headers, Field(b"x", new))
    assert headers.items() == [(b"x", joined)]


ALL = {
    "request_headers_to_add": [add("x-who", "table", "OVERWRITE_IF_EXISTS_OR_ADD"), add("x-all", "table")],
    "response_headers_to_add": [add("x-who", "table", "OVERWRITE_IF_EXISTS_OR_ADD")],
    "virtual_hosts": [{
        "name": "v", "domains": ["*"],
        "request_headers_to_add": [add("x-who", "host", "OVERWRITE_IF_EXISTS_OR_ADD"), add("x-all", "host")],
        "response_headers_to_add": [add("x-who", "host", "OVERWRITE_IF_EXISTS_OR_ADD")],
        "routes": [{
            "match": {"path": "/direct"}, "direct_response": {"status": 200},
            "response_headers_to_add": [add("x-direct", "1")],
        }, {
            "match": {"prefix": "/"},
            "request_headers_to_add": [add("x-who", "route", "OVERWRITE_IF_EXISTS_OR_ADD"), add("x-all", "route")],
            "response_headers_to_add": [add("x-who", "route", "OVERWRITE_IF_EXISTS_OR_ADD")],
            "route": {"weighted_clusters": {"clusters": [{
                "name": "c", "weight": 1,
                "request_headers_to_add": [add("x-who", "cluster", "OVERWRITE_IF_EXISTS_OR_ADD"), add("x-all", "cluster")],
                "response_headers_to_add": [add("x-who", "cluster", "OVERWRITE_IF_EXISTS_OR_ADD")],
            }]}},
        }],
    }],
}  # fmt: skip


@pytest.mark.parametrize(("most_specific_wins", "winner", "order"), [
    (False, "table", ["cluster", "route", "host", "table"]),
    (True, "route", ["cluster", "table", "host", "route"]),
])  # fmt: skip
def test_the_order_of_places(table_of, ask, most_specific_wins, winner, order):
    answer = ask(table_of({**ALL, "most_specific_header_mutations_wins": most_specific_wins}))

    assert dict(answer.sent)["x-who"] == winner
    assert [value for name, value in answer.sent if name == "x-all"] == order
    assert answer.received == [("x-who", winner)]


def test_direct_responses_have_rules_too(table_of, ask):
    assert ask(table_of(ALL), "/direct").received == [("x-direct", "1"), ("x-who", "table")]


@pytest.mark.parametrize(("rules", "problem"), [
    ({"request_headers_to_add": [add(":path", "x")]}, "request_headers_to_add[0].header.key: :-prefixed or host headers may not be modified"),
    ({"response_headers_to_add": [add("Host", "x")]}, "response_headers_to_add[0].header.key: :-prefixed or host headers may not be modified"),
    ({"request_headers_to_remove": ["x", "HOST"]}, "request_headers_to_remove[1]: :-prefixed or host headers may not be removed"),
    ({"response_headers_to_remove": [":status"]}, "response_headers_to_remove[0]: :-prefixed or host headers may not be removed"),
    ({"request_headers_to_add": [add("x", "v", "ADD_IF_ABSENT", append=True)]}, "Both append and append_action are set and it's not allowed"),
    ({"request_headers_to_add": [add("x", "%NO_SUCH%")]}, "request_headers_to_add[0].header.value: "),
    ({"request_headers_to_add": [add("x", "50%")]}, "Couldn't find valid command at position 2"),
])  # fmt: skip
def test_problems(load, rules, problem):
    _, problems = load([route(**rules)])

    assert len(problems) == 1
    assert problem in problems[0]


def test_a_value_never_breaks_the_head(table_of, ask, info_of, clock):
    table = table_of([route(request_headers_to_add=[add("x-n", "%DYNAMIC_METADATA(f:k)%")])])
    rules = table.virtual_hosts[0].routes[0].request_headers
    info = info_of()
    info.dynamic_metadata = {"f": {"k": "a\r\nevil: 1\0"}}
    headers = Headers()

    rules.apply(headers, info, clock)

    assert len(headers.fields) == 1
    assert not set(headers.fields[0].value) & set(b"\r\n\0")


@pytest.mark.parametrize(("old", "new"), [
    ('%DYNAMIC_METADATA(["ns", "key"])%', "%DYNAMIC_METADATA(ns:key)%"),
    ('a%UPSTREAM_METADATA([ "ns","k1" , "k2" ])%b', "a%UPSTREAM_METADATA(ns:k1:k2)%b"),
    ("%DYNAMIC_METADATA(ns:key)%", "%DYNAMIC_METADATA(ns:key)%"),
    ("%DYNAMIC_METADATA([])%", "%DYNAMIC_METADATA([])%"),
    ("%PER_REQUEST_STATE(a.b)%", "%FILTER_STATE(a.b:PLAIN)%"),
])  # fmt: skip
def test_old_spellings(old, new):
    assert modern(old) == new


def test_nothing_to_do_costs_nothing(table_of):
    plain = table_of([route()]).virtual_hosts[0].routes[0]
    assert (plain.request_headers, plain.response_headers) == (None, None)
    assert HeaderEdits((), (), request=True).edits == ()
