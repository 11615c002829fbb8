"""Route tables: from a request to the route that says what happens to it.

``RouteTable`` (a domain finds a :class:`VirtualHost`) -> routes in their order, the first match
wins -> :class:`Route` (what it asks, what it does).  Built once from ``RouteConfiguration``, frozen,
shared by every connection that uses it; a stream keeps the table it began with.  Matching is in
:mod:`weft.proxy.route.match`, what is done in ``forward`` and ``respond``, and everything here is
reached from :meth:`RouteTable.find`, which is on the path of every request.
"""

from typing import Any, Final

from google.protobuf.message import EncodeError

from weft.api.problems import Where
from weft.api.values import without_effect, wrapped
from weft.http.headers import Field
from weft.http.message import Request
from weft.http.path import without_parameters
from weft.proxy.clock import Clock
from weft.proxy.matchers import HeaderMatcher, header_matcher
from weft.proxy.matching.inputs import Subject
from weft.proxy.matching.tree import Inconclusive, Tree
from weft.proxy.observe.stream_info import StreamInfo
from weft.proxy.route.cluster_specifier import ClusterSpecifier, cluster_specifiers
from weft.proxy.route.domains import Domains, port_start
from weft.proxy.route.filter_settings import DISABLED, ENABLED, FilterSettings, filter_settings
from weft.proxy.route.forward import FORWARD, FilterAction, Forward, Target, forward
from weft.proxy.route.header_rules import HeaderEdits, HeaderRules, chain, header_edits
from weft.proxy.route.internal_redirect import internal_redirects
from weft.proxy.route.match import PREFIX, PathMatch, RouteMatch, route_match
from weft.proxy.route.metadata import plain_metadata
from weft.proxy.route.mirror import Mirror, mirrors
from weft.proxy.route.path_index import PathIndex
from weft.proxy.route.rate_limit import RateLimits, rate_limits
from weft.proxy.route.respond import (
    DEFAULT_BODY_LIMIT,
    DIRECT,
    NON_FORWARDING,
    REDIRECT,
    DirectResponse,
    NonForwarding,
    Redirect,
    direct_response,
    redirect,
)
from weft.proxy.route.retry import RetrySettings, retry_settings
from weft.proxy.route.route_matcher import route_matcher
from weft.proxy.route.supported import only
from weft.proxy.route.unused import check_cors, check_tracing
from weft.proxy.runtime import Runtime

__all__ = [
    "DIRECT", "DISABLED", "ENABLED", "FORWARD", "NON_FORWARDING", "REDIRECT", "DirectResponse",
    "Forward", "HeaderRules", "NonForwarding", "Redirect", "Route", "RouteTable", "Target",
    "VirtualHost", "route_table",
]  # fmt: skip

Action = Forward | Redirect | DirectResponse | NonForwarding

TLS_NONE: Final = 0
TLS_EXTERNAL_ONLY: Final = 1
TLS_ALL: Final = 2

TRIED: Final = 256
"""Routes, all different, after which none is expected to come again."""

INDEX_FROM: Final = 12
"""Routes of a virtual host from which on an index pays: below it, trying them in turn is faster."""


