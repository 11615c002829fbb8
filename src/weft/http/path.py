"""One spelling for a request's path, before anything judges it.

``/info/../private``, ``//admin`` and ``/a%2Fb`` are the classic ways around a policy that looks at
paths.  A :class:`PathPolicy` (options of the connection manager) turns the path into one canonical
spelling, once, before routing; what was judged is what is forwarded.

The canonical spelling is that of browsers and so of Envoy: dot segments are resolved, backslashes
are slashes, escapes of unreserved characters (RFC 3986 2.3) are undone, other escapes are kept as
they are, characters that may not stand in a path are escaped, and ``%00`` is refused.  The query is
never touched.
"""

import re
from typing import Final

FORWARD: Final = 0
REJECT: Final = 1
REDIRECT: Final = 2

KEEP: Final = 0
REJECT_ESCAPED: Final = 1
UNESCAPE_AND_REDIRECT: Final = 2
UNESCAPE_AND_FORWARD: Final = 3

_PLAIN: Final = bytes(byte for byte in range(0x21, 0x7F) if byte not in b'"#%<>?\\^`{|}')
"""What may stand in a canonical path as it is (dots and slashes need a look at their neighbours)."""
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")
_PERCENT: Final = 0x25

# These patterns are ours and cannot backtrack, so the standard library's engine is safe here.
_ESCAPED_SLASH: Final = re.compile(rb"%(?:2[fF]|5[cC])")
_DOTS_WITH_PARAMETERS: Final = re.compile(rb"(/\.\.?);[^/]*")
_PARAMETERS: Final = re.compile(rb";[^/]*")
_TO_ESCAPE: Final = re.compile(rb"[^\x21\x24-\x3b\x3d\x3f-\x5b\x5d\x5f\x61-\x7a\x7e]")


class PathPolicy:
    """What the connection manager does to paths.

    ``escaped_slashes`` is one of KEEP, REJECT_ESCAPED, UNESCAPE_AND_REDIRECT, UNESCAPE_AND_FORWARD
    (Envoy's ``path_with_escaped_slashes_action``).
    """

    __slots__ = ("escaped_slashes", "merge", "normalize")

    def __init__(
        self, *, normalize: bool = False, merge_slashes: bool = False, escaped_slashes: int = KEEP
    ) -> None:
        self.normalize: bool = normalize
        self.merge: bool = merge_slashes
        self.escaped_slashes: int = escaped_slashes

    def apply(self, path: bytes) -> tuple[int, bytes]:
        """(FORWARD, REJECT or REDIRECT; the path to go on with, to redirect to, or that was refused).

        A path with a fragment is refused whatever the options are: fragments never travel, and a
        matcher that sees one may be led past a policy (CVE-2021-32779).
        """
        if b"#" in path:
            return REJECT, path
        outcome = FORWARD
        received = path
        if self.escaped_slashes != KEEP and b"%" in path:
            bare, query = _split(path)
            if _ESCAPED_SLASH.search(bare) is not None:
                path = unescape_slashes(bare) + query
                if self.escaped_slashes == REJECT_ESCAPED:
                    return REJECT, path
                if self.escaped_slashes == UNESCAPE_AND_REDIRECT:
                    outcome = REDIRECT
        if self.normalize:
            canonical = normalize(path)
            if canonical is None:
                return REJECT, received
            path = canonical
        if self.merge and b"//" in path:
            path = merge_slashes(path)
        return outcome, path


def without_query(path: bytes) -> bytes:
    """The path alone: neither query nor fragment."""
    at = path.find(b"?")
    if at >= 0:
        path = path[:at]
    at = path.find(b"#")
    return path if at < 0 else path[:at]


def without_parameters(path: bytes) -> bytes:
    """The path alone, without the parameters of its segments: ``/a;v=1/b?q`` -> ``/a/b``."""
    return _PARAMETERS.sub(b"", without_query(path))


def normalize(path: bytes) -> bytes | None:
    """The canonical spelling of ``path`` (query kept); None when it has none."""
    bare, query = _split(path)
    if not bare.translate(None, _PLAIN) and b"/." not in bare and bare.startswith(b"/"):
        return path
    if b";" in bare:
        # Some servers read "..;x" as ".."; a policy that does not could be led past (and so does Envoy).
        bare = _DOTS_WITH_PARAMETERS.sub(rb"\1", bare)
    if b"%00" in bare or b"\0" in bare:
        return None
    if not bare.isascii():
        try:
            bare.decode()
        except UnicodeDecodeError:
            return None
    bare = bare.replace(b"\\", b"/")
    if not bare.startswith(b"/"):
        bare = b"/" + bare
    if b"%" in bare:
        bare = _unescape_unreserved(bare)
    if b"/." in bare:
        bare = _resolve_dots(bare)
    if bare.translate(None, _PLAIN):
        bare = _TO_ESCAPE.sub(_escape, bare)
    return bare + query


def merge_slashes(path: bytes) -> bytes:
    """Every run of slashes before the query made one.

    As in Envoy, a path of nothing but two or more slashes keeps its first and its last.
    """
    bare, query = _split(path)
    if b"//" not in bare:
        return path
    merged = b"/".join([segment for segment in bare.split(b"/") if segment])
    if bare.startswith(b"/"):
        merged = b"/" + merged
    if bare.endswith(b"/"):
        merged += b"/"
    return merged + query


def unescape_slashes(bare: bytes) -> bytes:
    """``%2F`` and ``%5C`` (either case) as the characters they stand for."""
    return _ESCAPED_SLASH.sub(_slash, bare)


def _split(path: bytes) -> tuple[bytes, bytes]:
    at = path.find(b"?")
    return (path, b"") if at < 0 else (path[:at], path[at:])


def _slash(match: re.Match[bytes]) -> bytes:
    return b"/" if match.group()[1] == 0x32 else b"\\"


def _escape(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % match.group()[0]


def _unescape_unreserved(bare: bytes) -> bytes:
    """Undo the escapes of unreserved characters.

    A stray ``%`` stays, unless undoing a later escape would complete it to a new one
    (``%4%41`` is not ``%4A``): then it becomes ``%25``.
    """
    out = bytearray()
    stray = -3  # where in ``out`` the last stray % stands
    at = 0
    end = len(bare)
    while at < end:
        byte = bare[at]
        if byte != _PERCENT:
            out.append(byte)
            at += 1
            continue
        if at + 2 >= end or bare[at + 1] not in _HEX or bare[at + 2] not in _HEX:
            stray = len(out)
            out.append(byte)
            at += 1
            continue
        value = int(bare[at + 1 : at + 3], 16)
        if value not in _UNRESERVED:
            out += bare[at : at + 3]
            at += 3
            continue
        at += 3
        out.append(value)
        after = len(out) - stray
        if after == 3:
            completed = out[stray + 1] in _HEX and value in _HEX
        elif after == 2:
            completed = value in _HEX and at < end and bare[at] in _HEX
        else:
            completed = False
        if completed:
            out[stray : stray + 1] = b"%25"
    return bytes(out)


def _resolve_dots(bare: bytes) -> bytes:
    segments: list[bytes] = []
    parts = bare.split(b"/")
    last = len(parts) - 1
    for i, part in enumerate(parts):
        if part == b".":
            if i == last:
                segments.append(b"")
        elif part == b"..":
            if len(segments) > 1:
                segments.pop()
            if i == last:
                segments.append(b"")
        else:
            segments.append(part)
    return b"/".join(segments)
