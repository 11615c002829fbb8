"""From one scalar node to the value of a field, as protobuf's JSON parser and Envoy read it.

A reader takes a node and gives the Python value for the field, or raises :class:`Wrong` with what
is due instead.
"""

import base64
import binascii
import datetime
import difflib
import math
import re
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

from weft.api.document import BOOL, NUMBER, STRING, Node

Reader = Callable[[Node], Any]


class Wrong(Exception):
    """A value that its field does not take; the text says what is due."""


def short_name(full_name: str) -> str:
    return full_name.rpartition(".")[2]


_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_HEXADECIMAL: Final = re.compile(r"[+-]?0[xX][0-9a-fA-F]+", re.ASCII)
_DECIMAL: Final = re.compile(r"[+-]?\d+", re.ASCII)


def _integer_reader(low: int, high: int) -> Callable[[Node], int]:
    def read(node: Node) -> int:
        if node.kind not in (NUMBER, STRING):
            raise Wrong(f"expected an integer, not {node.describe()}")
        text = node.text
        if _DECIMAL.fullmatch(text):
            value = int(text)
        elif _NUMBER.fullmatch(text):
            number = float(text)
            if not number.is_integer():
                raise Wrong(f"expected an integer, not {text}")
            value = int(number)
        elif _HEXADECIMAL.fullmatch(text):
            value = int(text, 16)
        else:
            raise Wrong(f"expected an integer, not {node.describe()}")
        if not low <= value <= high:
            raise Wrong(f"{text} is out of range ({low} to {high})")
        return value

    return read


def read_float(node: Node) -> float:
    if node.kind not in (NUMBER, STRING):
        raise Wrong(f"expected a number, not {node.describe()}")
    text = node.text.strip()
    if _NUMBER.fullmatch(text):
        value = float(text)
        if math.isinf(value) and node.kind == NUMBER:
            raise Wrong(f"{text} is out of range")
        return value
    if _HEXADECIMAL.fullmatch(text):
        return float(int(text, 16))
    if node.kind == STRING and text.lower() in ("nan", "infinity", "-infinity", "inf", "-inf"):
        return float(text)
    raise Wrong(f"expected a number, not {node.describe()}")


def _single(node: Node) -> float:
    value = read_float(node)
    if math.isfinite(value) and abs(value) > 3.4028235677973366e38:
        raise Wrong(f"{node.text} is out of range for a float")
    return value


_BOOLS: Final = {
    **dict.fromkeys(("true", "t", "yes", "y", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0"), False),
}


def _bool(node: Node) -> bool:
    if node.kind == BOOL or node.kind == STRING:
        value = _BOOLS.get(node.text.lower())
        if value is not None:
            return value
    raise Wrong(f"expected true or false, not {node.describe()}")


def _string(node: Node) -> str:
    if node.kind != STRING:
        hint = " (quote it)" if node.kind in (NUMBER, BOOL) else ""
        raise Wrong(f"expected a string, not {node.describe()}{hint}")
    return node.text


def _bytes(node: Node) -> bytes:
    text = _string(node)
    plain = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Wrong("expected base64") from None


def _enum_reader(enum: Any) -> Callable[[Node], int]:
    names: dict[str, int] = {value.name.lower(): value.number for value in enum.values}
    if enum.full_name == "google.protobuf.NullValue":
        return lambda node: 0

    def read(node: Node) -> int:
        if node.kind in (STRING, NUMBER):
            number = names.get(node.text.lower())
            if number is not None:
                return number
            text = node.text.strip()
            if _DECIMAL.fullmatch(text) and len(text) < 12 and -(2**31) <= int(text) < 2**31:
                return int(text)
            near = difflib.get_close_matches(node.text.lower(), names, 1, 0.6)
            known = [value.name for value in enum.values]
            if near:
                hint = f"; did you mean {near[0].upper()!r}?"
            else:
                hint = f"; it is one of {', '.join(known)}" if len(known) <= 12 else ""
            raise Wrong(f"unknown value {node.text!r} of {short_name(enum.full_name)}{hint}")
        raise Wrong(f"expected a name of {short_name(enum.full_name)}, not {node.describe()}")

    return read


_RANGES: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


def scalar_reader(field: Any) -> Callable[[Node], Any]:
    kind = field.cpp_type
    if kind in _RANGES:
        return _integer_reader(*_RANGES[kind])
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return _enum_reader(field.enum_type)
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return _bytes if field.type == FieldDescriptor.TYPE_BYTES else _string
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return _bool
    return _single if kind == FieldDescriptor.CPPTYPE_FLOAT else read_float


def key_reader(field: Any) -> Callable[[str], Any]:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return str
    read = scalar_reader(field)
    return lambda text: read(Node.scalar(STRING, text))


def default_of(field: Any) -> Any:
    """What a null in a list or a map stands for."""
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return b"" if field.type == FieldDescriptor.TYPE_BYTES else ""
    return False if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else 0


_DURATION: Final = re.compile(r"(-?)(\d+)(?:\.(\d{1,9}))?s", re.ASCII)


def read_duration(node: Node) -> tuple[int, int]:
    """Seconds and nanoseconds of ``1.5s``."""
    match = _DURATION.fullmatch(node.text) if node.kind == STRING else None
    if match is None:
        raise Wrong(f"expected a duration such as 0.25s, not {node.describe()}")
    sign, whole, part = match.groups()
    seconds = int(whole)
    nanos = int((part or "").ljust(9, "0"))
    if seconds > 315_576_000_000:
        raise Wrong(f"{node.text} is out of range for a duration")
    return (-seconds, -nanos) if sign else (seconds, nanos)


_TIMESTAMP: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII
)


def read_timestamp(node: Node) -> tuple[int, int]:
    match = _TIMESTAMP.fullmatch(node.text) if node.kind == STRING else None
    if match is None:
        raise Wrong(f"expected a time such as 2030-01-31T12:00:00Z, not {node.describe()}")
    *parts, fraction, sign, hours, minutes = match.groups()
    try:
        moment = datetime.datetime(*map(int, parts), tzinfo=datetime.UTC)  # type: ignore[misc, arg-type]  # six numbers
    except ValueError as error:
        raise Wrong(f"{node.text}: {error}") from None
    seconds = int(moment.timestamp())
    if sign:
        offset = int(hours) * 3600 + int(minutes) * 60
        seconds -= offset if sign == "+" else -offset
    return seconds, int((fraction or "").ljust(9, "0"))
