"""The proxy's own log."""

import io
import json
import logging
import re
import sys

import pytest

from weft.proxy.observe import logging as own
from weft.proxy.observe.logging import TRACE, LineFormatter


@pytest.fixture(autouse=True)
def restored():
    root = logging.getLogger()
    handlers = root.handlers[:]
    yield
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
            handler.close()
    own.set_level("info")
    for name in own.COMPONENTS:
        own.logger(name).setLevel(logging.NOTSET)


@pytest.fixture
def stderr(capsys):
    return lambda: capsys.readouterr().err


def record(message="hello", level=logging.INFO, component="main", **more):
    made = logging.LogRecord(f"weft.{component}", level, own.__file__, 42, message, (), None, "work")
    made.created = 1_790_000_000.123456
    for name, value in more.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(("pattern", "line"), [
    ("%l %L %n %v", "info I main hello"),
    ("[%8l][%-8l][%=8l][%=7l][%3!l][%2n]", "[    info][info    ][  info  ][ info  ][inf][main]"),
    ("%e %f %F %E", "123 123456 123456000 1790000000"),
    ("%s %g %@ %# %!", "logging.py proxy/observe/logging.py proxy/observe/logging.py:42 42 work"),
    ("%% %q %k %^red%$ %", "% %q %k red %"),
    ("%Y-%m-%d %y", r"2026-09-2\d %y"),
    ("%C %b %h %B %H:%M:%S=%T=%X %R", r"26 Sep Sep September (\d\d:\d\d:20)=\1=\1 \d\d:\d\d"),
    ("%D=%x %I %p %r %z", r"(09/2\d/26)=\1 \d\d [AP]M \d\d:13:20 [AP]M [+-]\d\d:\d\d"),
    ("%t=%P", r"(\d+)=\1"),
    ("%+", r"\[2026-09-2\d \d\d:\d\d:20.123\] \[main\] \[info\] \[logging.py:42\] hello"),
])  # fmt: skip
def test_patterns(pattern, line):
    text = LineFormatter(pattern).format(record())

    assert text == line or re.fullmatch(line, text), text


@pytest.mark.parametrize(("pattern", "escaped", "line"), [
    ("%v", False, 'a\n"b"\x1b'),
    ("%v", True, 'a\\n"b"\\x1b'),
    ("%_", False, 'a\\n"b"\x1b'),
    ('{"m":"%j"}', False, '{"m":"a\\n\\"b\\"\\u001b"}'),
])  # fmt: skip
def test_messages_that_would_break_the_line(pattern, escaped, line):
    assert LineFormatter(pattern, escaped=escaped).format(record('a\n"b"\x1b')) == line


def test_a_traceback_belongs_to_its_message():
    try:
        raise KeyError("x")
    except KeyError:
        failed = record("stream failed", exc_info=sys.exc_info())

    lines = LineFormatter("[%l] %v").format(failed).splitlines()
    one_line = json.loads(LineFormatter('{"m":"%j"}').format(failed))

    assert (lines[0], lines[1], lines[-1]) == (
        "[info] stream failed",
        "Traceback (most recent call last):",
        "KeyError: 'x'",
    )
    assert one_line["m"].splitlines() == [line.removeprefix("[info] ") for line in lines]


@pytest.mark.parametrize(("level", "name"), [
    (TRACE, "trace"), (logging.DEBUG, "debug"), (logging.WARNING, "warning"), (logging.CRITICAL, "critical"),
])  # fmt: skip
def test_level_names(level, name):
    assert LineFormatter("%l").format(record(level=level)) == name


def test_default_line(stderr):
    own.configure()

    own.logger("upstream").warning("%d hosts", 3)

    assert re.fullmatch(
        r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\]\[\d+\]\[warning\]\[upstream\] \[.*test_logging\.py:\d+\] 3 hosts\n",
        stderr(),
    )


def test_levels_by_component(stderr):
    own.configure(level="warn", components="upstream:trace,config:off", format="%n:%l:%v")

    for component in ("main", "upstream", "config"):
        own.logger(component).log(TRACE, "t")
        own.logger(component).warning("w")
        own.logger(component).critical("c")

    assert stderr().split() == [
        "main:warning:w", "main:critical:c", "upstream:trace:t", "upstream:warning:w", "upstream:critical:c",
    ]  # fmt: skip
    levels = own.levels()
    assert (levels["main"], levels["upstream"], levels["config"]) == ("warning", "trace", "off")
    assert list(levels)[:2] == ["a2a", "admin"]


def test_levels_change_while_running(stderr):
    own.configure(format="%n %v")
    log = own.logger("http")

    log.debug("unseen")
    assert own.set_level("debug", "http")
    log.debug("seen")
    assert own.set_level("error")
    log.warning("unseen")

    assert stderr() == "http seen\n"
    assert not own.set_level("debug", "nothing")
    assert not own.set_level("loud")
    assert set(own.levels().values()) == {"error"}


def test_other_libraries_are_misc(stderr):
    own.configure(format="%n %v")

    logging.getLogger("asyncio").warning("slow")

    assert stderr() == "misc slow\n"


def test_configuring_again_replaces(stderr):
    own.configure(format="1 %v")
    own.configure(format="2 %v")

    own.logger("main").info("once")

    assert stderr() == "2 once\n"


def test_colours_only_for_terminals(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    own.configure(format="%l %v")
    own.logger("main").error("x")
    monkeypatch.setenv("NO_COLOR", "1")
    own.configure(format="%l %v")
    own.logger("main").error("y")

    assert terminal.getvalue() == "\033[31;1merror\033[0m x\nerror y\n"


def test_a_log_file_and_its_rotation(stderr, tmp_path):
    path = tmp_path / "weft.log"
    own.configure(path=str(path), format="%v")
    own.logger("main").info("one")
    path.rename(tmp_path / "old")
    own.logger("main").info("two")
    own.reopen()
    own.logger("main").info("three é")

    assert (tmp_path / "old").read_text() == "one\ntwo\n"
    assert path.read_text() == "three é\n"
    assert stderr() == ""


@pytest.mark.parametrize(("options", "error", "text"), [
    ({"level": "loud"}, ValueError, "error: invalid log level specified 'loud'"),
    ({"components": "upstream"}, ValueError, "error: component log level not correctly specified 'upstream'"),
    ({"components": "upstream:loud"}, ValueError, "error: invalid log level specified 'loud'"),
    ({"components": "nothing:info"}, ValueError, "error: invalid component specified 'nothing'"),
    ({"path": "/nonexistent/x"}, OSError, "Failed to open log-file '/nonexistent/x'. e.what(): unable to open file '/nonexistent/x': No such file or directory"),
])  # fmt: skip
def test_what_is_refused(options, error, text):
    with pytest.raises(error) as raised:
        own.configure(**options)

    assert str(raised.value) == text


def test_json_lines():
    pattern = own.json_log_format({"msg": "%j", "level": "%l", "fixed": {"n": 1, "t": True}})

    assert json.loads(LineFormatter(pattern).format(record('say "hi"'))) == {
        "msg": 'say "hi"', "level": "info", "fixed": {"n": 1, "t": True},
    }  # fmt: skip


@pytest.mark.parametrize("flag", ["%v", "%_"])
def test_json_lines_need_escaped_messages(flag):
    with pytest.raises(ValueError, match=f"Usage of {flag} is unavailable for JSON log formats"):
        own.json_log_format({"msg": flag})
