"""Every kind of rule: a value that keeps it, and one that does not, with what is said."""

from types import SimpleNamespace

import pytest

from weft.api.constraints import size_check, value_check
from weft.api.schema import find_type

PLAIN = SimpleNamespace(message_type=None, enum_type=None)
SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("rule", "kept", "broken", "says"),
    [
        ({"uint32": {"gt": 0}}, 1, 0, "must be greater than 0"),
        ({"uint32": {"gte": 1024}}, 1024, 1023, "must be at least 1024"),
        ({"uint32": {"lt": 5}}, 4, 5, "must be less than 5"),
        ({"uint32": {"lte": 65535}}, 65535, 65536, "must be at most 65535"),
        ({"uint32": {"gte": 1, "lte": 3}}, 3, 4, "must be at most 3"),
        ({"uint32": {"gte": 1, "lte": 3}}, 1, 0, "must be at least 1"),
        ({"uint32": {"gt": 5, "lt": 3}}, 6, 4, "must be greater than 5 or must be less than 3"),
        ({"uint32": {"gt": 5, "lt": 3}}, 2, 5, "must be greater than 5 or must be less than 3"),
        ({"int32": {"const": 7}}, 7, 8, "must be 7"),
        ({"int64": {"in": [1, 2]}}, 2, 3, "must be one of 1, 2"),
        ({"uint64": {"not_in": [1]}}, 2, 1, "must not be 1"),
        ({"double": {"gte": 0.0, "lte": 100.0}}, 0.5, 100.5, "must be at most 100"),
        ({"double": {"gte": 0.5}}, 0.5, 0.4, "must be at least 0.5"),
        ({"float": {"gt": 0.0, "ignore_empty": True}}, 0.0, -1.0, "must be greater than 0"),
        ({"bool": {"const": True}}, True, False, "must be true"),
        ({"bool": {"const": False}}, False, True, "must be false"),
        ({"string": {"min_len": 1}}, "a", "", "must not be empty"),
        ({"string": {"min_len": 2}}, "éé", "é", "must have at least 2 characters"),
        ({"string": {"max_len": 2}}, "éé", "ééé", "must have at most 2 characters"),
        ({"string": {"len": 2}}, "ab", "a", "must have 2 characters"),
        ({"string": {"min_bytes": 2}}, "é", "e", "must have at least 2 bytes"),
        ({"string": {"max_bytes": 2}}, "é", "ée", "must have at most 2 bytes"),
        ({"string": {"len_bytes": 2}}, "é", "e", "must have 2 bytes"),
        ({"string": {"const": "a"}}, "a", "b", "must be 'a'"),
        ({"string": {"in": ["http", "https"]}}, "http", "ftp", "must be one of 'http', 'https'"),
        ({"string": {"not_in": ["a"]}}, "b", "a", "must not be 'a'"),
        ({"string": {"prefix": "%"}}, "%a", "a%", "must start with '%'"),
        ({"string": {"suffix": "%"}}, "a%", "%a", "must end with '%'"),
        ({"string": {"contains": "x"}}, "axb", "ab", "must contain 'x'"),
        ({"string": {"not_contains": "x"}}, "ab", "axb", "must not contain 'x'"),
        ({"string": {"pattern": "^[^?#]+[^?#/]$"}}, "/a", "/a/", "does not match '^[^?#]+[^?#/]$'"),
        ({"string": {"pattern": "b+"}}, "abba", "aa", "does not match 'b+'"),
        ({"string": {"prefix": "%", "ignore_empty": True}}, "", "a", "must start with '%'"),
        ({"string": {"well_known_regex": "HTTP_HEADER_NAME"}}, ":x-a!#$%&'*+-.^_|~`,", "a b", "is no valid header name"),
        ({"string": {"well_known_regex": "HTTP_HEADER_NAME"}}, "a", "a\n", "is no valid header name"),
        ({"string": {"well_known_regex": "HTTP_HEADER_VALUE"}}, "a\tb é", "a\x01", "is no valid header value"),
        ({"string": {"well_known_regex": "HTTP_HEADER_NAME", "strict": False}}, "a b\x01", "a\r", "must not contain CR, LF or NUL"),
        ({"string": {"well_known_regex": "HTTP_HEADER_VALUE", "strict": False}}, "", "a\x00", "must not contain CR, LF or NUL"),
        ({"string": {"ip": True}}, "::1", "1.2.3", "is no valid ip"),
        ({"string": {"ipv4": True}}, "1.2.3.4", "::1", "is no valid ipv4"),
        ({"string": {"ipv6": True}}, "::1", "1.2.3.4", "is no valid ipv6"),
        ({"string": {"hostname": True}}, "a-1.example.", "-a", "is no valid hostname"),
        ({"string": {"address": True}}, "1.2.3.4", "a b", "is no valid address"),
        ({"string": {"email": True}}, "a@b.c", "b.c", "is no valid email"),
        ({"string": {"uri": True}}, "http://a", "/a", "is no valid uri"),
        ({"string": {"uri_ref": True}}, "/a", "/a b", "is no valid uri_ref"),
        ({"string": {"uuid": True}}, "00000000-0000-0000-0000-00000000000f", "0", "is no valid uuid"),
        ({"bytes": {"min_len": 1}}, b"a", b"", "must not be empty"),
        ({"bytes": {"max_len": 1}}, b"a", b"ab", "must have at most 1 bytes"),
        ({"bytes": {"prefix": "\xff"}}, b"\xffa", b"a", "must start with b'\\xff'"),
        ({"bytes": {"in": ["a"]}}, b"a", b"b", "must be one of b'a'"),
    ],
)  # fmt: skip
def test_a_rule_of_a_scalar(rule, kept, broken, says):
    check = value_check(PLAIN, rule)

    assert check(kept) is None
    assert check(broken) == says


