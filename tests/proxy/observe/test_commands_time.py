"""Times and durations in format strings."""

import time

import pytest

from weft.api.problems import Where
from weft.proxy.observe.commands_time import TimePattern
from weft.proxy.observe.formatter import compile_format

SECOND = 1_790_000_000
"""2026-09-21 14:13:20 UTC."""


@pytest.fixture
def new_york(monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(("pattern", "text"), [
    ("%Y-%m-%dT%H:%M:%S", "2026-09-21T14:13:20"),
    ("%s %s.%3f", "1790000000 1790000000.040"),
    ("%f|%1f|%2f|%6f|%9f", "040500000|0|04|040500|040500000"),
    ("%E3S %E*S %E6S %E0S", "20.040 20.0405 20.040500 20"),
    ("%E3f %E*f", "040 0405"),
    ("%z %Z %Ez %E*z %:z %::z %:::z", "+0000 UTC +00:00 +00:00:00 +00:00 +00:00:00 +00"),
    ("%ET%E4Y", "T2026"),
    ("%%s %%", "%s %"),
    ("%a %j %e %p %-d %^a", "Mon 264 21 PM 21 MON"),
    ("%0f %10f %Q %", "%0f       %10f %Q %"),
    ("plain", "plain"),
])  # fmt: skip
def test_patterns(pattern, text):
    assert TimePattern(pattern, local=False).render(SECOND + 0.0405) == text


def test_only_fractions_are_made_anew_within_a_second():
    pattern = TimePattern("%S.%6f", local=False)

    texts = [pattern.render(SECOND + part) for part in (0.25, 0.5, 1.5, 0.75)]

    assert texts == ["20.250000", "20.500000", "21.500000", "20.750000"]


def test_a_whole_second_has_no_fraction_to_shorten():
    assert TimePattern("%E*S %E*f", local=False).render(float(SECOND)) == "20 0"


def test_local_time(new_york, info, clock):
    format = compile_format("%START_TIME_LOCAL% %START_TIME_LOCAL(%H %s %Ez %Z)%", Where.nowhere())

    assert format.text(info, clock) == "2026-09-21T10:13:20.123-0400 10 1790000000 -04:00 EDT"


@pytest.mark.parametrize(("format", "text"), [
    ("%START_TIME%", "2026-09-21T14:13:20.123Z"),
    ("%START_TIME()%", "2026-09-21T14:13:20.123Z"),
    ("%START_TIME(%s.%3f)%", "1790000000.123"),
    ("%EMIT_TIME%", "2026-09-21T14:13:22.623Z"),
    ("%EMIT_TIME(%S)%", "22"),
    ("%DURATION%", "301"),
    ("%REQUEST_DURATION%", "10"),
    ("%REQUEST_TX_DURATION%", "15"),
    ("%RESPONSE_DURATION%", "200"),
    ("%RESPONSE_TX_DURATION%", "100"),
    ("%UPSTREAM_CONNECTION_POOL_READY_DURATION%", "14"),
    ("%COMMON_DURATION(DS_RX_BEG:DS_RX_END)%", "10"),
    ("%COMMON_DURATION(US_CX_BEG:US_CX_END:us)%", "2000"),
    ("%COMMON_DURATION(US_RX_BEG:US_RX_END:ms)%", "50"),
    ("%COMMON_DURATION(DS_CX_BEG:DS_RX_BEG)%", "1000"),
    ("%COMMON_DURATION(DS_TX_END:DS_RX_BEG)%", "-"),
    ("%COMMON_DURATION(DS_RX_BEG:US_HS_END)%", "-"),
    ("%COMMON_DURATION(mine:DS_RX_END)%", "-"),
    ("%DOWNSTREAM_HANDSHAKE_DURATION% %ROUNDTRIP_DURATION%", "- -"),
])  # fmt: skip
def test_of_a_request(info, clock, format, text):
    assert compile_format(format, Where.nowhere()).text(info, clock) == text


def test_a_stream_that_goes_on_lasts_until_now(info, clock):
    info.end = 0.0

    assert compile_format("%DURATION%", Where.nowhere()).text(info, clock) == "2500"


def test_nanoseconds(bare, clock):
    text = compile_format("%COMMON_DURATION(DS_CX_BEG:DS_CX_END:ns)%", Where.nowhere()).text(bare, clock)

    assert text == "250000000"
