"""``weft route check``: flags, output and exit status of Envoy's ``router_check_tool``."""

import io
import json
import re
import sys

import pytest

from weft.cli import route_check
from weft.cli.main import main as weft

SHOP = """
name: shop
virtual_hosts:
- name: shop
  domains: [shop.test, "*.shop.test"]
  routes:
  - name: cart
    match: {prefix: /cart}
    route: {cluster: carts, prefix_rewrite: /v2/cart}
  - match: {path: /ping}
    direct_response: {status: 200, body: {inline_string: "pong pong"}}
    response_headers_to_add:
    - header: {key: x-ping, value: "yes"}
  - match: {prefix: /old}
    redirect: {host_redirect: new.test, response_code: FOUND}
  - match: {prefix: /}
    route: {cluster: front, host_rewrite_literal: front.internal}
- name: rest
  domains: ["*"]
  routes:
  - match: {prefix: /}
    route: {cluster: rest}
"""


def case(name="t", authority="shop.test", path="/", method="GET", given=None, **expected):
    return {
        "test_name": name,
        "input": {"authority": authority, "path": path, "method": method, **(given or {})},
        "validate": expected,
    }


RIGHT = [
    case("cart", path="/cart/7", cluster_name="carts", path_rewrite="/v2/cart/7"),
    case("ping", path="/ping", code_redirect=200),
]
WRONG = [case("bad", cluster_name="carts", virtual_host_name="rest")]


@pytest.fixture
def check(tmp_path, capsys):
    """(exit status, standard output, standard error) of a check."""

    def run(tests, *flags, table=SHOP, name="routes.yaml"):
        (tmp_path / name).write_text(table)
        text = tests if isinstance(tests, str) else json.dumps({"tests": tests})
        (tmp_path / "tests.json").write_text(text)
        status = route_check.main(["-c", str(tmp_path / name), "-t", str(tmp_path / "tests.json"), *flags])
        shown = capsys.readouterr()
        return status, shown.out, shown.err.replace(str(tmp_path) + "/", "")

    return run


# -- what is printed, and the exit status ----------------------------------------------------------


def test_tests_that_pass_say_nothing_but_their_coverage(check):
    assert check(RIGHT) == (0, "Current route coverage: 40%\n", "")


def test_details_names_every_test(check):
    assert check(RIGHT, "--details") == (0, "cart\nping\nCurrent route coverage: 40%\n", "")


def test_a_failure_is_told_on_standard_error_and_ends_with_1(check):
    status, out, err = check(RIGHT + WRONG, "-d")

    assert status == 1
    assert out == "cart\nping\n"
    assert err == (
        "bad\n"
        "expected: [carts], actual: [front], test type: cluster_name\n"
        "expected: [rest], actual: [shop], test type: virtual_host_name\n"
    )


@pytest.mark.parametrize("flags", [["--only-show-failures"], ["--details", "--only-show-failures"]])
def test_only_failures_are_shown(check, flags):
    status, out, err = check(RIGHT + WRONG, *flags)

    assert (status, out) == (1, "")
    assert err.splitlines()[0] == "bad"
    assert "cart\n" not in err


def test_a_failure_is_never_silent(check):
    assert check(RIGHT + WRONG) == (1, "", "1 of 3 tests failed; --details shows them\n")


def test_lines_of_both_streams_keep_their_order(check, monkeypatch):
    both = io.StringIO()
    monkeypatch.setattr(sys, "stdout", both)
    monkeypatch.setattr(sys, "stderr", both)

    check([RIGHT[0], *WRONG, RIGHT[1]], "-d")

    assert [line for line in both.getvalue().splitlines() if ":" not in line] == ["cart", "bad", "ping"]


def test_colour_is_for_terminals(check, monkeypatch, capsys):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b" not in check(RIGHT, "-d")[1]

    monkeypatch.setattr(route_check, "coloured", lambda stream: True)
    _, out, _ = check(RIGHT, "-d")
    assert out.startswith("\x1b[32mcart\x1b[0m\n")


@pytest.mark.parametrize(
    ("environment", "terminal", "coloured"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
    ],
)
def test_who_gets_colour(monkeypatch, environment, terminal, coloured):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = io.StringIO()
    stream.isatty = lambda: terminal

    assert route_check.coloured(stream) is coloured


# -- coverage --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "status", "told"),
    [
        (["-f", "40"], 0, ""),
        (["--fail-under", "40.5"], 1, "Failed to meet coverage requirement: 40.5%\n"),
        (["--fail-under=100"], 1, "Failed to meet coverage requirement: 100%\n"),
        (["-f", "0"], 0, ""),
    ],
)
def test_fail_under(check, flags, status, told):
    assert check(RIGHT, *flags) == (status, "Current route coverage: 40%\n", told)


