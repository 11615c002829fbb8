"""JSON formats, and SubstitutionFormatString."""

import json

import pytest
from google.protobuf import struct_pb2
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st

from weft.api.convert import from_struct
from weft.api.problems import Where
from weft.proxy.observe.json_format import compile_json, substitution_format
from weft.proxy.observe.json_text import json_bytes, json_number, json_string


def struct(value):
    return ParseDict(value, struct_pb2.Struct())


def line(value, info, clock, **options):
    where = Where.nowhere()
    format = compile_json(struct(value), where, **options)
    assert where.problems.items == []
    return format.bytes(info, clock).decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(("format", "text"), [
    pytest.param({"b": "%PROTOCOL%", "a": "%RESPONSE_CODE%"}, '{"a":200,"b":"HTTP/1.1"}', id="sorted-and-typed"),
    pytest.param({"a": "%BYTES_SENT%", "b": "x%BYTES_SENT%"}, '{"a":100000,"b":"x100000"}', id="own-numbers-are-digits"),
    pytest.param({"a": "%REQ(x-none)%", "b": "-%REQ(x-none)%"}, '{"a":null,"b":"--"}', id="nothing-is-null"),
    pytest.param({"a": {"z": "%ROUTE_NAME%", "b": ["%RESPONSE_CODE%", {}, "t"]}}, '{"a":{"b":[200,{},"t"],"z":"books"}}', id="nested"),
    pytest.param({"i": 7, "f": 0.5, "t": True, "n": None, "e": 1e5}, '{"e":1e+05,"f":0.5,"i":7,"n":null,"t":true}', id="constants"),
    pytest.param({"m": "%DYNAMIC_METADATA(f:deep)%", "n": "%DYNAMIC_METADATA(f:number)%", "y": "%DYNAMIC_METADATA(f:yes)%"},
                 '{"m":{"a":0.1,"z":[1,"x"]},"n":1.5,"y":true}', id="metadata-typed"),
    pytest.param({"m": "%DYNAMIC_METADATA(f:text)%", "s": "%DYNAMIC_METADATA(f:text):1%"}, '{"m":"a\\nb","s":"a"}', id="metadata-escaped-by-json"),
    pytest.param({"m": "%DYNAMIC_METADATA(f:deep):3%"}, '{"m":{"a":0.1,"z":[1,"x"]}}', id="structures-are-not-cut"),
    pytest.param({"s": "%FILTER_STATE(who)%", "p": "%FILTER_STATE(who:PLAIN)%"}, '{"p":"say \\"hi\\"","s":"say \\"hi\\""}', id="filter-state"),
    pytest.param({"c": '%COALESCE({"operators":["TRACE_ID","RESPONSE_CODE"]})%'}, '{"c":200}', id="coalesce-typed"),
    pytest.param({"p": "%DOWNSTREAM_LOCAL_PORT%", "c": "%CONNECTION_ID%", "d": "%DURATION%"}, '{"c":17,"d":301,"p":443}', id="numbers"),
    pytest.param({"q\"\n": "%QUERY_PARAM(q)%", "l": "100%%\t\u2028é"}, '{"l":"100%\\t\u2028é","q\\"\\n":"A\\n"}', id="escapes"),
    pytest.param({}, "{}", id="empty"),
])  # fmt: skip
def test_lines(info, clock, format, text):
    assert line(format, info, clock) == text + "\n"


def test_empty_values_left_out(info, clock):
    format = {
        "none": "%REQ(x-none)%",
        "null": None,
        "object": {"none": "%TRACE_ID%"},
        "list": ["%TRACE_ID%", {"n": "%TRACE_ID%"}, [], "x"],
        "mixed": "[%TRACE_ID%]",
        "empty": "%REQ(x-empty)%",
    }

    assert line(format, info, clock, omit_empty=True) == '{"empty":"","list":[[],"x"],"mixed":"[]"}\n'
    assert line({"a": None}, info, clock, omit_empty=True) == "{}\n"


@pytest.mark.parametrize("evil", [
    b'"}\n{"level":"forged',
    b"\xff\xfe\xed\xa0\x80\"\\",
    b"\x00\x1b\x7f",
])  # fmt: skip
def test_a_header_cannot_break_the_line(info, clock, evil):
    info.request.headers.fields[0].value = evil

    text = line({"ua": "%REQ(user-agent)%", "in": "<%REQ(user-agent)%>"}, info, clock)

    assert text.count("\n") == 1
    read = json.loads(text)
    if evil.isascii():
        assert read["ua"] == evil.decode()
    else:
        assert read["ua"].encode("latin-1") == evil


