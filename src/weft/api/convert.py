"""From a document (nodes with places) to a protobuf message, gathering every problem on the way.

The rules are those by which Envoy reads YAML and JSON: field names in either style, enum names in
any case, quoted numbers and booleans, one value where a list is due, ``null`` for "not set" (inside
a list: an empty element).  What a plain YAML scalar means is :mod:`weft.api.document`'s business.

A *plan* per message type says what to do with each field name; plans are built once per type.
"""

import base64
import binascii
import datetime
import difflib
import functools
import math
import re
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from weft.api.document import BOOL, LIST, MAP, NULL, NUMBER, STRING, Node
from weft.api.schema import find_type, is_map, message_class, schema

MAX_DEPTH: Final = 100
"""Nested messages, maps and lists, as protobuf's JSON parser limits them."""

Path = tuple[Any, str] | None
"""A linked list from the inside out: (parent, ``name`` or ``[3]`` or ``["key"]``)."""

Report = Callable[[Path, Node, str, bool], None]
"""Takes (path, node, text, is a warning)."""


def path_text(path: Path) -> str:
    parts: list[str] = []
    while path is not None:
        path, part = path
        parts.append(part if part.startswith("[") or not part else "." + part)
    return "".join(reversed(parts)).removeprefix(".")


class Wrong(Exception):
    """A value that its field does not take; the text says what is due."""


class _Field:
    """What to do with one field."""

    __slots__ = (
        "key_read",
        "kind",
        "list_of",
        "map_of",
        "name",
        "number",
        "oneof",
        "plan_of",
        "read",
        "wraps",
    )

    def __init__(self, field: Any) -> None:
        self.name: str = field.name
        oneof = field.containing_oneof
        self.oneof: str = oneof.name if oneof is not None else ""
        self.map_of = is_map(field)
        self.list_of = field.is_repeated and not self.map_of
        value = field.message_type.fields_by_name["value"] if self.map_of else field
        self.key_read = _key_reader(field.message_type.fields_by_name["key"]) if self.map_of else None
        self.plan_of: Any = value.message_type
        self.read: Callable[[Node], Any] | None = (
            _scalar_reader(value) if value.message_type is None else None
        )


class Plan:
    """How to fill one message type."""

    __slots__ = ("fields", "full_name", "known_names", "special")

    def __init__(self, descriptor: Any) -> None:
        self.full_name: str = descriptor.full_name
        self.fields: dict[str, _Field] = {}
        self.special = _SPECIAL.get(self.full_name)
        self.known_names = [field.name for field in descriptor.fields]
        for field in descriptor.fields:
            plan_field = _Field(field)
            self.fields[field.json_name] = self.fields[field.camelcase_name] = plan_field
        for field in descriptor.fields:
            self.fields[field.name] = self.fields[field.json_name]


@functools.cache
def plan_for(descriptor: Any) -> Plan:
    return Plan(descriptor)