class Route:
    """One entry of a virtual host: what it asks of a request, and what happens then."""

    __slots__ = (
        "action", "body_limit", "filter_levels", "filter_settings", "match", "metadata", "name", "plain_prefix",
        "request_headers", "response_headers", "stat_prefix", "virtual_host",
    )  # fmt: skip

    def __init__(self, name: str, virtual_host: "VirtualHost", match: RouteMatch, action: Action) -> None:
        self.name: str = name
        self.virtual_host: VirtualHost = virtual_host
        self.match: RouteMatch = match
        self.action: Action = action
        self.plain_prefix: bytes | None = match.plain_prefix
        self.metadata: dict[str, Any] | None = None
        self.stat_prefix: str = ""
        self.body_limit: int = -1
        """Bytes of a request's body that may be kept to be sent again; -1 for what the connection allows."""
        self.request_headers: HeaderRules | None = None
        """Of route, virtual host and table, in the order in which they apply: after the Target's."""
        self.response_headers: HeaderRules | None = None
        self.filter_settings: FilterSettings = {}
        """Filter name -> its settings, DISABLED or ENABLED; of route, virtual host and table."""
        self.filter_levels: tuple[FilterSettings, ...] = ()
        """The same place by place: table, virtual host, route."""

    def of(self, virtual_host: "VirtualHost") -> "Route":
        """The same route in another virtual host."""
        route = Route(self.name, virtual_host, self.match, self.action)
        route.metadata = self.metadata
        route.stat_prefix = self.stat_prefix
        route.body_limit = self.body_limit
        route.request_headers = self.request_headers
        route.response_headers = self.response_headers
        route.filter_settings = self.filter_settings
        route.filter_levels = self.filter_levels
        return route

    def change_request(
        self,
        request: Request,
        action: Forward,
        target: Target,
        info: StreamInfo,
        clock: Clock,
        *,
        attempt: Field | None = None,
        original: bool = True,
    ) -> str:
        """All that the route changes in a request which ``action`` (its own) forwards to ``target``.

        ``attempt`` is the header that counts attempts, for virtual hosts that want it.  ``original``: tell
        the upstream the old path and host (not when Envoy's headers are suppressed).  Returns what
        :meth:`Forward.rewrite` does: the name of a pseudo-header that must not go upstream as it is now.
        """
        if target.host_rewrite:
            request.authority = target.host_rewrite
        if attempt is not None and self.virtual_host.attempt_count_in_request:
            request.headers.put(attempt)
        if target.request_headers is not None:
            target.request_headers.apply(request.headers, info, clock)
        if self.request_headers is not None:
            self.request_headers.apply(request.headers, info, clock)
        return action.rewrite(request, info, clock, original_path=original)

    def every_setting(self, name: str, target: Target | None = None) -> list[Any]:
        """What each place says to the filter ``name``, least specific first."""
        found = []
        for level in self.filter_levels:
            if name in level:
                found.append(level[name])
        if (
            target is not None
            and target.own_filter_settings is not None
            and name in target.own_filter_settings
        ):
            found.append(target.own_filter_settings[name])
        return [settings for settings in found if settings is not DISABLED and settings is not ENABLED]

    def describe(self) -> str:
        return f"{self.name or 'route'}: {' and '.join(self.match.describe())} -> {self.action.describe()}"


class VirtualCluster:
    """A share of a virtual host's requests with statistics of its own."""

    __slots__ = ("matchers", "name")

    def __init__(self, name: str, matchers: tuple[HeaderMatcher, ...]) -> None:
        self.name: str = name
        self.matchers: tuple[HeaderMatcher, ...] = matchers

    def matches(self, request: Request) -> bool:
        return all(matcher.matches(request) for matcher in self.matchers)


class VirtualHost:
    """The routes of some domains."""

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.domains: tuple[str, ...] = ()
        self.routes: tuple[Route, ...] = ()
        """In their order; of a ``tree``, all that it may lead to."""
        self.tree: Tree[tuple[Route, ...]] | None = None
        """``matcher``: finds the routes that are tried, in place of trying all."""
        self.metadata: dict[str, Any] | None = None
        self.require_tls: int = TLS_NONE
        self.virtual_clusters: tuple[VirtualCluster, ...] = ()
        self.attempt_count_in_request: bool = False
        """Send ``x-envoy-attempt-count`` upstream."""
        self.attempt_count_in_response: bool = False
        self.timeout_retry_in_request: bool = False
        """Send ``x-envoy-is-timeout-retry`` upstream."""
        self.ignore_path_parameters: bool = False
        self._index: PathIndex | None = None
        self._first: Route | None = None
        """The first route, when it takes every path."""
        self.tls_redirect: Route | None = None
        """What is taken in place of any route where TLS is required and missing."""

    def seal(self, routes: tuple[Route, ...], tree: Tree[tuple[Route, ...]] | None = None) -> None:
        """Set the routes, once: what makes finding fast is worked out here."""
        self.routes = routes
        self.tree = tree
        if self.require_tls:
            self.tls_redirect = Route("", self, RouteMatch(PathMatch(PREFIX)), TlsRedirect())
        if tree is not None:
            return
        if routes and routes[0].plain_prefix == b"/" and not self.require_tls:
            self._first = routes[0]
        if len(routes) >= INDEX_FROM:
            self._index = PathIndex([route.match.path for route in routes])

    def find(self, request: Request, info: StreamInfo, random_value: int, runtime: Runtime) -> Route | None:
        path = request.path
        first = self._first
        if first is not None and path.startswith(b"/"):
            return first
        if self.require_tls and self.wants_tls(request):
            return self.tls_redirect
        if self.ignore_path_parameters and b";" in path:
            path = without_parameters(path)
        tree = self.tree
        if tree is not None:
            found = tree.find(Subject(info.connection, runtime, info, request))
            if found is not None and not isinstance(found, Inconclusive):
                for route in found:
                    if route.match.matches(path, request, info, random_value, runtime):
                        return route
            return None
        index = self._index
        if index is not None:
            for number in index.candidates(path):
                route = self.routes[number]
                if route.match.matches(path, request, info, random_value, runtime):
                    return route
            return None
        for route in self.routes:
            prefix = route.plain_prefix
            if prefix is not None:
                if path.startswith(prefix):
                    return route
            elif route.match.matches(path, request, info, random_value, runtime):
                return route
        return None

    def virtual_cluster(self, request: Request) -> str:
        """The virtual cluster that counts the request, ``other`` for none; empty without any."""
        if not self.virtual_clusters:
            return ""
        for cluster in self.virtual_clusters:
            if cluster.matches(request):
                return cluster.name
        return "other"

    def wants_tls(self, request: Request) -> bool:
        """Where ``require_tls`` is set: must the client come again, by https?"""
        if (request.headers.find(b"x-forwarded-proto") or request.scheme) == b"https":
            return False
        return self.require_tls == TLS_ALL or request.headers.find(b"x-envoy-internal") != b"true"


