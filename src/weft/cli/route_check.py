"""``weft route check``: the flags, the output and the exit status of Envoy's ``router_check_tool``.

What scripts read is the same: names of tests that pass and coverage on standard output, tests that
fail on standard error, status 1 when a test fails, coverage is too low or a file is wrong.  What is
ours: places in files, ``--json``, ``--table``, and colour where a person looks.
"""

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, TextIO

_EXAMPLES = """\
examples:
  weft route check -c routes.yaml -t tests.yaml
  weft route check -c routes.yaml -t tests.yaml --details
  weft route check -c routes.yaml -t tests.json --only-show-failures
  weft route check -c routes.yaml -t tests.yaml --fail-under 90 --covall
  weft route check -c envoy.yaml --table local_route -t tests.yaml --json

exit status: 0 when every test passes (and coverage is enough), else 1
"""


_PROBLEMS = 50
"""Of a file that are told."""


class _Wrong(Exception):
    """The command line cannot be used; the text says why."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Wrong(message)


def main(arguments: Sequence[str]) -> int:
    """Run ``weft route check``; the exit status."""
    try:
        given = _parser().parse_args(arguments)
        _take_positional(given)
    except _Wrong as wrong:
        print(f"error: {wrong}\nFor all flags: weft route check --help", file=sys.stderr)
        return 1
    except SystemExit as end:  # --help, --version
        return int(end.code or 0)
    try:
        return _run(given)
    except BrokenPipeError:  # `| head`
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(given: argparse.Namespace) -> int:
    # Here, so that --help does not wait for the schema and every matcher.
    from weft.api.problems import ConfigError
    from weft.proxy.route_check.check import check
    from weft.proxy.route_check.files import load_table, load_tests

    try:
        checked = load_table(given.config_path, given.table, allow_deprecated=given.disable_deprecation_check)
        tests, problems = load_tests(given.test_path)
        report = check(checked, tests, problems)
    except ConfigError as error:
        for problem in error.problems[:_PROBLEMS]:
            print(f"error: {problem}", file=sys.stderr)
        if len(error.problems) > _PROBLEMS:
            print(f"error: and {len(error.problems) - _PROBLEMS} more", file=sys.stderr)
        return 1
    for warning in [*checked.problems.items, *problems.items]:
        print(f"warning: {warning}", file=sys.stderr)
    percent = report.coverage.percent(given.covall)
    enough = not given.fail_under or percent >= given.fail_under
    if given.json or given.output_path:
        from weft.proxy.route_check.report import write_report

        locate = problems.locate or (lambda path: (given.test_path, 0, 0))
        text = write_report(
            report,
            locate,
            comprehensive=given.covall,
            required=given.fail_under,
            failures_only=given.only_show_failures,
        )
        if given.output_path and not _write(given.output_path, text):
            return 1
        if given.json:
            print(text, end="")
            return 0 if enough and not report.failed else 1
    console = _Console()
    _print_results(console, given, report)
    if report.failed:
        # Coverage is for tests that pass.
        if not given.details and not given.only_show_failures:
            console.bad(f"{len(report.failed)} of {len(report.results)} tests failed; --details shows them")
        return 1
    _print_missing(console, given, report.coverage)
    console.good(f"Current route coverage: {percent:g}%")
    if not enough:
        console.bad(f"Failed to meet coverage requirement: {given.fail_under:g}%")
    return 0 if enough else 1


def _write(path: str, text: str) -> bool:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        print(f"error: {path}: cannot be written: {error.strerror}", file=sys.stderr)
        return False
    return True


def _print_results(console: "_Console", given: argparse.Namespace, report: Any) -> None:
    passed_too = given.details and not given.only_show_failures
    for result in report.results:
        if result.passed:
            if passed_too:
                console.good(result.name)
        elif given.details or given.only_show_failures:
            console.bad(result.name)
            for failure in result.failures:
                console.detail(str(failure))


def _print_missing(console: "_Console", given: argparse.Namespace, coverage: Any) -> None:
    if not given.covall and not given.detailed_coverage:
        return
    from google.protobuf import text_format

    for route in coverage.uncovered():
        if given.covall:
            written = None if route.match is None else text_format.MessageToString(route.match)
            told = f"route: {written or ' and '.join(route.conditions)}"
        else:
            told = f"route name: {route.route}-{route.place}"
        console.line(f"Missing test for host: {route.virtual_host}, {told}")


class _Console:
    """Lines in their order, whichever of the two streams they go to."""

    def __init__(self) -> None:
        self._last: TextIO = sys.stdout

    def good(self, text: str) -> None:
        self._put(sys.stdout, text, "32")

    def bad(self, text: str) -> None:
        self._put(sys.stderr, text, "31")

    def detail(self, text: str) -> None:
        self._put(sys.stderr, text, "")

    def line(self, text: str) -> None:
        self._put(sys.stdout, text, "")

    def _put(self, stream: TextIO, text: str, colour: str) -> None:
        if stream is not self._last:
            self._last.flush()
            self._last = stream
        if colour and coloured(stream):
            text = f"\x1b[{colour}m{text}\x1b[0m"
        print(text, file=stream)


def coloured(stream: TextIO) -> bool:
    """Whether a person looks at ``stream`` and has not asked for plain text."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


# -- the command line ------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="weft route check",
        description="Send described requests through a route table, and compare what it makes of them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "-c",
        "--config-path",
        metavar="FILE",
        default="",
        help="route table: a RouteConfiguration, or a bootstrap; YAML, JSON, .pb or .pb_text",
    )
    add("-t", "--test-path", metavar="FILE", default="", help="tests: YAML, JSON, .pb or .pb_text")
    add(
        "-d", "--details", action="store_true", help="show every test, and what is wrong with those that fail"
    )
    add("--only-show-failures", action="store_true", help="show tests that fail, and no other")
    add(
        "-f",
        "--fail-under",
        metavar="PERCENT",
        type=_percent,
        default=0.0,
        help="fail when coverage is lower",
    )
    add("--covall", action="store_true", help="count every field that can be asserted of a route")
    add("--detailed-coverage", action="store_true", help="list the routes that no test covers")
    add(
        "--disable-deprecation-check",
        action="store_true",
        help="take deprecated fields, even those that Envoy refuses by default",
    )
    add("-o", "--output-path", metavar="FILE", default="", help="write the JSON report there as well")
    add("--json", action="store_true", help="print a JSON report and nothing else")
    add("--table", metavar="NAME", help="the route table of a bootstrap that has several")
    add("--useproto", action="store_true", help="no effect: tests have had no other form since Envoy 1.15")
    from weft import __version__

    add("--version", action="version", version=f"weft route check  version: {__version__}")
    add("files", nargs="*", metavar="FILE", help="route table and tests, in place of -c and -t")
    return parser  # fmt: skip


def _take_positional(given: argparse.Namespace) -> None:
    """``CONFIG TESTS``, as the tool was once called; beside both flags they are ignored, as by Envoy's."""
    files = list(given.files)
    if not given.config_path and files:
        given.config_path = files.pop(0)
    if not given.test_path and files:
        given.test_path = files.pop(0)
    if not given.config_path or not given.test_path:
        raise _Wrong("Both --config-path/c and --test-path/t are mandatory")


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise argparse.ArgumentTypeError(f"not a number: {text!r}")
    return value
