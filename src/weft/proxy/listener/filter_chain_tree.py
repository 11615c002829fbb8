"""``filter_chain_matcher``: which filter chain carries a connection, by a matcher tree.

The alternative to the criteria in each chain (:mod:`weft.proxy.listener.filter_chain_match`), which
are then ignored.  The tree's actions are names of chains.  A connection that it decides nothing
about gets the default chain; one that it sends to a chain that is not there gets none.
"""

from typing import Any, Final

from weft.api.problems import Where
from weft.api.unpack import type_name, unpack
from weft.proxy.listener.filter_chain_match import ChainChooser
from weft.proxy.matching.build import actions_of, matcher_tree
from weft.proxy.matching.inputs import Subject
from weft.proxy.matching.tree import Inconclusive, Tree
from weft.proxy.matching.vocabulary import NETWORK_INPUTS, Grammar
from weft.proxy.observe.stream_info import ConnectionInfo
from weft.proxy.runtime import Runtime

DEFAULT_CHAIN: Final = -1
NO_CHAIN: Final = -2


class ChainTree(ChainChooser):
    """The tree, with the chains of one listener by name."""

    def __init__(self, tree: Tree[str], names: tuple[str, ...], runtime: Runtime) -> None:
        super().__init__()
        self.tree: Tree[str] = tree
        self._runtime: Runtime = runtime
        self._numbers: dict[str, int] = {name: number for number, name in enumerate(names)}

    def find(self, info: ConnectionInfo) -> int:
        found = self.tree.find(Subject(info, self._runtime))
        if found is None or isinstance(found, Inconclusive):
            return DEFAULT_CHAIN
        return self._numbers.get(found, NO_CHAIN)


# -- from configuration ----------------------------------------------------------------------------

_NAME: Final = "google.protobuf.StringValue"


def _chain_name(message: Any, where: Where) -> str | None:
    name: str = message.value
    return name


_GRAMMAR: Final[Grammar[str]] = Grammar(inputs=NETWORK_INPUTS, actions={_NAME: _chain_name})


def chain_tree(message: Any, names: frozenset[str], where: Where) -> Tree[str]:
    """From the ``filter_chain_matcher`` of a listener with chains of these ``names``."""
    for action, place in actions_of(message, where):
        if type_name(action.typed_config) == _NAME:
            config = unpack(action.typed_config, Where.nowhere())
            if config is not None and config.value not in names:
                # Envoy says nothing, and closes the connections that get there.
                place.field("typed_config").warn(
                    f"there is no filter chain named '{config.value}': connections that get here are closed"
                )
    return matcher_tree(message, _GRAMMAR, where)