class TlsRedirect(Redirect):
    """The same URL by https."""

    def location(
        self,
        request: Request,
        info: StreamInfo | None = None,
        clock: Clock | None = None,
        *,
        original_path: bool = True,
    ) -> bytes:
        return b"https://" + request.authority + request.path


class RouteTable:
    """A whole route configuration."""

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.virtual_hosts: tuple[VirtualHost, ...] = ()
        self.request_headers: HeaderRules | None = None
        """The table's own; every Route has them merged in."""
        self.response_headers: HeaderRules | None = None
        self.internal_only_headers: tuple[bytes, ...] = ()
        """Request headers (lower-case) that only internal callers may set."""
        self.validate_clusters: bool | None = None
        """Must every cluster exist?  None leaves it to where the table comes from (static: yes)."""
        self.metadata: dict[str, Any] | None = None
        self.host_header: bytes = b""
        """The request header that takes the place of the host; empty for none."""
        self._domains: Domains[VirtualHost] = Domains()
        self._only: VirtualHost | None = None
        """The virtual host of ``*``, when there is no other."""
        self.ignore_port: bool = False
        """Look for the host without its port."""

    def find(self, request: Request, info: StreamInfo, random_value: int, runtime: Runtime) -> Route | None:
        """The first route that matches, or None.  ``random_value`` is stable for a stream."""
        virtual_host = self._only
        if virtual_host is None:
            virtual_host = self.virtual_host(request)
            if virtual_host is None:
                return None
        return virtual_host.find(request, info, random_value, runtime)

    def virtual_host(self, request: Request) -> VirtualHost | None:
        host = self.host_of(request)
        return None if host is None else self._domains.find(host)

    def host_of(self, request: Request) -> bytes | None:
        """The name that is looked for among the domains; None when a header should tell it and does not."""
        host = request.authority
        if self.host_header:
            value = request.header(self.host_header)
            if value is None:
                return None
            host = value
        if self.ignore_port:
            at = port_start(host)
            if at >= 0:
                host = host[:at]
        return host

    @property
    def domains(self) -> Domains[VirtualHost]:
        return self._domains

    def clusters(self) -> set[str]:
        """Every cluster that a route or its mirrors name (not those that request headers name)."""
        names: set[str] = set()
        for virtual_host in self.virtual_hosts:
            for route in virtual_host.routes:
                action = route.action
                if isinstance(action, Forward):
                    names.update(action.cluster_names())
                    for mirror in action.mirrors or ():
                        if mirror.cluster:
                            names.add(mirror.cluster)
        return names


# -- from configuration ----------------------------------------------------------------------------

