"""Internal redirects as routes write them (``internal_redirect_policy``).

A policy says which redirects of an upstream the proxy follows itself.  Its *predicates* are
extensions of the kind ``internal_redirect_predicate`` that look at where a redirect leads; three of
them, Envoy's, are here.  :mod:`weft.proxy.http.internal_redirect` follows.
"""

from typing import Any, Final

from mypy_extensions import mypyc_attr

from weft.api.problems import Where
from weft.api.values import wrapped
from weft.proxy.extension_config import resolve
from weft.proxy.extensions import InternalRedirectPredicateKind
from weft.proxy.route.header_rules import may_be_edited

_STATUSES: Final = (301, 302, 303, 307, 308)


@mypyc_attr(allow_interpreted_subclasses=True)
class InternalRedirectPredicate:
    """May this redirect be followed?  Subclass, one object per route."""

    def accepts(self, state: dict[str, Any], target: str, secure: bool, target_secure: bool) -> bool:
        """``target`` is the name of the route that the redirect leads to; ``secure``: is the request by
        https, and would it be.  ``state`` is the request's own, for all redirects that it meets."""
        raise NotImplementedError


class InternalRedirectPolicy:
    __slots__ = ("copied_headers", "cross_scheme", "most", "predicates", "statuses")

    def __init__(self) -> None:
        self.most: int = 1
        """Redirects of one request, this route's and those before."""
        self.statuses: frozenset[int] = frozenset((302,))
        self.cross_scheme: bool = False
        """Follow from http to https and back, too."""
        self.copied_headers: tuple[bytes, ...] = ()
        """Taken over from the redirect into the new request, and left out where it has none."""
        self.predicates: tuple[InternalRedirectPredicate, ...] = ()


def internal_redirects(message: Any, route_name: str, where: Where) -> InternalRedirectPolicy | None:
    """From a ``RouteAction``, which has an older way to say it besides; None to pass redirects on."""
    if not message.HasField("internal_redirect_policy"):
        if message.internal_redirect_action != 1:  # HANDLE_INTERNAL_REDIRECT
            return None
        policy = InternalRedirectPolicy()
        policy.most = wrapped(message, "max_internal_redirects", 1)
        return policy
    given = message.internal_redirect_policy
    where = where.field("internal_redirect_policy")
    policy = InternalRedirectPolicy()
    policy.most = wrapped(given, "max_internal_redirects", 1)
    if given.redirect_response_codes:
        # As in Envoy, numbers that are no redirects are not heard.
        policy.statuses = frozenset(given.redirect_response_codes).intersection(_STATUSES)
    policy.cross_scheme = given.allow_cross_scheme_redirect
    names = [name.lower().encode() for name in given.response_headers_to_copy]
    for i, name in enumerate(names):
        if not may_be_edited(name):
            where.field("response_headers_to_copy").item(i).problem(
                ":-prefixed headers or Hosts may not be specified here."
            )
    policy.copied_headers = tuple(names)
    predicates: list[InternalRedirectPredicate] = []
    place = where.field("predicates")
    for i, extension in enumerate(given.predicates):
        found = resolve("internal_redirect_predicate", extension, place.item(i))
        if found is None:
            continue
        kind, settings = found
        if isinstance(kind, InternalRedirectPredicateKind):
            predicates.append(kind.build(settings, route_name))
    policy.predicates = tuple(predicates)
    return policy


# -- predicates ------------------------------------------------------------------------------------


class PreviousRoutes(InternalRedirectPredicate):
    """Not where this route has sent the request before."""

    def __init__(self, route_name: str) -> None:
        self._key: str = f"previous_routes.{route_name}"

    def accepts(self, state: dict[str, Any], target: str, secure: bool, target_secure: bool) -> bool:
        visited: set[str] = state.setdefault(self._key, set())
        if target in visited:
            return False
        visited.add(target)
        return True


class AllowListedRoutes(InternalRedirectPredicate):
    """To routes of these names only."""

    def __init__(self, allowed: frozenset[str]) -> None:
        self._allowed: frozenset[str] = allowed

    def accepts(self, state: dict[str, Any], target: str, secure: bool, target_secure: bool) -> bool:
        return target in self._allowed


class SafeCrossScheme(InternalRedirectPredicate):
    """Not from http to https: what was sent in the clear shall not look as if it had been secret."""

    def accepts(self, state: dict[str, Any], target: str, secure: bool, target_secure: bool) -> bool:
        return secure or not target_secure


_TYPES: Final = "envoy.extensions.internal_redirect."


def _nothing(message: Any, where: Where) -> None:
    return None


def _allowed(message: Any, where: Where) -> frozenset[str]:
    return frozenset(message.allowed_route_names)


def _previous(settings: Any, route_name: str) -> PreviousRoutes:
    return PreviousRoutes(route_name)


def _listed(settings: Any, route_name: str) -> AllowListedRoutes:
    return AllowListedRoutes(settings)


def _safe(settings: Any, route_name: str) -> SafeCrossScheme:
    return SafeCrossScheme()


PREVIOUS_ROUTES: Final = InternalRedirectPredicateKind(
    name="envoy.internal_redirect_predicates.previous_routes",
    type=_TYPES + "previous_routes.v3.PreviousRoutesConfig",
    settings=_nothing,
    build=_previous,
)
ALLOW_LISTED_ROUTES: Final = InternalRedirectPredicateKind(
    name="envoy.internal_redirect_predicates.allow_listed_routes",
    type=_TYPES + "allow_listed_routes.v3.AllowListedRoutesConfig",
    settings=_allowed,
    build=_listed,
)
SAFE_CROSS_SCHEME: Final = InternalRedirectPredicateKind(
    name="envoy.internal_redirect_predicates.safe_cross_scheme",
    type=_TYPES + "safe_cross_scheme.v3.SafeCrossSchemeConfig",
    settings=_nothing,
    build=_safe,
)
