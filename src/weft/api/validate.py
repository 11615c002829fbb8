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

from google.protobuf.message import DecodeError, EncodeError

from weft.api.constraints import Check, duration_problem, either, size_check, value_check
from weft.api.paths import Path, path_text
from weft.api.problems import Problems, Where
from weft.api.schema import find_type, is_map, message_class, rules
from weft.api.unpack import TYPED_STRUCTS, bare_name, struct_message

LONGEST_KEPT: Final = 1024
"""Bytes of a message that is remembered to be right."""

_ONE: Final = 0
_MANY: Final = 1
_MAP: Final = 2


class Checker:
    """Walks messages; problems go to ``problems`` with their paths.

    ``runtime`` has the keys of the bootstrap's own layers that are booleans (see :func:`features`).
    """

    def __init__(self, problems: Problems, runtime: dict[str, bool] | None = None) -> None:
        self._problems = problems
        self._runtime = runtime or {}
        self._passed: dict[Rule, set[bytes]] = {}
        """By type: messages that nothing was found in, serialized.  Large files repeat themselves."""

    def check(self, message: Any, path: Path = None) -> None:
        rule = rule_for(message.DESCRIPTOR)
        if rule.special is not None:
            rule.special(self, message, path)
            return
        if not rule.children:
            self._check_fields(message, rule, path)
            return
        passed = self._passed.setdefault(rule, set())
        try:
            data = message.SerializeToString()
        except EncodeError:
            data = b""  # nested too deep to be written
        if data in passed:
            return
        found = len(self._problems.items)
        self._check_fields(message, rule, path)
        if data and len(data) <= LONGEST_KEPT and len(self._problems.items) == found:
            passed.add(data)

    def _check_fields(self, message: Any, rule: "Rule", path: Path) -> None:
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
        if rule.old or rule.old_values:
            self._check_old(message, rule, path)
        children = rule.children
        if len(children) > 8:
            for field, value in message.ListFields():
                child = children.get(field.name)
                if child is not None:
                    self._check_child(message, value, child, path)
            for child in rule.always:
                value = getattr(message, child.name)
                if not value:
                    self._check_child(message, value, child, path)
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
            if state is not None:
                self._old((path, field.name), state, "this field", field.full_name)
            values = rule.old_values.get(field.name)
            if values is None:
                continue
            for number, item in enumerate(value if field.is_repeated else (value,)):
                found = values.get(item)
                if found is not None:
                    here = (path, field.name)
                    self._old((here, f"[{number}]") if field.is_repeated else here, *found)
        for name, full_name in rule.old_defaults:
            if getattr(message, name) == 0 and not self._allowed("disallowed", full_name):
                value_name = full_name.rpartition(".")[2]
                self.problem((path, name), f"must be set: its default {value_name} is no longer allowed")

    def _old(self, path: Path, state: str, what: str, full_name: str) -> None:
        if self._allowed(state, full_name):
            self._problems.add(path_text(path), f"{what} is deprecated", warning=True)
        else:
            self.problem(path, f"{what} is deprecated and no longer allowed")

    def _allowed(self, state: str, full_name: str) -> bool:
        """Runtime keys may allow what is refused by default, and refuse what is allowed."""
        asked = self._runtime.get(f"envoy.deprecated_features:{full_name}")
        if asked is not None:
            return asked
        return state != "disallowed" or self._runtime.get(
            "envoy.features.enable_all_deprecated_features", False
        )

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

    __slots__ = (
        "always",
        "children",
        "old",
        "old_defaults",
        "old_values",
        "oneofs",
        "optional_scalars",
        "required",
        "scalars",
        "special",
    )

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
        self.old: dict[str, str] = {}
        """Fields on their way out: name -> "deprecated" or "disallowed"."""
        self.old_values: dict[str, dict[int, tuple[str, str, str]]] = {}
        """Enum fields some of whose values are: name -> number -> (state, what, full name)."""
        self.old_defaults: list[tuple[str, str]] = []
        """Enum fields that must be set, as their default is refused: name, full name of the default."""
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
            if field.enum_type is not None:
                self._add_old_values(field)

    def _add_old_values(self, field: Any) -> None:
        enum = field.enum_type
        scope = enum.full_name.rpartition(".")[0]
        states = rules(enum).get("values", {})
        if states:
            self.old_values[field.name] = {
                enum.values_by_name[name].number: (state, f"the value {name}", f"{scope}.{name}")
                for name, state in states.items()
            }
        default = enum.values[0].name
        if states.get(default) == "disallowed" and not field.is_repeated and not field.has_presence:
            self.old_defaults.append((field.name, f"{scope}.{default}"))

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


def features(bootstrap: Any) -> dict[str, bool]:
    """The boolean runtime keys of the bootstrap's static layers; later layers win."""
    found: dict[str, bool] = {}

    def walk(prefix: str, struct: Any) -> None:
        for key, value in struct.fields.items():
            kind = value.WhichOneof("kind")
            if kind == "struct_value":
                walk(f"{prefix}{key}.", value.struct_value)
            elif kind == "bool_value":
                found[prefix + key] = value.bool_value
            elif kind == "string_value" and value.string_value in ("true", "false"):
                found[prefix + key] = value.string_value == "true"

    for layer in bootstrap.layered_runtime.layers:
        walk("", layer.static_layer)
    return found


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