ENUM = find_type("envoy.config.cluster.v3.Cluster").fields_by_name["lb_policy"]


@pytest.mark.parametrize(
    ("rule", "kept", "broken", "says"),
    [
        ({"defined_only": True}, 0, 99, "99 is no value of LbPolicy"),
        ({"const": 2}, 2, 1, "must be RING_HASH"),
        ({"in": [0, 1]}, 1, 2, "must be one of ROUND_ROBIN, LEAST_REQUEST"),
        ({"not_in": [0]}, 1, 0, "must not be ROUND_ROBIN"),
    ],
)
def test_a_rule_of_an_enum(rule, kept, broken, says):
    check = value_check(ENUM, {"enum": rule})

    assert check(kept) is None
    assert check(broken) == says


def span(nanoseconds: int):
    sign = -1 if nanoseconds < 0 else 1
    seconds, nanos = divmod(abs(nanoseconds), SECOND)
    return SimpleNamespace(seconds=sign * seconds, nanos=sign * nanos)


@pytest.mark.parametrize(
    ("rule", "kept", "broken", "says"),
    [
        ({"gt": 0}, 1, 0, "must be greater than 0s"),
        ({"gte": 1_000_000}, 1_000_000, 999_999, "must be at least 0.001s"),
        ({"lt": 60 * SECOND}, 59 * SECOND, 60 * SECOND, "must be less than 60s"),
        ({"lte": SECOND}, SECOND, SECOND + 1, "must be at most 1s"),
        ({"const": SECOND}, SECOND, 0, "must be 1s"),
        ({"in": [0, SECOND]}, 0, 2 * SECOND, "must be one of 0s, 1s"),
        ({"not_in": [SECOND]}, 0, SECOND, "must not be 1s"),
        ({"required": True}, 0, -1, "a duration must not be negative"),
        (
            {},
            9_223_372_035 * SECOND,
            9_223_372_036 * SECOND,
            "the duration is out of range (less than 9223372036s)",
        ),
    ],
)
def test_a_rule_of_a_duration(rule, kept, broken, says):
    field = SimpleNamespace(message_type=find_type("google.protobuf.Duration"), enum_type=None)
    check = value_check(field, {"duration": rule})

    assert check(span(kept)) is None
    assert check(span(broken)) == says


def test_nanoseconds_must_be_a_fraction():
    field = SimpleNamespace(message_type=find_type("google.protobuf.Duration"), enum_type=None)
    check = value_check(field, {"duration": {}})

    assert check(SimpleNamespace(seconds=0, nanos=SECOND)) == "nanos must be less than 1000000000"


def test_rules_of_a_wrapper_are_for_what_is_in_it():
    field = SimpleNamespace(message_type=find_type("google.protobuf.UInt32Value"), enum_type=None)
    check = value_check(field, {"uint32": {"lte": 5}})

    assert check(SimpleNamespace(value=5)) is None
    assert check(SimpleNamespace(value=6)) == "must be at most 5"


def test_a_rule_of_an_any():
    field = SimpleNamespace(message_type=find_type("google.protobuf.Any"), enum_type=None)
    check = value_check(field, {"any": {"in": ["x/a", "x/b"]}})

    assert check(SimpleNamespace(type_url="x/a")) is None
    assert check(SimpleNamespace(type_url="x/c")) == "must be one of 'x/a', 'x/b'"


def test_a_rule_of_a_timestamp():
    field = SimpleNamespace(message_type=find_type("google.protobuf.Timestamp"), enum_type=None)
    check = value_check(field, {"timestamp": {"gt": 0}})

    assert check(span(1)) is None
    assert check(span(0)) is not None


@pytest.mark.parametrize(
    ("least", "most", "unique", "kept", "broken", "says"),
    [
        (1, None, False, ["a"], [], "must not be empty"),
        (2, None, False, ["a", "b"], ["a"], "must have at least 2 elements"),
        (None, 1, False, ["a"], ["a", "b"], "must have at most 1 elements"),
        (None, None, True, ["a", "b"], ["a", "a"], "elements must not repeat"),
    ],
)
def test_a_rule_of_a_list(least, most, unique, kept, broken, says):
    check = size_check(least, most, unique, "elements")

    assert check(kept) is None
    assert check(broken) == says


def test_no_rule_is_no_check():
    assert value_check(PLAIN, {}) is None
    assert value_check(PLAIN, {"string": {}}) is None
    assert size_check(None, None, False, "elements") is None
