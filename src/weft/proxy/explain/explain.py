"""One question, one table: one explanation."""

import asyncio
from dataclasses import dataclass, replace
from typing import Final

from weft.http.message import Request
from weft.proxy.explain.domains import walk_domains
from weft.proxy.explain.explanation import (
    REDIRECT,
    REFUSE,
    Explanation,
    NearestMiss,
    Plan,
    Routed,
    Routes,
)
from weft.proxy.explain.plan import plan_of
from weft.proxy.explain.question import Question
from weft.proxy.explain.rehearsal import Rehearsal, pairs
from weft.proxy.explain.routes import Walk
from weft.proxy.explain.tables import Sources, Table
from weft.proxy.http.mirror import copy_head
from weft.proxy.route.match import shown
from weft.proxy.route.table import Route, VirtualHost
from weft.steps import Steps

NO_ROUTE: Final = "no route"

_REFUSALS: Final = {
    "path_normalization_failed": "its path has a fragment (#), or something that may not be escaped (%2F, %00)",
    "absolute_path_rejected": "its target is not a path",
    "missing_host_header": "it names no host",
}


def explain(
    table: Table, question: Question, sources: Sources, loop: asyncio.AbstractEventLoop
) -> Steps[Explanation]:
    """In steps, for a loop that has other things to do.  ``loop`` only tells the time."""
    rehearsal = Rehearsal(table, question, sources, loop)
    base = Explanation(
        matched=False,
        asked=question.line,
        table=table.name,
        listener=table.listener,
        filter_chain=table.filter_chain,
        plan=Plan(action=NO_ROUTE),
    )
    if rehearsal.refusal is not None:
        why = rehearsal.why or _REFUSALS.get(rehearsal.refusal.details, "")
        note = f"the request is refused before it is routed{': ' if why else ''}{why}"
        plan = Plan(action=REFUSE, answer=rehearsal.refusal)
        return replace(base, notes=(note,), plan=plan)
    stream = rehearsal.stream
    request = copy_head(stream.head)
    route_table = table.settings.route_table
    hosts, fitting = yield from walk_domains(route_table, request, question.everything)
    told = _Told()
    if fitting:
        told = yield from _walk(rehearsal, request, fitting, question.everything)
    elif hosts.looked_for is None:
        told.notes = (
            f"vhost_header says that header {hosts.told_by} names the host, and the request has none",
        )
    route = told.route
    # The walk asks what traffic asks, but in its own way: should the two ever differ, nobody shall be
    # told something that is not so.
    found = route_table.find(request, stream, stream.random, rehearsal.manager.runtime)
    assert found is route, (
        f"explained {route and route.describe()}, and traffic takes {found and found.describe()}"
    )
    return replace(
        base,
        matched=route is not None,
        admission=rehearsal.admission,
        request=_routed(request, stream.random),
        hosts=hosts,
        routes=told.routes,
        nearest=told.nearest,
        notes=told.notes,
        plan=_plan(rehearsal, table, sources, route),
    )


def _routed(request: Request, random: int) -> Routed:
    return Routed(
        method=shown(request.method),
        scheme=shown(request.scheme),
        authority=shown(request.authority),
        path=shown(request.path),
        headers=tuple(pairs(request.headers)),
        random=random,
    )


@dataclass(slots=True)
class _Told:
    """What became of the request in its virtual host."""

    route: Route | None = None
    routes: Routes | None = None
    nearest: NearestMiss | None = None
    notes: tuple[str, ...] = ()


def _walk(
    rehearsal: Rehearsal, request: Request, fitting: list[VirtualHost], everything: bool
) -> Steps[_Told]:
    virtual_host = fitting[0]
    stream = rehearsal.stream
    if virtual_host.require_tls and virtual_host.wants_tls(request):
        note = "the virtual host has require_tls, and the client came without: no route is asked"
        return _Told(virtual_host.tls_redirect, notes=(note,))
    walk = Walk(virtual_host, request, stream, stream.random, rehearsal.manager.runtime)
    yield from walk.ask()
    routes, nearest = yield from walk.told(everything)
    notes = _elsewhere(rehearsal, request, fitting) if walk.taken is None else ()
    return _Told(walk.taken, routes, nearest, notes)


def _plan(rehearsal: Rehearsal, table: Table, sources: Sources, route: Route | None) -> Plan:
    if route is None:
        return Plan(action=NO_ROUTE, answer=rehearsal.answer())
    if route is route.virtual_host.tls_redirect:
        return Plan(action=REDIRECT, answer=rehearsal.answer())
    return plan_of(rehearsal, table, sources, route)


def _elsewhere(rehearsal: Rehearsal, request: Request, fitting: list[VirtualHost]) -> tuple[str, ...]:
    """Another virtual host would have had a route, but only the most specific one is asked."""
    for other in fitting[1:]:
        found = other.find(request, rehearsal.stream, rehearsal.stream.random, rehearsal.manager.runtime)
        if found is not None:
            name = fitting[0].name
            return (
                f"virtual host {other.name} has a route for this ({found.describe()}), and is not asked: only the "
                f"most specific virtual host is, which is {name}",
            )
    return ()
