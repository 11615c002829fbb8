"""An explanation for people: one screen, the verdict of every step in front of it."""

from collections.abc import Callable, Iterable
from typing import Final

from weft.proxy.explain.explanation import (
    FAILED,
    LESS_SPECIFIC,
    NO,
    NOT_REACHED,
    SHADOWED,
    TAKEN,
    YES,
    Draw,
    Explanation,
    Failure,
    HeaderChange,
    Hosts,
    NearestMiss,
    Plan,
    Routes,
    RouteTried,
    TreeStep,
    Upstream,
)
from weft.steps import Steps, at_once

RED: Final = "31"
GREEN: Final = "32"
YELLOW: Final = "33"
BOLD: Final = "1"
DIM: Final = "2"

_MARKS: Final = {
    TAKEN: ("✓", GREEN),
    FAILED: ("✗", RED),
    LESS_SPECIFIC: ("·", DIM),
    SHADOWED: ("!", YELLOW),
    NOT_REACHED: ("·", DIM),
}
_WIDEST: Final = 60
"""Columns are no wider, or the reason would leave the screen."""


def render(explanations: Iterable[Explanation], *, colour: bool = False) -> str:
    """Text with a line break at its end."""
    return at_once(render_steps(explanations, colour=colour))


def render_steps(explanations: Iterable[Explanation], *, colour: bool = False) -> Steps[str]:
    pages = []
    for one in explanations:
        pages.append((yield from _Page(colour).of(one)))
    return "\n".join(pages)


class _Page:
    def __init__(self, colour: bool) -> None:
        self._colour = colour
        self._lines: list[str] = []

    def of(self, one: Explanation) -> Steps[str]:
        place = [f"table {one.table}" if one.table else "a table without a name"]
        if one.listener:
            place.append(f"listener {one.listener}")
        if one.filter_chain:
            place.append(f"filter chain {one.filter_chain}")
        self._line(f"{self._ink(one.asked, BOLD)}  ({', '.join(place)})")
        self._admission(one)
        if one.hosts is not None:
            yield from self._hosts(one.hosts)
        if one.routes is not None:
            yield from self._routes(one.routes, one.hosts.taken if one.hosts is not None else "")
        if one.nearest is not None:
            self._nearest(one.nearest)
        for note in one.notes:
            self._head("note")
            self._line(f"  {note}")
        self._plan(one.plan)
        return "\n".join(self._lines) + "\n"

    # -- lines -----------------------------------------------------------------------------------

    def _line(self, text: str) -> None:
        self._lines.append(_safe(text, self._colour).rstrip())

    def _head(self, text: str) -> None:
        self._lines.append("")
        self._line(self._ink(text, BOLD))

    def _ink(self, text: str, ink: str) -> str:
        return f"\033[{ink}m{text}\033[0m" if self._colour and text else text

    def _table(self, rows: list[tuple[str, list[str], str]]) -> Steps[None]:
        """(outcome, columns, the rest of the line)"""
        yield 10 + len(rows)
        count = max([len(columns) for _, columns, _ in rows], default=0)
        widths = [min(_WIDEST, max([len(columns[i]) for _, columns, _ in rows])) for i in range(count)]
        for outcome, columns, rest in rows:
            mark, ink = _MARKS[outcome]
            cells = "  ".join([cell.ljust(width) for cell, width in zip(columns, widths, strict=True)])
            self._line(f"  {self._ink(mark, ink)} {cells}  {rest}")
            yield 10

    def _rows(self, rows: list[tuple[str, str]]) -> None:
        width = max([len(name) for name, _ in rows], default=0)
        for name, text in rows:
            self._line(f"  {name.ljust(width)}  {text}")

    # -- parts -----------------------------------------------------------------------------------

    def _admission(self, one: Explanation) -> None:
        if not one.admission:
            return
        self._head("admission")
        for change in one.admission:
            what = "path normalized" if change.what == "path" else change.what
            if change.after:
                self._line(f"  {what}: {change.before} -> {change.after}")
            else:
                self._line(f"  {what}: removed, it was {change.before}")

    def _hosts(self, hosts: Hosts) -> Steps[None]:
        if hosts.looked_for is None:
            self._head(f"virtual hosts, by header {hosts.told_by}: it is not there")
        else:
            by = "" if hosts.told_by == ":authority" else f" of header {hosts.told_by}"
            self._head(f"virtual hosts for {hosts.looked_for}{by}")
        yield from self._table([(host.outcome, [host.name, host.domain], host.why) for host in hosts.tried])
        if hosts.left_out:
            others = f"{hosts.left_out} others" if hosts.tried else f"{hosts.left_out} virtual hosts"
            self._line(f"    {others} have no domain that fits (--all shows them)")

    def _routes(self, routes: Routes, name: str | None) -> Steps[None]:
        if routes.matcher:
            self._head(f"matcher of {name}")
            for step in routes.matcher:
                self._line(f"  {_step(step, self._ink)}")
                yield 10
        count = "1 route" if routes.count == 1 else f"{routes.count} routes"
        self._head(f"routes of {name} ({count})")
        rows = []
        for one in routes.tried:
            rows.append(
                (one.outcome, [f"#{one.number} {one.name}".rstrip(), " and ".join(one.match)], self._why(one))
            )
            yield 5
        yield from self._table(rows)
        if routes.left_out:
            self._line(
                f"    {routes.left_out} others do not fit by their path, or were not reached (--all shows them)"
            )

    def _why(self, route: RouteTried) -> str:
        if route.failed is not None:
            return _failed(route.failed)
        if route.outcome == TAKEN:
            return self._ink(route.action, GREEN)
        if route.outcome == SHADOWED:
            return self._ink("fits too, but an earlier route is taken", YELLOW)
        return "not reached"

    def _nearest(self, miss: NearestMiss) -> None:
        name = f"#{miss.number} {miss.name}".rstrip()
        self._head(f"nearest miss: {name}")
        for failure in miss.failures:
            wanted = f"{failure.wanted}: " if failure.kind == "path" else ""
            self._line(f"  {wanted}{_failed(failure)}")
        self._line(f"  to match: {self._ink(miss.remedy, YELLOW)}")

    def _plan(self, plan: Plan) -> None:
        answer = plan.answer
        self._head("plan")
        name = f" (route {plan.route})" if plan.route else ""
        self._line(
            f"  {self._ink(plan.action, GREEN if plan.upstream is not None and answer is None else YELLOW)}{name}"
        )
        rows: list[tuple[str, str]] = []
        if plan.upstream is not None:
            rows += _upstream(plan.upstream)
        if plan.virtual_cluster:
            rows.append(("virtual cluster", plan.virtual_cluster))
        if answer is not None:
            flagged = "" if answer.flags == "-" else f", flags {answer.flags}"
            text = f"{answer.status}{flagged}, details {answer.details}"
            rows.append(("the client gets", self._ink(text, RED if answer.status >= 400 else GREEN)))
            if answer.location:
                rows.append(("location", answer.location))
            if answer.body:
                rows.append(("body", repr(answer.body)))
        rows += _headers("response", plan.response_headers)
        for one in plan.filters:
            verb = "runs" if one.runs else "does not run"
            said = f", {one.level}: {one.settings}" if one.level else ""
            rows.append(("filter", f"{one.name} {verb}{said}"))
        self._rows(rows)
        if plan.upstream is not None:
            for step in plan.upstream.matcher:
                self._line(f"    {_step(step, self._ink)}")


