"""A check as JSON, for programs."""

import json
from typing import Any

from weft.api.problems import Locate
from weft.proxy.route_check.check import Report, Result


def write_report(
    report: Report, locate: Locate, *, comprehensive: bool, required: float, failures_only: bool
) -> str:
    """The text of the report.  ``required`` is the coverage asked for, 0 for none."""
    shown = report.failed if failures_only else report.results
    percent = report.coverage.percent(comprehensive)
    whole = {
        "tests": [_result(result, locate) for result in shown],
        "passed": len(report.results) - len(report.failed),
        "failed": len(report.failed),
        "coverage": {
            "percent": round(percent, 4),
            "comprehensive": comprehensive,
            "required": required,
            "missing": [
                {
                    "virtual_host": route.virtual_host,
                    "route": route.route,
                    "place": route.place,
                    "conditions": route.conditions,
                }
                for route in report.coverage.uncovered()
            ],
        },
    }
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _result(result: Result, locate: Locate) -> dict[str, Any]:
    out: dict[str, Any] = {"test_name": result.name, "test_passed": result.passed}
    if result.passed:
        return out
    file, line, column = locate(f"tests[{result.number}]")
    out["place"] = f"{file}:{line}:{column}" if line else file
    out["failures"] = [
        {
            "test_type": failure.test_type,
            "expected": failure.expected,
            "actual": failure.actual,
            "message": str(failure),
        }
        for failure in result.failures
    ]
    return out
