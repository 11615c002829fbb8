"""What the caller asks of the router, in ``x-envoy-*`` headers and ``grpc-timeout``.

Only trusted callers' headers come this far (``forwarding`` strips those of others), and they end here: the
upstream learns what came of them from ``x-envoy-expected-rq-timeout-ms``.  A value that is no number is as
good as none, unless the router checks strictly (``strict_check_headers``).
"""

from collections.abc import Iterable
from typing import Any, Final

from weft.http.headers import CONTENT_TYPE, GRPC_TIMEOUT, Field, Headers
from weft.proxy.route.forward import Forward
from weft.proxy.route.match import is_grpc
from weft.proxy.route.timeouts import grpc_timeout_field, parse_grpc_timeout, unsigned

_TIMEOUT: Final = b"x-envoy-upstream-rq-timeout-ms"
_PER_TRY: Final = b"x-envoy-upstream-rq-per-try-timeout-ms"
_HEDGE: Final = b"x-envoy-hedge-on-per-try-timeout"
_ALTERNATIVE: Final = b"x-envoy-upstream-rq-timeout-alt-response"
_EXPECTED: Final = b"x-envoy-expected-rq-timeout-ms"
_MAX_RETRIES: Final = b"x-envoy-max-retries"
_RETRY_ON: Final = b"x-envoy-retry-on"
_RETRY_GRPC_ON: Final = b"x-envoy-retry-grpc-on"
_NOT_PASSED_ON: Final = (
    _RETRY_ON,
    _RETRY_GRPC_ON,
    _MAX_RETRIES,
    b"x-envoy-retriable-status-codes",
    b"x-envoy-retriable-header-names",
    b"x-envoy-upstream-alt-stat-name",
    b"x-envoy-upstream-stream-duration-ms",
    _HEDGE,
    _PER_TRY,
    _ALTERNATIVE,
)
_LONGEST: Final = 1 << 40
"""Milliseconds, 34 years: what is longer is as good as that."""
RETRY_ON: Final = frozenset(
    (
        b"5xx", b"gateway-error", b"connect-failure", b"envoy-ratelimited", b"retriable-4xx", b"refused-stream",
        b"retriable-status-codes", b"retriable-headers", b"reset", b"reset-before-request",
        b"http3-post-connect-failure",
    )
)  # fmt: skip
RETRY_GRPC_ON: Final = frozenset(
    (b"cancelled", b"deadline-exceeded", b"resource-exhausted", b"unavailable", b"internal")
)


class Asked:
    """What comes of the headers of one request.  Times in seconds, 0 for no limit."""

    __slots__ = ("alternative", "grpc", "timeout", "told")

    def __init__(self, timeout: float, told: float, alternative: bool, grpc: Field | None) -> None:
        self.timeout: float = timeout
        self.told: float = told
        """The upstream has this long: a try may be shorter than the whole."""
        self.alternative: bool = alternative
        """A timeout is answered with 204."""
        self.grpc: Field | None = grpc
        """The ``grpc-timeout`` that tells a gRPC server the same."""


def take_asked(headers: Headers, action: Forward, respect_expected: bool) -> Asked:
    """Read what is asked of this router, and take it out of ``headers``."""
    timeout = round(action.timeout * 1000)
    grpc = action.grpc_timeout is not None and is_grpc_call(headers)
    if grpc and action.grpc_timeout is not None:
        timeout = action.grpc_timeout.timeout(asked_grpc_timeout(headers))
    expected = headers.find(_EXPECTED) if respect_expected else None
    if expected is not None:
        asked = _milliseconds(expected)
    else:
        asked = _milliseconds(headers.find(_TIMEOUT))
        headers.drop(_TIMEOUT)
    if asked is not None:
        timeout = asked
    per_try = 0 if action.retry is None else round(action.retry.per_try_timeout * 1000)
    asked = _milliseconds(headers.find(_PER_TRY))
    if asked is not None:
        per_try = asked
    whole = not per_try or (timeout and per_try >= timeout) or headers.find(_HEDGE) == b"true"
    told = timeout if whole else per_try
    alternative = headers.find(_ALTERNATIVE) is not None
    for name in _NOT_PASSED_ON:
        headers.drop(name)
    field = grpc_timeout_field(told) if grpc and told else None
    return Asked(timeout / 1000, told / 1000, alternative, field)


def asked_grpc_timeout(headers: Headers) -> int | None:
    """Milliseconds; None where the caller says nothing."""
    return parse_grpc_timeout(headers.find(b"grpc-timeout")) if headers.mask & GRPC_TIMEOUT else None


def is_grpc_call(headers: Headers) -> bool:
    return bool(headers.mask & CONTENT_TYPE) and is_grpc(headers.find(b"content-type"))


def _milliseconds(value: bytes | None) -> int | None:
    if value is None:
        return None
    number = unsigned(value)
    return None if number is None else min(number, _LONGEST)


# -- strict_check_headers --------------------------------------------------------------------------


def strict_names(message: Any) -> tuple[bytes, ...]:
    """From an ``envoy.extensions.filters.http.router.v3.Router``, in its order."""
    return tuple(name.encode() for name in message.strict_check_headers)


def first_invalid(headers: Headers, names: Iterable[bytes]) -> Field | None:
    """The first header of ``names`` that is there and means nothing."""
    for name in names:
        value = headers.find(name)
        if value is not None and not _valid(name, value):
            return Field(name, value)
    return None


def _valid(name: bytes, value: bytes) -> bool:
    if name == _RETRY_ON:
        return _all_in(value, RETRY_ON)
    if name == _RETRY_GRPC_ON:
        return _all_in(value, RETRY_GRPC_ON)
    return unsigned(value) is not None


def _all_in(value: bytes, known: frozenset[bytes]) -> bool:
    return all(token.strip(b" \t") in known for token in value.split(b",") if token.strip(b" \t"))
