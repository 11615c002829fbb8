"""From ``google.protobuf.Any`` to the message inside.

``TypedStruct`` (xds and udpa) is a message in disguise: its JSON-like value becomes the type that
its ``type_url`` names, as Envoy does it, unless the schema does not know that type.
"""

from typing import Any

from google.protobuf.message import DecodeError

from weft.api.problems import Where
from weft.api.schema import find_type, message_class

TYPED_STRUCTS = ("xds.type.v3.TypedStruct", "udpa.type.v1.TypedStruct")


def type_name(any_message: Any) -> str:
    """Full name of the type inside; of a TypedStruct the type that it stands for; empty when unset."""
    name = bare_name(any_message.type_url)
    if name in TYPED_STRUCTS:
        try:
            return bare_name(message_class(name).FromString(any_message.value).type_url) or name
        except DecodeError:
            return name
    return name


def bare_name(type_url: str) -> str:
    """``type.googleapis.com/envoy.x.Y`` -> ``envoy.x.Y``."""
    return type_url.rpartition("/")[2]


def unpack(any_message: Any, where: Where) -> Any | None:
    """The message inside, or None after a problem.

    A TypedStruct of a type that the schema does not know comes back as the TypedStruct message.
    """
    name = bare_name(any_message.type_url)
    if not name:
        where.problem('a typed_config without a type ("@type")')
        return None
    if find_type(name) is None:
        where.problem(f"unknown type {name!r}")
        return None
    try:
        message = message_class(name).FromString(any_message.value)
    except DecodeError:
        where.problem(f"the bytes are not a {name}")
        return None
    if name in TYPED_STRUCTS:
        return struct_message(message, where)
    return message


def struct_message(message: Any, where: Where) -> Any | None:
    """What a TypedStruct stands for; itself when the schema does not know the type."""
    inner = bare_name(message.type_url)
    if not inner:
        where.problem("a TypedStruct without type_url")
        return None
    if find_type(inner) is None:
        return message
    from weft.api.convert import from_struct

    return from_struct(message.value, inner, where.field("value"))
