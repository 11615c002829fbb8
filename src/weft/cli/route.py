"""``weft route``: programs about route tables, each a module with ``main(arguments)``."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

PROGRAMS: Final = {
    "check": ("weft.cli.route_check", "test a route table (in place of Envoy's router_check_tool)"),
    "explain": ("weft.cli.route_explain", "why does a request match, or not, and what happens then"),
}
"""Subcommand -> its module, which is imported when it is asked for, and what it does."""


def main(arguments: Sequence[str]) -> int:
    """Run ``weft route``; the exit status."""
    name = arguments[0] if arguments else ""
    if name in PROGRAMS:
        status: int = import_module(PROGRAMS[name][0]).main(arguments[1:])
        return status
    if name in ("-h", "--help", "help"):
        print(_help())
        return 0
    if name:
        print(f"weft route: there is no {name!r}; `weft route --help` lists what there is", file=sys.stderr)
    else:
        print(_help(), file=sys.stderr)
    return 1


def _help() -> str:
    rows = [f"  {name:<9} {what}" for name, (_, what) in PROGRAMS.items()]
    return "\n".join(
        [
            "usage: weft route COMMAND ...",
            "",
            "commands:",
            *rows,
            "",
            "For all flags: weft route COMMAND --help",
        ]
    )
