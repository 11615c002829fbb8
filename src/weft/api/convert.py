"""From a document (nodes with places) to a protobuf message, gathering every problem on the way.

The rules are those by which Envoy reads YAML and JSON: field names in either style, enum names in
any case, quoted numbers and booleans, one value where a list is due, ``null`` for "not set" (inside
a list: an empty element).  What a plain YAML scalar means is :mod:`weft.api.document`'s business.

A *plan* per message type says what to do with each field name; plans are built once per type.
"""

import difflib
import functools
import re
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import EncodeError

from weft.api.document import BOOL, LIST, MAP, NULL, NUMBER, STRING, Node
from weft.api.paths import Path, path_text
from weft.api.scalars import (
    Reader,
    Wrong,
    default_of,
    key_reader,
    read_duration,
    read_float,
    read_timestamp,
    scalar_reader,
    short_name,
)
from weft.api.schema import find_type, is_map, message_class, schema

MAX_DEPTH: Final = 100
"""Nested messages, maps and lists, as protobuf's JSON parser limits them."""

Report = Callable[[Path, Node, str, bool], None]
"""Takes (path, node, text, is a warning)."""


class _Field:
    """What to do with one field."""

    __slots__ = ("default", "key_read", "list_of", "map_of", "name", "oneof", "plan_of", "read")

    def __init__(self, field: Any) -> None:
        self.name: str = field.name
        oneof = field.containing_oneof
        real = oneof is not None and oneof.name != f"_{field.name}"  # else it says no more than "optional"
        self.oneof: str = oneof.name if real else ""
        self.map_of = is_map(field)
        self.list_of = field.is_repeated and not self.map_of
        value = field.message_type.fields_by_name["value"] if self.map_of else field
        self.key_read = key_reader(field.message_type.fields_by_name["key"]) if self.map_of else None
        self.plan_of: Any = value.message_type
        self.read: Reader | None = scalar_reader(value) if value.message_type is None else None
        self.default: Any = default_of(value) if value.message_type is None else None


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
        self.deepest = 0
        """Levels of nesting that were seen."""

    def fill(self, message: Any, node: Node, path: Path) -> None:
        """Fill ``message`` from ``node``."""
        plan = plan_for(message.DESCRIPTOR)
        self._depth += 1
        if self._depth > self.deepest:
            self.deepest = self._depth
        if self._depth > MAX_DEPTH:
            self._report(path, node, f"nested deeper than {MAX_DEPTH} levels", False)
        elif plan.special is not None:
            try:
                plan.special(self, message, node, path)
            except Wrong as wrong:
                self._report(path, node, str(wrong), False)
        elif node.kind != MAP:
            self._report(
                path, node, f"expected a mapping ({short_name(plan.full_name)}), not {node.describe()}", False
            )
        else:
            self.fill_fields(message, plan, node, path)
        self._depth -= 1

    def fill_fields(self, message: Any, plan: Plan, node: Node, path: Path, any_type: bool = False) -> None:
        fields = plan.fields
        seen: dict[str, str] = {}
        oneofs: dict[str, str] = {}
        for key in node.repeated:
            name = fields[key.text].name if key.text in fields else key.text
            self._report((path, name), key, _LAST_COUNTS, True)
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
            before = seen.get(field.name)
            seen[field.name] = name
            if field.oneof:
                other = oneofs.setdefault(field.oneof, field.name)
                if other != field.name or before is not None:
                    self._report(here, key, _twice(field, other, before, name), False)
                    continue
            elif before is not None:
                self._report(here, key, _twice(field, field.name, before, name), True)
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
            items.append(field.default if node.kind == NULL else field.read(node))
        except Wrong as wrong:
            self._report(path, node, str(wrong), False)

    def _fill_map(self, entries: Any, field: _Field, node: Node, path: Path) -> None:
        if node.kind != MAP:
            self._report(path, node, f"expected a mapping, not {node.describe()}", False)
            return
        assert field.key_read is not None
        seen: set[str] = set()
        self._note_repeated(node, path)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._report(path, node, f"nested deeper than {MAX_DEPTH} levels", False)
            self._depth -= 1
            return
        for key, value in node.pairs:
            here = (path, f'["{key.text}"]')
            if key.text in seen:
                self._report(here, key, "given twice", False)
                continue
            seen.add(key.text)
            try:
                name = field.key_read(key.text)
                if field.read is not None:
                    entries[name] = field.default if value.kind == NULL else field.read(value)
                else:
                    entry = entries[name]
                    entry.Clear()
                    if value.kind != NULL or plan_for(field.plan_of).full_name == "google.protobuf.Value":
                        self.fill(entry, value, here)
            except Wrong as wrong:
                self._report(here, value, str(wrong), False)
        self._depth -= 1

    def _note_repeated(self, node: Node, path: Path) -> None:
        for key in node.repeated:
            self._report((path, f'["{key.text}"]'), key, _LAST_COUNTS, True)

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
                        (path, key.text), key, f"a {short_name(name)} has nothing but 'value' here", False
                    )
            value = node.get("value")
            if value is not None and (value.kind != NULL or name == "google.protobuf.Value"):
                self.fill(inner, value, (path, "value"))
        else:
            self.fill_fields(inner, plan, node, path, any_type=True)
        message.type_url = type_node.text
        try:
            message.value = inner.SerializeToString(deterministic=True)
        except EncodeError:
            self._report(path, node, "nested deeper than protobuf can carry", False)

    def fill_struct(self, message: Any, node: Node, path: Path) -> None:
        if node.kind != MAP:
            raise Wrong(f"expected a mapping, not {node.describe()}")
        fields = message.fields
        seen: set[str] = set()
        self._note_repeated(node, path)
        for key, value in node.pairs:
            here = (path, f'["{key.text}"]')
            if key.text in seen:
                self._report(here, key, "given twice", False)
                continue
            seen.add(key.text)
            self.fill(fields[key.text], value, here)

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
            message.number_value = read_float(node)
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
        message.seconds, message.nanos = read_duration(node)

    def fill_timestamp(self, message: Any, node: Node, path: Path) -> None:
        if node.kind == MAP:
            self.fill_fields(message, plan_for(message.DESCRIPTOR), node, path)
            return
        message.seconds, message.nanos = read_timestamp(node)

    def fill_field_mask(self, message: Any, node: Node, path: Path) -> None:
        if node.kind == MAP:
            self.fill_fields(message, plan_for(message.DESCRIPTOR), node, path)
            return
        if node.kind != STRING:
            raise Wrong(f"expected field paths in one string, not {node.describe()}")
        for name in filter(None, node.text.split(",")):
            message.paths.append(re.sub("[A-Z]", lambda upper: "_" + upper.group().lower(), name))


_LAST_COUNTS: Final = "given twice; the last one counts"


def _twice(field: _Field, other: str, before: str | None, name: str) -> str:
    if other != field.name:
        return f"only one of {other!r} and {field.name!r} may be set (oneof {field.oneof})"
    if before == name:
        return "given twice"
    return f"given twice, as {before!r} and as {name!r}"


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

# -- from Struct -----------------------------------------------------------------------------------


def from_struct(struct: Any, full_name: str, where: Any) -> Any | None:
    """The message of type ``full_name`` that a Struct describes; None after a problem."""
    message = message_class(full_name)()
    failed = False

    def report(path: Path, node: Node, text: str, warning: bool) -> None:
        nonlocal failed
        place = where
        inner = path_text(path)
        if inner:
            place = where.field(inner)
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
