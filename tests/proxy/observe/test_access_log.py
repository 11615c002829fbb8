"""Access logs from their configuration to the line in the file."""

import logging
from random import Random

import pytest
from google.protobuf import struct_pb2
from google.protobuf.json_format import ParseDict

from weft.api.convert import from_struct
from weft.api.problems import Where
from weft.proxy.context import WorkerContext
from weft.proxy.deadlines import Deadlines
from weft.proxy.extensions import AccessLoggerKind
from weft.proxy.observe.access_log import AccessLogSettings, access_logs, open_access_logs
from weft.proxy.observe.commands_http import UNIQUE_IDS
from weft.proxy.observe.files import LogFiles
from weft.proxy.observe.stats import Store
from weft.proxy.runtime import Runtime
from weft.testing import VirtualLoop

TYPES = "type.googleapis.com/envoy.extensions.access_loggers."


def file_log(path, **more):
    return {
        "name": "a",
        "typed_config": {"@type": TYPES + "file.v3.FileAccessLog", "path": str(path), **more},
    }


def settings_of(*configured):
    where = Where.nowhere().field("access_log")
    messages = []
    for value in configured:
        struct = ParseDict(value, struct_pb2.Struct())
        messages.append(from_struct(struct, "envoy.config.accesslog.v3.AccessLog", where))
    return access_logs(messages, where), [f"{item.path}: {item.text}" for item in where.problems.items]


@pytest.fixture
def context(clock):
    loop = VirtualLoop(0)
    deadlines = Deadlines(loop)
    stats = Store()
    files = LogFiles(deadlines, stats)
    yield WorkerContext(
        loop=loop,
        clock=clock,
        deadlines=deadlines,
        random=Random(1),
        stats=stats,
        runtime=Runtime(),
        clusters=None,
        log_files=files,
    )
    files.close()
    loop.close()


@pytest.mark.parametrize(("more", "line"), [
    ({}, '[2026-09-21T14:13:20.123Z] "GET /books?id=7&q=%41%0a&flag&id=8 HTTP/1.1" 200 - 3 100000 301 - "-" "curl/8" '
         '"11111111-2222-4333-8444-555555555555" "books.example:8080" "203.0.113.5:80"\n'),
    ({"format": "%PROTOCOL% %RESPONSE_CODE%\n"}, "HTTP/1.1 200\n"),
    ({"json_format": {"code": "%RESPONSE_CODE%"}}, '{"code":200}\n'),
    ({"typed_json_format": {"code": "%RESPONSE_CODE%"}}, '{"code":200}\n'),
    ({"log_format": {"text_format": "%ROUTE_NAME%;"}}, "books;"),
    ({"log_format": {"text_format_source": {"inline_string": "%REQ(x-none)%.\n"}, "omit_empty_values": True}}, ".\n"),
    ({"log_format": {"json_format": {"a": "%REQ(x-none)%", "b": "%ROUTE_NAME%"}, "omit_empty_values": True}}, '{"b":"books"}\n'),
])  # fmt: skip
def test_lines_in_a_file(info, context, tmp_path, more, line):
    settings, problems = settings_of(file_log(tmp_path / "a.log", **more))

    (log,) = open_access_logs(settings, context)
    log.log(info)
    context.log_files.flush()

    assert problems == []
    assert (tmp_path / "a.log").read_text() == line


def test_a_filter_decides(info, bare, context, tmp_path):
    failed_only = {"status_code_filter": {"comparison": {"op": "GE", "value": {"default_value": 500}}}}
    settings, _ = settings_of(
        {**file_log(tmp_path / "a.log", format="%RESPONSE_CODE%\n"), "filter": failed_only}
    )

    (log,) = open_access_logs(settings, context)
    for status in (200, 503, 404, 500):
        info.status = status
        log.log(info)
    context.log_files.flush()

    assert (tmp_path / "a.log").read_text() == "503\n500\n"


@pytest.mark.parametrize(("type", "said"), [("Stdout", ("200\n", "")), ("Stderr", ("", "200\n"))])
def test_standard_streams(info, context, capfd, type, said):
    config = {
        "@type": TYPES + f"stream.v3.{type}AccessLog",
        "log_format": {"text_format": "%RESPONSE_CODE%\n"},
    }
    settings, problems = settings_of({"name": "s", "typed_config": config})

    (log,) = open_access_logs(settings, context)
    log.log(info)
    context.log_files.flush()

    assert problems == []
    assert capfd.readouterr() == said


class BreaksAtFirst:
    """A logger that raises for its first two streams."""

    def __init__(self):
        self.seen = []

    def log(self, info):
        self.seen.append(info)
        if len(self.seen) < 3:
            raise RuntimeError("no such column")


def test_telemetry_may_not_fail_a_request(info, context, caplog):
    sink = BreaksAtFirst()
    kind = AccessLoggerKind(name="x", type="x", settings=lambda message, where: None, build=lambda *_: sink)
    (log,) = open_access_logs((AccessLogSettings(kind=kind, settings=None),), context)

    with caplog.at_level(logging.ERROR):
        for _ in range(4):
            log.log(info)

    assert (len(sink.seen), log.failures) == (4, 2)
    assert [record.getMessage() for record in caplog.records] == [
        "access log: a line could not be written: RuntimeError('no such column')"
    ]


def test_a_log_that_is_gone_when_the_worker_starts_is_left_out(info, context, tmp_path, caplog):
    folder = tmp_path / "logs"
    folder.mkdir()
    settings, problems = settings_of(file_log(folder / "a.log"), file_log(tmp_path / "b.log"))
    folder.rmdir()

    with caplog.at_level(logging.ERROR):
        logs = open_access_logs(settings, context)

    assert (problems, len(logs)) == ([], 1)
    assert "logs/a.log" in caplog.records[0].getMessage()


def test_unique_ids_are_drawn_from_the_worker(context):
    open_access_logs((), context)

    assert UNIQUE_IDS.random is context.random


@pytest.mark.parametrize(("value", "problem"), [
    (file_log("/nonexistent/a.log"), "access_log[0].typed_config.path: unable to open file '/nonexistent/a.log': No such file or directory"),
    (file_log("/"), "access_log[0].typed_config.path: unable to open file '/': Is a directory"),
    (file_log("/dev/null", format="%NOPE%"), "access_log[0].typed_config.format: Not supported field in StreamInfo: NOPE"),
    (file_log("/dev/null", typed_json_format={"a": "%"}),
     "access_log[0].typed_config.typed_json_format[\"a\"]: Incorrect configuration: %. Couldn't find valid command at position 0"),
    (file_log("/dev/null", log_format={"json_format": {"a": "%REQ%"}}),
     'access_log[0].typed_config.log_format.json_format["a"]: REQ requires parameters'),
    ({**file_log("/dev/null"), "filter": {"and_filter": {"filters": [{"traceable_filter": {}}, {"extension_filter": {"name": "e"}}]}}},
     "access_log[0].filter.and_filter.filters[1]: not supported yet: access log filter extension_filter"),
])  # fmt: skip
def test_what_is_refused(value, problem):
    _, problems = settings_of(value)

    assert problems == [problem]


def test_an_unknown_logger_is_named():
    config = {"@type": TYPES + "grpc.v3.HttpGrpcAccessLogConfig"}

    settings, problems = settings_of({"name": "envoy.access_loggers.http_grpc", "typed_config": config})

    assert settings == ()
    assert "extension 'envoy.access_loggers.http_grpc'" in problems[0]


def test_nothing_is_created_while_configuration_is_only_read(tmp_path):
    settings_of(file_log(tmp_path / "a.log"))

    assert list(tmp_path.iterdir()) == []
