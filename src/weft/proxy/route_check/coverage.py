"""Which routes the tests have covered, counted as Envoy's tool counts.

A route is covered by a test that asserts something of it and is right.  Of a route with weighted
clusters each cluster is to be covered for itself; a route whose cluster a header names is covered
once for each name.  The redirect of ``require_tls`` is in no list of routes and yet is counted when
it is covered.  So coverage can be above 100 %.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from weft.proxy.route.table import Forward, Route, RouteTable, TlsRedirect, VirtualHost
from weft.proxy.route_check.outcome import Outcome

FORWARDED: Final = frozenset(
    ("cluster_name", "virtual_cluster_name", "virtual_host_name", "path_rewrite", "host_rewrite")
)
ANSWERED: Final = frozenset(("path_redirect", "code_redirect"))
"""What may be asserted of a route, by what it does; only these count."""


class Uncovered(NamedTuple):
    """A route that no test has covered."""

    virtual_host: str
    route: str
    """The name in the configuration; often empty."""
    place: str
    """Such as ``virtual_hosts[0].routes[3]``."""
    match: Any
    """The RouteMatch as it was written; None for a route of a matcher."""
    conditions: list[str]
    """What the route asks of a request."""


class Coverage:
    """Gathers what was asserted; ``percent`` is right at any time."""

    def __init__(self, config: Any, table: RouteTable) -> None:
        self._config = config
        self._table = table
        self._asserted: dict[tuple[Route | None, str | None], set[str]] = {}
        self._total = sum(
            _parts(route, written)
            for host, virtual_host in zip(config.virtual_hosts, table.virtual_hosts, strict=True)
            for route, written in _pairs(virtual_host, host)
        )

    def mark(self, outcome: Outcome, what: str) -> None:
        """``what`` was asserted, rightly, of the route that ``outcome`` has taken."""
        if what in FORWARDED if outcome.forwards else what in ANSWERED and outcome.answers:
            route = outcome.route
            if route is not None and isinstance(route.action, TlsRedirect):
                route = None  # one for all virtual hosts
            self._asserted.setdefault((route, outcome.cluster), set()).add(what)

    def percent(self, comprehensive: bool = False) -> float:
        """``comprehensive``: a route counts by the share of its fields that are asserted."""
        if not self._total:
            return 100.0
        covered = float(len(self._asserted))
        if comprehensive:
            covered = sum(
                len(what) / len(ANSWERED if cluster is None else FORWARDED)
                for (_, cluster), what in self._asserted.items()
            )
        return 100 * covered / self._total

    def uncovered(self) -> Iterator[Uncovered]:
        covered = {route for route, _ in self._asserted}
        for i, host in enumerate(self._config.virtual_hosts):
            for j, (route, written) in enumerate(_pairs(self._table.virtual_hosts[i], host)):
                if route not in covered:
                    within = f"routes[{j}]" if written is not None else "matcher"
                    match = None if written is None else written.match
                    place = f"virtual_hosts[{i}].{within}"
                    yield Uncovered(host.name, route.name, place, match, route.match.describe())


def _pairs(virtual_host: VirtualHost, message: Any) -> Iterator[tuple[Route, Any]]:
    """Its routes, each with the Route message; None for those that stand in a matcher."""
    written = message.routes if virtual_host.tree is None else [None] * len(virtual_host.routes)
    return zip(virtual_host.routes, written, strict=True)


def _parts(route: Route, written: Any) -> int:
    """In how many ways it is to be covered."""
    if written is not None:
        return len(written.route.weighted_clusters.clusters) or 1
    return len(route.action.clusters.targets) if isinstance(route.action, Forward) else 1
