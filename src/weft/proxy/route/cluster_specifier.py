"""Cluster specifier plugins: code that names the cluster of a request.

``cluster_specifier_plugins`` of a table, or one written into a route.  Built in is Envoy's *matcher*
specifier, a matcher tree whose actions are cluster names; your own is a subclass of
:class:`ClusterSpecifier` by the entry point ``weft.cluster_specifier``
(:class:`~weft.proxy.extensions.ClusterSpecifierKind`).
"""

from typing import Any, Final

from mypy_extensions import mypyc_attr

from weft.api.problems import Where
from weft.api.unpack import type_name
from weft.http.message import Request
from weft.proxy import extensions
from weft.proxy.extension_config import resolve
from weft.proxy.extensions import ClusterSpecifierKind
from weft.proxy.matching.build import matcher_tree
from weft.proxy.matching.inputs import Subject
from weft.proxy.matching.tree import Inconclusive, Tree
from weft.proxy.matching.vocabulary import HTTP_INPUTS, Grammar
from weft.proxy.observe.stream_info import StreamInfo
from weft.proxy.runtime import Runtime


@mypyc_attr(allow_interpreted_subclasses=True)
class ClusterSpecifier:
    """Names clusters.  This one names none, as Envoy does for an optional plugin that is not there."""

    def choose(
        self, request: Request, info: StreamInfo, random_value: int, runtime: Runtime
    ) -> str | None:
        """The cluster of ``request``; None for none.  ``random_value`` is stable for a stream."""
        return None

    def clusters(self) -> set[str]:
        """The clusters that it may name, as far as that is known beforehand."""
        return set()

    def describe(self) -> str:
        return "no cluster"


class MatcherSpecifier(ClusterSpecifier):
    """``envoy.router.cluster_specifier_plugin.matcher``."""

    def __init__(self, tree: Tree[str], names: frozenset[str]) -> None:
        self.tree: Tree[str] = tree
        self._names: frozenset[str] = names

    def choose(
        self, request: Request, info: StreamInfo, random_value: int, runtime: Runtime
    ) -> str | None:
        found = self.tree.find(Subject(info.connection, runtime, info, request))
        return None if isinstance(found, Inconclusive) else found

    def clusters(self) -> set[str]:
        return set(self._names)

    def describe(self) -> str:
        return f"the cluster of a matcher ({self.tree.describe()})"


# -- from configuration ----------------------------------------------------------------------------

_ACTION: Final = "envoy.extensions.router.cluster_specifiers.matcher.v3.ClusterAction"


class _Names:
    """The actions of the matcher: names of clusters, gathered as they are read."""

    def __init__(self) -> None:
        self.all: set[str] = set()

    def one(self, message: Any, where: Where) -> str | None:
        name: str = message.cluster
        if not name:
            where.field("cluster").problem("value length must be at least 1 characters")
        self.all.add(name)
        return name


def _matcher_specifier(message: Any, where: Where) -> MatcherSpecifier:
    names = _Names()
    grammar: Grammar[str] = Grammar(inputs=HTTP_INPUTS, actions={_ACTION: names.one})
    tree = matcher_tree(message.cluster_matcher, grammar, where.field("cluster_matcher"))
    return MatcherSpecifier(tree, frozenset(names.all))


def cluster_specifier(message: Any, where: Where) -> ClusterSpecifier:
    """From an ``envoy.config.route.v3.ClusterSpecifierPlugin``."""
    extension = message.extension
    if message.is_optional:
        wanted = type_name(extension.typed_config)
        if not wanted or extensions.find("cluster_specifier", extension.name, wanted) is None:
            return ClusterSpecifier()
    resolved = resolve("cluster_specifier", extension, where.field("extension"))
    if resolved is None:
        return ClusterSpecifier()
    kind, settings = resolved
    assert isinstance(kind, ClusterSpecifierKind)
    built: ClusterSpecifier = kind.build(settings)
    return built


def cluster_specifiers(messages: Any, where: Where) -> dict[str, ClusterSpecifier]:
    """The plugins of a table by name; of two with one name the first holds, as in Envoy."""
    found: dict[str, ClusterSpecifier] = {}
    for i, message in enumerate(messages):
        found.setdefault(message.extension.name, cluster_specifier(message, where.item(i)))
    return found


def _built(settings: MatcherSpecifier) -> ClusterSpecifier:
    """It has no state, so what is configured is what runs."""
    return settings


MATCHER: Final = ClusterSpecifierKind(
    name="envoy.router.cluster_specifier_plugin.matcher",
    type="envoy.extensions.router.cluster_specifiers.matcher.v3.MatcherClusterSpecifier",
    settings=_matcher_specifier,
    build=_built,
)
