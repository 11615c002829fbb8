"""What is asked: a request, and what chance and operators would have made of it.

Read from the JSON of ``POST /route/explain``; the command line builds the same JSON.  Whatever is wrong
with it is a :class:`WrongQuestion` that says where.
"""

import ipaddress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

LARGEST_RANDOM: Final = 2**64 - 1
MOST_HEADERS: Final = 1000

Pairs = tuple[tuple[bytes, bytes], ...]


class WrongQuestion(ValueError):
    """It cannot be asked like this.  ``place`` is a path in the JSON."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}" if place else problem)
        self.place = place


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    method: bytes = b"GET"
    path: bytes = b"/"
    """With the query."""
    authority: bytes = b""
    headers: Pairs = ()
    tls: bool = False
    """The client's connection is encrypted."""
    internal: bool = False
    """The client is trusted as one from inside the mesh."""
    remote: str = "127.0.0.1"
    """The client's IP address."""
    random: int = 0
    runtime: dict[str, str] = field(default_factory=dict)
    """Over the configuration's."""
    listener: str = ""
    """Only tables of this listener; empty for any."""
    table: str = ""
    """Only tables of this name."""
    everything: bool = False
    """Tell of every virtual host and route, however many there are."""

    @property
    def line(self) -> str:
        """For people."""
        scheme = "https" if self.tls else "http"
        text = f"{_text(self.method)} {scheme}://{_text(self.authority)}{_text(self.path)}"
        return (
            text
            if self.path[:1] == b"/"
            else f"{_text(self.method)} {_text(self.path)} at {_text(self.authority)}"
        )


_FIELDS: Final = frozenset(
    (
        "method", "path", "authority", "headers", "tls", "internal", "remote", "random", "runtime", "listener",
        "table", "all", "scheme", "url",
    )
)  # fmt: skip


def question(value: Any) -> Question:
    """From JSON.  ``url`` stands for scheme, authority and path; ``host`` among the headers for ``authority``."""
    if not isinstance(value, dict):
        raise WrongQuestion("", f"expected an object with method, authority, path, ..., not {_kind(value)}")
    for name in value:
        if name not in _FIELDS:
            raise WrongQuestion(str(name), f"there is no such field (there are {', '.join(sorted(_FIELDS))})")
    tls, authority, path = _place(value)
    method = _line(value, "method")
    headers = []
    for name, text in _headers(value.get("headers", [])):
        if name in (b"host", b":authority"):
            authority = authority or text
        elif name == b":path":
            path = path or text
        elif name == b":method":
            method = method or text
        elif name == b":scheme":
            tls = tls or text == b"https"
        else:
            headers.append((name, text))
    if not authority:
        raise WrongQuestion("authority", "missing: which host is asked for?")
    return Question(
        method=method or b"GET",
        path=path or b"/",
        authority=authority,
        headers=tuple(headers),
        tls=_flag(value, "tls") or tls,
        internal=_flag(value, "internal"),
        remote=_address(value.get("remote", "127.0.0.1")),
        random=_random(value.get("random", 0)),
        runtime=_runtime(value.get("runtime", {})),
        listener=_string(value, "listener"),
        table=_string(value, "table"),
        everything=_flag(value, "all"),
    )


def _place(value: dict[str, Any]) -> tuple[bool, bytes, bytes]:
    """(TLS, authority, path), from the URL where it says them."""
    scheme = _string(value, "scheme")
    if scheme not in ("", "http", "https"):
        raise WrongQuestion("scheme", f"expected http or https, not {scheme!r}")
    authority, path = _line(value, "authority"), _line(value, "path")
    url = _line(value, "url").decode()
    if url.startswith("/"):
        path = path or url.encode()
    elif url:
        at = url if "://" in url else f"//{url}"
        try:
            parts = urlsplit(at)
        except ValueError as error:
            raise WrongQuestion("url", f"not a URL: {error}") from None
        if parts.scheme not in ("", "http", "https"):
            raise WrongQuestion("url", f"expected http or https, not {parts.scheme!r}")
        scheme = scheme or parts.scheme
        authority = authority or parts.netloc.encode()
        # Not urlsplit's path: it cuts the fragment off, of which the proxy has its own opinion.
        rest = at.partition("//")[2][len(parts.netloc) :]
        path = path or (rest if rest.startswith("/") else f"/{rest}").encode()
    return scheme == "https", authority, path


def _headers(value: Any) -> list[tuple[bytes, bytes]]:
    """From ``{name: value or [values]}``, or a list of pairs."""
    if isinstance(value, dict):
        pairs = [
            (name, one, f"headers.{name}")
            for name, given in value.items()
            for one in (given if isinstance(given, list) else [given])
        ]
    elif isinstance(value, list):
        pairs = []
        for i, pair in enumerate(value):
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise WrongQuestion(f"headers[{i}]", "expected [name, value]")
            pairs.append((pair[0], pair[1], f"headers[{i}]"))
    else:
        raise WrongQuestion("headers", f"expected an object or a list of pairs, not {_kind(value)}")
    if len(pairs) > MOST_HEADERS:
        raise WrongQuestion("headers", f"{len(pairs)} headers; at most {MOST_HEADERS} are taken")
    out = []
    for name, text, place in pairs:
        if not isinstance(name, str) or not name.strip():
            raise WrongQuestion(place, "a header needs a name")
        if isinstance(text, bool) or not isinstance(text, str | int | float):
            raise WrongQuestion(place, f"expected text, not {_kind(text)}")
        raw = _clean(str(text), place, spaces=True)
        out.append((_clean(name.strip().lower(), place), raw.strip(b" \t")))
    return out


def _runtime(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise WrongQuestion("runtime", f"expected an object of keys and values, not {_kind(value)}")
    out = {}
    for key, given in value.items():
        if isinstance(given, dict | list) or given is None:
            raise WrongQuestion(f"runtime.{key}", f"expected a value, not {_kind(given)}")
        out[str(key)] = str(given).lower() if isinstance(given, bool) else str(given)
    return out


def _random(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST_RANDOM:
        raise WrongQuestion("random", f"expected a whole number from 0 to {LARGEST_RANDOM}, not {value!r}")
    return value


def _address(value: Any) -> str:
    try:
        return str(ipaddress.ip_address(value if isinstance(value, str) else ""))
    except ValueError:
        raise WrongQuestion("remote", f"expected an IP address, not {value!r}") from None


def _flag(value: dict[str, Any], name: str) -> bool:
    given = value.get(name, False)
    if not isinstance(given, bool):
        raise WrongQuestion(name, f"expected true or false, not {_kind(given)}")
    return given


def _string(value: dict[str, Any], name: str) -> str:
    given = value.get(name, "")
    if not isinstance(given, str):
        raise WrongQuestion(name, f"expected text, not {_kind(given)}")
    return given


def _line(value: dict[str, Any], name: str) -> bytes:
    return _clean(_string(value, name), name)


def _clean(text: str, place: str, *, spaces: bool = False) -> bytes:
    """A line break would begin another header; a space, another part of the request line."""
    for character in text:
        if character in "\r\n\0" or (character == " " and not spaces):
            raise WrongQuestion(place, f"{character!r} cannot stand here")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise WrongQuestion(place, "text that UTF-8 cannot carry") from None


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {
        bool: "a truth value",
        dict: "an object",
        list: "a list",
        str: "text",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "that")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