def test_covall_counts_fields_and_lists_what_is_missing(check):
    status, out, _ = check(RIGHT, "--covall")

    assert status == 0
    assert 'Missing test for host: shop, route: prefix: "/old"\n' in out
    assert 'Missing test for host: rest, route: prefix: "/"\n' in out
    # cart: 2 of 5 fields; ping: 1 of 2; three routes nothing.
    assert out.endswith("Current route coverage: 18%\n")


def test_detailed_coverage_lists_routes_by_name(check):
    _, out, _ = check([RIGHT[1]], "--detailed-coverage")

    assert out.splitlines() == [
        "Missing test for host: shop, route name: cart-virtual_hosts[0].routes[0]",
        "Missing test for host: shop, route name: -virtual_hosts[0].routes[2]",
        "Missing test for host: shop, route name: -virtual_hosts[0].routes[3]",
        "Missing test for host: rest, route name: -virtual_hosts[1].routes[0]",
        "Current route coverage: 20%",
    ]


def test_coverage_is_for_tests_that_pass(check):
    _, out, _ = check(WRONG, "--covall", "--detailed-coverage", "-f", "100")

    assert out == ""


# -- forms of files --------------------------------------------------------------------------------


def test_json_may_end_with_a_comma(check):
    text = json.dumps({"tests": RIGHT}).replace("]}", ",]}")

    assert check(text)[0] == 0


def test_yaml_and_text_protobuf(tmp_path):
    (tmp_path / "routes.yaml").write_text(SHOP)
    (tmp_path / "t.yaml").write_text(
        "tests:\n- test_name: a\n  input: {authority: x, path: /, method: GET}\n  validate: {cluster_name: rest}\n"
    )
    (tmp_path / "t.pb_text").write_text(
        'tests { test_name: "a" input { authority: "x" path: "/" method: "GET" }'
        ' validate { cluster_name { value: "rest" } } }'
    )

    for name in ("t.yaml", "t.pb_text"):
        assert weft(["route", "check", "-c", str(tmp_path / "routes.yaml"), "-t", str(tmp_path / name)]) == 0


def test_binary_forms(tmp_path):
    from weft.proxy.route_check.files import load_table, load_tests

    (tmp_path / "routes.yaml").write_text(SHOP)
    (tmp_path / "t.json").write_text(json.dumps({"tests": RIGHT}))
    table = load_table(str(tmp_path / "routes.yaml")).config
    (tmp_path / "routes.pb").write_bytes(table.SerializeToString())
    (tmp_path / "t.pb").write_bytes(load_tests(str(tmp_path / "t.json"))[0].SerializeToString())

    assert weft(["route", "check", "-c", str(tmp_path / "routes.pb"), "-t", str(tmp_path / "t.pb")]) == 0


# -- what is wrong with files ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tests", "told"),
    [
        (
            '{"tests": [\n  {"test_name": "t", "input": {"authority": "a", "path": "/"}, "validate": {}}]}',
            "error: tests.json:2:31: tests[0].input.method: must have at least 3 characters",
        ),
        ('{"tests": []}', "error: tests.json:1:11: tests: must not be empty"),
        (
            '{"tests": [{"test_name": "t", "validate": {}}]}',
            "error: tests.json:1:12: tests[0].input: is required",
        ),
        (
            '{"tests": [{"test_name": "t", "input": {"authority": "a", "path": "/", "method": "GET"}}]}',
            "tests[0].validate: is required",
        ),
        (
            '{"tests": [{"test_name": "t", "input": {"authority": "a", "path": "/", "method": "GET", "additional_headers": []}, "validate": {}}]}',
            "tests.json:1:89: tests[0].input.additional_headers: unknown field 'additional_headers'",
        ),
        ('{"tests": ', "error: tests.json:1:11: not JSON"),
        (
            json.dumps(
                {
                    "tests": [
                        case(
                            request_header_matches=[
                                {"name": "x", "string_match": {"safe_regex": {"regex": "("}}}
                            ]
                        )
                    ]
                }
            ),
            "tests[0].validate.request_header_matches[0].string_match.safe_regex",
        ),
    ],
)
def test_a_wrong_test_file(check, tests, told):
    status, out, err = check(tests)

    assert (status, out) == (1, "")
    assert told in err


def test_a_wrong_configuration(check):
    status, _, err = check(RIGHT, table="virtual_hosts:\n- name: a\n  domainz: ['*']\n")
    assert status == 1
    assert err.startswith("error: routes.yaml:3:3: virtual_hosts[0].domainz: unknown field 'domainz'")

    # The tests in place of the table.
    status, _, err = check(RIGHT, table=json.dumps({"tests": RIGHT}), name="routes.json")
    assert status == 1
    assert "unknown field 'tests' in envoy.config.route.v3.RouteConfiguration" in err


