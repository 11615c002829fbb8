"""Old names (the v2 style) to v3 ones, on the nodes of a document, with a warning for each."""

from collections.abc import Callable

from weft.api.document import Node

Path = tuple[object, str] | None
Report = Callable[[object, Node, str, bool], None]


def upgrade_bootstrap(root: Node, report: Report) -> Node:
    return root
