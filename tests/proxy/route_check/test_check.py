"""A whole check, and how long it takes."""

import json
import time

import pytest

from weft.api.problems import ConfigError
from weft.proxy.route_check.check import check
from weft.proxy.route_check.files import load_table, load_tests

TABLE = "virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /a}, route: {cluster: c, prefix_rewrite: /z}}]}]\n"


def _check(tmp_path, tests):
    (tmp_path / "r.yaml").write_text(TABLE)
    (tmp_path / "t.json").write_text(json.dumps({"tests": tests}))
    loaded, problems = load_tests(str(tmp_path / "t.json"))
    return check(load_table(str(tmp_path / "r.yaml")), loaded, problems)


def _test(name, **expected):
    return {
        "test_name": name,
        "input": {"authority": "x", "path": "/a/1", "method": "GET"},
        "validate": expected,
    }


def test_results_in_the_order_of_the_file(tmp_path):
    report = _check(
        tmp_path,
        [
            _test("right", cluster_name="c"),
            _test("wrong", cluster_name="d"),
            _test("right", path_rewrite="/z/1"),
        ],
    )

    assert [(result.name, result.passed, result.number) for result in report.results] == [("right", True, 0), ("wrong", False, 1), ("right", True, 2)]  # fmt: skip
    assert [result.number for result in report.failed] == [1]
    assert report.coverage.percent() == 100.0


def test_tests_do_not_see_each_other(tmp_path):
    # The path that one test rewrites, and the rewritten one, are the next one's as written.
    report = _check(tmp_path, [_test("a", path_rewrite="/z/1"), _test("b", path_rewrite="/z/1")])

    assert report.failed == []


def test_no_test_runs_when_one_cannot_be_understood(tmp_path):
    bad = _test("bad", request_header_matches=[{"name": "x", "safe_regex_match": {"regex": "("}}])

    with pytest.raises(ConfigError) as error:
        _check(tmp_path, [_test("right", cluster_name="c"), bad])
    assert error.value.problems[0].path.startswith(
        "tests[1].validate.request_header_matches[0].safe_regex_match"
    )
    assert error.value.problems[0].line == 1


def test_ten_thousand_tests(tmp_path):
    tests = [
        _test(f"t{i}", cluster_name="c", path_rewrite="/z/1", request_header_matches=[{"name": ":path"}])
        for i in range(10_000)
    ]
    begun = time.process_time()
    report = _check(tmp_path, tests)

    assert report.failed == []
    assert time.process_time() - begun < 10, "a couple of seconds, with room for a slow machine"
