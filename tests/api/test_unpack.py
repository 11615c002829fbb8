"""From Any to what is in it."""

import pytest

from weft.api.problems import Where
from weft.api.schema import message_class
from weft.api.unpack import type_name, unpack

NODE = "envoy.config.core.v3.Node"


def any_of(type_url: str, value: bytes = b""):
    return message_class("google.protobuf.Any")(type_url=type_url, value=value)


def typed_struct(kind: str, type_url: str, **fields):
    struct = message_class(kind)(type_url=type_url)
    struct.value.update(fields)
    return any_of(f"type.googleapis.com/{kind}", struct.SerializeToString())


def test_the_message_inside():
    where = Where.nowhere()
    message = unpack(any_of(f"type.googleapis.com/{NODE}", b"\n\x01a"), where)

    assert (message.id, where.problems.items) == ("a", [])
    assert isinstance(message, message_class(NODE))


@pytest.mark.parametrize("kind", ["xds.type.v3.TypedStruct", "udpa.type.v1.TypedStruct"])
def test_a_typed_struct_is_what_it_stands_for(kind):
    where = Where.nowhere()
    packed = typed_struct(kind, f"x/{NODE}", id="a", clientFeatures=["f"], locality={"region": "r"})

    message = unpack(packed, where)

    assert type_name(packed) == NODE
    assert (message.id, list(message.client_features), message.locality.region) == ("a", ["f"], "r")
    assert where.problems.items == []


def test_a_typed_struct_of_an_unknown_type_stays_one():
    packed = typed_struct("xds.type.v3.TypedStruct", "x/a.B", k=1)
    message = unpack(packed, Where.nowhere())

    assert message.DESCRIPTOR.full_name == "xds.type.v3.TypedStruct"
    assert type_name(packed) == "a.B"


@pytest.mark.parametrize(
    ("packed", "path", "says"),
    [
        (any_of(""), "here", 'a typed_config without a type ("@type")'),
        (any_of("x/a.B"), "here", "unknown type 'a.B'"),
        (any_of(f"x/{NODE}", b"\xff"), "here", f"the bytes are not a {NODE}"),
        (typed_struct("xds.type.v3.TypedStruct", ""), "here", "a TypedStruct without type_url"),
        (typed_struct("xds.type.v3.TypedStruct", f"x/{NODE}", nope=1), "here.value.nope", "unknown field 'nope'"),
        (typed_struct("xds.type.v3.TypedStruct", f"x/{NODE}", id=5), "here.value.id", "expected a string, not the number 5"),
    ],
)  # fmt: skip
def test_a_problem_has_a_place(packed, path, says):
    where = Where.nowhere().field("here")

    assert unpack(packed, where) is None
    (problem,) = where.problems.items
    assert problem.path == path
    assert problem.text.startswith(says)


def test_the_name_of_what_is_not_set():
    assert type_name(any_of("")) == ""
    assert type_name(any_of("x/a.B")) == "a.B"
    assert type_name(any_of("x/xds.type.v3.TypedStruct", b"\xff")) == "xds.type.v3.TypedStruct"
