"""Path templates: ``/videos/{id}/{format=**}``, to match a path and to write another.

``*`` is one segment, ``**`` any number of them, ``{name}`` a segment to remember and
``{name=pattern}`` a pattern to remember.  A template becomes one regular expression with a group
per variable; a rewrite is literals and group numbers.  Rules and reasons are those of Envoy's
``uri_template`` matcher and rewriter.
"""

import re
from typing import Any, Final

from weft.api.problems import Where
from weft.api.unpack import type_name, unpack
from weft.proxy.regex import Regex

MOST_VARIABLES: Final = 5
LONGEST_NAME: Final = 16

_CHARACTERS: Final = r"a-zA-Z0-9\-._~%!$&'()+,;:@=*"
_ONE: Final = f"[{_CHARACTERS}]+"
_MANY: Final = f"[{_CHARACTERS}/]*"
_LITERAL: Final = re.compile(f"[{_CHARACTERS}]+")
_NAME: Final = re.compile("[a-zA-Z][a-zA-Z0-9_]*")
_PRINTABLE: Final = re.compile("/[\x21-\x7e]*")


class TemplateError(ValueError):
    """Why a template is none."""


class PathTemplate:
    """A compiled template.  Raises :class:`TemplateError`."""

    def __init__(self, text: str) -> None:
        self.text: str = text
        self.variables: list[str] = []
        self._many = False
        """A ``**`` came by: nothing after it may stand for something unknown."""
        if _PRINTABLE.fullmatch(text) is None:
            raise TemplateError(f'Invalid pattern: "{text}"')
        segments = _segments(text[1:])
        last = len(segments) - 1
        pattern = ""
        for i, segment in enumerate(segments):
            pattern += "/"
            if segment or i != last:
                pattern += self._segment(segment)
        self.regex: Regex = Regex(pattern, limited=False)

    def _segment(self, segment: str) -> str:
        at = segment.find("{")
        if at < 0:
            return self._globs(segment)
        end = segment.find("}", at)
        if end < 0:
            raise TemplateError(f'Unmatched variable bracket in mixed pattern: "{segment}"')
        before, variable, after = segment[:at], segment[at + 1 : end], segment[end + 1 :]
        if after and _LITERAL.fullmatch(after) is None:
            raise TemplateError(f'Invalid suffix literal: "{after}"')
        return (_literal(before) if before else "") + self._variable(variable) + re.escape(after)

    def _globs(self, segment: str) -> str:
        if segment.startswith("**"):
            return self._glob(_MANY) + (_literal(segment[2:]) if segment[2:] else "")
        if segment.startswith("*"):
            return self._glob(_ONE) + (_literal(segment[1:]) if segment[1:] else "")
        return _literal(segment)

    def _glob(self, pattern: str) -> str:
        if self._many:
            raise TemplateError("Glob after text glob.")
        self._many = pattern is _MANY
        return pattern

    def _variable(self, text: str) -> str:
        name, separator, pattern = text.partition("=")
        if len(name) > LONGEST_NAME:
            raise TemplateError(
                f'Invalid variable name length (length of "{name}" should be at least 1 and no more than {LONGEST_NAME})'
            )
        if _NAME.fullmatch(name) is None:
            raise TemplateError(f'Invalid variable name: "{name}"')
        if name in self.variables:
            raise TemplateError(f'Repeated variable name: "{name}"')
        self.variables.append(name)
        if len(self.variables) > MOST_VARIABLES:
            raise TemplateError(f"Exceeded variable count limit ({MOST_VARIABLES})")
        if not separator:
            if self._many:
                raise TemplateError("Implicit variable path glob after text glob.")
            return f"({_ONE})"
        if not pattern:
            raise TemplateError("Empty variable match")
        parts = []
        for part in pattern.split("/"):
            if part.startswith("*") and part not in ("*", "**"):
                raise TemplateError(f'Invalid variable match: "{part[1:]}"')
            parts.append(self._globs(part))
        return f"({'/'.join(parts)})"


def _segments(text: str) -> list[str]:
    """Split at slashes that are not in a variable."""
    found = [""]
    depth = 0
    for character in text:
        if character == "/" and depth == 0:
            found.append("")
            continue
        depth += (character == "{") - (character == "}" and depth > 0)
        found[-1] += character
    return found


def _literal(text: str) -> str:
    if _LITERAL.fullmatch(text) is None:
        raise TemplateError(f'Invalid literal: "{text}"')
    return re.escape(text)


class TemplateRewrite:
    """Writes a path from what a template remembered.  Raises :class:`TemplateError`."""

    def __init__(self, text: str, template: PathTemplate) -> None:
        self.text: str = text
        parts: list[tuple[int, bytes]] = []
        if _PRINTABLE.fullmatch(text) is None or "//" in text:
            raise TemplateError(f"path_rewrite_policy.path_template_rewrite {text} is invalid")
        for piece in re.split(r"(\{[^{}]*\})", text):
            if piece.startswith("{"):
                name = piece[1:-1]
                if _NAME.fullmatch(name) is None:
                    raise TemplateError(f"path_rewrite_policy.path_template_rewrite {text} is invalid")
                if name not in template.variables:
                    raise TemplateError(
                        f"mismatch between variables in path_match_policy {template.text} and path_rewrite_policy {text}"
                    )
                parts.append((template.variables.index(name) + 1, b""))
            elif piece:
                if _LITERAL.fullmatch(piece.replace("/", "") or "a") is None:
                    raise TemplateError(f"path_rewrite_policy.path_template_rewrite {text} is invalid")
                parts.append((0, piece.encode()))
        self._regex: Regex = template.regex
        self._parts: tuple[tuple[int, bytes], ...] = tuple(parts)

    def written(self, bare: bytes) -> bytes:
        """The new path for ``bare`` (no query); b"" when the template does not match it."""
        groups = self._regex.match_groups(bare)
        if groups is None:
            return b""
        return b"".join([groups[number] if number else literal for number, literal in self._parts])


# -- from configuration ----------------------------------------------------------------------------

_MATCH: Final = "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"
_REWRITE: Final = "envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig"


def path_template(extension: Any, where: Where) -> PathTemplate | None:
    """From ``path_match_policy``; None after a problem."""
    where = where.field("typed_config")
    if type_name(extension.typed_config) != _MATCH:
        where.problem(f"not supported yet: path_match_policy '{extension.name}'")
        return None
    message = unpack(extension.typed_config, where)
    if message is None:
        return None
    try:
        return PathTemplate(message.path_template)
    except TemplateError as error:
        where.problem(f"path_match_policy.path_template {message.path_template} is invalid: {error}")
        return None


def template_rewrite(extension: Any, template: PathTemplate | None, where: Where) -> TemplateRewrite | None:
    """From ``path_rewrite_policy``; None after a problem."""
    where = where.field("typed_config")
    if type_name(extension.typed_config) != _REWRITE:
        where.problem(f"not supported yet: path_rewrite_policy '{extension.name}'")
        return None
    message = unpack(extension.typed_config, where)
    if message is None:
        return None
    if template is None:
        where.problem(
            "unable to use envoy.path.rewrite.uri_template.uri_template_rewriter extension without "
            "envoy.path.match.uri_template.uri_template_matcher extension"
        )
        return None
    try:
        return TemplateRewrite(message.path_template_rewrite, template)
    except TemplateError as error:
        where.problem(str(error))
        return None
