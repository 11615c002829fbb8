"""``weft``: one command, its programs as subcommands.

A proxy is started by process managers, often many at a time: nothing is imported here that the
subcommand does not need.
"""

import sys
from collections.abc import Sequence

_HELP = """\
usage: weft [--version] [--help] COMMAND ...

Weft, a service mesh in Python.

commands:
  proxy     carry traffic as an Envoy configuration says (the data plane)
  route     test a route table, explain what it does with a request

examples:
  weft proxy -c envoy.yaml                       run a configuration, one worker per core
  weft proxy -c envoy.yaml --concurrency 1       everything in one process: a sidecar
  weft proxy -c envoy.yaml --mode validate       check it, say everything that is wrong with it
  weft proxy --help                              all flags (they are Envoy's)
  weft route check -c routes.yaml -t tests.yaml  test a route table, as Envoy's router_check_tool does
  weft route explain -c envoy.yaml GET http://shop.example.com/api   why does this request (not) match?
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = words[0] if words else ""
    if command == "proxy":
        import gc

        # What a start makes, it keeps: looking for garbage meanwhile only takes time.
        gc.disable()
        from weft.cli.proxy import main as proxy

        try:
            return proxy(words[1:])
        except KeyboardInterrupt:
            return 130
        finally:
            gc.enable()
    if command == "route":
        from weft.cli.route import main as route

        try:
            return route(words[1:])
        except KeyboardInterrupt:
            return 130
    if command == "--version":
        from weft import __version__

        print(f"weft {__version__}")
        return 0
    if command in ("-h", "--help", "help"):
        print(_HELP, end="")
        return 0
    if not command:
        print(_HELP, end="", file=sys.stderr)
        return 1
    print(f"weft: there is no command {command!r}; `weft --help` lists them", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
