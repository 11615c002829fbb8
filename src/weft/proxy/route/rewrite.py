"""What a route changes of a request's path and authority before it is forwarded or redirected."""

import re
from typing import Any, Final

from weft.api.problems import Where
from weft.http.headers import FORWARDED_OTHER, Field
from weft.http.message import Request
from weft.http.path import without_query
from weft.proxy.clock import Clock
from weft.proxy.observe.formatter import Format, compile_format
from weft.proxy.observe.stream_info import StreamInfo
from weft.proxy.regex import Regex, Substitution, compile_substitution
from weft.proxy.route.match import PathMatch
from weft.proxy.route.supported import has
from weft.proxy.route.template import TemplateRewrite, template_rewrite

_NOT_IN_A_TARGET: Final = re.compile(rb"[\x00-\x20\x7f]")
_NOT_IN_A_HOST: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""Our own patterns, of one class each."""


class PathRewrite:
    """From the path as it is to the path as it will be, query kept; b"" for no change."""

    __slots__ = ()

    def rewritten(self, path: bytes, info: StreamInfo | None, clock: Clock | None) -> bytes:
        return b""

    def describe(self) -> str:
        return "as it is"


class PrefixRewrite(PathRewrite):
    """What the route matched is replaced: the prefix, or the whole path where there is none."""

    __slots__ = ("match", "text")

    def __init__(self, match: PathMatch, text: bytes) -> None:
        self.match: PathMatch = match
        self.text: bytes = text

    def rewritten(self, path: bytes, info: StreamInfo | None, clock: Clock | None) -> bytes:
        size = self.match.matched(path)
        return b"" if size < 0 else self.text + path[size:]

    def describe(self) -> str:
        return f"prefix replaced by {self.text.decode('utf-8', 'replace')}"


class RegexRewrite(PathRewrite):
    __slots__ = ("regex", "substitution")

    def __init__(self, regex: Regex, substitution: Substitution) -> None:
        self.regex: Regex = regex
        self.substitution: Substitution = substitution

    def rewritten(self, path: bytes, info: StreamInfo | None, clock: Clock | None) -> bytes:
        bare = without_query(path)
        made = self.regex.replace_all(bare, self.substitution)
        return made + path[len(bare) :] if made else b""

    def describe(self) -> str:
        return f"/{self.regex.pattern}/ replaced by {self.substitution.text}"


class FromTemplate(PathRewrite):
    __slots__ = ("template",)

    def __init__(self, template: TemplateRewrite) -> None:
        self.template: TemplateRewrite = template

    def rewritten(self, path: bytes, info: StreamInfo | None, clock: Clock | None) -> bytes:
        bare = without_query(path)
        made = self.template.written(bare)
        return made + path[len(bare) :] if made else b""

    def describe(self) -> str:
        return f"as {self.template.text}"


class FormatRewrite(PathRewrite):
    """``path_rewrite``: the whole path from a format string; an empty outcome changes nothing."""

    __slots__ = ("format", "text")

    def __init__(self, format: Format, text: str) -> None:
        self.format: Format = format
        self.text: str = text

    def rewritten(self, path: bytes, info: StreamInfo | None, clock: Clock | None) -> bytes:
        made = formatted(self.format, info, clock)
        return made + path[len(without_query(path)) :] if made else b""

    def describe(self) -> str:
        return f"formatted as {self.text}"


class HostRewrite:
    """A new authority, or None to leave it.  This one leaves it."""

    __slots__ = ()

    def host(self, request: Request, info: StreamInfo | None, clock: Clock | None) -> bytes | None:
        return None

    def describe(self) -> str:
        return "as it is"


class LiteralHost(HostRewrite):
    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text: bytes = text

    def host(self, request: Request, info: StreamInfo | None, clock: Clock | None) -> bytes | None:
        return self.text

    def describe(self) -> str:
        return self.text.decode("utf-8", "replace")


class HostFromHeader(HostRewrite):
    __slots__ = ("name",)

    def __init__(self, name: bytes) -> None:
        self.name: bytes = name

    def host(self, request: Request, info: StreamInfo | None, clock: Clock | None) -> bytes | None:
        return request.header(self.name) or None

    def describe(self) -> str:
        return f"the value of header {self.name.decode('latin-1')}"


class HostFromPath(HostRewrite):
    __slots__ = ("regex", "substitution")

    def __init__(self, regex: Regex, substitution: Substitution) -> None:
        self.regex: Regex = regex
        self.substitution: Substitution = substitution

    def host(self, request: Request, info: StreamInfo | None, clock: Clock | None) -> bytes | None:
        return self.regex.replace_all(without_query(request.path), self.substitution)

    def describe(self) -> str:
        return f"the path, /{self.regex.pattern}/ replaced by {self.substitution.text}"


class FormattedHost(HostRewrite):
    __slots__ = ("format", "text")

    def __init__(self, format: Format, text: str) -> None:
        self.format: Format = format
        self.text: str = text

    def host(self, request: Request, info: StreamInfo | None, clock: Clock | None) -> bytes | None:
        return formatted(self.format, info, clock) or None

    def describe(self) -> str:
        return f"formatted as {self.text}"


def formatted(format: Format, info: StreamInfo | None, clock: Clock | None) -> bytes:
    """The text of a format; empty where it has commands and nobody lent what they read."""
    if format.literal is not None:
        return format.literal
    if info is None or clock is None:
        return b""
    return format.bytes(info, clock)


def sound_target(path: bytes) -> bool:
    """May ``path`` stand in a request line?  Rewrites can make anything of it."""
    return path.startswith((b"/", b"*")) and _NOT_IN_A_TARGET.search(path) is None


def sound_host(host: bytes) -> bool:
    return _NOT_IN_A_HOST.search(host) is None


def rewrite_path(
    request: Request,
    rewrite: PathRewrite,
    tell: bool,
    info: StreamInfo | None,
    clock: Clock | None,
) -> None:
    """Put the rewritten path in place; ``tell`` the old one in ``x-envoy-original-path``.

    A rewrite that leaves nothing is not done, as in Envoy.
    """
    old = request.path
    new = rewrite.rewritten(old, info, clock)
    if not new:
        return
    if tell:
        request.headers.put(Field(b"x-envoy-original-path", old))
    request.path = new


def replace_authority(request: Request, host: bytes, append_forwarded_host: bool, tell: bool) -> None:
    """Put a new authority in place; ``tell`` the old one in ``x-envoy-original-host``.

    With ``append_forwarded_host`` it goes to ``x-forwarded-host`` too, unless it is there last (as it
    stands behind the comma, as Envoy compares it).
    """
    old = request.authority
    headers = request.headers
    if tell:
        headers.put(Field(b"x-envoy-original-host", old))
    if append_forwarded_host and old:
        forwarded = headers.find(b"x-forwarded-host") if headers.mask & FORWARDED_OTHER else None
        if not forwarded:
            headers.put(Field(b"x-forwarded-host", old))
        elif forwarded.rpartition(b",")[2] != old:
            headers.put(Field(b"x-forwarded-host", forwarded + b"," + old))
    request.authority = host


# -- from configuration ----------------------------------------------------------------------------


def path_rewrite(message: Any, match: PathMatch, where: Where) -> PathRewrite | None:
    """Of a RouteAction or a RedirectAction: whichever of its rewrites is set."""
    if message.prefix_rewrite:
        if match.template is not None:
            where.field("prefix_rewrite").problem("Cannot use prefix_rewrite with matcher extension")
        return PrefixRewrite(match, message.prefix_rewrite.encode())
    if message.HasField("regex_rewrite"):
        compiled = compile_substitution(message.regex_rewrite, where.field("regex_rewrite"))
        return None if compiled is None else RegexRewrite(*compiled)
    if has(message, "path_rewrite_policy"):
        template = template_rewrite(
            message.path_rewrite_policy, match.template, where.field("path_rewrite_policy")
        )
        return None if template is None else FromTemplate(template)
    text: str = getattr(message, "path_rewrite", "")
    if text:
        return FormatRewrite(compile_format(text, where.field("path_rewrite"), omit_empty=True), text)
    return None


def host_rewrite(message: Any, where: Where) -> HostRewrite | None:
    """The ``host_rewrite_specifier`` of a RouteAction, but for ``auto_host_rewrite``."""
    kind = message.WhichOneof("host_rewrite_specifier")
    if kind == "host_rewrite_literal" and message.host_rewrite_literal:
        return LiteralHost(message.host_rewrite_literal.encode())
    if kind == "host_rewrite_header" and message.host_rewrite_header:
        return HostFromHeader(message.host_rewrite_header.lower().encode())
    if kind == "host_rewrite_path_regex":
        compiled = compile_substitution(message.host_rewrite_path_regex, where.field(kind))
        return None if compiled is None else HostFromPath(*compiled)
    if kind == "host_rewrite" and message.host_rewrite:
        return FormattedHost(compile_format(message.host_rewrite, where.field(kind)), message.host_rewrite)
    return None