def _step(step: TreeStep, ink: Callable[[str, str], str]) -> str:
    mark, colour = {YES: _MARKS[TAKEN], NO: _MARKS[FAILED]}.get(step.verdict, _MARKS[NOT_REACHED])
    seen = "it is not there" if step.seen is None else f"it is {step.seen!r}"
    return f"{'  ' * step.depth}{ink(mark, colour)} {step.question}: {seen}"


def _upstream(to: Upstream) -> list[tuple[str, str]]:
    told = f" (named by {to.cluster_told_by})" if to.cluster_told_by else ""
    rows = [("cluster", f"{to.cluster or 'none'}{told}")]
    if to.draw is not None:
        rows.append(("drawn", _drawn(to.draw)))
        rows += [
            ("", f"{'->' if share.drawn else '  '} {_interval(share.start, share.end)} {share.cluster}, weight {share.weight}"
             + (f" (runtime {share.runtime_key})" if share.runtime_key else ""))
            for share in to.draw.shares
        ]  # fmt: skip
    host = f"{to.host}, or the host name of the upstream host" if to.host_by_upstream else to.host
    rows += [("path", to.path), ("host", host)]
    asked = f" (header {to.timeout_told_by})" if to.timeout_told_by else ""
    rows.append(("timeout", f"{_seconds(to.timeout)}{asked}, idle {_seconds(to.idle_timeout)}"))
    if to.max_stream_duration:
        rows.append(("at most", _seconds(to.max_stream_duration)))
    if to.priority != "default":
        rows.append(("priority", to.priority))
    if to.retry is not None:
        each = f", {_seconds(to.retry.per_try_timeout)} each" if to.retry.per_try_timeout else ""
        codes = (
            f" ({', '.join(map(str, to.retry.retriable_status_codes))})"
            if to.retry.retriable_status_codes
            else ""
        )
        rows.append(
            (
                "retry policy",
                f"{', '.join(to.retry.retry_on) or 'never'}{codes}, {to.retry.num_retries} times{each}",
            )
        )
    if to.hash_by:
        rows.append(("hash of", ", ".join(to.hash_by)))
    rows += [("mirrored to", f"{shadow.cluster}, as {shadow.host}") for shadow in to.mirrors]
    return rows + _headers("request", to.request_headers)


def _drawn(draw: Draw) -> str:
    by = f" of {draw.told_by}" if draw.told_by else ""
    return f"{draw.number} (random {draw.random}{by}, modulo {draw.total})"


def _interval(start: int, end: int) -> str:
    return "[never]" if start == end else f"[{start}, {end})"


def _headers(side: str, changes: tuple[HeaderChange, ...]) -> list[tuple[str, str]]:
    rows = []
    for change in changes:
        if change.value is None:
            rows.append((f"{side} header", f"{change.name} removed"))
        else:
            was = "" if change.before is None else f" (was {change.before})"
            rows.append((f"{side} header", f"{change.name}: {change.value}{was}"))
    return rows


def _failed(failure: Failure) -> str:
    if not failure.seen:
        seen = "it is not there"
    elif failure.kind == "path":
        seen = f"the path is {failure.seen[0]}" if failure.seen[0] else "there is no path"
    elif failure.kind == "share":
        seen = f"the random number is {failure.seen[0]}"
    elif len(failure.seen) == 1:
        seen = f"it is {failure.seen[0]!r}"
    else:
        seen = "they are " + ", ".join([repr(value) for value in failure.seen])
    text = seen
    if failure.kind != "path":
        text = f"{failure.wanted}: {seen}"
    return f"{text}; {failure.hint}" if failure.hint else text


def _seconds(value: float) -> str:
    return f"{value:g} s" if value else "none"


def _safe(text: str, colour: bool) -> str:
    """What a request or a configuration holds may not steer the terminal."""
    kept = "\033" if colour else ""
    return "".join([c if c.isprintable() or c in kept else f"\\x{ord(c):02x}" for c in text])
