"""What happens to a request whose route is known.

What the router and the route change in a request that they forward is asked of them, without the sending;
a test plays both and compares what arrives upstream.
"""

from typing import Any, Final

from weft.http.headers import Headers
from weft.http.message import Request
from weft.proxy.explain.explanation import (
    DIRECT_RESPONSE,
    FORWARD,
    NON_FORWARDING,
    REDIRECT,
    Answer,
    Draw,
    FilterInEffect,
    HeaderChange,
    Plan,
    Retry,
    Shadow,
    Share,
    TreeStep,
    Upstream,
)
from weft.proxy.explain.rehearsal import Rehearsal, pairs
from weft.proxy.explain.tables import Sources, Table
from weft.proxy.explain.trees import asked
from weft.proxy.http.mirror import copy_head
from weft.proxy.http.router import FIRST_ATTEMPT
from weft.proxy.http.stream import Stream
from weft.proxy.observe import flags
from weft.proxy.route.cluster_specifier import MatcherSpecifier
from weft.proxy.route.filter_settings import DISABLED, ENABLED
from weft.proxy.route.forward import Forward, Target
from weft.proxy.route.match import shown
from weft.proxy.route.respond import DirectResponse, Redirect
from weft.proxy.route.retry import RetrySettings
from weft.proxy.route.table import Route

_LEVELS: Final = ("table", "virtual host", "route")
_LONGEST: Final = 300
"""Characters of a filter's settings that are told."""
_NAMES: Final = ((Forward, FORWARD), (Redirect, REDIRECT), (DirectResponse, DIRECT_RESPONSE))


def plan_of(rehearsal: Rehearsal, table: Table, sources: Sources, route: Route) -> Plan:
    """Plays the request to the router: the rehearsal's stream is spent afterwards."""
    stream = rehearsal.stream
    action = route.action
    request = copy_head(stream.head)
    name = next((name for kind, name in _NAMES if isinstance(action, kind)), NON_FORWARDING)
    virtual_cluster = route.virtual_host.virtual_cluster(request)
    if not isinstance(action, Forward):
        answer = rehearsal.answer()
        headers = _plain_changes(
            [], rehearsal.response_headers, leave=("date", "server", "location", "content-length")
        )
        filters = _filters(table, route, None)
        return Plan(action=name, route=route.name, virtual_cluster=virtual_cluster, answer=answer,
                    response_headers=headers, filters=filters)  # fmt: skip
    manager = rehearsal.manager
    stream.route = route
    stream.virtual_host = route.virtual_host
    try:
        target = action.choose(request, stream.random, manager.runtime, stream)
    except Exception:  # a plugin's; the router says what becomes of the request
        return Plan(action=name, route=route.name, virtual_cluster=virtual_cluster, answer=rehearsal.answer())
    draw = _draw(action, target, rehearsal, request)
    upstream = _forwarded(rehearsal, table, route, action, target, draw)
    answer = rehearsal.answer()
    if answer is None and sources.clusters is not None and target.cluster not in sources.clusters:
        status = action.cluster_not_found_status
        answer = Answer(status=status, flags=flags.short(flags.NO_CLUSTER_FOUND), details="cluster_not_found")
    return Plan(
        action=name,
        route=route.name,
        virtual_cluster=virtual_cluster,
        upstream=upstream,
        answer=answer,
        response_headers=_response_headers(stream, route, target),
        filters=_filters(table, route, target),
    )


def _forwarded(
    rehearsal: Rehearsal, table: Table, route: Route, action: Forward, target: Target, draw: Draw | None
) -> Upstream:
    """What goes upstream."""
    stream = rehearsal.stream
    manager = rehearsal.manager
    before = pairs(stream.head.headers)
    if action.has_stream_times:
        stream.route_times(action)
    request = copy_head(stream.head)
    headers = request.headers
    asked_for = manager.router.take_asked(headers, action)
    timeout = action.timeout if asked_for is None else asked_for.timeout
    original = stream.head
    stream.original_path = request.path
    stream.cluster_name = target.cluster
    stream.request = stream.head = request  # header values may name what is being changed
    tell = manager.router.envoy_headers
    route.change_request(
        request, action, target, stream, manager.clock, attempt=FIRST_ATTEMPT, original=tell
    )
    shadows = _shadows(action, request, stream)
    stream.request = stream.head = original
    specifier = action.specifier
    steps: tuple[TreeStep, ...] = ()
    if isinstance(specifier, MatcherSpecifier):
        steps = asked(specifier.tree, original, stream, manager.runtime)[1]
    told_by = ""
    if timeout != action.timeout:
        told_by = "x-envoy-upstream-rq-timeout-ms" if action.grpc_timeout is None else "grpc-timeout"
    client = rehearsal.downstream
    settings = table.settings
    return Upstream(
        cluster=target.cluster,
        cluster_told_by=_told_by(action, draw),
        matcher=steps,
        draw=draw,
        timeout=timeout,
        timeout_told_by=told_by,
        idle_timeout=settings.stream_idle_timeout if client.idle is None else client.idle,
        max_stream_duration=settings.max_stream_duration if client.longest is None else client.longest,
        priority="high" if action.priority else "default",
        retry=_retry(action.retry),
        hash_by=()
        if action.hash_policy is None
        else tuple([one.describe() for one in action.hash_policy.methods]),
        path=shown(request.path),
        host=shown(request.authority),
        host_by_upstream=action.auto_host_rewrite,
        request_headers=_plain_changes(before, pairs(headers)),
        mirrors=shadows,
    )


