"""The proxy's own log: Envoy's components, levels and line patterns on top of the standard library.

``logger("upstream")`` is a standard logger named ``weft.upstream``; its level can be changed while
the proxy runs (``/logging``).  What other libraries say appears as component ``misc``.
Lines go to standard error, or to the file of ``--log-path``, which :func:`reopen` opens anew.
"""

import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Final, TextIO

from weft.proxy.observe.json_text import json_bytes

TRACE: Final = 5
OFF: Final = 100
LEVELS: Final[dict[str, int]] = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "off": OFF,
}
"""Envoy's names, mildest first.  ``warn`` is understood for ``warning``."""

COMPONENTS: Final = ["a2a", "admin", "ai_protocol_manager", "alternate_protocols_cache", "aws", "assert", "backtrace", "basic_auth", "cache_filter", "client", "config", "connection", "conn_handler", "compression", "credential_injector", "decompression", "dns", "dubbo", "envoy_bug", "ext_authz", "ext_proc", "rocketmq", "file", "filter", "forward_proxy", "geolocation", "grpc", "happy_eyeballs", "hc", "health_checker", "http", "http2", "hystrix", "init", "io", "jwt", "json_rpc", "kafka", "key_value_store", "lua", "local_rate_limit", "main", "matcher", "mcp", "misc", "mongo", "multi_connection", "notification", "oauth2", "quic", "quic_stream", "pool", "rate_limit_quota", "rbac", "rds", "redis", "router", "runtime", "stats", "secret", "sse", "tap", "testing", "thrift", "tracing", "upstream", "udp", "wasm", "websocket", "golang", "stats_sinks", "dynamic_modules", "ip_tagging"]  # fmt: skip
"""Every component that Envoy has, in its order, so that its flags are understood; some are silent here."""

DEFAULT_FORMAT: Final = "[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] %v"

logging.addLevelName(TRACE, "trace")


def logger(component: str) -> logging.Logger:
    """The logger of a component; ``log.log(TRACE, ...)`` for the lowest level."""
    return logging.getLogger(f"weft.{component}")


def level_of(name: str) -> int:
    """The number of a level; ValueError with Envoy's words for an unknown one."""
    level = LEVELS.get("warning" if name == "warn" else name)
    if level is None:
        raise ValueError(f"error: invalid log level specified '{name}'")
    return level


def level_name(level: int) -> str:
    for name, number in LEVELS.items():
        if level <= number:
            return name
    return "off"


def levels() -> dict[str, str]:
    """Every component and its level."""
    return {name: level_name(logger(name).getEffectiveLevel()) for name in COMPONENTS}


def set_level(level: str, component: str = "") -> bool:
    """Set one component, or all when it is empty; false when there is no such component or level."""
    if level not in LEVELS or (component and component not in COMPONENTS):
        return False
    for name in (component,) if component else COMPONENTS:
        logger(name).setLevel(LEVELS[level])
    return True


def component_levels(text: str) -> dict[str, str]:
    """``upstream:debug,config:trace`` as a dict; ValueError with Envoy's words."""
    out: dict[str, str] = {}
    for pair in text.split(",") if text else ():
        component, colon, level = pair.partition(":")
        if not colon:
            raise ValueError(f"error: component log level not correctly specified '{pair}'")
        level_of(level)
        if component not in COMPONENTS:
            raise ValueError(f"error: invalid component specified '{component}'")
        out[component] = "warning" if level == "warn" else level
    return out


def json_log_format(settings: Mapping[str, Any]) -> str:
    """The pattern of ``application_log_config.log_format.json_format``; ValueError if it cannot be."""
    pattern = json_bytes(dict(settings)).decode()
    for flag in ("%v", "%_"):
        if flag in pattern:
            raise ValueError(f"Usage of {flag} is unavailable for JSON log formats")
    return pattern


def configure(
    *,
    level: str = "info",
    components: str = "",
    format: str = DEFAULT_FORMAT,
    escaped: bool = False,
    path: str = "",
) -> None:
    """Set up the log of this process, replacing an earlier set-up.  ValueError, OSError."""
    number = level_of(level)
    overrides = component_levels(components)
    handler: logging.Handler
    if path:
        try:
            handler = _LogFileHandler(path)
        except OSError as error:
            raise OSError(
                f"Failed to open log-file '{path}'. e.what(): unable to open file '{path}': {error.strerror}"
            ) from None
    else:
        handler = _StandardErrorHandler()
    coloured = not path and sys.stderr.isatty() and "NO_COLOR" not in os.environ
    handler.setFormatter(LineFormatter(format, escaped=escaped, coloured=coloured))
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old, _StandardErrorHandler | _LogFileHandler):
            root.removeHandler(old)
            old.close()
    root.addHandler(handler)
    set_level(level_name(number))
    for component, name in overrides.items():
        set_level(name, component)


def reopen() -> None:
    """After a rotation: go on in a new file of the same name."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _LogFileHandler):
            handler.reopen()


class _StandardErrorHandler(logging.StreamHandler[TextIO]):
    """To whatever is standard error at the time."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _LogFileHandler(logging.FileHandler):
    """Appends, so that several processes may share the file."""

    def __init__(self, path: str) -> None:
        super().__init__(path, mode="a", encoding="utf-8", errors="backslashreplace")

    def reopen(self) -> None:
        self.acquire()
        try:
            old = self.stream
            self.stream = self._open()
            if old is not None:
                old.close()
        except OSError:
            pass  # the old file is better than none
        finally:
            self.release()


