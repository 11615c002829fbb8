import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.api.problems import Where
from weft.api.schema import message_class
from weft.http.headers import Headers
from weft.http.message import Request, Response
from weft.proxy.matchers import (
    Contains,
    Exact,
    HeaderMatcher,
    InRange,
    MatchesRegex,
    Prefix,
    Suffix,
    cookie,
    header_matcher,
    query_parameter,
    query_parameter_matcher,
    string_matcher,
)
from weft.proxy.regex import Regex

STRING = "envoy.type.matcher.v3.StringMatcher"
HEADER = "envoy.config.route.v3.HeaderMatcher"


def request(*fields, path=b"/"):
    return Request(b"GET", path, b"a.test", b"http", Headers.of(fields))


@pytest.mark.parametrize(("matcher", "yes", "no"), [
    (Exact(b"aB"), b"aB", b"ab"),
    (Exact(b"aB", ignore_case=True), b"Ab", b"abc"),
    (Prefix(b"ab"), b"abc", b"Abc"),
    (Prefix(b"AB", ignore_case=True), b"abc", b"bab"),
    (Suffix(b"bc"), b"abc", b"abcd"),
    (Suffix(b"BC", ignore_case=True), b"abc", b"bca"),
    (Contains(b"b"), b"abc", b"aBc"),
    (Contains(b"B", ignore_case=True), b"abc", b"ac"),
    (MatchesRegex(Regex("a.c")), b"abc", b"abcd"),
    (InRange(-5, 10), b"-5", b"10"),
    (InRange(0, 10), b"+7", b"7x"),
    (InRange(0, 10), b" 007 ", b""),
    (InRange(0, 10), b"0", b"-"),
    (InRange(0, 2**62), b"00000000000000000000000001", b"1" * 10_000),
])  # fmt: skip
def test_strings(matcher, yes, no):
    assert matcher.matches(yes)
    assert not matcher.matches(no)
    assert matcher.describe()


