"""Regular expressions, by RE2 as in Envoy, and of bytes as in Envoy: ``.`` is one byte, not one character.

RE2 takes time linear in the input whatever the pattern is.  ``re`` backtracks, and must never see
an operator's pattern together with request data.
"""

from typing import Any, Final

from re2 import _re2

from weft.api.problems import Where

_OPTIONS: Final = _re2.RE2.Options()
_OPTIONS.encoding = _re2.RE2.Options.Encoding.LATIN1  # what peers send need not be UTF-8
_OPTIONS.log_errors = False  # a wrong pattern is a problem with a place, not a line on stderr
_BOTH: Final = _re2.RE2.Anchor.ANCHOR_BOTH
_UNANCHORED: Final = _re2.RE2.Anchor.UNANCHORED


DEFAULT_PROGRAM_SIZE: Final = 100
"""Envoy's."""


class RegexLimits:
    """The size of program a pattern may compile to (Envoy's ``re2.max_program_size.error_level``)."""

    def __init__(self) -> None:
        self.max_program_size: int = DEFAULT_PROGRAM_SIZE


REGEX_LIMITS: Final = RegexLimits()
"""Set from the bootstrap's runtime before anything that has patterns is read."""


class Regex:
    """A compiled RE2 pattern.  Raises ValueError with RE2's reason when the pattern is wrong."""

    __slots__ = ("_match", "groups", "pattern")

    def __init__(self, pattern: str, *, limited: bool = True, own_limit: int | None = None) -> None:
        """``limited``: a program over the limit is refused too (for patterns that operators write).

        ``own_limit`` takes the place of that limit.
        """
        compiled = _re2.RE2(pattern.encode(), _OPTIONS)
        if not compiled.ok():
            raise ValueError(bytes(compiled.error()).decode("utf-8", "replace"))
        size = int(compiled.ProgramSize())
        if own_limit is not None:
            if size > own_limit:
                raise ValueError(
                    f"regex '{pattern}' RE2 program size of {size} > max program size of {own_limit}. "
                    "Increase configured max program size if necessary."
                )
        elif limited and size > REGEX_LIMITS.max_program_size:
            raise ValueError(
                f"regex '{pattern}' RE2 program size of {size} > max program size of "
                f"{REGEX_LIMITS.max_program_size} set for the error level threshold; raise the runtime value "
                "re2.max_program_size.error_level if the pattern is meant"
            )
        self.pattern: str = pattern
        self.groups: int = int(compiled.NumberOfCapturingGroups())
        self._match: Any = compiled.Match

    def matches(self, value: bytes) -> bool:
        """Does the pattern match all of ``value``?"""
        return bool(self._match(_BOTH, value, 0, len(value))[0][0] >= 0)

    def match_groups(self, value: bytes) -> list[bytes] | None:
        """The match of all of ``value`` and its groups; None when it does not match."""
        found = self._match(_BOTH, value, 0, len(value))
        if found[0][0] < 0:
            return None
        return [value[start:stop] if start >= 0 else b"" for start, stop in found]

    def replace_all(self, value: bytes, substitution: "Substitution") -> bytes:
        """Every match replaced, from left to right, as RE2's ``GlobalReplace`` does it."""
        if substitution.highest > self.groups:
            return value
        out: list[bytes] = []
        at = 0
        last_end = -1
        replaced = False
        end = len(value)
        while at <= end:
            found = self._match(_UNANCHORED, value, at, end)
            start: int = found[0][0]
            stop: int = found[0][1]
            if start < 0:
                break
            out.append(value[at:start])
            if start == stop and start == last_end:
                # An empty match right behind the last one: step over one byte.
                out.append(value[start : start + 1])
                at = start + 1
                continue
            substitution.write(out, value, found)
            at = last_end = stop
            replaced = True
        if not replaced:
            return value
        out.append(value[at:])
        return b"".join(out)


class Substitution:
    """A replacement with ``\\1`` for groups, ``\\0`` for the match and ``\\\\`` for a backslash."""

    __slots__ = ("_parts", "highest", "text")

    def __init__(self, text: str) -> None:
        self.text: str = text
        self.highest: int = 0
        """The highest group it names."""
        raw = text.encode()
        parts: list[tuple[int, bytes]] = []
        at = 0
        while at < len(raw):
            slash = raw.find(b"\\", at)
            if slash < 0:
                parts.append((-1, raw[at:]))
                break
            if slash > at:
                parts.append((-1, raw[at:slash]))
            following = raw[slash + 1 : slash + 2]
            if following.isdigit():
                parts.append((int(following), b""))
                self.highest = max(self.highest, int(following))
            elif following == b"\\":
                parts.append((-1, b"\\"))
            else:
                break  # RE2 gives up on the rest too
            at = slash + 2
        self._parts: tuple[tuple[int, bytes], ...] = tuple(parts)

    def write(self, out: list[bytes], value: bytes, groups: list[tuple[int, int]]) -> None:
        for group, literal in self._parts:
            if group < 0:
                out.append(literal)
            else:
                start, stop = groups[group]
                if start >= 0:
                    out.append(value[start:stop])


def compile_regex(message: Any, where: Where) -> Regex | None:
    """From an ``envoy.type.matcher.v3.RegexMatcher``; None after a problem."""
    limit: int | None = None
    if message.HasField("google_re2"):
        engine = message.google_re2  # xds.type.matcher has one without fields
        if "max_program_size" in engine.DESCRIPTOR.fields_by_name and engine.HasField("max_program_size"):
            limit = engine.max_program_size.value
    try:
        return Regex(message.regex, own_limit=limit)
    except ValueError as error:
        where.field("regex").problem(str(error))
        return None


def compile_substitution(message: Any, where: Where) -> tuple[Regex, Substitution] | None:
    """From an ``envoy.type.matcher.v3.RegexMatchAndSubstitute``; None after a problem."""
    compiled = compile_regex(message.pattern, where.field("pattern"))
    return None if compiled is None else (compiled, Substitution(message.substitution))
