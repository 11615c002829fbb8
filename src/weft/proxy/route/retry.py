"""Retry policies as routes write them.  Parsed here; whoever retries acts on them."""

from dataclasses import dataclass
from typing import Any, Final

from weft.api.problems import Where
from weft.api.values import optional_seconds, seconds, wrapped
from weft.proxy.matchers import HeaderMatcher, header_matcher


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetHeader:
    """A response header that says how long to wait."""

    name: bytes
    unix_timestamp: bool = False
    """A time on the wall clock; otherwise seconds from now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedExtension:
    """A predicate or priority that is looked up when retries are carried out."""

    name: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySettings:
    retry_on: frozenset[str] = frozenset()
    """Conditions by Envoy's names; unknown ones are ignored, as in Envoy."""
    num_retries: int = 1
    per_try_timeout: float = 0.0
    """Seconds; 0 means the route's timeout."""
    per_try_idle_timeout: float | None = None
    """Seconds."""
    base_interval: float = 0.025
    """Seconds; the first step of the back-off (Envoy's ``upstream.base_retry_backoff_ms``)."""
    max_interval: float = 0.25
    """Seconds; ten times the base unless given."""
    retriable_status_codes: frozenset[int] = frozenset()
    retriable_headers: tuple[HeaderMatcher, ...] = ()
    retriable_request_headers: tuple[HeaderMatcher, ...] = ()
    host_attempts: int = 1
    """How often another host is drawn when a predicate refuses one."""
    host_predicates: tuple[NamedExtension, ...] = ()
    option_predicates: tuple[NamedExtension, ...] = ()
    priority: NamedExtension | None = None
    refresh_cluster: bool = False
    """Choose the cluster anew for every retry."""
    reset_headers: tuple[ResetHeader, ...] = ()
    rate_limited_max_interval: float = 300.0
    """Seconds; a reset header that asks for more is ignored."""


_HOST: Final = "envoy.extensions.retry.host."
_HOST_PREDICATES: Final = (
    _HOST + "previous_hosts.v3.PreviousHostsPredicate",
    _HOST + "omit_canary_hosts.v3.OmitCanaryHostsPredicate",
    _HOST + "omit_host_metadata.v3.OmitHostMetadataConfig",
)
_PRIORITIES: Final = ("envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",)


def retry_settings(message: Any, where: Where) -> RetrySettings:
    """From an ``envoy.config.route.v3.RetryPolicy``."""
    if message.retry_on:
        where.warn("read, but nothing is retried in this version of Weft")
    base = 0.025
    most = 0.25
    if message.HasField("retry_back_off"):
        back_off = message.retry_back_off
        # Envoy knows no interval below a millisecond.
        base = max(seconds(back_off.base_interval), 0.001)
        most = base * 10
        if back_off.HasField("max_interval"):
            most = max(seconds(back_off.max_interval), 0.001)
            if most < base:
                place = where.field("retry_back_off").field("max_interval")
                place.problem("retry_policy.max_interval must greater than or equal to the base_interval")
    limited = message.rate_limited_retry_back_off
    return RetrySettings(
        retry_on=frozenset(token for token in message.retry_on.replace(" ", "").split(",") if token),
        num_retries=wrapped(message, "num_retries", 1),
        per_try_timeout=optional_seconds(message, "per_try_timeout") or 0.0,
        per_try_idle_timeout=optional_seconds(message, "per_try_idle_timeout"),
        base_interval=base,
        max_interval=most,
        retriable_status_codes=frozenset(message.retriable_status_codes),
        retriable_headers=_headers(message.retriable_headers, where.field("retriable_headers")),
        retriable_request_headers=_headers(
            message.retriable_request_headers, where.field("retriable_request_headers")
        ),
        host_attempts=message.host_selection_retry_max_attempts or 1,
        host_predicates=_extensions(
            message.retry_host_predicate, _HOST_PREDICATES, where.field("retry_host_predicate")
        ),
        option_predicates=_extensions(
            message.retry_options_predicates, (), where.field("retry_options_predicates")
        ),
        priority=_extension(message.retry_priority, _PRIORITIES, where.field("retry_priority"))
        if message.HasField("retry_priority")
        else None,
        refresh_cluster=getattr(message, "refresh_cluster_on_retry", False),
        reset_headers=tuple(
            ResetHeader(name=header.name.lower().encode(), unix_timestamp=header.format == 1)
            for header in limited.reset_headers
        ),
        rate_limited_max_interval=seconds(limited.max_interval)
        if limited.HasField("max_interval")
        else 300.0,
    )


def _headers(messages: Any, where: Where) -> tuple[HeaderMatcher, ...]:
    return tuple(header_matcher(message, where.item(i)) for i, message in enumerate(messages))


def _extension(message: Any, known: tuple[str, ...], where: Where) -> NamedExtension:
    kind: str = message.typed_config.type_url.rpartition("/")[2]
    if kind not in known:
        where.problem(
            f"Didn't find a registered implementation for '{message.name}' with type URL: '{kind}'"
        )
    return NamedExtension(name=message.name, type=kind)


def _extensions(messages: Any, known: tuple[str, ...], where: Where) -> tuple[NamedExtension, ...]:
    return tuple(_extension(message, known, where.item(i)) for i, message in enumerate(messages))
