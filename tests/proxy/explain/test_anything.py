"""Whatever is asked, there is an answer or a reason why there is none."""

import asyncio

from google.protobuf.json_format import ParseDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weft.api.problems import Where
from weft.api.schema import message_class
from weft.proxy.explain.access_log import asked_in
from weft.proxy.explain.explain import explain
from weft.proxy.explain.explanation import as_json
from weft.proxy.explain.question import WrongQuestion, question
from weft.proxy.explain.tables import Sources, bare
from weft.proxy.explain.text import render
from weft.proxy.route.table import route_table
from weft.steps import at_once

ROUTES = {
    "virtual_hosts": [
        {
            "name": "v",
            "domains": ["a.test", "*"],
            "routes": [
                {"match": {"path": "/a", "headers": [{"name": "x-a", "string_match": {"exact": "b"}}]}, "route": {"cluster": "c"}},
                {"match": {"safe_regex": {"regex": "/b+"}}, "route": {"cluster": "c", "prefix_rewrite": "/x"}},
                {"match": {"prefix": "/"}, "redirect": {"https_redirect": True}},
                {"match": {"connect_matcher": {}}, "route": {"cluster": "c"}},
            ],
        }
    ]
}
TEXT = st.text(max_size=8) | st.text("/%?#;=&.\\:@[]ab \t\r\n\0", max_size=10)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
NAMES = ("method", "path", "authority", "url", "headers", "random", "runtime", "tls", "internal", "remote", "scheme", "all")


def answered(value):
    try:
        asked = question(value)
    except WrongQuestion as wrong:
        assert str(wrong)
        return
    table = bare(route_table(ParseDict(ROUTES, message_class("envoy.config.route.v3.RouteConfiguration")()), Where.nowhere()))
    loop = asyncio.new_event_loop()
    try:
        told = at_once(explain(table, asked, Sources(tables=()), loop))
    finally:
        loop.close()
    assert told.matched or told.plan.answer is not None
    assert as_json([told])
    assert render([told])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=5) | JSON)
def test_any_json(value):
    answered(value)


@settings(max_examples=300, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "method": st.sampled_from(["GET", "CONNECT", "OPTIONS", "g", ""]) | TEXT,
            "authority": st.just("a.test") | TEXT,
            "path": st.builds("/{}".format, TEXT) | TEXT | st.just("*"),
            "headers": st.lists(
                st.tuples(st.sampled_from(["x-a", "connection", "upgrade", "te", "expect", "content-length", "transfer-encoding"]) | TEXT, TEXT),
                max_size=4,
            ).map(lambda pairs: [list(pair) for pair in pairs]),
            "internal": st.booleans(),
        }
    )
)  # fmt: skip
def test_any_request(value):
    answered(value)


@settings(max_examples=100, deadline=None)
@given(TEXT | st.dictionaries(st.sampled_from(["path", "url", "host", "request", "headers", "x-a", "method"]), JSON).map(repr))
def test_any_log_line(line):
    for text in (line, line.replace("'", '"').replace("None", "null")):
        try:
            answered(asked_in(text))
        except WrongQuestion as wrong:
            assert wrong.place == "log"