class Converter:
    """Fills messages from nodes.  Problems go to ``report``; what has one is left unset."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._depth = 0

    def fill(self, message: Any, node: Node, path: Path) -> None:
        """Fill ``message`` from ``node``."""
        plan = plan_for(message.DESCRIPTOR)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._report(path, node, f"nested deeper than {MAX_DEPTH} levels", False)
        elif plan.special is not None:
            try:
                plan.special(self, message, node, path)
            except Wrong as wrong:
                self._report(path, node, str(wrong), False)
        elif node.kind != MAP:
            self._report(
                path, node, f"expected a mapping ({_short(plan.full_name)}), not {node.describe()}", False
            )
        else:
            self.fill_fields(message, plan, node, path)
        self._depth -= 1

    def fill_fields(self, message: Any, plan: Plan, node: Node, path: Path, any_type: bool = False) -> None:
        fields = plan.fields
        seen: dict[str, str] = {}
        for key, value in node.pairs:
            name = key.text
            field = fields.get(name)
            if field is None:
                if not (any_type and name == "@type"):
                    self._unknown_field(plan, key, path, any_type)
                continue
            if value.kind == NULL and not _takes_null(field):
                continue
            here = (path, field.name)
            if field.name in seen:
                before = seen[field.name]
                self._report(
                    here,
                    key,
                    "given twice; the last one counts"
                    if before == name
                    else f"given twice, as {before!r} and as {name!r}",
                    True,
                )
            seen[field.name] = name
            if field.oneof:
                other = seen.get("oneof " + field.oneof)
                if other is not None and other != field.name:
                    self._report(
                        here,
                        key,
                        f"only one of {other!r} and {field.name!r} may be set (oneof {field.oneof})",
                        False,
                    )
                    continue
                seen["oneof " + field.oneof] = field.name
            if field.map_of:
                self._fill_map(getattr(message, field.name), field, value, here)
            elif field.list_of:
                self._fill_list(getattr(message, field.name), field, value, here)
            elif field.read is None:
                sub = getattr(message, field.name)
                sub.SetInParent()
                self.fill(sub, value, here)
            else:
                try:
                    setattr(message, field.name, field.read(value))
                except Wrong as wrong:
                    self._report(here, value, str(wrong), False)

    def _fill_list(self, items: Any, field: _Field, node: Node, path: Path) -> None:
        if node.kind != LIST:
            self._add_item(items, field, node, (path, "[0]"))
            return
        self._fill_items(items, field, node, path, [0])

    def _fill_items(self, items: Any, field: _Field, node: Node, path: Path, number: list[int]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._report(path, node, f"nested deeper than {MAX_DEPTH} levels", False)
        else:
            for item in node.items:
                if item.kind == LIST and not _takes_list(field):
                    self._fill_items(items, field, item, path, number)  # Envoy flattens lists of lists
                else:
                    self._add_item(items, field, item, (path, f"[{number[0]}]"))
                    number[0] += 1
        self._depth -= 1

    def _add_item(self, items: Any, field: _Field, node: Node, path: Path) -> None:
        if field.read is None:
            # An element that has a problem still takes its place, so that later paths stay true.
            item = items.add()
            if node.kind != NULL or plan_for(field.plan_of).full_name == "google.protobuf.Value":
                self.fill(item, node, path)
            return
        try:
            items.append(_default(field) if node.kind == NULL else field.read(node))
        except Wrong as wrong:
            self._report(path, node, str(wrong), False)

    def _fill_map(self, entries: Any, field: _Field, node: Node, path: Path) -> None:
        if node.kind != MAP:
            self._report(path, node, f"expected a mapping, not {node.describe()}", False)
            return
        assert field.key_read is not None
        seen: set[str] = set()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._report(path, node, f"nested deeper than {MAX_DEPTH} levels", False)
            self._depth -= 1
            return
        for key, value in node.pairs:
            here = (path, f'["{key.text}"]')
            if key.text in seen:
                self._report(here, key, "given twice; the last one counts", True)
            seen.add(key.text)
            try:
                name = field.key_read(key.text)
                if field.read is not None:
                    entries[name] = _default(field) if value.kind == NULL else field.read(value)
                else:
                    entry = entries[name]
                    entry.Clear()
                    if value.kind != NULL or plan_for(field.plan_of).full_name == "google.protobuf.Value":
                        self.fill(entry, value, here)
            except Wrong as wrong:
                self._report(here, value, str(wrong), False)
        self._depth -= 1

    def _unknown_field(self, plan: Plan, key: Node, path: Path, any_type: bool) -> None:
        name = key.text
        if name == "<<":
            text = "merge keys (<<) are not allowed"
        else:
            text = f"unknown field {name!r} in {plan.full_name}"
            near = difflib.get_close_matches(name.lower(), plan.known_names, 1, 0.6)
            if near:
                text += f"; did you mean {near[0]!r}?"
            elif plan.known_names and len(plan.known_names) <= 8:
                text += f"; it has {', '.join(plan.known_names)}"
        self._report((path, name), key, text, False)

    # -- types with a form of their own ---------------------------------------------------------

    def fill_any(self, message: Any, node: Node, path: Path) -> None:
        if node.kind != MAP:
            raise Wrong(f'expected a mapping with "@type", not {node.describe()}')
        type_node = node.get("@type")
        if type_node is None:
            if node.pairs:
                raise Wrong('"@type" is missing')
            return
        if type_node.kind != STRING:
            self._report(
                (path, "@type"), type_node, f"expected a type URL, not {type_node.describe()}", False
            )
            return
        host, slash, name = type_node.text.rpartition("/")
        if not slash or not host:
            self._report(
                (path, "@type"),
                type_node,
                f"{type_node.text!r} is no type URL; it should be 'type.googleapis.com/{name}'",
                False,
            )
            return
        descriptor = find_type(name)
        if descriptor is None:
            self._report((path, "@type"), type_node, unknown_type(name), False)
            return
        inner = message_class(name)()
        plan = plan_for(descriptor)
        if plan.special is not None:
            for key, _ in node.pairs:
                if key.text not in ("@type", "value"):
                    self._report(
                        (path, key.text), key, f"a {_short(name)} has nothing but 'value' here", False
                    )
            value = node.get("value")
            if value is not None and (value.kind != NULL or name == "google.protobuf.Value"):
                self.fill(inner, value, (path, "value"))
        else:
            self.fill_fields(inner, plan, node, path, any_type=True)
        message.type_url = type_node.text
        message.value = inner.SerializeToString(deterministic=True)

    def fill_struct(self, message: Any, node: Node, path: Path) -> None:
        if node.kind != MAP:
            raise Wrong(f"expected a mapping, not {node.describe()}")
        fields = message.fields
        for key, value in node.pairs:
            here = (path, f'["{key.text}"]')
            entry = fields[key.text]
            entry.Clear()
            self.fill(entry, value, here)

    def fill_list_value(self, message: Any, node: Node, path: Path) -> None:
        if node.kind != LIST:
            raise Wrong(f"expected a list, not {node.describe()}")
        for number, item in enumerate(node.items):
            self.fill(message.values.add(), item, (path, f"[{number}]"))

    def fill_value(self, message: Any, node: Node, path: Path) -> None:
        kind = node.kind
        if kind == STRING:
            message.string_value = node.text
        elif kind == NUMBER:
            message.number_value = _float(node)
        elif kind == BOOL:
            message.bool_value = node.text == "true"
        elif kind == NULL:
            message.null_value = 0
        elif kind == MAP:
            message.struct_value.SetInParent()
            self.fill(message.struct_value, node, path)
        else:
            message.list_value.SetInParent()
            self.fill(message.list_value, node, path)

    def fill_wrapper(self, message: Any, node: Node, path: Path) -> None:
        if node.kind == MAP:
            self.fill_fields(message, plan_for(message.DESCRIPTOR), node, path)
            return
        read = plan_for(message.DESCRIPTOR).fields["value"].read
        assert read is not None
        message.value = read(node)

    def fill_duration(self, message: Any, node: Node, path: Path) -> None:
        if node.kind == MAP:
            self.fill_fields(message, plan_for(message.DESCRIPTOR), node, path)
            return
        message.seconds, message.nanos = parse_duration(node)

    def fill_timestamp(self, message: Any, node: Node, path: Path) -> None:
        if node.kind == MAP:
            self.fill_fields(message, plan_for(message.DESCRIPTOR), node, path)
            return
        message.seconds, message.nanos = _parse_timestamp(node)

    def fill_field_mask(self, message: Any, node: Node, path: Path) -> None:
        if node.kind == MAP:
            self.fill_fields(message, plan_for(message.DESCRIPTOR), node, path)
            return
        if node.kind != STRING:
            raise Wrong(f"expected field paths in one string, not {node.describe()}")
        for name in filter(None, node.text.split(",")):
            message.paths.append(re.sub("[A-Z]", lambda upper: "_" + upper.group().lower(), name))


def unknown_type(name: str) -> str:
    """The problem of a type that the schema does not have, with what may have been meant."""
    text = f"unknown type {name!r}"
    names = schema().all_types()
    last = name.rpartition(".")[2]
    near = (
        difflib.get_close_matches(name, names, 1, 0.75)
        or [other for other in names if other.endswith("." + last)][:1]
    )
    return f"{text}; did you mean {near[0]!r}?" if near else text


def _takes_null(field: _Field) -> bool:
    return (
        field.plan_of is not None
        and field.plan_of.full_name == "google.protobuf.Value"
        and not field.list_of
        and not field.map_of
    )


def _takes_list(field: _Field) -> bool:
    return field.plan_of is not None and field.plan_of.full_name in (
        "google.protobuf.Value",
        "google.protobuf.ListValue",
    )


def _short(full_name: str) -> str:
    return full_name.rpartition(".")[2]


_SPECIAL: Final[dict[str, Callable[[Converter, Any, Node, Path], None]]] = {
    "google.protobuf.Any": Converter.fill_any,
    "google.protobuf.Struct": Converter.fill_struct,
    "google.protobuf.Value": Converter.fill_value,
    "google.protobuf.ListValue": Converter.fill_list_value,
    "google.protobuf.Duration": Converter.fill_duration,
    "google.protobuf.Timestamp": Converter.fill_timestamp,
    "google.protobuf.FieldMask": Converter.fill_field_mask,
    **{
        f"google.protobuf.{kind}Value": Converter.fill_wrapper
        for kind in ("Bool", "Int32", "Int64", "UInt32", "UInt64", "Float", "Double", "String", "Bytes")
    },
}

# -- scalars ---------------------------------------------------------------------------------------

_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
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
        else:
            raise Wrong(f"expected an integer, not {node.describe()}")
        if not low <= value <= high:
            raise Wrong(f"{text} is out of range ({low} to {high})")
        return value

    return read


def _float(node: Node) -> float:
    if node.kind not in (NUMBER, STRING):
        raise Wrong(f"expected a number, not {node.describe()}")
    text = node.text
    if _NUMBER.fullmatch(text):
        return float(text)
    if node.kind == STRING and text.lower() in ("nan", "infinity", "-infinity", "inf", "-inf"):
        return float(text)
    raise Wrong(f"expected a number, not {node.describe()}")


def _single(node: Node) -> float:
    value = _float(node)
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
    names = {value.name.lower(): value.number for value in enum.values}
    if enum.full_name == "google.protobuf.NullValue":
        return lambda node: 0

    def read(node: Node) -> int:
        if node.kind in (STRING, NUMBER):
            number = names.get(node.text.lower())
            if number is not None:
                return number
            if _DECIMAL.fullmatch(node.text) and -(2**31) <= int(node.text) < 2**31:
                return int(node.text)
            near = difflib.get_close_matches(node.text.lower(), names, 1, 0.6)
            known = [value.name for value in enum.values]
            if near:
                hint = f"; did you mean {near[0].upper()!r}?"
            else:
                hint = f"; it is one of {', '.join(known)}" if len(known) <= 12 else ""
            raise Wrong(f"unknown value {node.text!r} of {_short(enum.full_name)}{hint}")
        raise Wrong(f"expected a name of {_short(enum.full_name)}, not {node.describe()}")

    return read


_RANGES: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


def _scalar_reader(field: Any) -> Callable[[Node], Any]:
    kind = field.cpp_type
    if kind in _RANGES:
        return _integer_reader(*_RANGES[kind])
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return _enum_reader(field.enum_type)
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return _bytes if field.type == FieldDescriptor.TYPE_BYTES else _string
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return _bool
    return _single if kind == FieldDescriptor.CPPTYPE_FLOAT else _float


def _key_reader(field: Any) -> Callable[[str], Any]:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return str
    read = _scalar_reader(field)
    return lambda text: read(Node.scalar(STRING, text))


def _default(field: _Field) -> Any:
    assert field.read is not None
    return {_string: "", _bytes: b"", _bool: False}.get(field.read, 0)  # type: ignore[call-overload]


_DURATION: Final = re.compile(r"(-?)(\d+)(?:\.(\d{1,9}))?s", re.ASCII)


def parse_duration(node: Node) -> tuple[int, int]:
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


def _parse_timestamp(node: Node) -> tuple[int, int]:
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


# -- from Struct -----------------------------------------------------------------------------------


def from_struct(struct: Any, full_name: str, where: Any) -> Any | None:
    """The message of type ``full_name`` that a Struct describes; None after a problem."""
    message = GetMessageClass(find_type(full_name))()
    failed = False

    def report(path: Path, node: Node, text: str, warning: bool) -> None:
        nonlocal failed
        place = where
        inner = path_text(path)
        if inner:
            place = type(where)(f"{where.path}.{inner}" if where.path else inner, where.problems)
        if warning:
            place.warn(text)
        else:
            failed = True
            place.problem(text)

    Converter(report).fill(message, struct_node(struct), None)
    return None if failed else message


def struct_node(struct: Any) -> Node:
    """A Struct as nodes without places."""
    return Node.mapping(
        [(Node.scalar(STRING, key), _value_node(value)) for key, value in struct.fields.items()]
    )


def _value_node(value: Any) -> Node:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return struct_node(value.struct_value)
    if kind == "list_value":
        return Node.sequence([_value_node(item) for item in value.list_value.values])
    if kind == "string_value":
        return Node.scalar(STRING, value.string_value)
    if kind == "number_value":
        number = value.number_value
        return Node.scalar(NUMBER, str(int(number)) if number.is_integer() else repr(number))
    if kind == "bool_value":
        return Node.scalar(BOOL, "true" if value.bool_value else "false")
    return Node.scalar(NULL, "null")
