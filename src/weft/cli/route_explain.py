"""``weft route explain``: why does a request match, or not?

From a configuration it explains itself; from a running proxy it asks the admin server.  Exit status: 0
for a request that some route takes, 1 for one that none does, 2 when the question is wrong.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from weft.api.problems import ConfigError
from weft.proxy.explain.question import WrongQuestion

MATCHED: Final = 0
NO_ROUTE: Final = 1
WRONG: Final = 2

MOST_LINES: Final = 100
"""Of a log."""
TIMEOUT: Final = 30.0
"""Seconds for the admin server to answer."""

_EXAMPLES: Final = """\
examples:
  weft route explain -c envoy.yaml GET https://shop.example.com/api/items?x=1
  weft route explain -c routes.yaml POST shop.example.com/api -H 'x-version: 2' --random 95
  weft route explain -c envoy.yaml --listener ingress --authority shop.example.com --path /api
  weft route explain --admin http://127.0.0.1:9901 GET http://shop.example.com/api
  tail -1 access.log | weft route explain -c envoy.yaml --log -

exit status:
  0  a route matches (in one of the tables)
  1  none does
  2  the question, or the configuration, is wrong
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise WrongQuestion("", message)


def main(words: Sequence[str]) -> int:
    """Run ``weft route explain``; the exit status."""
    try:
        given = _parser().parse_intermixed_args(list(words))
        questions = _questions(given)
        explained = _from_admin(given, questions) if given.admin else _from_file(given, questions)
    except WrongQuestion as wrong:
        print(f"error: {wrong}\nFor all flags: weft route explain --help", file=sys.stderr)
        return WRONG
    except ConfigError as error:
        print(error, file=sys.stderr)
        return WRONG
    except SystemExit as end:  # --help
        return int(end.code or 0)
    try:
        _print(explained, "json" if given.json else "text")
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return MATCHED if any(one.matched for one in explained) else NO_ROUTE


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="weft route explain",
        usage="weft route explain (-c FILE | --admin URL) [METHOD] URL [options]",
        description="Say which virtual host and route take a request, why the others do not, and what happens then.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("request", nargs="*", metavar="[METHOD] URL", help="such as: GET https://shop.example.com/api?x=1")
    source = parser.add_argument_group("where the routes are")
    source.add_argument(
        "-c", "--config-path", metavar="FILE", default="", help="a bootstrap, or a RouteConfiguration"
    )
    source.add_argument("--admin", metavar="URL", default="", help="the admin server of a running proxy")
    source.add_argument("--address", metavar="HOST:PORT", dest="admin", help="the same, without http://")
    source.add_argument("--listener", metavar="NAME", default="", help="only the tables of this listener")
    source.add_argument("--table", metavar="NAME", default="", help="only the table of this name")
    asked = parser.add_argument_group("the request")
    asked.add_argument("--method", metavar="METHOD", default="")
    asked.add_argument("--authority", metavar="HOST", default="")
    asked.add_argument("--path", metavar="PATH", default="", help="with the query")
    asked.add_argument("--scheme", choices=("http", "https"), default="")
    asked.add_argument(
        "--tls", action="store_true", help="the client's connection is encrypted (as --scheme https)"
    )
    asked.add_argument(
        "-H", "--header", metavar="'NAME: VALUE'", action="append", default=[], help="may be repeated"
    )
    asked.add_argument(
        "--internal", action="store_true", help="the client is trusted as one from inside the mesh"
    )
    asked.add_argument("--remote", metavar="IP", default="", help="the client's address (127.0.0.1)")
    asked.add_argument(
        "--random", metavar="N", type=_number, default=None, help="the number that draws weights (0)"
    )
    asked.add_argument("--runtime", metavar="KEY=VALUE", action="append", default=[], help="may be repeated")
    asked.add_argument(
        "--log", metavar="LINE|FILE|-", default="", help="the request is that of an access-log line in JSON"
    )
    shown = parser.add_argument_group("what is shown")
    shown.add_argument(
        "--all", action="store_true", help="every virtual host and route, however many there are"
    )
    shown.add_argument("--json", action="store_true", help="as JSON (docs/explain.md has its shape)")
    return parser


def _number(text: str) -> int:
    if not text.isdigit() or len(text) > 20:
        raise argparse.ArgumentTypeError(f"expected a whole number, not {text!r}")
    return int(text)


# -- the question ----------------------------------------------------------------------------------


def _questions(given: argparse.Namespace) -> list[dict[str, Any]]:
    """In the form of ``POST /route/explain``; a log may hold several."""
    if bool(given.config_path) == bool(given.admin):
        raise WrongQuestion("", "give one of -c FILE and --admin URL: where are the routes?")
    flags = _flags(given)
    if not given.log:
        if "url" not in flags and "authority" not in flags:
            raise WrongQuestion("", "give a request, such as GET https://shop.example.com/api")
        return [flags]
    from weft.proxy.explain.access_log import asked_in

    out = []
    for line in _lines(given.log):
        asked = asked_in(line)
        headers = asked.pop("headers") + flags.get("headers", [])
        out.append({**asked, **flags, "headers": headers})
    return out


