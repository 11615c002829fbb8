"""The validation rules of the schema (protoc-gen-validate), and what Envoy checks beside them.

Every message type is compiled once into a list of checks.  A check is a function from a value to
the text of a problem, or None.  Walking goes into every ``Any`` whose type the schema knows, and
into ``TypedStruct`` as the type it stands for.  Beside the rules: durations must not be negative
nor overflow nanoseconds, and fields or enum values on their way out give a warning, or are refused
when Envoy refuses them by default.
"""

import functools
import ipaddress
import re
from collections.abc import Callable
from typing import Any, Final

import re2
from google.protobuf.message import DecodeError

from weft.api.convert import Path, path_text
from weft.api.problems import Problems, Where
from weft.api.schema import find_type, is_map, message_class, rules
from weft.api.unpack import TYPED_STRUCTS, bare_name, struct_message

Check = Callable[[Any], str | None]

MAX_DURATION: Final = 9_223_372_036
"""Seconds; from here on nanoseconds overflow 64 bits, and Envoy refuses."""

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
            self.oneofs.append((name, _either(members)))
        for field in descriptor.fields:
            entry = entries.get(field.name, {})
            self._add(field, entry.get("rules", {}))
            if "disallowed" in entry or "deprecated" in entry:
                self.old[field.name] = "disallowed" if "disallowed" in entry else "deprecated"
            elif field.enum_type is not None:
                values = rules(field.enum_type).get("values")
                if values:
                    self.old[field.name] = {
                        field.enum_type.values_by_name[name].number: (state, name) for name, state in values.items()
                    }

    def _add(self, field: Any, rule: dict[str, Any]) -> None:
        name = field.name
        message_type = field.message_type
        if field.is_repeated:
            child = _Child(name, _MAP if is_map(field) else _MANY)
            if child.shape == _MAP:
                value = message_type.fields_by_name["value"]
                bounds = rule.get("map", {})
                child.check = _size_check(bounds.get("min_pairs"), bounds.get("max_pairs"), False, "entries")
                child.key_check = value_check(message_type.fields_by_name["key"], bounds.get("keys", {}))
                child.item_check = value_check(value, bounds.get("values", {}))
                inner_rule = bounds.get("values", {})
            else:
                value = field
                bounds = rule.get("repeated", {})
                child.check = _size_check(
                    bounds.get("min_items"), bounds.get("max_items"), bounds.get("unique", False), "elements"
                )
                child.item_check = value_check(field, bounds.get("items", {}))
                inner_rule = bounds.get("items", {})
            inner = value.message_type
            child.enter = inner is not None and not inner_rule.get("message", {}).get("skip") and has_checks(inner)
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
_UNWRAPPED: Final = {
    f"google.protobuf.{kind}Value": kind.lower()
    for kind in ("Bool", "Int32", "Int64", "UInt32", "UInt64", "Float", "Double", "String", "Bytes")
}


def duration_problem(message: Any) -> str | None:
    if message.seconds < 0 or message.nanos < 0:
        return "a duration must not be negative"
    if message.seconds >= MAX_DURATION:
        return f"the duration is out of range (less than {MAX_DURATION}s)"
    if message.nanos > 999_999_999:
        return "nanos must be less than 1000000000"
    return None


def value_check(field: Any, rule: dict[str, Any]) -> Check | None:
    """The check of one value of ``field`` by a rule such as ``{"string": {"min_len": 1}}``."""
    for kind, bounds in rule.items():
        if not isinstance(bounds, dict) or kind in ("message", "repeated", "map"):
            continue
        check = _KINDS[kind](field, bounds)
        if check is None:
            return None
        if bounds.get("ignore_empty"):
            check = _unless_empty(check)
        message_type = field.message_type
        if message_type is not None and message_type.full_name in _UNWRAPPED:
            return _unwrap(check)
        return check
    return None


def _unwrap(check: Check) -> Check:
    return lambda wrapper: check(wrapper.value)


def _unless_empty(check: Check) -> Check:
    return lambda value: check(value) if value else None


def _all_of(checks: list[Check]) -> Check | None:
    if not checks:
        return None
    if len(checks) == 1:
        return checks[0]

    def check(value: Any) -> str | None:
        for one in checks:
            text = one(value)
            if text is not None:
                return text
        return None

    return check


def _either(names: list[str]) -> str:
    return ", ".join(names[:-1]) + (" or " if len(names) > 1 else "") + names[-1]


