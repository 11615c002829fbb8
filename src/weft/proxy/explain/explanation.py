"""The answer to "why?": frozen values, shaped as the JSON that ``docs/explain.md`` describes.

:func:`as_json` gives that JSON; :func:`restored` reads it back, so that the command
line renders what a running proxy (perhaps of another version) explained.
"""

import types
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

import orjson

T = TypeVar("T")

TAKEN: Final = "taken"
LESS_SPECIFIC: Final = "less specific"
FAILED: Final = "failed"
SHADOWED: Final = "shadowed"
NOT_REACHED: Final = "not reached"

FORWARD: Final = "forward"
REDIRECT: Final = "redirect"
DIRECT_RESPONSE: Final = "direct response"
NON_FORWARDING: Final = "non-forwarding"
REFUSE: Final = "refuse"

YES: Final = "yes"
NO: Final = "no"
UNDECIDED: Final = "undecided"

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that admission did to the request before it was routed."""

    what: str
    """``path``, ``authority``, ``scheme``, or ``header NAME``."""
    before: str = ""
    after: str = ""
    """Empty for a header that was removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """The request as routes see it: after admission."""

    method: str
    scheme: str
    authority: str
    path: str
    headers: tuple[Pair, ...] = ()
    random: int = 0
    """The stream's number, which draws weights and shares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTried:
    name: str
    domain: str
    """The one of its domains that counts: the one that fits, or the nearest."""
    outcome: str
    """TAKEN, LESS_SPECIFIC or FAILED."""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """How the virtual host was found."""

    looked_for: str | None = None
    """The name that is compared with domains; None when ``vhost_header`` is not there."""
    told_by: str = ":authority"
    """The header it comes from."""
    taken: str | None = None
    tried: tuple[HostTried, ...] = ()
    left_out: int = 0
    """How many others there are; none of them fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A predicate that did not hold."""

    kind: str
    """``path``, ``header``, ``query parameter``, ``cookie``, ``share``, ..."""
    wanted: str
    seen: tuple[str, ...] = ()
    """Empty: not there."""
    hint: str = ""
    """What the small difference is, if it is a small one."""
    remedy: str = ""
    """What would make it hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeStep:
    """A question that a matcher tree asked."""

    depth: int
    """How many trees are around it."""
    question: str
    seen: str | None
    """None: not there."""
    verdict: str
    """YES, NO or UNDECIDED."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTried:
    number: int
    """Its place in the virtual host (among those that its matcher led to), from 0."""
    name: str
    match: tuple[str, ...]
    action: str
    outcome: str
    """TAKEN, FAILED, SHADOWED (it fits too, but an earlier one was taken) or NOT_REACHED."""
    failed: Failure | None = None
    """The first predicate that did not hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """How the route was found in the virtual host."""

    matcher: tuple[TreeStep, ...] = ()
    """Of a virtual host with a matcher tree: what it asked on its way to the routes that were tried."""
    count: int = 0
    taken: int | None = None
    tried: tuple[RouteTried, ...] = ()
    left_out: int = 0
    """How many were tried, did not fit, and are not among ``tried``: all by their path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestMiss:
    """The route, ahead of the one that was taken, that differs least from the request."""

    number: int
    name: str
    failures: tuple[Failure, ...]
    remedy: str
    """What would make it match."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A weighted cluster; it is drawn by numbers in ``[start, end)``."""

    cluster: str
    weight: int
    start: int
    end: int
    runtime_key: str = ""
    drawn: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    number: int
    """The random value, modulo ``total``."""
    total: int
    random: int
    told_by: str = ""
    """The header the random value comes from; empty for the stream's own."""
    shares: tuple[Share, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderChange:
    name: str
    value: str | None
    """None: removed."""
    before: str | None = None
    """None: it was not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    retry_on: tuple[str, ...]
    num_retries: int
    per_try_timeout: float
    """Seconds, as all times; 0 for none."""
    base_interval: float
    max_interval: float
    retriable_status_codes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterInEffect:
    """An HTTP filter of the chain, or one that only a route speaks of."""

    name: str
    runs: bool
    level: str = ""
    """The most specific place with settings of its own; empty when the chain's hold."""
    settings: str = ""
    """Those, or ``disabled`` / ``enabled``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """A mirrored request."""

    cluster: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A request that is forwarded: where to, how changed, for how long."""

    cluster: str
    cluster_told_by: str = ""
    """The request header, or the plugin, that names the cluster."""
    matcher: tuple[TreeStep, ...] = ()
    """What a plugin with a matcher tree asked."""
    draw: Draw | None = None
    timeout: float = 0.0
    """Seconds; 0 for none."""
    timeout_told_by: str = ""
    """The request header that sets it; empty for the route."""
    idle_timeout: float = 0.0
    """Of the stream: the route's, or the connection manager's."""
    max_stream_duration: float = 0.0
    priority: str = "default"
    retry: Retry | None = None
    hash_by: tuple[str, ...] = ()
    """What of the request says to which host it belongs, for balancers that hash."""
    path: str = ""
    host: str = ""
    host_by_upstream: bool = False
    """``auto_host_rewrite``: the host name of the chosen host takes its place."""
    request_headers: tuple[HeaderChange, ...] = ()
    mirrors: tuple[Shadow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response that the proxy makes itself."""

    status: int
    flags: str
    details: str
    location: str = ""
    body: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What happens to the request."""

    action: str
    route: str = ""
    virtual_cluster: str = ""
    upstream: Upstream | None = None
    answer: Answer | None = None
    response_headers: tuple[HeaderChange, ...] = ()
    filters: tuple[FilterInEffect, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    matched: bool
    """A route was found."""
    asked: str
    """The request line that was asked about."""
    table: str
    listener: str = ""
    filter_chain: str = ""
    admission: tuple[Change, ...] = ()
    request: Routed | None = None
    """None when admission refused it."""
    hosts: Hosts | None = None
    routes: Routes | None = None
    nearest: NearestMiss | None = None
    notes: tuple[str, ...] = ()
    """What else is worth knowing."""
    plan: Plan


def as_json(explanations: list[Explanation]) -> bytes:
    """What ``--json`` prints and the admin server answers."""
    return orjson.dumps(
        {"explanations": explanations}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    )


def restored(value: Any) -> Explanation:
    """From one of the list in that JSON.  Raises ValueError for what is none; what is not known is passed over."""
    try:
        out: Explanation = _read(Explanation, value)
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"not an explanation: {error}") from None
    return out


def _read(kind: Any, value: Any) -> Any:
    origin = get_origin(kind)
    if origin is types.UnionType:
        if value is None:
            return None
        return _read(next(one for one in get_args(kind) if one is not type(None)), value)
    if origin is tuple:
        inner = get_args(kind)
        if inner[-1] is Ellipsis:
            return tuple(_read(inner[0], item) for item in value)
        return tuple(_read(one, item) for one, item in zip(inner, value, strict=True))
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        given = {
            field.name: _read(hints[field.name], value[field.name])
            for field in fields(kind)
            if field.name in value
        }
        return kind(**given)  # type: ignore[operator]
    if kind is float and isinstance(value, int):
        return float(value)
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, not {value!r}")
    return value
