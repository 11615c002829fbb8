"""The rules of protoc-gen-validate: from a rule to the check of one value.

A check is a function from a value to the text of a problem, or None.  All kinds of rule that the v3
schema uses are here, and their relatives; :mod:`weft.api.validate` says which values they see.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import Any, Final

import re2
from mypy_extensions import mypyc_attr

Check = Callable[[Any], str | None]

MAX_DURATION: Final = 9_223_372_036
"""Seconds; from here on nanoseconds overflow 64 bits, and Envoy refuses."""

UNWRAPPED: Final = {
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
        if message_type is not None and message_type.full_name in UNWRAPPED:
            return _unwrap(check)
        return check
    return None


def _unwrap(check: Check) -> Check:
    return lambda wrapper: check(wrapper.value)


def _unless_empty(check: Check) -> Check:
    return lambda value: check(value) if value else None


def all_of(checks: list[Check]) -> Check | None:
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


def either(names: list[str]) -> str:
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
    return all_of(_bounds_checks(bounds))


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
    return all_of(checks)


# -- durations, timestamps, Any --------------------------------------------------------------------


def _nanoseconds(message: Any) -> int:
    return int(message.seconds) * 1_000_000_000 + int(message.nanos)


def _duration(field: Any, bounds: dict[str, Any]) -> Check | None:
    in_seconds = {
        key: [_Span(item) for item in value] if isinstance(value, list) else _Span(value)
        for key, value in bounds.items()
        if key != "required"
    }
    inner = all_of(_bounds_checks(in_seconds))

    def check(message: Any) -> str | None:
        text = duration_problem(message)
        if text is None and inner is not None:
            text = inner(_Span(_nanoseconds(message)))
        return text

    return check


@mypyc_attr(native_class=False)
class _Span(int):
    """Nanoseconds that show themselves as a duration."""

    def __str__(self) -> str:
        whole, part = divmod(int(self), 1_000_000_000)
        return f"{whole}.{part:09}".rstrip("0").rstrip(".") + "s"

    def __repr__(self) -> str:
        return str(self)


def _timestamp(field: Any, bounds: dict[str, Any]) -> Check | None:
    checks = _bounds_checks(
        {key: value for key, value in bounds.items() if key in ("const", "lt", "lte", "gt", "gte")}
    )
    inner = all_of(checks)
    return None if inner is None else lambda message: inner(_nanoseconds(message))


def _any(field: Any, bounds: dict[str, Any]) -> Check | None:
    checks = _bounds_checks({key: value for key, value in bounds.items() if key in ("in", "not_in")})
    inner = all_of(checks)
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
    return all_of(checks)


def _bytes(field: Any, bounds: dict[str, Any]) -> Check | None:
    checks = _length_checks(bounds, len, "bytes", "")
    checks += _text_checks(bounds, lambda text: text.encode("latin-1"))
    return all_of(checks)


def _length_checks(
    bounds: dict[str, Any], measure: Callable[[Any], int], unit: str, suffix: str
) -> list[Check]:
    exact, least, most = (
        bounds.get(f"{name}{suffix}")
        for name in ("len", "min" if suffix else "min_len", "max" if suffix else "max_len")
    )
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
    plain: dict[str, Any] = {
        key: [form(item) for item in bounds[key]] if key in ("in", "not_in") else form(bounds[key])
        for key in ("const", "in", "not_in")
        if key in bounds
    }
    checks += _bounds_checks(plain)
    if "pattern" in bounds:
        compiled = re2.compile(bounds["pattern"])
        checks.append(
            lambda value: None if compiled.search(value) else f"does not match {bounds['pattern']!r}"
        )
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
    return 0 < len(value) <= 253 and all(
        _LABEL.fullmatch(label) for label in value.removesuffix(".").split(".")
    )


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


def size_check(least: int | None, most: int | None, unique: bool, unit: str) -> Check | None:
    if not least and most is None and not unique:
        return None

    def check(value: Any) -> str | None:
        size = len(value)
        if least and size < least:
            return "must not be empty" if least == 1 else f"must have at least {least} {unit}"
        if most is not None and size > most:
            return f"must have at most {most} {unit}"
        if (
            unique
            and len(
                {
                    item if isinstance(item, str | bytes | int | float) else item.SerializeToString()
                    for item in value
                }
            )
            < size
        ):
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