def test_a_table_that_a_proxy_would_refuse(check):
    status, _, err = check(
        RIGHT, table="virtual_hosts:\n- {name: a, domains: ['*']}\n- {name: b, domains: ['*']}\n"
    )

    assert status == 1
    assert "routes.yaml:3:" in err
    assert "Only a single wildcard domain is permitted" in err


def test_thousands_of_problems_are_not_all_told(check):
    status, _, err = check([case(method="G") for _ in range(200)])

    assert status == 1
    assert len(err.splitlines()) == 51
    assert err.endswith("error: and 150 more\n")


def test_a_missing_file(tmp_path, capsys):
    (tmp_path / "routes.yaml").write_text(SHOP)

    assert route_check.main(["-c", str(tmp_path / "no.yaml"), "-t", "x"]) == 1
    assert "no.yaml: cannot be read: No such file" in capsys.readouterr().err
    assert route_check.main(["-c", str(tmp_path / "routes.yaml"), "-t", str(tmp_path / "no.json")]) == 1
    assert "no.json: cannot be read: No such file" in capsys.readouterr().err


DEPRECATED = """
virtual_hosts:
- name: a
  domains: ["*"]
  routes:
  - match: {prefix: /}
    route: {cluster: c, %s}
"""


def test_a_deprecated_field_is_told_or_taken(check):
    table = DEPRECATED % "max_grpc_timeout: 1s"
    tests = [case(cluster_name="c")]

    status, _, err = check(tests, table=table)
    assert status == 0
    assert (
        "warning: routes.yaml:7:43: virtual_hosts[0].routes[0].route.max_grpc_timeout: this field is deprecated\n"
        in err
    )
    status, _, err = check(tests, "--disable-deprecation-check", table=table)
    assert status == 0
    assert "deprecated" not in err


def test_a_field_that_envoy_no_longer_takes(check):
    table = (
        DEPRECATED
        % "rate_limits: [{actions: [{dynamic_metadata: {descriptor_key: d, metadata_key: {key: k, path: [{key: p}]}}}]}]"
    )
    tests = [case(cluster_name="c")]

    status, _, err = check(tests, table=table)
    assert status == 1
    assert (
        "routes[0].route.rate_limits[0].actions[0].dynamic_metadata: this field is deprecated and no longer allowed\n"
        in err
    )
    assert check(tests, "--disable-deprecation-check", table=table)[0] == 0


# -- a bootstrap -----------------------------------------------------------------------------------

HCM = """
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: s
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          route_config:
            name: %s
            virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, %s}]}]
"""
LISTENER = """
  - address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    filter_chains:
    - filters:
"""


def _bootstrap(*tables):
    listeners = [LISTENER.strip("\n") % (10000 + i) + HCM % table for i, table in enumerate(tables)]
    return "static_resources:\n  listeners:\n" + "\n".join(listeners)


def test_the_table_of_a_bootstrap(check):
    one = _bootstrap(("only", "route: {cluster: c}"))

    assert check([case(cluster_name="c")], table=one)[0] == 0
    assert check([case(cluster_name="c")], "--table", "only", table=one)[0] == 0
    status, _, err = check([case(cluster_name="c")], "--table", "other", table=one)
    assert (status, err) == (1, "error: routes.yaml: no route table 'other'; there are: only\n")


def test_a_bootstrap_with_several_tables(check):
    two = _bootstrap(("a", "route: {cluster: c}"), ("b", "route: {cluster: d}"))

    status, _, err = check([case(cluster_name="d")], table=two)
    assert status == 1
    assert err == "error: routes.yaml: several route tables, and --table does not say which: a, b\n"
    assert check([case(cluster_name="d")], "--table", "b", table=two)[0] == 0


def test_a_bootstrap_without_a_table(check):
    status, _, err = check([case(cluster_name="d")], table="static_resources: {}\n")

    assert (status, err) == (1, "error: routes.yaml: no route table in this bootstrap\n")


def test_the_place_of_a_problem_in_a_bootstrap(check):
    bad = _bootstrap(("a", "route: {cluster: c, regex_rewrite: {pattern: {regex: '('}, substitution: x}}"))

    status, _, err = check([case(cluster_name="d")], table=bad)
    assert status == 1
    assert re.match(
        r"error: routes.yaml:1\d:\d+: static_resources.listeners\[0\].filter_chains\[0\].filters\[0\]", err
    )


# -- JSON ------------------------------------------------------------------------------------------


