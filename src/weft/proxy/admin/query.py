"""The query of an admin request, and the answer to it."""

from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

import re2

TEXT: Final = "text/plain; charset=UTF-8"
HTML: Final = "text/html; charset=UTF-8"
JSON: Final = "application/json"


@dataclass(slots=True, kw_only=True)
class Answer:
    """What an endpoint answers."""

    body: bytes | str = b""
    status: int = 200
    content_type: str = TEXT


class Refused(Exception):
    """The request cannot be answered; ``answer`` says why."""

    def __init__(self, text: str, status: int = 400, content_type: str = TEXT) -> None:
        super().__init__(text)
        self.answer = Answer(body=text, status=status, content_type=content_type)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminRequest:
    method: str
    path: str
    """Without the query, slashes merged."""
    query: dict[str, str] = field(default_factory=dict)
    """Decoded; the first value of each name.  A name without ``=`` has an empty value."""
    body: bytes = b""
    content_type: str = ""

    def choice(self, name: str, allowed: tuple[str, ...], refusal: str) -> str:
        """The value of ``name``, one of ``allowed``; empty when it is not given."""
        value = self.query.get(name, "")
        if value and value not in allowed:
            raise Refused(refusal)
        return value


def parse_query(text: str) -> dict[str, str]:
    out: dict[str, str] = {}
    for part in text.split("&"):
        if part:
            name, _, value = part.partition("=")
            out.setdefault(unquote(name), unquote(value))
    return out


def regex(text: str, refusal: str, content_type: str = TEXT) -> Any:
    """An RE2 expression; ``refusal`` may hold ``{reason}``."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        if isinstance(reason, bytes):
            reason = reason.decode("utf-8", "replace")
        raise Refused(refusal.replace("{reason}", str(reason)), 400, content_type) from None
