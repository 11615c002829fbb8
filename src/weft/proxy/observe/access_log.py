"""Access logs: a line for every stream that a filter lets pass, to a file or a standard stream.

Settings are made once in main; :func:`open_access_logs` makes the logs of a worker from them.  A
log never raises and never waits: telemetry may not fail a request.
"""

import errno
import os
from dataclasses import dataclass
from typing import Any, Protocol

from weft.api.problems import Where
from weft.proxy.clock import Clock
from weft.proxy.context import WorkerContext
from weft.proxy.extension_config import resolve
from weft.proxy.extensions import AccessLoggerKind
from weft.proxy.observe.commands_http import UNIQUE_IDS
from weft.proxy.observe.files import LogFile
from weft.proxy.observe.formatter import DEFAULT_FORMAT, LineFormat, compile_format
from weft.proxy.observe.json_format import compile_json, substitution_format
from weft.proxy.observe.log_filter import LogFilter, log_filter
from weft.proxy.observe.logging import logger
from weft.proxy.observe.stream_info import StreamInfo

_LOG = logger("main")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLogSettings:
    """One ``AccessLog`` of a configuration."""

    kind: AccessLoggerKind
    settings: Any
    """The kind's."""
    filter: LogFilter | None = None
    """None: every stream."""


class Logger(Protocol):
    """What the ``build`` of an :class:`AccessLoggerKind` gives."""

    def log(self, info: StreamInfo) -> None:
        """Write about ``info``."""


class AccessLog:
    """A logger and the filter before it."""

    def __init__(self, sink: Logger, filter: LogFilter | None, context: WorkerContext) -> None:
        self._sink = sink
        self._filter = filter
        self._clock = context.clock
        self._runtime = context.runtime
        self._random = context.random
        self.failures: int = 0

    def log(self, info: StreamInfo) -> None:
        """Write about ``info`` if the filter lets it pass.  Never raises, never waits."""
        try:
            filter = self._filter
            if filter is None or filter.passes(info, self._clock, self._runtime, self._random):
                self._sink.log(info)
        except Exception as error:
            self.failures += 1
            if self.failures == 1:
                _LOG.error("access log: a line could not be written: %r", error, exc_info=error)


def access_logs(messages: Any, where: Where) -> tuple[AccessLogSettings, ...]:
    """From repeated ``envoy.config.accesslog.v3.AccessLog``; ``where`` is that of the list."""
    out: list[AccessLogSettings] = []
    for i, message in enumerate(messages):
        here = where.item(i)
        filter = log_filter(message.filter, here.field("filter")) if message.HasField("filter") else None
        found = resolve("access_logger", message, here)
        if found is None:
            continue
        kind, settings = found
        assert isinstance(kind, AccessLoggerKind)
        out.append(AccessLogSettings(kind=kind, settings=settings, filter=filter))
    return tuple(out)


def open_access_logs(settings: tuple[AccessLogSettings, ...], context: WorkerContext) -> list[AccessLog]:
    """The logs of one worker.  One that cannot be opened is left out, with an error in our own log."""
    UNIQUE_IDS.random = context.random
    out: list[AccessLog] = []
    for entry in settings:
        try:
            sink = entry.kind.build(entry.settings, context)
        except OSError as error:
            _LOG.error("access log left out: %s", error)
            continue
        out.append(AccessLog(sink, entry.filter, context))
    return out


# -- files and standard streams -------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLogSettings:
    format: LineFormat
    path: str = ""
    """Empty for a standard stream."""
    stream: int = 0
    """1 for stdout, 2 for stderr."""


class LineLog:
    """A formatted line to a file."""

    def __init__(self, file: LogFile, format: LineFormat, clock: Clock) -> None:
        self._file = file
        self._format = format
        self._clock = clock

    def log(self, info: StreamInfo) -> None:
        self._file.write(self._format.bytes(info, self._clock))


def file_settings(message: Any, where: Where) -> FileLogSettings:
    """From ``envoy.extensions.access_loggers.file.v3.FileAccessLog``."""
    reason = _unwritable(message.path)
    if reason:
        where.field("path").problem(f"unable to open file '{message.path}': {reason}")
    kind = message.WhichOneof("access_log_format")
    if kind == "log_format":
        format = substitution_format(message.log_format, where.field("log_format")).format
    elif kind == "json_format":
        format = compile_json(message.json_format, where.field("json_format"))
    elif kind == "typed_json_format":
        format = compile_json(message.typed_json_format, where.field("typed_json_format"))
    else:
        format = compile_format(message.format or DEFAULT_FORMAT, where.field("format"))
    return FileLogSettings(format=format, path=message.path)


def stdout_settings(message: Any, where: Where) -> FileLogSettings:
    """From ``envoy.extensions.access_loggers.stream.v3.StdoutAccessLog``."""
    return FileLogSettings(format=_stream_format(message, where), stream=1)


def stderr_settings(message: Any, where: Where) -> FileLogSettings:
    """From ``envoy.extensions.access_loggers.stream.v3.StderrAccessLog``."""
    return FileLogSettings(format=_stream_format(message, where), stream=2)


def _stream_format(message: Any, where: Where) -> LineFormat:
    if message.HasField("log_format"):
        return substitution_format(message.log_format, where.field("log_format")).format
    return compile_format(DEFAULT_FORMAT, where)


def _unwritable(path: str) -> str:
    """Why a log could not be opened at ``path``; empty when it can.  Creates nothing."""
    if not path:
        return ""
    if os.path.isdir(path):
        return os.strerror(errno.EISDIR)
    if os.path.exists(path):
        return "" if os.access(path, os.W_OK) else os.strerror(errno.EACCES)
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        return os.strerror(errno.ENOTDIR if os.path.exists(folder) else errno.ENOENT)
    return "" if os.access(folder, os.W_OK | os.X_OK) else os.strerror(errno.EACCES)


def build_line_log(settings: FileLogSettings, context: WorkerContext) -> LineLog:
    files = context.log_files
    file = files.stream(settings.stream) if settings.stream else files.open(settings.path)
    return LineLog(file, settings.format, context.clock)


_TYPES = "envoy.extensions.access_loggers."
FILE = AccessLoggerKind(
    name="envoy.access_loggers.file",
    type=_TYPES + "file.v3.FileAccessLog",
    settings=file_settings,
    build=build_line_log,
)
STDOUT = AccessLoggerKind(
    name="envoy.access_loggers.stdout",
    type=_TYPES + "stream.v3.StdoutAccessLog",
    settings=stdout_settings,
    build=build_line_log,
)
STDERR = AccessLoggerKind(
    name="envoy.access_loggers.stderr",
    type=_TYPES + "stream.v3.StderrAccessLog",
    settings=stderr_settings,
    build=build_line_log,
)
