"""Expectations are what Envoy forwards, found by asking it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from weft.http.path import (
    FORWARD,
    REDIRECT,
    REJECT,
    REJECT_ESCAPED,
    UNESCAPE_AND_FORWARD,
    UNESCAPE_AND_REDIRECT,
    PathPolicy,
    merge_slashes,
    normalize,
    without_parameters,
    without_query,
)


@pytest.mark.parametrize(("path", "canonical"), [
    (b"/", b"/"),
    (b"/a/./b", b"/a/b"),
    (b"/a/.", b"/a/"),
    (b"/a/..", b"/"),
    (b"/info/../private", b"/private"),
    (b"/a/../../../b", b"/b"),
    (b"/a//../b", b"/a/b"),
    (b"/a/..//b", b"//b"),
    (b"/a/%2e%2E/b", b"/b"),
    (b"/a/.%2e", b"/"),
    (b"/a/...", b"/a/..."),
    (b"/a/b/%2e%2e%2fc", b"/a/b/..%2fc"),
    (b"/a\\b\\..\\c", b"/a/c"),
    (b"/%41%7e%2D", b"/A~-"),
    (b"/%2f%5C%20", b"/%2f%5C%20"),
    (b"/%c3%a9", b"/%c3%a9"),
    (b"/%", b"/%"),
    (b"/%zz%4", b"/%zz%4"),
    (b"/%4%41", b"/%254A"),
    (b"/%%41", b"/%A"),
    (b"/%%30b", b"/%250b"),
    (b"/a\"<>^`{|}", b"/a%22%3C%3E%5E%60%7B%7C%7D"),
    (b"/a..%41/b", b"/a..A/b"),
    (b"/a/..?x/../y", b"/?x/../y"),
    (b"/x?%41", b"/x?%41"),
    (b"/%00", None),
    (b"/a%00b?x", None),
    (b"/a/b/..;v=1/c", b"/a/c"),
    (b"/a/.;v/c", b"/a/c"),
    (b"/a/b/..;/..;/c", b"/c"),
    (b"/a/..;%00/b", b"/b"),
    (b"/a/b/%2e%2e;v/c", b"/a/b/..;v/c"),
    (b"/a/b/..;", b"/a/"),
    (b"/a/b/...;v/c", b"/a/b/...;v/c"),
    (b"/\xc3\xa9", b"/%C3%A9"),
    (b"/\xff", None),
])  # fmt: skip
def test_canonical_spelling(path, canonical):
    assert normalize(path) == canonical


@pytest.mark.parametrize(("path", "merged"), [
    (b"/a//b", b"/a/b"),
    (b"//a///b//", b"/a/b/"),
    (b"/a?b//c", b"/a?b//c"),
    (b"//?x", b"//?x"),
    (b"/a/b", b"/a/b"),
])  # fmt: skip
def test_merged_slashes(path, merged):
    assert merge_slashes(path) == merged


@pytest.mark.parametrize(("policy", "path", "outcome"), [
    pytest.param(PathPolicy(), b"/a/../b", (FORWARD, b"/a/../b"), id="nothing-is-done-by-default"),
    pytest.param(PathPolicy(), b"/a#b", (REJECT, b"/a#b"), id="fragment"),
    pytest.param(PathPolicy(), b"/a?b#c", (REJECT, b"/a?b#c"), id="fragment-after-query"),
    pytest.param(PathPolicy(normalize=True), b"/a%00", (REJECT, b"/a%00"), id="nul"),
    pytest.param(PathPolicy(normalize=True, merge_slashes=True), b"/a//../b", (FORWARD, b"/a/b"), id="normalize-then-merge"),
    pytest.param(PathPolicy(escaped_slashes=REJECT_ESCAPED), b"/a%2Fb", (REJECT, b"/a/b"), id="reject-slash"),
    pytest.param(PathPolicy(escaped_slashes=REJECT_ESCAPED), b"/a%5cb", (REJECT, b"/a\\b"), id="reject-backslash"),
    pytest.param(PathPolicy(escaped_slashes=REJECT_ESCAPED), b"/a?%2f", (FORWARD, b"/a?%2f"), id="not-in-query"),
    pytest.param(PathPolicy(escaped_slashes=UNESCAPE_AND_FORWARD), b"/a%2fb%5Cc", (FORWARD, b"/a/b\\c"), id="unescape"),
    pytest.param(PathPolicy(escaped_slashes=UNESCAPE_AND_REDIRECT), b"/a%2fb?%2f", (REDIRECT, b"/a/b?%2f"), id="redirect"),
    pytest.param(PathPolicy(escaped_slashes=UNESCAPE_AND_REDIRECT), b"/a%20b", (FORWARD, b"/a%20b"), id="redirect-only-for-slashes"),
    pytest.param(
        PathPolicy(escaped_slashes=UNESCAPE_AND_FORWARD, normalize=True), b"/a/..%2fb", (FORWARD, b"/b"), id="unescape-then-normalize"
    ),
])  # fmt: skip
def test_policy(policy, path, outcome):
    assert policy.apply(path) == outcome


def test_cuts():
    assert without_query(b"/a?b#c") == b"/a"
    assert without_query(b"/a#b?c") == b"/a"
    assert without_parameters(b"/a;v=1/b;w?q;r") == b"/a/b"


PIECES = st.lists(
    st.sampled_from([b"/", b".", b"..", b"%2e", b"%2F", b"%5c", b"\\", b"a", b"%", b"%4", b"%41", b"?", b";", b"~", b"%00", b'"', b"\xc3\xa9"])
    | st.binary(max_size=3),
    max_size=12,
)  # fmt: skip


def unescaped(path):
    bare, mark, query = path.partition(b"?")
    for escape, slash in ((b"%2f", b"/"), (b"%2F", b"/"), (b"%5c", b"\\"), (b"%5C", b"\\")):
        bare = bare.replace(escape, slash)
    return bare + mark + query


@given(PIECES, st.booleans(), st.booleans(), st.sampled_from([0, 1, 2, 3]))
@example([b"/%2%2f"], True, True, 3)
def test_never_raises_and_never_changes_the_query(pieces, normal, merge, escaped):
    path = b"/" + b"".join(pieces)
    policy = PathPolicy(normalize=normal, merge_slashes=merge, escaped_slashes=escaped)

    outcome, result = policy.apply(path)

    assert path.partition(b"?")[2] == result.partition(b"?")[2]
    if outcome == REJECT:
        # What is refused is logged as it was judged: with its slashes unescaped, where they count.
        assert result in (path, unescaped(path))


@given(PIECES)
@example([b"\x00"])
def test_the_canonical_spelling_is_final(pieces):
    once = normalize(b"/" + b"".join(pieces))
    if once is None:
        return
    bare = without_query(once)
    assert b"/./" not in bare
    assert b"/../" not in bare
    assert b"\\" not in bare
    assert not bare.endswith((b"/.", b"/.."))
    # A dot segment with parameters may appear by unescaping ("%2e;x"), as in Envoy; nothing else moves.
    if b"/.;" not in bare and b"/..;" not in bare:
        assert normalize(once) == once
