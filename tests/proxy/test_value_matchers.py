import pytest
from google.protobuf.json_format import ParseDict

from weft.api.problems import Where
from weft.api.schema import message_class
from weft.proxy.value_matchers import metadata_matcher

DATA = {"ns": {"a": {"b": "text"}, "n": 2.0, "t": True, "z": None, "l": ["x", 1.0]}}


@pytest.mark.parametrize(("path", "value", "expected"), [
    (["a", "b"], {"string_match": {"exact": "text"}}, True),
    (["a", "b"], {"string_match": {"exact": "other"}}, False),
    (["a", "c"], {"string_match": {"exact": "text"}}, False),
    (["a"], {"string_match": {"exact": "text"}}, False),
    (["a", "b", "c"], {"present_match": True}, False),
    (["a", "b"], {"present_match": True}, True),
    (["no"], {"present_match": False}, False),
    (["n"], {"present_match": False}, False),
    (["n"], {"double_match": {"exact": 2.0}}, True),
    (["n"], {"double_match": {"range": {"start": 1, "end": 2}}}, False),
    (["n"], {"double_match": {"range": {"start": 2, "end": 3}}}, True),
    (["t"], {"double_match": {"exact": 1.0}}, False),
    (["t"], {"bool_match": True}, True),
    (["n"], {"bool_match": True}, False),
    (["z"], {"null_match": {}}, True),
    (["no"], {"null_match": {}}, False),
    (["l"], {"list_match": {"one_of": {"string_match": {"exact": "x"}}}}, True),
    (["l"], {"list_match": {"one_of": {"string_match": {"exact": "y"}}}}, False),
    (["n"], {"list_match": {"one_of": {"double_match": {"exact": 2.0}}}}, False),
    (["n"], {"or_match": {"value_matchers": [{"bool_match": True}, {"double_match": {"exact": 2.0}}]}}, True),
])  # fmt: skip
@pytest.mark.parametrize("invert", [False, True])
def test_metadata(path, value, expected, invert):
    message = ParseDict(
        {"filter": "ns", "path": [{"key": key} for key in path], "value": value, "invert": invert},
        message_class("envoy.type.matcher.v3.MetadataMatcher")(),
    )
    where = Where.nowhere()

    matcher = metadata_matcher(message, where)

    assert where.problems.items == []
    assert matcher.matches(DATA) is (expected != invert)
    assert "ns" in matcher.describe()


def test_nothing_there():
    message = ParseDict(
        {"filter": "ns", "path": [{"key": "a"}], "value": {"present_match": True}},
        message_class("envoy.type.matcher.v3.MetadataMatcher")(),
    )
    matcher = metadata_matcher(message, Where.nowhere())
    assert not matcher.matches(None)
    assert not matcher.matches({"other": 1})