_TABLE: Final = frozenset(
    (
        "name", "virtual_hosts", "internal_only_headers", "response_headers_to_add",
        "response_headers_to_remove", "request_headers_to_add", "request_headers_to_remove",
        "most_specific_header_mutations_wins", "validate_clusters", "max_direct_response_body_size_bytes",
        "ignore_port_in_host_matching", "vhost_header", "ignore_path_parameters_in_path_matching",
        "typed_per_filter_config", "metadata", "cluster_specifier_plugins", "request_mirror_policies",
    )
)  # fmt: skip
_VIRTUAL_HOST: Final = frozenset(
    (
        "name", "domains", "routes", "require_tls", "virtual_clusters", "request_headers_to_add",
        "request_headers_to_remove", "response_headers_to_add", "response_headers_to_remove",
        "typed_per_filter_config", "include_request_attempt_count", "include_attempt_count_in_response",
        "include_is_timeout_retry_header", "retry_policy", "metadata", "matcher", "request_mirror_policies",
        # Without the filters that read them they do nothing.
        "rate_limits", "cors", "per_request_buffer_limit_bytes", "request_body_buffer_limit",
        "retry_policy_typed_config", "hedge_policy",
    )
)  # fmt: skip
_PLAIN_HOST: Final = frozenset(("name", "domains", "routes", "require_tls", "metadata"))
"""Fields of a virtual host that do not change what its routes are compiled to."""
_PLAIN_ROUTE: Final = frozenset(
    ("name", "match", "route", "redirect", "direct_response", "metadata", "stat_prefix")
)
"""Fields of a route that have nothing to do with headers and filters."""
_ROUTE: Final = frozenset(
    (
        "name", "match", "route", "redirect", "direct_response", "filter_action", "non_forwarding_action", "metadata",
        "typed_per_filter_config", "request_headers_to_add", "request_headers_to_remove",
        "response_headers_to_add", "response_headers_to_remove", "stat_prefix",
        "per_request_buffer_limit_bytes", "request_body_buffer_limit",
        # Without a tracer they do nothing.
        "decorator", "tracing",
    )
)  # fmt: skip


class _Scope:
    """What the routes of a virtual host inherit while they are read."""

    def __init__(self, message: Any, where: Where) -> None:
        self.table_name: str = message.name
        self.body_limit: int = wrapped(message, "max_direct_response_body_size_bytes", DEFAULT_BODY_LIMIT)
        self.most_specific_wins: bool = message.most_specific_header_mutations_wins
        self.table_edits: tuple[HeaderEdits | None, HeaderEdits | None] = _edits(message, where)
        self.table_filters: FilterSettings = filter_settings(
            message.typed_per_filter_config, where.field("typed_per_filter_config")
        )
        self.host_edits: tuple[HeaderEdits | None, HeaderEdits | None] = (None, None)
        self.host_filters: FilterSettings = {}
        self.retry: RetrySettings | None = None
        self.limits: RateLimits = ()
        self.plain: bool = False
        """The virtual host gives its routes nothing to inherit."""
        self.matches: dict[bytes, RouteMatch] = {}
        """Large tables repeat themselves: what was compiled without a word, by its message."""
        self.actions: dict[bytes, Forward] = {}
        self.routes: dict[bytes, Route] = {}
        self.repeated: bool = False
        """A route has come twice."""
        self.table_mirrors: tuple[Mirror, ...] | None = mirrors(
            message.request_mirror_policies, where.field("request_mirror_policies")
        )
        self.mirrors: tuple[Mirror, ...] | None = None
        """The virtual host's, else the table's."""
        self.body_limits: tuple[int, int] = (-1, -1)
        """See :func:`_body_limits`."""
        self.specifiers: dict[str, ClusterSpecifier] = cluster_specifiers(
            message.cluster_specifier_plugins, where.field("cluster_specifier_plugins")
        )

    def rules(self, side: int, own: HeaderEdits | None) -> HeaderRules | None:
        """A route's own, the virtual host's and the table's; the last one wins."""
        places = (own, self.host_edits[side], self.table_edits[side])
        return chain(*reversed(places)) if self.most_specific_wins else chain(*places)


def _edits(message: Any, where: Where) -> tuple[HeaderEdits | None, HeaderEdits | None]:
    return header_edits(message, "request", where), header_edits(message, "response", where)


