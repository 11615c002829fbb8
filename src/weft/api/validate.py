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

TRIED: Final = 64
"""Messages of a type, all different, after which no more are remembered."""

_ONE: Final = 0
_MANY: Final = 1
_MAP: Final = 2


class _Passed:
    """Messages of one type that nothing was found in, serialized.  Large files repeat themselves."""

    def __init__(self) -> None:
        self.messages: set[bytes] = set()
        self.asked: int = 0
        self.met: bool = False
        """One of them came twice."""


class Checker:
    """Walks messages; problems go to ``problems`` with their paths.

    ``runtime`` has the keys of the bootstrap's own layers that are booleans (see :func:`features`).
    """

    def __init__(self, problems: Problems, runtime: dict[str, bool] | None = None) -> None:
        self._problems = problems
        self._runtime = runtime or {}
        self._passed: dict[Rule, _Passed] = {}

    def check(self, message: Any, path: Path = None) -> None:
        rule = rule_for(message.DESCRIPTOR)
        if rule.special is not None:
            rule.special(self, message, path)
            return
        if not rule.children:
            self._check_fields(message, rule, path)
            return
        kept = self._passed.get(rule)
        if kept is None:
            kept = self._passed[rule] = _Passed()
        if kept.asked > TRIED and not kept.met:
            # All different, so far: remembering them only takes time.
            self._check_fields(message, rule, path)
            return
        kept.asked += 1
        try:
            data = message.SerializeToString()
        except EncodeError:
            data = b""  # nested too deep to be written
        if data in kept.messages:
            kept.met = True
            return
        found = len(self._problems.items)
        self._check_fields(message, rule, path)
        if data and len(data) <= LONGEST_KEPT and len(self._problems.items) == found:
            kept.messages.add(data)

    def _check_fields(self, message: Any, rule: "Rule", path: Path) -> None:
        """What has to be set, then one pass over what is."""
        for name, due in rule.due_scalars:
            if not getattr(message, name):
                self.problem((path, name), due)
        for name in rule.required:
            if not message.HasField(name):
                self.problem((path, name), "is required")
        for name, members in rule.oneofs:
            if message.WhichOneof(name) is None:
                self.problem(path, f"one of {members} is required")
        looks = rule.looks
        for field, value in message.ListFields():
            look = looks.get(field.number)
            if look is None:
                continue
            if look.scalar is not None:
                text = look.scalar(value)
                if text is not None:
                    self.problem((path, look.name), text)
            if look.child is not None:
                self._check_child(message, value, look.child, path)
            if look.old:
                self._old((path, look.name), look.old, "this field", field.full_name)
            if look.old_values is not None:
                self._check_old_values(field, value, look.old_values, path)
        for child in rule.always:
            value = getattr(message, child.name)
            if not value:
                self._check_child(message, value, child, path)
        for name, full_name in rule.old_defaults:
            if getattr(message, name) == 0 and not self._allowed("disallowed", full_name):
                value_name = full_name.rpartition(".")[2]
                self.problem((path, name), f"must be set: its default {value_name} is no longer allowed")

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

    def _check_old_values(
        self, field: Any, value: Any, old: dict[int, tuple[str, str, str]], path: Path
    ) -> None:
        here = (path, field.name)
        for number, item in enumerate(value if field.is_repeated else (value,)):
            found = old.get(item)
            if found is not None:
                self._old((here, f"[{number}]") if field.is_repeated else here, *found)

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


class _Look:
    """What there is to look at in one field."""

    __slots__ = ("child", "name", "old", "old_values", "scalar")

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.scalar: Check | None = None
        self.child: _Child | None = None
        self.old: str = ""
        """On its way out: "deprecated" or "disallowed"."""
        self.old_values: dict[int, tuple[str, str, str]] | None = None
        """Values of an enum that are: number -> (state, what, full name)."""


class Rule:
    """The checks of one message type."""

    __slots__ = (
        "always",
        "children",
        "due_scalars",
        "looks",
        "old_defaults",
        "oneofs",
        "required",
        "special",
    )

    def __init__(self, descriptor: Any) -> None:
        self.special = _SPECIAL.get(descriptor.full_name)
        self.looks: dict[int, _Look] = {}
        """By field number: what there is to look at when the field is set."""
        self.due_scalars: list[tuple[str, str]] = []
        """Scalars whose default is a problem, and that problem."""
        self.required: list[str] = []
        self.oneofs: list[tuple[str, str]] = []
        self.children: dict[str, _Child] = {}
        self.always: list[_Child] = []
        """Lists and maps that must be looked at even when they are empty."""
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
                self._look(field).old = "disallowed" if "disallowed" in entry else "deprecated"
            if field.enum_type is not None:
                self._add_old_values(field)

    def _look(self, field: Any) -> "_Look":
        look = self.looks.get(field.number)
        if look is None:
            look = self.looks[field.number] = _Look(field.name)
        return look

    def _add_old_values(self, field: Any) -> None:
        enum = field.enum_type
        scope = enum.full_name.rpartition(".")[0]
        states = rules(enum).get("values", {})
        if states:
            self._look(field).old_values = {
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
                self._add_child(field, child)
                if child.check is not None:
                    self.always.append(child)
            return
        if message_type is None:
            check = value_check(field, rule)
            if check is not None:
                self._look(field).scalar = check
                text = None if field.has_presence else check(field.default_value)
                if text is not None:
                    self.due_scalars.append((name, text))
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
            self._add_child(field, child)

    def _add_child(self, field: Any, child: _Child) -> None:
        self.children[field.name] = child
        self._look(field).child = child


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