def test_the_json_report(check):
    status, out, err = check(RIGHT + WRONG, "--json", "-f", "90")
    report = json.loads(out)

    assert (status, err) == (1, "")
    assert (report["passed"], report["failed"]) == (2, 1)
    assert report["tests"][0] == {"test_name": "cart", "test_passed": True}
    assert report["tests"][2]["failures"][0] == {
        "test_type": "cluster_name",
        "expected": "carts",
        "actual": "front",
        "message": "expected: [carts], actual: [front], test type: cluster_name",
    }
    assert report["tests"][2]["place"].endswith("tests.json:1:" + str(json.dumps({"tests": RIGHT + WRONG}).index('{"test_name": "bad"') + 1))  # fmt: skip
    assert (report["coverage"]["percent"], report["coverage"]["required"]) == (40.0, 90.0)
    assert report["coverage"]["missing"][0] == {
        "virtual_host": "shop",
        "route": "",
        "place": "virtual_hosts[0].routes[2]",
        "conditions": ["prefix /old"],
    }


def test_the_json_report_decides_by_coverage_too(check):
    assert check(RIGHT, "--json", "-f", "40")[0] == 0
    assert check(RIGHT, "--json", "-f", "41")[0] == 1
    assert [t["test_name"] for t in json.loads(check(RIGHT + WRONG, "--json", "--only-show-failures")[1])["tests"]] == ["bad"]  # fmt: skip


def test_a_report_in_a_file(check, tmp_path):
    status, out, _ = check(RIGHT, "-o", str(tmp_path / "report"))
    assert (status, out) == (0, "Current route coverage: 40%\n")
    assert json.loads((tmp_path / "report").read_text())["passed"] == 2

    status, _, err = check(RIGHT, "-o", str(tmp_path / "no" / "report"))
    assert status == 1
    assert err == "error: no/report: cannot be written: No such file or directory\n"


# -- the command line ------------------------------------------------------------------------------

FLAGS = {
    "-c", "--config-path", "-t", "--test-path", "-d", "--details", "--only-show-failures", "-f",
    "--fail-under", "--covall", "--disable-deprecation-check", "--detailed-coverage", "-o", "--output-path",
    "--useproto", "--version", "-h", "--help",
}  # fmt: skip


def test_every_flag_of_the_tool_is_there(capsys):
    assert weft(["route", "check", "--help"]) == 0
    shown = capsys.readouterr().out

    assert FLAGS - set(re.findall(r"(?<![\w-])(--?[a-z-]+)", shown)) == set()
    assert "examples:" in shown


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", "Both --config-path/c and --test-path/t are mandatory"),
        ("-c x", "Both --config-path/c and --test-path/t are mandatory"),
        ("-t x", "Both --config-path/c and --test-path/t are mandatory"),
        ("-c x -t y --nonsense", "unrecognized arguments: --nonsense"),
        ("-c x -t y -f lots", "not a number: 'lots'"),
        ("-c x -t y -f nan", "not a number: 'nan'"),
        ("-c x -t y --cov", "unrecognized arguments: --cov"),
    ],
)
def test_a_wrong_command_line(words, told, capsys):
    assert route_check.main(words.split()) == 1
    assert told in capsys.readouterr().err


def test_files_by_position(tmp_path, capsys):
    (tmp_path / "r.yaml").write_text(SHOP)
    (tmp_path / "t.json").write_text(json.dumps({"tests": RIGHT}))
    config, tests = str(tmp_path / "r.yaml"), str(tmp_path / "t.json")

    assert route_check.main([config, tests, "--details"]) == 0
    assert capsys.readouterr().out.startswith("cart\nping\n")
    assert route_check.main(["-t", tests, config, "--useproto"]) == 0
    assert route_check.main(["-c", config, "-t", tests, "not-there.json"]) == 0


def test_a_reader_that_leaves_is_no_error(check, monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

        def fileno(self):
            raise OSError

    monkeypatch.setattr(sys, "stdout", Gone())

    assert check(RIGHT)[0] == 1


def test_the_programs_of_weft_route(capsys):
    assert weft(["route"]) == 1
    assert "check" in capsys.readouterr().err
    assert weft(["route", "--help"]) == 0
    assert "router_check_tool" in capsys.readouterr().out
    assert weft(["route", "chek"]) == 1
    assert "there is no 'chek'" in capsys.readouterr().err
    assert weft(["--help"]) == 0
    assert "weft route check" in capsys.readouterr().out


def test_a_route_of_a_matcher_that_no_test_covers(check):
    route = (
        '{"@type": type.googleapis.com/envoy.config.route.v3.Route, match: {prefix: /}, route: {cluster: c}}'
    )
    table = f"""
virtual_hosts:
- name: v
  domains: ["*"]
  matcher: {{on_no_match: {{action: {{name: r, typed_config: {route}}}}}}}
"""

    assert check([case(cluster_name="c")], "--covall", table=table)[:2] == (
        0,
        "Current route coverage: 20%\n",
    )
    assert "Missing test for host: v, route: prefix /\n" in check([case()], "--covall", table=table)[1]