def route_table(message: Any, where: Where) -> RouteTable:
    """From an ``envoy.config.route.v3.RouteConfiguration``."""
    only(message, _TABLE, where)
    table = RouteTable(message.name)
    scope = _Scope(message, where)
    table.request_headers = chain(scope.table_edits[0])
    table.response_headers = chain(scope.table_edits[1])
    table.internal_only_headers = tuple([name.lower().encode() for name in message.internal_only_headers])
    if message.HasField("validate_clusters"):
        table.validate_clusters = message.validate_clusters.value
    if message.HasField("metadata"):
        table.metadata = plain_metadata(message.metadata)
    table.host_header = message.vhost_header.lower().encode()
    table.ignore_port = message.ignore_port_in_host_matching
    place = where.field("virtual_hosts")
    hosts = []
    for i, host in enumerate(message.virtual_hosts):
        virtual_host = _virtual_host(host, message, scope, place.item(i))
        hosts.append(virtual_host)
        for j, domain in enumerate(host.domains):
            if not table._domains.add(domain.encode(), virtual_host):
                _refuse_domain(domain, message.name, place.item(i).field("domains").item(j))
    table.virtual_hosts = tuple(hosts)
    if table._domains.only_default and not table.host_header:
        table._only = table._domains.default
    return table


def _refuse_domain(domain: str, table: str, where: Where) -> None:
    if domain == "*":
        where.problem(f"Only a single wildcard domain is permitted in route {table}")
    else:
        where.problem(
            f"Only unique values for domains are permitted. Duplicate entry of domain {domain.lower()} in route {table}"
        )


def _virtual_host(message: Any, table: Any, scope: _Scope, where: Where) -> VirtualHost:
    given = only(message, _VIRTUAL_HOST, where)
    host = VirtualHost(message.name)
    host.domains = tuple(message.domains)
    host.require_tls = message.require_tls
    host.attempt_count_in_request = message.include_request_attempt_count
    host.attempt_count_in_response = message.include_attempt_count_in_response
    host.timeout_retry_in_request = message.include_is_timeout_retry_header
    host.ignore_path_parameters = table.ignore_path_parameters_in_path_matching
    if "metadata" in given:
        host.metadata = plain_metadata(message.metadata)
    _inherit(message, given, scope, where)
    if message.virtual_clusters:
        host.virtual_clusters = _virtual_clusters(message.virtual_clusters, where.field("virtual_clusters"))
    if message.HasField("matcher"):
        if len(message.routes):
            where.problem("cannot set both matcher and routes on virtual host")
        tree, routes = route_matcher(
            message.matcher, lambda route, at: _route(route, host, scope, at), where.field("matcher")
        )
        host.seal(routes, tree)
    else:
        place = where.field("routes")
        host.seal(
            tuple([_route(route, host, scope, place.item(i)) for i, route in enumerate(message.routes)])
        )
    return host


def _inherit(message: Any, given: set[str], scope: _Scope, where: Where) -> None:
    """What the routes of a virtual host inherit from it."""
    scope.plain = given <= _PLAIN_HOST
    scope.host_edits = (None, None)
    scope.host_filters = {}
    scope.retry = None
    scope.limits = ()
    scope.mirrors = scope.table_mirrors
    scope.body_limits = (-1, -1)
    if scope.plain:
        return
    scope.host_edits = _edits(message, where)
    scope.host_filters = filter_settings(
        message.typed_per_filter_config, where.field("typed_per_filter_config")
    )
    if message.HasField("retry_policy"):
        scope.retry = retry_settings(message.retry_policy, where.field("retry_policy"))
    scope.limits = rate_limits(message.rate_limits, where.field("rate_limits"))
    without_effect(message, ("hedge_policy", "retry_policy_typed_config"), where)
    if message.HasField("cors"):
        check_cors(message.cors, where.field("cors"))
    own_mirrors = mirrors(message.request_mirror_policies, where.field("request_mirror_policies"))
    if own_mirrors is not None:
        scope.mirrors = own_mirrors
    scope.body_limits = _body_limits(message, scope.body_limits)


def _body_limits(message: Any, outer: tuple[int, int]) -> tuple[int, int]:
    """Of a virtual host or route: the limit, and the older one that holds where there is none."""
    return (
        wrapped(message, "request_body_buffer_limit", outer[0]),
        wrapped(message, "per_request_buffer_limit_bytes", outer[1]),
    )