def _shown(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return repr(value) if isinstance(value, str) else str(value)


# -- numbers ---------------------------------------------------------------------------------------


def _bounds_checks(bounds: dict[str, Any], unit: str = "") -> list[Check]:
    """lt, lte, gt, gte, const, in, not_in of ordered values."""
    checks: list[Check] = []
    low, high = bounds.get("gte", bounds.get("gt")), bounds.get("lte", bounds.get("lt"))
    above = _over(bounds, "gt", "gte", unit)
    below = _under(bounds, "lt", "lte", unit)
    if above and below and low is not None and high is not None and low > high:
        # An inverted range: what lies between the two is what is refused.
        def outside(value: Any) -> str | None:
            first = above(value)
            return None if first is None or below(value) is None else f"{first} or {below(value)}"

        checks.append(outside)
    else:
        checks += [check for check in (above, below) if check]
    if "const" in bounds:
        due = bounds["const"]
        checks.append(lambda value: None if value == due else f"must be {_shown(due)}{unit}")
    if "in" in bounds:
        due_set = set(bounds["in"])
        text = f"must be one of {', '.join(map(_shown, bounds['in']))}"
        checks.append(lambda value: None if value in due_set else text)
    if "not_in" in bounds:
        refused = set(bounds["not_in"])
        checks.append(lambda value: f"must not be {_shown(value)}{unit}" if value in refused else None)
    return checks


def _over(bounds: dict[str, Any], strict: str, loose: str, unit: str) -> Check | None:
    if strict in bounds:
        limit = bounds[strict]
        return lambda value: None if value > limit else f"must be greater than {_shown(limit)}{unit}"
    if loose in bounds:
        limit = bounds[loose]
        return lambda value: None if value >= limit else f"must be at least {_shown(limit)}{unit}"
    return None


def _under(bounds: dict[str, Any], strict: str, loose: str, unit: str) -> Check | None:
    if strict in bounds:
        limit = bounds[strict]
        return lambda value: None if value < limit else f"must be less than {_shown(limit)}{unit}"
    if loose in bounds:
        limit = bounds[loose]
        return lambda value: None if value <= limit else f"must be at most {_shown(limit)}{unit}"
    return None


def _number(field: Any, bounds: dict[str, Any]) -> Check | None:
    return _all_of(_bounds_checks(bounds))


def _bool(field: Any, bounds: dict[str, Any]) -> Check | None:
    if "const" not in bounds:
        return None
    due = bounds["const"]
    text = f"must be {'true' if due else 'false'}"
    return lambda value: None if value == due else text


def _enum(field: Any, bounds: dict[str, Any]) -> Check | None:
    checks: list[Check] = []
    enum = field.enum_type
    names = {number: value.name for number, value in enum.values_by_number.items()}
    if bounds.get("defined_only"):
        checks.append(lambda value: None if value in names else f"{value} is no value of {enum.name}")
    if "const" in bounds:
        due = bounds["const"]
        checks.append(lambda value: None if value == due else f"must be {names.get(due, due)}")
    if "in" in bounds:
        due_set = set(bounds["in"])
        text = f"must be one of {', '.join(str(names.get(number, number)) for number in bounds['in'])}"
        checks.append(lambda value: None if value in due_set else text)
    if "not_in" in bounds:
        refused = set(bounds["not_in"])
        checks.append(lambda value: f"must not be {names.get(value, value)}" if value in refused else None)
    return _all_of(checks)


# -- durations, timestamps, Any --------------------------------------------------------------------


def _nanoseconds(message: Any) -> int:
    return int(message.seconds) * 1_000_000_000 + int(message.nanos)


def _duration(field: Any, bounds: dict[str, Any]) -> Check | None:
    in_seconds = {
        key: [_Seconds(item) for item in value] if isinstance(value, list) else _Seconds(value)
        for key, value in bounds.items()
        if key != "required"
    }
    inner = _all_of(_bounds_checks(in_seconds))

    def check(message: Any) -> str | None:
        text = duration_problem(message)
        if text is None and inner is not None:
            text = inner(_nanoseconds(message))
        return text

    return check


class _Seconds(int):
    """Nanoseconds that show themselves as a duration."""

    def __str__(self) -> str:
        whole, part = divmod(int(self), 1_000_000_000)
        return f"{whole}.{part:09}".rstrip("0").rstrip(".") + "s"

    __repr__ = __str__


def _timestamp(field: Any, bounds: dict[str, Any]) -> Check | None:
    checks = _bounds_checks({key: value for key, value in bounds.items() if key in ("const", "lt", "lte", "gt", "gte")})
    inner = _all_of(checks)
    return None if inner is None else lambda message: inner(_nanoseconds(message))


def _any(field: Any, bounds: dict[str, Any]) -> Check | None:
    checks = _bounds_checks({key: value for key, value in bounds.items() if key in ("in", "not_in")})
    inner = _all_of(checks)
    return None if inner is None else lambda message: inner(message.type_url)


# -- strings and bytes -----------------------------------------------------------------------------

_TCHAR: Final = r"0-9A-Za-z!#$%&'*+\-.^_|~`"
_WELL_KNOWN: Final = {
    ("HTTP_HEADER_NAME", True): (rf":?[{_TCHAR},]+", "is no valid header name"),
    ("HTTP_HEADER_VALUE", True): (r"[^\x00-\x08\x0A-\x1F\x7F]*", "is no valid header value"),
    ("HTTP_HEADER_NAME", False): (r"[^\x00\x0A\x0D]*", "must not contain CR, LF or NUL"),
    ("HTTP_HEADER_VALUE", False): (r"[^\x00\x0A\x0D]*", "must not contain CR, LF or NUL"),
}


def _string(field: Any, bounds: dict[str, Any]) -> Check | None:
    checks = _length_checks(bounds, len, "characters", "")
    checks += _length_checks(bounds, lambda value: len(value.encode()), "bytes", "_bytes")
    checks += _text_checks(bounds, str)
    known = bounds.get("well_known_regex")
    if known:
        pattern, text = _WELL_KNOWN[known, bounds.get("strict", True)]
        matches = re.compile(pattern).fullmatch
        checks.append(lambda value: None if matches(value) else text)
    for name, valid in _FORMATS.items():
        if bounds.get(name):
            checks.append(_format_check(name, valid))
    return _all_of(checks)


def _bytes(field: Any, bounds: dict[str, Any]) -> Check | None:
    checks = _length_checks(bounds, len, "bytes", "")
    checks += _text_checks(bounds, lambda text: text.encode("latin-1"))
    return _all_of(checks)


def _length_checks(bounds: dict[str, Any], measure: Callable[[Any], int], unit: str, suffix: str) -> list[Check]:
    exact, least, most = (bounds.get(f"{name}{suffix}") for name in ("len", "min" if suffix else "min_len", "max" if suffix else "max_len"))
    checks: list[Check] = []
    if exact is not None:
        checks.append(lambda value: None if measure(value) == exact else f"must have {exact} {unit}")
    if least == 1:
        checks.append(lambda value: None if value else "must not be empty")
    elif least:
        checks.append(lambda value: None if measure(value) >= least else f"must have at least {least} {unit}")
    if most is not None:
        checks.append(lambda value: None if measure(value) <= most else f"must have at most {most} {unit}")
    return checks


def _text_checks(bounds: dict[str, Any], form: Callable[[str], Any]) -> list[Check]:
    checks: list[Check] = []
    plain = {
        key: [form(item) for item in bounds[key]] if key in ("in", "not_in") else form(bounds[key])
        for key in ("const", "in", "not_in")
        if key in bounds
    }
    checks += _bounds_checks(plain)
    if "pattern" in bounds:
        compiled = re2.compile(bounds["pattern"])
        checks.append(lambda value: None if compiled.search(value) else f"does not match {bounds['pattern']!r}")
    if "prefix" in bounds:
        prefix = form(bounds["prefix"])
        checks.append(lambda value: None if value.startswith(prefix) else f"must start with {_shown(prefix)}")
    if "suffix" in bounds:
        suffix = form(bounds["suffix"])
        checks.append(lambda value: None if value.endswith(suffix) else f"must end with {_shown(suffix)}")
    if "contains" in bounds:
        part = form(bounds["contains"])
        checks.append(lambda value: None if part in value else f"must contain {_shown(part)}")
    if "not_contains" in bounds:
        bad = form(bounds["not_contains"])
        checks.append(lambda value: f"must not contain {_shown(bad)}" if bad in value else None)
    return checks


def _is_ip(value: str, *versions: int) -> bool:
    try:
        return ipaddress.ip_address(value).version in versions
    except ValueError:
        return False


_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")


def _is_hostname(value: str) -> bool:
    return 0 < len(value) <= 253 and all(_LABEL.fullmatch(label) for label in value.removesuffix(".").split("."))


_FORMATS: Final[dict[str, Callable[[str], bool]]] = {
    "ip": lambda value: _is_ip(value, 4, 6),
    "ipv4": lambda value: _is_ip(value, 4),
    "ipv6": lambda value: _is_ip(value, 6),
    "hostname": _is_hostname,
    "address": lambda value: _is_ip(value, 4, 6) or _is_hostname(value),
    "email": lambda value: _is_hostname(value.rpartition("@")[2]) and bool(value.rpartition("@")[0]),
    "uri": lambda value: bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", value)),
    "uri_ref": lambda value: " " not in value,
    "uuid": lambda value: bool(re.fullmatch(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", value)),
}


def _format_check(name: str, valid: Callable[[str], bool]) -> Check:
    return lambda value: None if valid(value) else f"is no valid {name}"


# -- lists and maps --------------------------------------------------------------------------------


def _size_check(least: int | None, most: int | None, unique: bool, unit: str) -> Check | None:
    if not least and most is None and not unique:
        return None

    def check(value: Any) -> str | None:
        size = len(value)
        if least and size < least:
            return "must not be empty" if least == 1 else f"must have at least {least} {unit}"
        if most is not None and size > most:
            return f"must have at most {most} {unit}"
        if unique and len({item if isinstance(item, str | bytes | int | float) else item.SerializeToString() for item in value}) < size:
            return f"{unit} must not repeat"
        return None

    return check


_KINDS: Final[dict[str, Callable[[Any, dict[str, Any]], Check | None]]] = {
    **dict.fromkeys(
        (
            "float", "double", "int32", "int64", "uint32", "uint64", "sint32", "sint64",
            "fixed32", "fixed64", "sfixed32", "sfixed64",
        ),
        _number,
    ),
    "bool": _bool,
    "enum": _enum,
    "string": _string,
    "bytes": _bytes,
    "duration": _duration,
    "timestamp": _timestamp,
    "any": _any,
}  # fmt: skip
