"""Every exchange of ``suites/`` in Envoy and in Weft."""

import difflib
import re
from pathlib import Path

import pytest
import yaml

from weft.testing.suites import load_exchange, load_suites

HERE = Path(__file__).parent
SUITES = load_suites(HERE)
CASES = [(suite, name) for suite, content in SUITES.items() for name in content["exchanges"]]
TABLE = yaml.safe_load((HERE / "accepted.yaml").read_text())
ACCEPTED = TABLE["exchanges"]
NOT_COMPARED = [re.compile(rf"stat {entry['name']} ") for entry in TABLE["stats"]]
met = set()
played = set()


def compared(observation):
    kept = []
    for line in observation:
        pattern = next((pattern for pattern in NOT_COMPARED if pattern.match(line)), None)
        if pattern is None:
            kept.append(line)
        else:
            met.add(pattern)
    return kept


def accept(name, expected, got):
    """Both observations with the accepted differences put in place."""
    for entry in ACCEPTED.get(name, []):
        assert entry["why"]
        envoy, weft = ([line] if isinstance(line, str) else line for line in (entry["envoy"], entry["weft"]))
        if entry.get("whole"):
            assert set(envoy) <= set(expected) - set(got), (
                f"{entry!r} does not show in {expected!r} and {got!r}"
            )
            assert set(weft) <= set(got) - set(expected), (
                f"{entry!r} does not show in {expected!r} and {got!r}"
            )
            return [], []
        at = next((i for i in range(len(expected)) if expected[i : i + len(envoy)] == envoy), None)
        assert at is not None, f"the accepted difference {entry!r} does not show in {expected!r}"
        expected = expected[:at] + weft + expected[at + len(envoy) :]
    return expected, got


@pytest.mark.parametrize(("suite", "name"), [pytest.param(*case, id="/".join(case)) for case in CASES])
@pytest.mark.xdist_group("differential")
def test_exchange(suite, name, pairs):
    exchange = load_exchange(SUITES[suite], name)

    envoy, weft = pairs.observe(SUITES[suite], exchange)
    played.add((suite, name))

    if any(line.startswith("STUCK") for line in envoy):
        pytest.fail("the script does not fit Envoy:\n" + "\n".join(envoy), pytrace=False)
    expected, got = accept(f"{suite}/{name}", compared(envoy), compared(weft))
    if got != expected:
        pytest.fail(
            "\n".join(difflib.unified_diff(expected, got, "envoy", "weft", n=50, lineterm="")), pytrace=False
        )


@pytest.mark.xdist_group("differential")
def test_accepted_differences_are_all_used():
    assert set(ACCEPTED) <= {"/".join(case) for case in CASES}
    if len(played) == len(CASES):
        assert [pattern.pattern for pattern in NOT_COMPARED if pattern not in met] == []


def test_there_are_enough_exchanges():
    assert len(CASES) >= 60
