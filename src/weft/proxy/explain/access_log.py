"""From a line of an access log in JSON to a question.

Everybody names the fields of a JSON log as they like, so names are read as people write them: in any
case, with ``_``, ``-`` or ``.`` between words, nested or flat, the pseudo-headers with or without colon.
"""

import json
from typing import Any, Final

from weft.proxy.explain.question import WrongQuestion

_METHOD: Final = ("method", "request-method", "req-method", "http-method", "http-request-method", "verb")
_PATH: Final = (
    "x-envoy-original-path", "original-path", "path", "request-path", "req-path", "uri", "request-uri", "url-path",
    "http-path",
)  # fmt: skip
_AUTHORITY: Final = (
    "authority", "host", "request-authority", "request-host", "req-authority", "x-envoy-original-host", "vhost",
    "http-host", "domain",
)  # fmt: skip
_SCHEME: Final = ("x-forwarded-proto", "scheme", "request-scheme", "forwarded-proto")
_URL: Final = ("url", "request-url", "http-url", "full-url")
_LINE: Final = ("request", "request-line")
_HEADERS: Final = ("headers", "request-headers", "req-headers")
_NESTS: Final = ("request", "req", "http", "http-request")
_PLAIN_HEADERS: Final = (
    "user-agent", "referer", "cookie", "content-type", "accept", "accept-language", "authorization", "origin",
    "traceparent", "grpc-timeout",
)  # fmt: skip
_RENAMED: Final = {"request-id": "x-request-id", "forwarded-for": "x-forwarded-for"}
_NOT_ASKED: Final = ("x-envoy-upstream-service-time", "x-envoy-original-path", "x-envoy-original-host")
"""Of the response, or made by the route that is asked for."""
_NOTHING: Final = (None, "", "-")


def asked_in(line: str) -> dict[str, Any]:
    """The JSON of a question (see ``question``).  Raises :class:`WrongQuestion`."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WrongQuestion("log", f"not a line of JSON: {error}") from None
    if not isinstance(record, dict):
        raise WrongQuestion("log", "a log line is expected to be a JSON object")
    fields = _flat(record)
    out: dict[str, Any] = {}
    for name, known in (("method", _METHOD), ("path", _PATH), ("authority", _AUTHORITY), ("url", _URL)):
        found = _first(fields, known)
        if found is not None:
            out[name] = found
    if not str(out.get("path", "/")).startswith("/") and "url" not in out:
        out["url"] = out.pop("path")
    _request_line(fields, out)
    scheme = (_first(fields, _SCHEME) or "").lower()
    if scheme in ("http", "https"):
        out["scheme"] = scheme
    remote = _first(
        fields,
        ("downstream-remote-address", "remote-address", "client-ip", "downstream-direct-remote-address"),
    )
    if remote is not None:
        out["remote"] = _without_port(remote)
    out["headers"] = _headers(record, fields)
    if "path" not in out and "url" not in out:
        names = ", ".join(sorted(fields)[:8]) or "none"
        raise WrongQuestion(
            "log", f"the line has no path (a field such as path or :path); its fields are {names}"
        )
    return out


def _flat(record: dict[str, Any]) -> dict[str, str]:
    """Name as above -> text; those of an object that stands for the request too."""
    out: dict[str, str] = {}
    for name, value in record.items():
        key = _key(name)
        if isinstance(value, dict):
            if key in _NESTS:
                for inner, text in _flat(value).items():
                    out.setdefault(inner, text)
        elif value not in _NOTHING and isinstance(value, str | int | float) and not isinstance(value, bool):
            out.setdefault(key, str(value))
    return out


def _key(name: str) -> str:
    return name.lower().lstrip(":").replace("_", "-").replace(".", "-").replace(" ", "-")


def _first(fields: dict[str, str], names: tuple[str, ...]) -> str | None:
    return next((fields[name] for name in names if name in fields), None)


def _request_line(fields: dict[str, str], out: dict[str, Any]) -> None:
    """``"request": "GET /x HTTP/1.1"``"""
    words = (_first(fields, _LINE) or "").split(" ")
    if len(words) in (2, 3) and "path" not in out and "url" not in out:
        out.setdefault("method", words[0])
        out["url"] = words[1]


def _headers(record: dict[str, Any], fields: dict[str, str]) -> list[list[str]]:
    out = []
    for name, text in fields.items():
        name = _RENAMED.get(name, name)
        if (name.startswith("x-") or name in _PLAIN_HEADERS) and name not in _NOT_ASKED:
            out.append([name, text])
    for place in (record, *[value for name, value in record.items() if _key(name) in _NESTS]):
        if not isinstance(place, dict):
            continue
        for name, value in place.items():
            if _key(name) in _HEADERS and isinstance(value, dict):
                known = {one for one, _ in out}
                out += [
                    [key, str(text)]
                    for key, text in value.items()
                    if text not in _NOTHING and key.lower() not in known and not isinstance(text, dict | list)
                ]
    return out


def _without_port(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address
