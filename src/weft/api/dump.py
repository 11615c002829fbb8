"""A message as JSON-ready values for ``/config_dump``: Any resolved, secrets hidden.

Names are proto names, as in Envoy's admin.  What the schema marks as sensitive is ``[redacted]``;
an Any of a type that the schema does not know keeps its URL and its bytes in base64.
"""

import base64
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from weft.api.schema import find_type, is_map, message_class, rules
from weft.api.unpack import TYPED_STRUCTS, bare_name
from weft.steps import Steps, at_once

REDACTED: Final = "[redacted]"
_ANY: Final = "google.protobuf.Any"
_MESSAGE: Final = 5
"""What a message weighs, in steps."""


def to_dict(message: Any, *, redact: bool = True) -> dict[str, Any]:
    """``message`` by proto field names; set fields only."""
    return at_once(dict_steps(message, redact=redact))


def dict_steps(message: Any, *, redact: bool = True) -> Steps[dict[str, Any]]:
    """:func:`to_dict` in steps: a route table may have ten thousand routes."""
    return _message(message, redact, False)


def _message(message: Any, redact: bool, secret: bool) -> Steps[dict[str, Any]]:
    table = rules(message.DESCRIPTOR).get("fields", {}) if redact else {}
    result: dict[str, Any] = {}
    for field, value in message.ListFields():
        hidden = secret or (redact and "sensitive" in table.get(field.name, ()))
        if hidden and field.message_type is None and field.cpp_type != FieldDescriptor.CPPTYPE_STRING:
            continue  # as Envoy: text is replaced, numbers are left out
        if is_map(field):
            inner = field.message_type.fields_by_name["value"]
            entries: dict[str, Any] = {}
            for key in sorted(value):
                entries[_key(key)] = yield from _one(inner, value[key], redact, hidden)
            result[field.name] = entries
        elif field.is_repeated:
            items: list[Any] = []
            for item in value:
                items.append((yield from _one(field, item, redact, hidden)))
            result[field.name] = items
        else:
            result[field.name] = yield from _one(field, value, redact, hidden)
    yield _MESSAGE
    return result


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _one(field: Any, value: Any, redact: bool, secret: bool) -> Steps[Any]:
    if field.message_type is not None:
        return (yield from _any_message(value, redact, secret))
    return _scalar(field, value, secret)


def _scalar(field: Any, value: Any, secret: bool) -> Any:
    if field.enum_type is not None:
        if field.enum_type.full_name == "google.protobuf.NullValue":
            return None
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else value
    if isinstance(value, bytes):
        return _bytes(REDACTED.encode() if secret else value)
    if secret:
        return REDACTED
    if isinstance(value, float):
        return _float(value, field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT)
    if field.cpp_type in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64):
        return str(value)
    return value


def _bytes(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _float(value: float, single: bool) -> Any:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    if single:
        value = float(f"{value:.8g}")
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def _any_message(message: Any, redact: bool, secret: bool) -> Steps[Any]:
    name = message.DESCRIPTOR.full_name
    if name == _ANY:
        return (yield from _any(message, redact, secret))
    special = _SPECIAL.get(name)
    if special is not None:
        return special(message, redact, secret)
    return (yield from _message(message, redact, secret))


def _any(message: Any, redact: bool, secret: bool) -> Steps[Any]:
    if not message.type_url:
        return {}
    name = bare_name(message.type_url)
    if find_type(name) is not None:
        try:
            inner = message_class(name).FromString(message.value)
        except DecodeError:
            pass
        else:
            if name == _ANY or name in _SPECIAL:
                value = yield from _any_message(inner, redact, secret)
                return {"@type": message.type_url, "value": value}
            hidden = secret or (redact and name in TYPED_STRUCTS and _is_secret(inner))
            fields = yield from _message(inner, redact, hidden)
            return {"@type": message.type_url} | fields
    return {"@type": message.type_url, "value": _bytes(message.value)}


def _is_secret(typed_struct: Any) -> bool:
    """Whether a TypedStruct stands for a type that has anything to hide (fields are not told apart)."""
    descriptor = find_type(bare_name(typed_struct.type_url))
    return descriptor is not None and any(
        "sensitive" in entry for entry in rules(descriptor).get("fields", {}).values()
    )


def _struct(message: Any, redact: bool, secret: bool) -> Any:
    return {key: _value(message.fields[key], redact, secret) for key in sorted(message.fields)}


def _list_value(message: Any, redact: bool, secret: bool) -> Any:
    return [_value(item, redact, secret) for item in message.values]


def _value(message: Any, redact: bool, secret: bool) -> Any:
    kind = message.WhichOneof("kind")
    if kind == "struct_value":
        return _struct(message.struct_value, redact, secret)
    if kind == "list_value":
        return _list_value(message.list_value, redact, secret)
    if kind is None or kind == "null_value":
        return None
    if secret:
        return REDACTED
    return _float(message.number_value, False) if kind == "number_value" else getattr(message, kind)


def _duration(message: Any, redact: bool, secret: bool) -> str:
    nanos = abs(message.seconds * 1_000_000_000 + message.nanos)
    sign = "-" if message.seconds < 0 or message.nanos < 0 else ""
    whole, part = divmod(nanos, 1_000_000_000)
    return f"{sign}{whole}{_fraction(part)}s"


def _fraction(nanos: int) -> str:
    """None, three, six or nine digits, as protobuf's JSON has it."""
    if not nanos:
        return ""
    digits = f"{nanos:09}"
    for size in (3, 6):
        if digits.endswith("0" * (9 - size)):
            return "." + digits[:size]
    return "." + digits


def _timestamp(message: Any, redact: bool, secret: bool) -> str:
    text: str = message.ToJsonString()
    return text


def _field_mask(message: Any, redact: bool, secret: bool) -> str:
    text: str = message.ToJsonString()
    return text


def _wrapper(message: Any, redact: bool, secret: bool) -> Any:
    return _scalar(message.DESCRIPTOR.fields_by_name["value"], message.value, secret)


_SPECIAL: Final = {
    "google.protobuf.Struct": _struct,
    "google.protobuf.Value": _value,
    "google.protobuf.ListValue": _list_value,
    "google.protobuf.Duration": _duration,
    "google.protobuf.Timestamp": _timestamp,
    "google.protobuf.FieldMask": _field_mask,
    **{
        f"google.protobuf.{kind}Value": _wrapper
        for kind in ("Bool", "Int32", "Int64", "UInt32", "UInt64", "Float", "Double", "String", "Bytes")
    },
}