def _shadows(action: Forward, request: Request, stream: Stream) -> tuple[Shadow, ...]:
    """Of ``request`` as it goes upstream."""
    manager = stream.manager
    out = []
    for mirror in () if action.mirrors is None or stream.upgrade else action.mirrors:
        cluster = mirror.target(request, stream.random, manager.runtime)
        if cluster:
            head = mirror.head(request, stream, manager.clock)
            out.append(Shadow(cluster=cluster, host=shown(head.authority)))
    return tuple(out)


def _told_by(action: Forward, draw: Draw | None) -> str:
    """Who names the cluster where the route does not."""
    if action.specifier is not None:
        return action.specifier.describe()
    targets = action.clusters.targets
    shares = () if draw is None else draw.shares
    chosen = next((target for target, share in zip(targets, shares, strict=False) if share.drawn), targets[0])
    return f"header {shown(chosen.cluster_header)}" if chosen.cluster_header else ""


def _draw(action: Forward, target: Target, rehearsal: Rehearsal, request: Request) -> Draw | None:
    """How a weighted cluster was drawn; None for a route to one cluster."""
    clusters = action.clusters
    if len(clusters.targets) < 2 or action.specifier is not None:
        return None
    stream = rehearsal.stream
    value = clusters.drawn(request, stream, stream.random)
    weights = clusters.weights(rehearsal.manager.runtime if clusters.by_runtime else None)
    total = sum(weights)
    number = value % total if total else 0
    shares: list[Share] = []
    start = 0
    for one, weight in zip(clusters.targets, weights, strict=True):
        end = start + weight
        shares.append(
            Share(
                cluster=one.cluster or f"named by header {shown(one.cluster_header)}",
                weight=weight,
                start=start,
                end=end,
                runtime_key=one.runtime_key,
                drawn=start <= number < end,
            )
        )
        start = end
    told_by = ""
    if value != stream.random:
        told_by = f"header {shown(clusters.random_header)}" if clusters.random_header else "the hash policy"
    return Draw(number=number, total=total, random=value, told_by=told_by, shares=tuple(shares))


def _retry(settings: RetrySettings | None) -> Retry | None:
    if settings is None:
        return None
    return Retry(
        retry_on=tuple(sorted(settings.retry_on)),
        num_retries=settings.num_retries,
        per_try_timeout=settings.per_try_timeout,
        base_interval=settings.base_interval,
        max_interval=settings.max_interval,
        retriable_status_codes=tuple(sorted(settings.retriable_status_codes)),
    )


def _response_headers(stream: Stream, route: Route, target: Target) -> tuple[HeaderChange, ...]:
    """What the rules do to a response that has no headers yet, and what they remove."""
    headers = Headers()
    removed: dict[bytes, None] = {}
    for rules in (target.response_headers, route.response_headers):
        if rules is None:
            continue
        for place in rules.places:
            removed.update(dict.fromkeys(place.removals))
        rules.apply(headers, stream, stream.manager.clock)
    gone = [HeaderChange(name=shown(name), value=None) for name in removed if headers.find(name) is None]
    return (*_plain_changes([], pairs(headers)), *gone)


def _plain_changes(
    before: list[tuple[str, str]], after: list[tuple[str, str]], leave: tuple[str, ...] = ()
) -> tuple[HeaderChange, ...]:
    old, new = _by_name(before), _by_name(after)
    out = []
    for name in dict.fromkeys([*old, *new]):
        if name in leave or old.get(name) == new.get(name):
            continue
        was, now = old.get(name), new.get(name)
        out.append(
            HeaderChange(
                name=name,
                value=None if now is None else ", ".join(now),
                before=None if was is None else ", ".join(was),
            )
        )
    return tuple(out)


def _by_name(fields: list[tuple[str, str]]) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for name, value in fields:
        out.setdefault(name, []).append(value)
    return out


# -- filters ---------------------------------------------------------------------------------------


def _filters(table: Table, route: Route, target: Target | None) -> tuple[FilterInEffect, ...]:
    """The chain's filters in order, then those that only the route speaks of (they have no effect)."""
    chain = {entry.name: not entry.disabled for entry in table.settings.filters}
    levels = [*zip(_LEVELS, route.filter_levels, strict=False)]
    if target is not None and target.own_filter_settings is not None:
        levels.append(("weighted cluster", target.own_filter_settings))
    said: dict[str, tuple[str, Any]] = {}
    for level, given in levels:
        for name, one in given.items():
            said[name] = (level, one)
    out = []
    for name in dict.fromkeys([*chain, *said]):
        runs = chain.get(name, False)
        level, settings = said.get(name, ("", None))
        text = ""
        if level:
            runs = name in chain and settings is not DISABLED
            text = (
                "disabled"
                if settings is DISABLED
                else "enabled"
                if settings is ENABLED
                else _settings(settings)
            )
        out.append(FilterInEffect(name=name, runs=runs, level=level, settings=text))
    return tuple(out)


def _settings(settings: object) -> str:
    text = repr(settings)
    if " object at 0x" in text:
        text = type(settings).__name__
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
