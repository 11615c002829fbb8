"""Which route of a virtual host, and what stopped the others: the second half of a walk.

Every route is asked, in order, with the predicates of traffic; those after the one that is taken as
well, because a route that is never reached is the oldest mistake of all.  Describing is dear, so it is
done for the few that are told of.
"""

from typing import Final

from weft.http.message import Request
from weft.http.path import without_parameters
from weft.proxy.explain.explanation import (
    FAILED,
    NOT_REACHED,
    SHADOWED,
    TAKEN,
    Failure,
    NearestMiss,
    Routes,
    RouteTried,
    TreeStep,
)
from weft.proxy.explain.near import NEAR, UNLIKE, judged_condition, judged_path, path_difference, remedy
from weft.proxy.explain.trees import asked
from weft.proxy.observe.stream_info import StreamInfo
from weft.proxy.route.match import EXACT, PREFIX, SEPARATED
from weft.proxy.route.table import Route, VirtualHost
from weft.proxy.runtime import Runtime
from weft.steps import Steps

MOST_ROUTES: Final = 20
"""Routes that are told of unless all are wanted."""
MOST_NEAR: Final = 5
"""Of those that fail by their path, in a long list."""
_MOST_PATTERNS: Final = 200
"""Regular expressions and templates that are looked at for small differences."""


class Walk:
    """One request's way through the routes of one virtual host."""

    def __init__(
        self,
        virtual_host: VirtualHost,
        request: Request,
        info: StreamInfo,
        random_value: int,
        runtime: Runtime,
    ) -> None:
        self.virtual_host = virtual_host
        self.request = request
        self.info = info
        self.random = random_value
        self.runtime = runtime
        path = request.path
        if virtual_host.ignore_path_parameters and b";" in path:
            path = without_parameters(path)
        self.path = path
        self.routes = virtual_host.routes
        """Those that are tried, in their order."""
        self.steps: tuple[TreeStep, ...] = ()
        if virtual_host.tree is not None:
            outcome = asked(virtual_host.tree, request, info, runtime)
            self.routes = outcome[0] or ()
            self.steps = outcome[1]
        self.taken: Route | None = None
        self.fits: set[int] = set()
        """Numbers of the routes that match."""
        self.by_path: set[int] = set()
        """Numbers of those whose path predicate holds."""

    def ask(self) -> Steps[None]:
        """Ask every route."""
        request, info = self.request, self.info
        for number, route in enumerate(self.routes):
            yield 2 + len(route.match.conditions)
            if not route.match.path.matches(self.path, request.method):
                continue
            self.by_path.add(number)
            if route.match.matches(self.path, request, info, self.random, self.runtime):
                self.fits.add(number)
                if self.taken is None:
                    self.taken = route

    # -- telling ---------------------------------------------------------------------------------

    def told(self, everything: bool) -> Steps[tuple[Routes, NearestMiss | None]]:
        routes = self.routes
        first = min(self.fits, default=None)
        near = yield from self._near(len(routes) if first is None else first)
        shown = self._shown(first, near, everything)
        tried = []
        for number in sorted(shown):
            tried.append(self._route(number, first))
            yield 20
        told = Routes(
            matcher=self.steps,
            count=len(routes),
            taken=first,
            tried=tuple(tried),
            left_out=len(routes) - len(tried),
        )
        if not near:
            return told, None
        number = near[0]
        failures = self._failures(number)
        miss = NearestMiss(
            number=number, name=routes[number].name, failures=failures, remedy=remedy(failures)
        )
        return told, miss

    def _shown(self, first: int | None, near: list[int], everything: bool) -> set[int]:
        count = len(self.routes)
        if everything or count <= MOST_ROUTES:
            return set(range(count))
        shown = set(near[:MOST_NEAR])
        if first is not None:
            shown.add(first)
        by_path = sorted(self.by_path)
        shown.update(by_path[:MOST_ROUTES])
        return shown

    def _route(self, number: int, first: int | None) -> RouteTried:
        route = self.routes[number]
        failed = None
        if number == first:
            outcome = TAKEN
        elif number in self.fits:
            outcome = SHADOWED
        elif first is not None and number > first:
            outcome = NOT_REACHED
        else:
            outcome = FAILED
            failed = self._failures(number, most=1)[0]
        return RouteTried(
            number=number,
            name=route.name,
            match=tuple(route.match.describe()),
            action=route.action.describe(),
            outcome=outcome,
            failed=failed,
        )

    def _failures(self, number: int, most: int = 100) -> tuple[Failure, ...]:
        return tuple(failure for _, failure in self._judged(number, most))

    def _judged(self, number: int, most: int = 100) -> list[tuple[float, Failure]]:
        """The predicates that do not hold, in the order in which they are asked."""
        match = self.routes[number].match
        request, info, runtime = self.request, self.info, self.runtime
        out = []
        if number not in self.by_path:
            out.append(judged_path(match.path, self.path, request.method))
        for condition in match.conditions:
            if len(out) >= most:
                break
            if not condition.holds(request, info, self.random, runtime):
                out.append(judged_condition(condition, request, info, self.random, runtime))
        return out

    def _near(self, end: int) -> Steps[list[int]]:
        """Numbers of the failed routes before ``end`` that are not about something else, nearest first."""
        found: list[tuple[float, int]] = []
        patterns = 0
        for number in range(end):
            match = self.routes[number].match
            if number in self.by_path:
                difference = 0.0
            elif match.path.kind in (PREFIX, EXACT, SEPARATED):
                difference = path_difference(match.path, self.path)
                yield 10
            elif patterns < _MOST_PATTERNS:
                patterns += 1
                difference = judged_path(match.path, self.path, self.request.method)[0]
                yield 50
            else:
                continue
            if difference <= NEAR:
                found.append((difference + sum(one for one, _ in self._judged(number)), number))
                yield 20
        return [number for difference, number in sorted(found) if difference < 2 * UNLIKE]
