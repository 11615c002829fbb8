"""JSON as loose as protobuf reads it; and that nothing but DocumentError is ever raised."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.api.document import (
    BOOL,
    LIST,
    MAP,
    NULL,
    NUMBER,
    STRING,
    DocumentError,
)
from weft.api.json_reader import parse_json


@pytest.mark.parametrize(
    ("text", "kind", "read"),
    [
        ("1", NUMBER, "1"),
        ("-0.5e3", NUMBER, "-0.5e3"),
        ("true", BOOL, "true"),
        ("null", NULL, "null"),
        ('"a"', STRING, "a"),
        ("'it\\'s \"x\"'", STRING, 'it\'s "x"'),
        (r'"\/\n\t\u00e9\ud83d\ude00"', STRING, "/\n\té😀"),
        ('"a\nb"', STRING, "a\nb"),
        (' \t\r\n"x" ', STRING, "x"),
    ],
)
def test_a_json_value(text, kind, read):
    node = parse_json(text)

    assert (node.kind, node.text) == (kind, read)


def test_json_as_loose_as_protobufs():
    root = parse_json('{\'a\': [1, 2,], b_1: {}, "c": 1, "c": 2,}')

    assert [key.text for key, _ in root.pairs] == ["a", "b_1", "c", "c"]
    assert [item.text for item in root.pairs[0][1].items] == ["1", "2"]


def test_places_in_json():
    root = parse_json('{\n  "a": [\n    1,\n   "x"]\n}')
    items = root.pairs[0][1]

    assert (root.pairs[0][0].line, root.pairs[0][0].column) == (2, 3)
    assert [(item.line, item.column) for item in items.items] == [(3, 5), (4, 4)]


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("", 1, 1, "the end of the text"),
        ("{} x", 1, 4, "more text after the end"),
        ('{"a" 1}', 1, 6, "expected ':'"),
        ('{"a": 1 "b": 2}', 1, 9, "expected ',' or '}'"),
        ("[1 2]", 1, 4, "expected ',' or ']'"),
        ("[,]", 1, 2, "expected a value"),
        ("{,}", 1, 2, "expected a field name"),
        ('{"a":\n 01}', 2, 2, "'01' is not a JSON number"),
        ("[5.]", 1, 2, "is not a JSON number"),
        ("[.5]", 1, 2, "expected a value"),
        ("[+5]", 1, 2, "expected a value"),
        ("[NaN]", 1, 2, "expected a value"),
        ("[0x10]", 1, 2, "is not a JSON number"),
        ("[-]", 1, 2, "is not a JSON number"),
        ('["a', 1, 2, "a string without an end"),
        (r'["\x"]', 1, 3, "unknown escape"),
        (r'["\ud800"]', 1, 9, "half of a surrogate pair"),
        (r'["\udc00"]', 1, 9, "half of a surrogate pair"),
        (r'["\u12"]', 1, 3, "four hexadecimal digits"),
        ("// c\n{}", 1, 1, "expected a value"),
        ("\ufeff{}", 1, 1, "expected a value"),
    ],
)
def test_text_that_is_no_json(text, line, column, says):
    with pytest.raises(DocumentError) as caught:
        parse_json(text)

    assert says in caught.value.text
    assert (caught.value.line, caught.value.column) == (line, column)


def test_depth_cannot_exhaust_the_stack():
    for opening in ("[", '{"a":'):
        with pytest.raises(DocumentError, match="nested deeper"):
            parse_json(opening * 100_000)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab01-:[]{},\"'&*!|>#\n \t?~.%@\\u")) | st.text())
def test_any_text_is_read_or_refused(text):
    try:
        root = parse_json(text)
    except DocumentError as error:
        assert error.line >= 0
    else:
        assert root is None or root.kind in (NULL, BOOL, NUMBER, STRING, LIST, MAP)