@pytest.mark.parametrize(("number", "text"), [
    (0.0, "0"), (-0.0, "-0"), (1.0, "1"), (10000.0, "10000"), (100000.0, "1e+05"), (1200000.0, "1200000"), (3e9, "3e+09"),
    (123456789012345.0, "123456789012345"), (1e15, "1e+15"), (12345678901234567890.0, "12345678901234567168"), (1e22, "1e+22"),
    (0.1, "0.1"), (0.001, "0.001"), (0.0001, "1e-04"), (1.5e-7, "1.5e-07"), (-0.5, "-0.5"), (123456789.125, "123456789.125"),
    (1 / 3, "0.3333333333333333"), (1e300, "1e+300"), (float("inf"), "null"), (float("nan"), "null"),
])  # fmt: skip
def test_numbers_are_as_short_as_can_be(number, text):
    assert json_number(number).decode() == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_read_back_the_same(number):
    assert float(json_number(number)) == number


@given(st.binary())
def test_any_bytes_make_a_string_in_one_line(raw):
    text = json_string(raw)

    read = json.loads(text)

    assert b"\n" not in text
    assert read in (raw.decode("utf-8", "replace"), raw.decode("latin-1"))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_plain_values_read_back_the_same(value):
    assert json.loads(json_bytes(value)) == value


def test_half_a_surrogate_does_no_harm():
    assert json_bytes(["\ud800a"]) == b'["\\u00ed\\u00a0\\u0080a"]'


def test_problems_have_their_place():
    where = Where.nowhere().field("json_format")

    compile_json(struct({"a": {"b": ["ok", "%NOPE%"]}, "c": "%"}), where)

    assert [(item.path, item.text[:20]) for item in where.problems.items] == [
        ('json_format["a"]["b"][1]', "Not supported field "),
        ('json_format["c"]', "Incorrect configurat"),
    ]


def format_string(value):
    return from_struct(struct(value), "envoy.config.core.v3.SubstitutionFormatString", Where.nowhere())


def typed(name, type):
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/{type}"}}


@pytest.mark.parametrize(("value", "body", "content_type"), [
    ({"text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%: %RESPONSE_CODE%"}}, b"oh no: 200", b"text/plain"),
    ({"text_format_source": {"inline_bytes": "JVBST1RPQ09MJQ=="}}, b"HTTP/1.1", b"text/plain"),
    ({"text_format": "%REQ(x-none)%", "omit_empty_values": True}, b"", b"text/plain"),
    ({"text_format": "<h1/>", "content_type": "text/html"}, b"<h1/>", b"text/html"),
    ({"json_format": {"why": "%LOCAL_REPLY_BODY%"}}, b'{"why":"oh no"}\n', b"application/json"),
])  # fmt: skip
def test_bodies_of_local_replies(info, clock, value, body, content_type):
    where = Where.nowhere()

    format = substitution_format(format_string(value), where)

    assert where.problems.items == []
    assert (format.body(info, clock, b"oh no"), format.content_type) == (body, content_type)


def test_a_body_is_not_kept_for_the_next(info, clock):
    format = substitution_format(format_string({"text_format": "[%LOCAL_REPLY_BODY%]"}), Where.nowhere())

    format.body(info, clock, b"secret")

    assert format.format.bytes(info, clock) == b"[]"


def test_text_from_files_and_environment(info, clock, tmp_path, monkeypatch):
    monkeypatch.setenv("WEFT_TEST_FORMAT", "%PROTOCOL%")
    (tmp_path / "format").write_text("%RESPONSE_CODE%")
    where = Where.nowhere()

    of_environment = substitution_format(
        format_string({"text_format_source": {"environment_variable": "WEFT_TEST_FORMAT"}}), where
    )
    of_file = substitution_format(
        format_string({"text_format_source": {"filename": str(tmp_path / "format")}}), where
    )

    assert where.problems.items == []
    assert (of_environment.body(info, clock, b""), of_file.body(info, clock, b"")) == (b"HTTP/1.1", b"200")


@pytest.mark.parametrize(("value", "path", "problem"), [
    ({"text_format_source": {"filename": "/nope"}}, "text_format_source", "Invalid path: /nope (No such file or directory)"),
    ({"text_format_source": {"environment_variable": "WEFT_NOPE"}}, "text_format_source", "Environment variable doesn't exist: WEFT_NOPE"),
    ({"text_format": "%"}, "text_format", "Incorrect configuration: %. Couldn't find valid command at position 0"),
    ({"text_format": "x", "formatters": [typed("envoy.formatter.cel", "envoy.extensions.formatter.cel.v3.Cel")]},
     "formatters[0]", "not supported yet: formatter 'envoy.formatter.cel' (envoy.extensions.formatter.cel.v3.Cel)"),
])  # fmt: skip
def test_what_is_refused(value, path, problem):
    where = Where.nowhere()

    substitution_format(format_string(value), where)

    assert [(item.path, item.text) for item in where.problems.items] == [(path, problem)]


def test_a_formatter_extension_brings_its_command(info, clock):
    extension = typed(
        "envoy.formatter.req_without_query", "envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery"
    )
    where = Where.nowhere()

    format = substitution_format(
        format_string({"text_format": "%REQ_WITHOUT_QUERY(x-none?:path):5%", "formatters": [extension]}),
        where,
    )

    assert where.problems.items == []
    assert format.body(info, clock, b"") == b"/book"
