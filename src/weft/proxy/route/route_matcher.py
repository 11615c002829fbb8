"""``VirtualHost.matcher``: a matcher tree that leads to routes.

An action is a ``Route`` or a ``RouteList``.  What the tree finds are the routes that are tried, in
their order; each still has a ``match`` of its own, and inherits from virtual host and table as every
route does.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from weft.api.problems import Where
from weft.api.unpack import type_name, unpack
from weft.proxy.matching.build import actions_of, matcher_tree
from weft.proxy.matching.tree import Tree
from weft.proxy.matching.vocabulary import ENVIRONMENT, FILTER_STATE, HTTP_INPUTS, REQUEST_HEADER, Grammar

if TYPE_CHECKING:
    from weft.proxy.route.table import Route

_ROUTE: Final = "envoy.config.route.v3.Route"
_ROUTE_LIST: Final = "envoy.config.route.v3.RouteList"
_INPUTS: Final = frozenset((REQUEST_HEADER, FILTER_STATE, ENVIRONMENT))
"""What is known when a route is looked for; Envoy allows no more."""


class _Routes:
    """The actions, gathered as they are read."""

    def __init__(self, read: "Callable[[Any, Where], Route]") -> None:
        self._read = read
        self.all: list[Route] = []

    def one(self, message: Any, where: Where) -> "tuple[Route, ...] | None":
        route = self._read(message, where)
        self.all.append(route)
        return (route,)

    def several(self, message: Any, where: Where) -> "tuple[Route, ...] | None":
        place = where.field("routes")
        routes = tuple([self._read(route, place.item(i)) for i, route in enumerate(message.routes)])
        self.all.extend(routes)
        return routes


def route_matcher(
    message: Any, read: "Callable[[Any, Where], Route]", where: Where
) -> "tuple[Tree[tuple[Route, ...]], tuple[Route, ...]]":
    """The tree, and all routes that it may lead to; ``read`` turns a ``Route`` message into one."""
    routes = _Routes(read)
    grammar: Grammar[tuple[Route, ...]] = Grammar(
        inputs=HTTP_INPUTS,
        actions={_ROUTE: routes.one, _ROUTE_LIST: routes.several},
        only_inputs=_INPUTS,
        only_inputs_text="Route table can only match on request headers",
        keep_matching=False,
    )
    return matcher_tree(message, grammar, where), tuple(routes.all)


def routes_of(message: Any, where: Where) -> Iterator[tuple[Any, Where]]:
    """Every ``Route`` message of a ``VirtualHost.matcher`` that is not compiled, with its place."""
    for action, place in actions_of(message, where):
        name = type_name(action.typed_config)
        if name not in (_ROUTE, _ROUTE_LIST):
            continue
        at = place.field("typed_config")
        config = unpack(action.typed_config, Where.nowhere())
        if config is not None and name == _ROUTE:
            yield config, at
        elif config is not None:
            for i, route in enumerate(config.routes):
                yield route, at.field("routes").item(i)