def _virtual_clusters(messages: Any, where: Where) -> tuple[VirtualCluster, ...]:
    clusters = []
    for i, message in enumerate(messages):
        place = where.item(i)
        if not message.headers:
            place.problem("virtual clusters must define 'headers'")
        matchers = [
            header_matcher(header, place.field("headers").item(j)) for j, header in enumerate(message.headers)
        ]
        clusters.append(VirtualCluster(message.name, tuple(matchers)))
    return tuple(clusters)


def _route(message: Any, host: VirtualHost, scope: _Scope, where: Where) -> Route:
    if not scope.plain or (len(scope.routes) > TRIED and not scope.repeated):
        return _new_route(message, host, scope, where)
    key = _serialized(message)
    known = scope.routes.get(key)
    if known is not None:
        scope.repeated = True
        return known.of(host)
    told = len(where.problems.items)
    route = _new_route(message, host, scope, where)
    if key and len(where.problems.items) == told:
        scope.routes[key] = route
    return route


def _new_route(message: Any, host: VirtualHost, scope: _Scope, where: Where) -> Route:
    given = only(message, _ROUTE, where)
    match = _match(message.match, scope, where.field("match"))
    own_filters: FilterSettings = {}
    request_edits: HeaderEdits | None = None
    response_edits: HeaderEdits | None = None
    body_limits = scope.body_limits
    if not given <= _PLAIN_ROUTE:
        body_limits = _body_limits(message, body_limits)
        own_filters = filter_settings(message.typed_per_filter_config, where.field("typed_per_filter_config"))
        request_edits, response_edits = _edits(message, where)
    route = Route(message.name, host, match, _action(message, match.path, own_filters, scope, where))
    route.stat_prefix = message.stat_prefix
    if "tracing" in given:
        check_tracing(message.tracing, where.field("tracing"))
    route.body_limit = body_limits[0] if body_limits[0] >= 0 else body_limits[1]
    if "metadata" in given:
        route.metadata = plain_metadata(message.metadata)
    if own_filters or scope.host_filters or scope.table_filters:
        route.filter_settings = {**scope.table_filters, **scope.host_filters, **own_filters}
        route.filter_levels = (scope.table_filters, scope.host_filters, own_filters)
    route.request_headers = scope.rules(0, request_edits)
    route.response_headers = scope.rules(1, response_edits)
    return route


def _match(message: Any, scope: _Scope, where: Where) -> RouteMatch:
    key = _serialized(message)
    match = scope.matches.get(key)
    if match is None:
        told = len(where.problems.items)
        match = route_match(message, where)
        if key and len(where.problems.items) == told:
            scope.matches[key] = match
    return match


def _forward(
    message: Any, match: PathMatch, own_filters: FilterSettings, scope: _Scope, where: Where
) -> Forward:
    # A rewrite of what was matched belongs to the match.
    alone = (
        scope.plain
        and not own_filters
        and not message.prefix_rewrite
        and not message.HasField("path_rewrite_policy")
        and not message.HasField("internal_redirect_policy")  # whose predicates know the route
    )
    key = _serialized(message) if alone else b""
    action = scope.actions.get(key)
    if action is None:
        told = len(where.problems.items)
        outer = (own_filters, scope.host_filters, scope.table_filters)
        action = forward(
            message, match, scope.table_name, outer, scope.retry, scope.limits, where, scope.specifiers
        )
        if action.mirrors is None:
            action.mirrors = scope.mirrors
        if key and len(where.problems.items) == told:
            scope.actions[key] = action
    return action


def _serialized(message: Any) -> bytes:
    """What stands for a message; empty for one that protobuf cannot write (nested too deep)."""
    try:
        data: bytes = message.SerializeToString()
    except EncodeError:
        return b""
    return data


def _action(
    message: Any, match: PathMatch, own_filters: FilterSettings, scope: _Scope, where: Where
) -> Action:
    kind = message.WhichOneof("action")
    if kind == "route":
        action = _forward(message.route, match, own_filters, scope, where.field("route"))
        if action.internal_redirects is None:
            action.internal_redirects = internal_redirects(message.route, message.name, where.field("route"))
        return action
    if kind == "redirect":
        return redirect(message.redirect, match, where.field("redirect"))
    if kind == "filter_action":
        return FilterAction()
    if kind == "direct_response":
        return direct_response(message.direct_response, scope.body_limit, where.field("direct_response"))
    if kind is None:
        where.problem("a route needs one of route, redirect, direct_response, filter_action, non_forwarding_action")
    return NonForwarding()