@given(st.binary(max_size=30), st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_ranges_never_raise(value, start, end):
    InRange(start, end).matches(value)


PRESENT = HeaderMatcher(b"x-a")
ABSENT = HeaderMatcher(b"x-a", present=False)
IS_A = HeaderMatcher(b"x-a", Exact(b"a"))
IS_NOT_A = HeaderMatcher(b"x-a", Exact(b"a"), invert=True)


@pytest.mark.parametrize(("matcher", "values", "expected"), [
    pytest.param(PRESENT, [], False, id="absent"),
    pytest.param(PRESENT, [b""], True, id="present-but-empty"),
    pytest.param(ABSENT, [], True, id="wanted-absent"),
    pytest.param(ABSENT, [b""], False, id="wanted-absent-is-there"),
    pytest.param(HeaderMatcher(b"x-a", invert=True), [], True, id="inverted-presence"),
    pytest.param(HeaderMatcher(b"x-a", missing_as_empty=True), [], True, id="missing-counts-as-present"),
    pytest.param(IS_A, [b"a"], True, id="value"),
    pytest.param(IS_A, [b"b", b"a"], True, id="one-of-several-is-enough"),
    pytest.param(IS_A, [b"a,b"], False, id="a-list-in-one-field-is-one-value"),
    pytest.param(HeaderMatcher(b"x-a", Exact(b"a,b")), [b"a", b"b"], False, id="fields-are-not-joined"),
    pytest.param(IS_NOT_A, [b"b"], True, id="inverted"),
    pytest.param(IS_NOT_A, [b"b", b"a"], False, id="inverted-one-of-several-is-too-many"),
    pytest.param(IS_NOT_A, [b"b", b"c"], True, id="inverted-none-of-several"),
    pytest.param(IS_NOT_A, [], False, id="inverted-does-not-match-what-is-missing"),
    pytest.param(
        HeaderMatcher(b"x-a", Exact(b"a"), invert=True, missing_as_empty=True), [], True, id="unless-missing-is-empty"
    ),
    pytest.param(HeaderMatcher(b"x-a", Exact(b""), missing_as_empty=True), [], True, id="missing-as-empty"),
])  # fmt: skip
def test_headers(matcher, values, expected):
    fields = [(b"x-a", value) for value in values]

    assert matcher.matches(request((b"other", b"a"), *fields)) is expected
    assert matcher.matches_response(Response(200, b"", Headers.of(fields))) is expected
    assert matcher.matches_headers(Headers.of(fields)) is expected
    assert "x-a" in matcher.describe()


def test_names_that_have_one_field_are_seen_joined():
    matcher = HeaderMatcher(b"user-agent", Exact(b"a,b"))
    assert matcher.matches(request((b"user-agent", b"a"), (b"user-agent", b"b")))
    assert matcher.matches(request((b"user-agent", b""), (b"user-agent", b"a,b"), (b"user-agent", b"")))
    assert not HeaderMatcher(b"etag", Exact(b"a,b")).matches(request((b"etag", b"a"), (b"etag", b"b")))
    assert HeaderMatcher(b"etag", Exact(b"a,b")).matches_response(
        Response(200, b"", Headers.of([(b"etag", b"a"), (b"etag", b"b")]))
    )


@pytest.mark.parametrize(("name", "value"), [
    (b":path", b"/p?q"), (b":method", b"GET"), (b":authority", b"a.test"), (b"Host", b"a.test"), (b":scheme", b"http"),
])  # fmt: skip
def test_pseudo_headers(name, value):
    assert HeaderMatcher(name, Exact(value)).matches(request(path=b"/p?q"))


def test_status_of_a_response():
    assert HeaderMatcher(b":status", Exact(b"204")).matches_response(Response(204))


@pytest.mark.parametrize(("specifier", "yes", "no"), [
    ({}, b"", None),
    ({"present_match": False}, None, b""),
    ({"exact_match": "a"}, b"a", b"b"),
    ({"exact_match": ""}, b"anything", None),
    ({"prefix_match": "a"}, b"ab", b"b"),
    ({"suffix_match": "b"}, b"ab", b"a"),
    ({"contains_match": "b"}, b"abc", b"a"),
    ({"safe_regex_match": "a+"}, b"aa", b"ab"),
    ({"range_match": (1, 3)}, b"2", b"3"),
    ({"string_match": "a"}, b"a", b"A"),
])  # fmt: skip
def test_every_spelling_of_a_header_matcher(specifier, yes, no):
    message = message_class(HEADER)(name="X-A")
    for kind, value in specifier.items():
        if kind == "safe_regex_match":
            message.safe_regex_match.regex = value
        elif kind == "range_match":
            message.range_match.start, message.range_match.end = value
        elif kind == "string_match":
            message.string_match.exact = value
        else:
            setattr(message, kind, value)
    where = Where.nowhere()

    matcher = header_matcher(message, where)

    assert where.problems.items == []
    assert matcher.accepts(yes)
    assert not matcher.accepts(no)


@pytest.mark.parametrize(("build", "problem"), [
    (lambda m: setattr(m, "ignore_case", True), "string matcher needs"),
    (lambda m: setattr(m.safe_regex, "regex", "("), "missing )"),
    (lambda m: (setattr(m, "ignore_case", True), setattr(m.safe_regex, "regex", "a")), "ignore_case has no effect for safe_regex."),
    (lambda m: setattr(m.custom, "name", "x"), "not supported yet: custom"),
])  # fmt: skip
def test_wrong_string_matchers(build, problem):
    message = message_class(STRING)()
    build(message)
    where = Where.nowhere()

    matcher = string_matcher(message, where)

    assert problem in str(where.problems.errors[0])
    matcher.matches(b"x")


@pytest.mark.parametrize(("path", "name", "value"), [
    (b"/", b"a", None),
    (b"/?", b"a", None),
    (b"/?a", b"a", b""),
    (b"/?a=", b"a", b""),
    (b"/?b=1&a=2&a=3", b"a", b"2"),
    (b"/?a=b=c", b"a", b"b=c"),
    (b"/?a=1?b=2", b"b", None),
    (b"/?A=1", b"a", None),
    (b"/?%61=1", b"a", None),
])  # fmt: skip
def test_query_parameters(path, name, value):
    assert query_parameter(path, name) == value


def test_query_matchers():
    message = message_class("envoy.config.route.v3.QueryParameterMatcher")(name="a")
    present = query_parameter_matcher(message, Where.nowhere())
    message.present_match = False
    absent = query_parameter_matcher(message, Where.nowhere())
    message.string_match.exact = "1"
    one = query_parameter_matcher(message, Where.nowhere())

    assert (present.matches(b"/?a"), present.matches(b"/")) == (True, False)
    assert (absent.matches(b"/?a"), absent.matches(b"/")) == (False, True)
    assert (one.matches(b"/?a=1"), one.matches(b"/?a=2"), one.matches(b"/")) == (True, False, False)
    assert "is present" in present.describe()
    assert "is absent" in absent.describe()
    assert "'1'" in one.describe()


@pytest.mark.parametrize(("values", "expected"), [
    ([b"s=1"], b"1"),
    ([b"a=0; s=1; s=2"], b"1"),
    ([b"a=0", b"s=1"], b"1"),
    ([b's="q"'], b"q"),
    ([b's="'], b'"'),
    ([b"s= x "], b" x "),
    ([b"s"], None),
    ([b"as=1"], None),
    ([b"s=a=b"], b"a=b"),
    ([], None),
])  # fmt: skip
def test_cookies(values, expected):
    assert cookie(Headers.of([(b"cookie", value) for value in values]), b"s") == expected
