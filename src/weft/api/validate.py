"""The validation rules of the schema (protoc-gen-validate), and what Envoy checks beside them.

Every message type is compiled once into a list of checks.  A check is a function from a value to
the text of a problem, or None.  Walking goes into every ``Any`` whose type the schema knows, and
into ``TypedStruct`` as the type it stands for.  Beside the rules: durations must not be negative
nor overflow nanoseconds, and fields or enum values on their way out give a warning, or are refused
when Envoy refuses them by default.
"""

import functools
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import DecodeError

from weft.api.constraints import Check, duration_problem, either, size_check, value_check
from weft.api.paths import Path, path_text
from weft.api.problems import Problems, Where
from weft.api.schema import find_type, is_map, message_class, rules
from weft.api.unpack import TYPED_STRUCTS, bare_name, struct_message

_ONE: Final = 0
_MANY: Final = 1
_MAP: Final = 2


class Checker:
    """Walks messages; problems go to ``problems`` with their paths."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems

    def check(self, message: Any, path: Path = None) -> None:
        rule = rule_for(message.DESCRIPTOR)
        if rule.special is not None:
            rule.special(self, message, path)
            return
        for name, check in rule.scalars:
            text = check(getattr(message, name))
            if text is not None:
                self.problem((path, name), text)
        for name, check in rule.optional_scalars:
            if message.HasField(name):
                text = check(getattr(message, name))
                if text is not None:
                    self.problem((path, name), text)
        for name in rule.required:
            if not message.HasField(name):
                self.problem((path, name), "is required")
        for name, members in rule.oneofs:
            if message.WhichOneof(name) is None:
                self.problem(path, f"one of {members} is required")
        if rule.old:
            self._check_old(message, rule, path)
        children = rule.children
        if len(children) > 8:
            for field, value in message.ListFields():
                child = children.get(field.name)
                if child is not None:
                    self._check_child(message, value, child, path)
            for child in rule.always:
                self._check_child(message, getattr(message, child.name), child, path)
            return
        for child in children.values():
            if child.shape == _ONE:
                if message.HasField(child.name):
                    self._check_child(message, getattr(message, child.name), child, path)
            else:
                self._check_child(message, getattr(message, child.name), child, path)

    def _check_child(self, message: Any, value: Any, child: "_Child", path: Path) -> None:
        here = (path, child.name)
        if child.check is not None:
            text = child.check(value)
            if text is not None:
                self.problem(here, text)
        if child.shape == _ONE:
            if child.enter:
                self.check(value, here)
            return
        if child.shape == _MANY:
            if child.item_check is not None:
                for number, item in enumerate(value):
                    text = child.item_check(item)
                    if text is not None:
                        self.problem((here, f"[{number}]"), text)
            if child.enter:
                for number, item in enumerate(value):
                    self.check(item, (here, f"[{number}]"))
            return
        for key in value:
            if child.key_check is not None:
                text = child.key_check(key)
                if text is not None:
                    self.problem((here, f'["{key}"]'), f"the key {text}")
            if child.item_check is not None:
                text = child.item_check(value[key])
                if text is not None:
                    self.problem((here, f'["{key}"]'), text)
            if child.enter:
                self.check(value[key], (here, f'["{key}"]'))

    def _check_old(self, message: Any, rule: "Rule", path: Path) -> None:
        for field, value in message.ListFields():
            state = rule.old.get(field.name)
            if state is None:
                continue
            if isinstance(state, dict):
                for number, item in enumerate(value) if field.is_repeated else ((0, value),):
                    found = state.get(item)
                    if found is not None:
                        here = (path, field.name)
                        self._old((here, f"[{number}]") if field.is_repeated else here, *found)
            else:
                self._old((path, field.name), state, "this field")

    def _old(self, path: Path, state: str, what: str) -> None:
        if state == "disallowed":
            self.problem(path, f"{what} is deprecated and no longer allowed")
        else:
            self._problems.add(path_text(path), f"{what} is deprecated", warning=True)

    def problem(self, path: Path, text: str) -> None:
        self._problems.add(path_text(path), text)

    def check_any(self, message: Any, path: Path) -> None:
        name = bare_name(message.type_url)
        if not name or find_type(name) is None:
            return
        try:
            inner = message_class(name).FromString(message.value)
        except DecodeError:
            self.problem(path, f"the bytes are not a {name}")
            return
        if name in TYPED_STRUCTS:
            where = Where(path_text(path), self._problems)
            unpacked = struct_message(inner, where)
            if unpacked is not None and unpacked.DESCRIPTOR.full_name not in TYPED_STRUCTS:
                self.check(unpacked, (path, "value"))
            return
        self.check(inner, path)

    def check_duration(self, message: Any, path: Path) -> None:
        text = duration_problem(message)
        if text is not None:
            self.problem(path, text)


class _Child:
    """A field whose value needs more than a look: a message, a list or a map."""

    __slots__ = ("check", "enter", "item_check", "key_check", "name", "shape")

    def __init__(self, name: str, shape: int) -> None:
        self.name = name
        self.shape = shape
        self.check: Check | None = None
        """Of the whole value."""
        self.item_check: Check | None = None
        self.key_check: Check | None = None
        self.enter = False
        """Whether the message, or each message in it, has checks of its own."""


class Rule:
    """The checks of one message type."""

    __slots__ = ("always", "children", "old", "oneofs", "optional_scalars", "required", "scalars", "special")

    def __init__(self, descriptor: Any) -> None:
        self.special = _SPECIAL.get(descriptor.full_name)
        self.scalars: list[tuple[str, Check]] = []
        self.optional_scalars: list[tuple[str, Check]] = []
        """Those that are only looked at when set."""
        self.required: list[str] = []
        self.oneofs: list[tuple[str, str]] = []
        self.children: dict[str, _Child] = {}
        self.always: list[_Child] = []
        """Lists and maps that must be looked at even when they are empty."""
        self.old: dict[str, Any] = {}
        """Field name -> "deprecated" or "disallowed"; or for enums number -> (state, what)."""
        table = rules(descriptor)
        if self.special is not None or "off" in table:
            return
        entries = table.get("fields", {})
        for name in table.get("oneofs", ()):
            members = [field.name for field in descriptor.oneofs_by_name[name].fields]
            self.oneofs.append((name, either(members)))
        for field in descriptor.fields:
            entry = entries.get(field.name, {})
            self._add(field, entry.get("rules", {}))
            if "disallowed" in entry or "deprecated" in entry:
                self.old[field.name] = "disallowed" if "disallowed" in entry else "deprecated"
            elif field.enum_type is not None:
                values = rules(field.enum_type).get("values")
                if values:
                    self.old[field.name] = {
                        field.enum_type.values_by_name[name].number: (state, name)
                        for name, state in values.items()
                    }

    def _add(self, field: Any, rule: dict[str, Any]) -> None:
        name = field.name
        message_type = field.message_type
        if field.is_repeated:
            child = _Child(name, _MAP if is_map(field) else _MANY)
            if child.shape == _MAP:
                value = message_type.fields_by_name["value"]
                bounds = rule.get("map", {})
                child.check = size_check(bounds.get("min_pairs"), bounds.get("max_pairs"), False, "entries")
                child.key_check = value_check(message_type.fields_by_name["key"], bounds.get("keys", {}))
                child.item_check = value_check(value, bounds.get("values", {}))
                inner_rule = bounds.get("values", {})
            else:
                value = field
                bounds = rule.get("repeated", {})
                child.check = size_check(
                    bounds.get("min_items"), bounds.get("max_items"), bounds.get("unique", False), "elements"
                )
                child.item_check = value_check(field, bounds.get("items", {}))
                inner_rule = bounds.get("items", {})
            inner = value.message_type
            child.enter = (
                inner is not None and not inner_rule.get("message", {}).get("skip") and has_checks(inner)
            )
            if child.check or child.item_check or child.key_check or child.enter:
                self.children[name] = child
                if child.check is not None:
                    self.always.append(child)
            return
        if message_type is None:
            check = value_check(field, rule)
            if check is not None:
                (self.optional_scalars if field.has_presence else self.scalars).append((name, check))
            return
        # A member of a oneof is only looked at when it is the one that is set.
        if field.containing_oneof is None and any(
            part.get("required") for part in rule.values() if isinstance(part, dict)
        ):
            self.required.append(name)
        child = _Child(name, _ONE)
        child.check = value_check(field, rule)
        # A duration that has rules is checked whole by them.
        child.enter = (
            not rule.get("message", {}).get("skip")
            and has_checks(message_type)
            and not (message_type.full_name == _DURATION and child.check is not None)
        )
        if child.check or child.enter:
            self.children[name] = child


@functools.cache
def rule_for(descriptor: Any) -> Rule:
    return Rule(descriptor)


@functools.cache
def has_checks(descriptor: Any) -> bool:
    """Whether a message of this type, or one inside of it, can have a problem."""
    seen: set[str] = set()
    open_types = [descriptor]
    while open_types:
        current = open_types.pop()
        if current.full_name in seen:
            continue
        seen.add(current.full_name)
        if current.full_name in _SPECIAL or rules(current):
            return True
        for field in current.fields:
            if field.enum_type is not None and rules(field.enum_type):
                return True
            if field.message_type is not None:
                open_types.append(field.message_type)
    return False


_DURATION: Final = "google.protobuf.Duration"
_SPECIAL: Final[dict[str, Callable[[Checker, Any, Path], None]]] = {
    "google.protobuf.Any": Checker.check_any,
    _DURATION: Checker.check_duration,
}
