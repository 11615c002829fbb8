"""What YAML values are, before any field has a say; and that nothing but DocumentError is ever raised."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.api.document import (
    BOOL,
    LIST,
    MAP,
    MAX_NESTING,
    NULL,
    NUMBER,
    STRING,
    DocumentError,
)
from weft.api.yaml_reader import parse_yaml


def value_of(text: str):
    root = parse_yaml(f"key: {text}\n")
    (pair,) = root.pairs
    return pair[1]


@pytest.mark.parametrize(
    ("text", "kind", "read"),
    [
        # Booleans, in the forms of YAML 1.1.
        ("true", BOOL, "true"),
        ("True", BOOL, "true"),
        ("FALSE", BOOL, "false"),
        ("yes", BOOL, "true"),
        ("N", BOOL, "false"),
        ("y", BOOL, "true"),
        ("Off", BOOL, "false"),
        ("tRUE", STRING, "tRUE"),
        ("t", STRING, "t"),
        # Null.
        ("~", NULL, "null"),
        ("null", NULL, "null"),
        ("NULL", NULL, "null"),
        ("", NULL, "null"),
        ("nUll", STRING, "nUll"),
        # Integers: decimal, octal, hexadecimal; numbers only while they fit 32 bits.
        ("0", NUMBER, "0"),
        ("-1", NUMBER, "-1"),
        ("+5", NUMBER, "5"),
        ("010", NUMBER, "8"),
        ("0x1F", NUMBER, "31"),
        ("-0x10", NUMBER, "-16"),
        ("2147483647", NUMBER, "2147483647"),
        ("2147483648", STRING, "2147483648"),
        ("-2147483649", STRING, "-2147483649"),
        ("9223372036854775808", STRING, "9223372036854775808"),
        ("08", STRING, "08"),
        ("0x", STRING, "0x"),
        ("0o17", STRING, "0o17"),
        ("1_000", STRING, "1_000"),
        # Everything else is text; a number field reads it all the same.
        ("1.5", STRING, "1.5"),
        ("1e3", STRING, "1e3"),
        (".inf", STRING, ".inf"),
        ("12:30:45", STRING, "12:30:45"),
        ("2001-01-01", STRING, "2001-01-01"),
        ("a b", STRING, "a b"),
        # Quoted and block scalars are text, whatever they look like.
        ('"true"', STRING, "true"),
        ("'1'", STRING, "1"),
        ('""', STRING, ""),
        ("|-\n  5", STRING, "5"),
        # Tags: '!' means text, others change nothing.
        ("! 5", STRING, "5"),
        ("! true", STRING, "true"),
        ("!!str 5", NUMBER, "5"),
        ("!!str", STRING, ""),
        ("!foo yes", BOOL, "true"),
    ],
)
def test_a_plain_yaml_scalar(text, kind, read):
    node = value_of(text)

    assert (node.kind, node.text) == (kind, read)


def test_places_are_of_the_value_and_of_the_key():
    root = parse_yaml("a:\n  - x\n  - {b: 1}\n")
    key, items = root.pairs[0]
    inner_key, inner = items.items[1].pairs[0]

    assert (key.line, key.column) == (1, 1)
    assert (items.items[0].line, items.items[0].column) == (2, 5)
    assert (inner_key.line, inner_key.column, inner.line, inner.column) == (3, 6, 3, 9)


def test_of_a_key_given_twice_the_last_value_counts():
    root = parse_yaml("a: 1\nb: 2\na: 3\n")

    assert [(key.text, value.text) for key, value in root.pairs] == [("a", "3"), ("b", "2")]
    assert [(key.text, key.line) for key in root.repeated] == [("a", 3)]


def test_a_key_tagged_ignore_is_a_place_for_anchors():
    root = parse_yaml("!ignore x: &x {b: 1}\na: *x\n")

    assert [key.text for key, _ in root.pairs] == ["a"]
    assert root.pairs[0][1].pairs[0][0].text == "b"


def test_keys_are_text_however_they_look():
    root = parse_yaml("1: a\n0x10: b\ntrue: c\n~: d\n'5': e\n")

    assert [key.text for key, _ in root.pairs] == ["1", "0x10", "true", "null", "5"]


def test_an_alias_of_a_scalar_stands_where_it_is_used():
    root = parse_yaml("a: &x 0x10\nb: *x\n")
    value = root.get("b")

    assert (value.kind, value.text, value.line, value.column) == (NUMBER, "16", 2, 4)


def test_only_the_first_document_counts():
    assert parse_yaml("a: 1\n---\nb: [\n").pairs[0][0].text == "a"
    assert parse_yaml("") is None
    assert parse_yaml("# nothing\n") is None


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("a: [1", 2, 1, "not YAML"),
        ("a: b: c", 1, 5, "mapping values are not allowed"),
        ("a:\n\tb: 1", 2, 1, "cannot start any token"),
        ("a: *x", 1, 4, "no anchor"),
        ("a: &x [*x]", 1, 8, "inside of its own anchor"),
        ("? [a]\n: b", 1, 3, "a key must be a plain value"),
        ("a: &x {}\n*x : b", 2, 1, "a key must be a plain value"),
        ("a: @b", 1, 4, "cannot start any token"),
        ("a: 1\nb: \x01", 2, 4, "control characters are not allowed"),
        ("[" * (MAX_NESTING + 1), 1, MAX_NESTING + 1, "nested deeper"),
        ("{a: " * (MAX_NESTING + 1), 1, MAX_NESTING * 4 + 1, "nested deeper"),
        ("- " * (MAX_NESTING + 1), 1, MAX_NESTING * 2 + 1, "nested deeper"),
    ],
)
def test_text_that_is_no_yaml(text, line, column, says):
    with pytest.raises(DocumentError) as caught:
        parse_yaml(text)

    assert says in caught.value.text
    assert (caught.value.line, caught.value.column) == (line, column)


def test_a_bomb_of_aliases_is_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]

    with pytest.raises(DocumentError, match="aliases stand for too much"):
        parse_yaml("\n".join(lines))


def test_depth_cannot_exhaust_the_stack():
    for opening in ("[", "{a: ", "- ", "? "):
        with pytest.raises(DocumentError):
            parse_yaml(opening * 100_000)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab01-:[]{},\"'&*!|>#\n \t?~.%@\\u")) | st.text())
def test_any_text_is_read_or_refused(text):
    try:
        root = parse_yaml(text)
    except DocumentError as error:
        assert error.line >= 0
    else:
        assert root is None or root.kind in (NULL, BOOL, NUMBER, STRING, LIST, MAP)