def _flags(given: argparse.Namespace) -> dict[str, Any]:
    out: dict[str, Any] = {}
    words = list(given.request)
    if len(words) > 2:
        raise WrongQuestion("", f"expected METHOD and URL, not {' '.join(words)!r}")
    if len(words) == 2:
        out["method"] = words.pop(0)
    if words:
        url = words.pop()
        if "/" not in url and "." not in url and ":" not in url and url.isupper():
            out["method"] = url  # a method by itself: the rest stands in flags
        else:
            out["url"] = url
    for name in ("method", "authority", "path", "scheme", "remote", "listener", "table"):
        value = getattr(given, name)
        if value:
            out[name] = value
    for name in ("tls", "internal", "all"):
        if getattr(given, name):
            out[name] = True
    if given.random is not None:
        out["random"] = given.random
    if given.header:
        out["headers"] = [_header(text) for text in given.header]
    if given.runtime:
        out["runtime"] = dict(_runtime(text) for text in given.runtime)
    return out


def _header(text: str) -> list[str]:
    start = 1 if text.startswith(":") else 0
    at = text.find(":", start)
    if at <= start:
        raise WrongQuestion("-H", f"expected 'name: value', not {text!r}")
    return [text[:at], text[at + 1 :].strip()]


def _runtime(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise WrongQuestion("--runtime", f"expected KEY=VALUE, not {text!r}")
    return key, value


def _lines(log: str) -> list[str]:
    if log.lstrip().startswith("{"):
        return [log]
    try:
        if log == "-":
            text = sys.stdin.read()
        else:
            with open(log, encoding="utf-8") as file:
                text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise WrongQuestion("--log", f"{log} cannot be read: {error}") from None
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise WrongQuestion("--log", "there is no line in it")
    if len(lines) > MOST_LINES:
        raise WrongQuestion("--log", f"{len(lines)} lines; at most {MOST_LINES} are explained at once")
    return lines


# -- the answer ------------------------------------------------------------------------------------


def _from_file(given: argparse.Namespace, questions: list[dict[str, Any]]) -> list[Any]:
    import asyncio

    from weft.proxy.explain.explain import explain
    from weft.proxy.explain.question import question
    from weft.proxy.explain.sources import sources_of_file
    from weft.proxy.explain.tables import choose
    from weft.steps import at_once

    sources, problems = sources_of_file(given.config_path)
    for problem in problems:
        print(f"{problem} (warning: explained all the same)", file=sys.stderr)
    loop = asyncio.new_event_loop()  # tells the time; nothing runs on it
    try:
        return [
            at_once(explain(table, asked, sources, loop))
            for asked in [question(value) for value in questions]
            for table in choose(sources.tables, asked)
        ]
    finally:
        loop.close()


def _from_admin(given: argparse.Namespace, questions: list[dict[str, Any]]) -> list[Any]:
    from weft.proxy.explain.explanation import restored

    out = []
    for value in questions:
        try:
            answer = json.loads(_post(given.admin, json.dumps(value).encode()))
            out += [restored(one) for one in answer["explanations"]]
        except (ValueError, TypeError, KeyError) as error:
            if isinstance(error, WrongQuestion):
                raise
            raise WrongQuestion(
                "--admin", f"{given.admin} does not answer as a Weft proxy does: {error}"
            ) from None
    return out


def _post(address: str, body: bytes) -> bytes:
    import http.client
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        if parts.scheme != "http" or not parts.hostname:
            raise WrongQuestion("--admin", f"expected http://HOST:PORT, not {address!r}")
        connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=TIMEOUT)
    except ValueError as error:
        if isinstance(error, WrongQuestion):
            raise
        raise WrongQuestion("--admin", f"expected http://HOST:PORT, not {address!r}: {error}") from None
    try:
        path = f"{parts.path.rstrip('/')}/route/explain"
        connection.request("POST", path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        text = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise WrongQuestion("--admin", f"{address} cannot be asked: {error}") from None
    finally:
        connection.close()
    if response.status != 200:
        said = text.decode("utf-8", "replace").strip().partition("\n")[0]
        raise WrongQuestion("--admin", f"{address} answers {response.status}: {said}")
    return text


def _print(explained: list[Any], form: str) -> None:
    from weft.proxy.explain.explanation import as_json
    from weft.proxy.explain.text import render

    if form == "json":
        print(as_json(explained).decode(), end="")
    else:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        print(render(explained, colour=colour), end="")