# -- patterns -------------------------------------------------------------------------------

_STRFTIME: Final = {
    "a": "%a", "A": "%A", "b": "%b", "h": "%b", "B": "%B", "c": "%a %b %d %H:%M:%S %Y", "C": "%y", "Y": "%Y",
    "D": "%m/%d/%y", "x": "%m/%d/%y", "m": "%m", "d": "%d", "H": "%H", "I": "%I", "M": "%M", "S": "%S", "p": "%p",
    "r": "%I:%M:%S %p", "R": "%H:%M", "T": "%H:%M:%S", "X": "%H:%M:%S",
}  # fmt: skip
_OTHER: Final = frozenset("tPlLnv_jegfFEzs#@!+")
_COLOURS: Final = {
    TRACE: "37", logging.DEBUG: "36", logging.INFO: "32", logging.WARNING: "33;1", logging.ERROR: "31;1",
    logging.CRITICAL: "1;41",
}  # fmt: skip


class LineFormatter(logging.Formatter):
    """The line patterns of Envoy's ``--log-format``; an unknown flag stands for itself."""

    def __init__(
        self, pattern: str = DEFAULT_FORMAT, *, escaped: bool = False, coloured: bool = False
    ) -> None:
        super().__init__()
        self._pieces = _pieces(pattern)
        self._escaped = escaped
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        parts = time.localtime(record.created)
        out = [self._piece(flag, pad, record, parts) if flag else pad for flag, pad in self._pieces]
        return "".join(out)

    def _piece(self, flag: str, pad: str, record: logging.LogRecord, parts: time.struct_time) -> str:
        strftime = _STRFTIME.get(flag)
        if strftime is not None:
            text = time.strftime(strftime, parts)
        elif flag == "l" and self._coloured:
            name = _padded(level_name(record.levelno), pad)
            return f"\033[{_COLOURS.get(record.levelno, '0')}m{name}\033[0m"
        else:
            text = self._fact(flag, record, parts)
        return _padded(text, pad)

    def _fact(self, flag: str, record: logging.LogRecord, parts: time.struct_time) -> str:
        if flag in "v_j":
            message = _message(record)
            if flag == "j":
                return json_bytes(message)[1:-1].decode()
            return (
                message.replace("\n", "\\n")
                if flag == "_"
                else (_escape(message) if self._escaped else message)
            )
        if flag in "tP":
            return str(record.process)
        if flag == "l":
            return level_name(record.levelno)
        if flag == "L":
            return level_name(record.levelno)[0].upper()
        if flag == "n":
            head, _, component = record.name.partition(".")
            return component if head == "weft" and component else "misc"
        micros = int(record.created % 1 * 1_000_000)
        if flag == "e":
            return f"{micros // 1000:03d}"
        if flag == "f":
            return f"{micros:06d}"
        if flag == "F":
            return f"{micros:06d}000"
        if flag == "E":
            return str(int(record.created))
        if flag == "z":
            zone = time.strftime("%z", parts)
            return f"{zone[:3]}:{zone[3:]}"
        if flag == "#":
            return str(record.lineno)
        if flag == "g":
            return _source(record.pathname)
        if flag == "@":
            return f"{_source(record.pathname)}:{record.lineno}"
        if flag == "!":
            return record.funcName or ""
        if flag == "+":
            return LineFormatter("[%Y-%m-%d %T.%e] [%n] [%l] [%s:%#] %v").format(record)
        return record.filename  # %s


def _pieces(pattern: str) -> list[tuple[str, str]]:
    """(flag, padding), or ("", literal)."""
    out: list[tuple[str, str]] = []
    literal = ""
    at = 0
    while at < len(pattern):
        if pattern[at] != "%":
            literal += pattern[at]
            at += 1
            continue
        end = at + 1
        while end < len(pattern) and pattern[end] in "-=":
            end += 1
        while end < len(pattern) and pattern[end].isdigit():
            end += 1
        pad = pattern[at + 1 : end]
        if (
            pad
            and pad[-1].isdigit()
            and end + 1 < len(pattern)
            and pattern[end] == "!"
            and pattern[end + 1].isalpha()
        ):
            pad += "!"
            end += 1
        flag = pattern[end] if end < len(pattern) else ""
        if flag == "%":
            literal += "%"
        elif flag in ("^", "$"):
            pass  # where colours begin and end; we colour the level
        elif flag and (flag in _STRFTIME or flag in _OTHER):
            if literal:
                out.append(("", literal))
                literal = ""
            out.append((flag, pad))
        else:
            literal += pattern[at : end + 1]
        at = end + 1
    if literal:
        out.append(("", literal))
    return out


def _padded(text: str, pad: str) -> str:
    if not pad:
        return text
    cut = pad.endswith("!")
    width = int(pad.strip("-=!") or "0")
    if cut:
        text = text[:width]
    if pad.startswith("-"):
        return text.ljust(width)
    if pad.startswith("="):
        return text.rjust(len(text) + max(0, width - len(text)) // 2).ljust(width)
    return text.rjust(width)


def _message(record: logging.LogRecord) -> str:
    message = record.getMessage()
    if record.exc_info and record.exc_info[0] is not None:
        message += "\n" + logging.Formatter().formatException(record.exc_info)
    return message


def _escape(message: str) -> str:
    return message.encode("unicode_escape").decode("ascii") if not message.isprintable() else message


_ROOT: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def _source(path: str) -> str:
    """Below the package, like ``proxy/observe/logging.py``."""
    return path[len(_ROOT) + 1 :] if path.startswith(_ROOT) else path
