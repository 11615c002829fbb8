import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.proxy.regex import REGEX_LIMITS, Regex, Substitution


@pytest.mark.parametrize(("pattern", "reason"), [
    ("/(a", "missing )"),
    ("a{2,1}", "invalid repetition size"),
    (r"(?=a)", "invalid perl operator"),
    (r"(a)\1", "invalid escape"),
    ("[a-z]{300}", "RE2 program size of 304 > max program size of 100"),
])  # fmt: skip
def test_what_re2_refuses(pattern, reason, capfd):
    with pytest.raises(ValueError) as caught:
        Regex(pattern)

    assert reason in str(caught.value)
    assert capfd.readouterr().err == ""


def test_the_program_size_is_an_operators_choice(monkeypatch):
    monkeypatch.setattr(REGEX_LIMITS, "max_program_size", 400)

    assert Regex("[a-z]{300}").matches(b"a" * 300)


def test_a_match_is_of_the_whole_value():
    pattern = Regex("/a+")
    assert pattern.matches(b"/aa")
    assert not pattern.matches(b"/aab")
    assert not pattern.matches(b"x/aa")


def test_patterns_are_of_bytes_as_envoys_are():
    assert Regex("é..").matches("éé".encode())
    assert Regex(".").matches(b"\xff")
    assert not Regex("é").matches(b"\xe9")
    with pytest.raises(ValueError, match="invalid escape sequence"):
        Regex(r"\x{10FFFF}")
    assert Regex(r"\pN").matches(b"5")  # and is small: Latin-1 has few numbers


def test_no_pattern_takes_more_than_linear_time():
    evil = Regex("(a+)+$")
    start = time.perf_counter()
    assert not evil.matches(b"a" * 20_000 + b"b")
    assert time.perf_counter() - start < 1.0


@pytest.mark.parametrize(("pattern", "substitution", "value", "result"), [
    ("a", "b", b"banana", b"bbnbnb"),
    ("/(.+)/(.+)", r"/\2/\1", b"/x/y", b"/y/x"),
    ("b*", "-", b"abc", b"-a-c-"),
    ("x?", "-", b"ab", b"-a-b-"),
    ("^/", "//", b"/a/b", b"//a/b"),
    ("(a)(b)?", r"\2", b"aab", b"b"),
    ("a", r"\0\0", b"xax", b"xaax"),
    ("a", r"\\", b"a", b"\\"),
    ("a", r"\1", b"aa", b"aa"),
    ("a", r"z\x", b"ba", b"bz"),
    ("é*", "-", "aéb".encode(), b"a-b"),
    ("", "-", "é".encode(), b"-\xc3-\xa9-"),
    ("a", "z", b"bbb", b"bbb"),
])  # fmt: skip
def test_replace_all(pattern, substitution, value, result):
    assert Regex(pattern).replace_all(value, Substitution(substitution)) == result


@given(st.sampled_from(["a", "a*", "", "(a|b)", "[^/]+", "x?", "é*"]), st.text(alphabet="ab\\01x", max_size=5), st.binary(max_size=20))
def test_replacing_never_raises_and_ends(pattern, substitution, value):
    assert isinstance(Regex(pattern).replace_all(value, Substitution(substitution)), bytes)
