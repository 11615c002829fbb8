"""Small shapes that several pages share: indented JSON, addresses, times, durations."""

import json
from datetime import UTC, datetime
from typing import Any, Final

from weft.steps import Steps, at_once


def pretty(value: Any) -> str:
    """JSON as Envoy's protobuf printer indents it, with the line end it ends in."""
    return at_once(pretty_steps(value))


def pretty_steps(value: Any) -> Steps[str]:
    """:func:`pretty` in steps."""
    parts: list[str] = []
    for part in json.JSONEncoder(indent=1, ensure_ascii=False).iterencode(value):
        parts.append(part)
        if len(parts) % _PARTS == 0:
            yield _PARTS // 5
    parts.append("\n")
    return "".join(parts)


_PARTS: Final = 1000


def socket_address(text: str) -> dict[str, Any]:
    """``envoy.config.core.v3.Address`` of ``1.2.3.4:80``, ``[::1]:80`` or the path of a Unix socket."""
    host, colon, port = text.rpartition(":")
    if colon and port.isdigit() and not text.startswith(("/", "@")):
        address: dict[str, Any] = {"address": host.removeprefix("[").removesuffix("]")}
        if int(port):
            address["port_value"] = int(port)
        return {"socket_address": address}
    return {"pipe": {"path": text}}


def timestamp(seconds: float) -> str:
    """``google.protobuf.Timestamp`` in JSON, to the millisecond."""
    whole = datetime.fromtimestamp(round(seconds, 3), UTC)
    text = whole.strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{whole.microsecond // 1000:03}Z"


def duration(seconds: float) -> str:
    """``google.protobuf.Duration`` in JSON, whole seconds."""
    return f"{int(seconds)}s"
