"""``weft proxy``: Envoy's flags.

Every flag of Envoy is taken, so that what starts ``envoy`` can start this.  Those that mean nothing
here say so in ``--help``.  A wrong command line ends with status 1, as Envoy's does.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from weft.proxy.process.options import DEFAULT_LOG_FORMAT, INIT_ONLY, SERVE, VALIDATE, Options
from weft.proxy.process.version import version

_EXAMPLES = """\
examples:
  weft proxy -c envoy.yaml
  weft proxy -c envoy.yaml --mode validate
  weft proxy -c envoy.yaml --concurrency 1 --log-level warning --admin-address-path /run/admin
  weft proxy --config-yaml 'admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}'

signals:
  SIGTERM, SIGINT   stop accepting, finish what is under way (at most 5 s), end; again: end now
  SIGHUP            read the configuration file again and put what changed into effect
  SIGUSR1           open log files anew
"""

LEVELS = ("trace", "debug", "info", "warning", "warn", "error", "critical", "off")


class _Wrong(Exception):
    """The command line cannot be used; the text says why."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Wrong(message)


class _Once(argparse.Action):
    """A flag that may stand once, as in Envoy: twice is more often an error than a wish."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option_string: str | None = None) -> None:  # fmt: skip
        seen: set[str] = getattr(namespace, "seen", set())
        if self.dest in seen:
            raise _Wrong(f"{option_string} is given twice")
        namespace.seen = seen | {self.dest}
        setattr(namespace, self.dest, values)


def main(arguments: Sequence[str]) -> int:
    """Run ``weft proxy``; the exit status."""
    try:
        options = parse(arguments)
    except _Wrong as wrong:
        print(f"error: {wrong}\nFor all flags: weft proxy --help", file=sys.stderr)
        return 1
    except SystemExit as end:  # --help, --version
        return int(end.code or 0)
    from weft.proxy.process.run import run

    return run(options)


def parse(arguments: Sequence[str]) -> Options:
    """Raises ``_Wrong``, or SystemExit after ``--help`` and ``--version``."""
    given = _parser().parse_args(arguments)
    if given.restart_epoch and given.use_dynamic_base_id:
        raise _Wrong(f"cannot use --restart-epoch={given.restart_epoch} with --use-dynamic-base-id")
    if given.component_log_level and given.enable_fine_grain_logging:
        raise _Wrong("--component-log-level will not work with --enable-fine-grain-logging")
    return Options(
        config_path=given.config_path,
        config_yaml=given.config_yaml,
        mode=given.mode,
        concurrency=_cores() if given.concurrency is None else max(1, given.concurrency),
        log_level="warning" if given.log_level == "warn" else given.log_level,
        component_log_level=given.component_log_level,
        log_format=given.log_format,
        log_format_escaped=given.log_format_escaped,
        log_path=given.log_path,
        base_id=_dynamic_base_id() if given.use_dynamic_base_id else given.base_id,
        use_dynamic_base_id=given.use_dynamic_base_id,
        base_id_path=given.base_id_path,
        restart_epoch=given.restart_epoch,
        disable_hot_restart=given.disable_hot_restart,
        start_without_parent=given.skip_hot_restart_on_no_parent,
        socket_path=given.socket_path,
        socket_mode=given.socket_mode,
        service_cluster=given.service_cluster,
        service_node=given.service_node,
        service_zone=given.service_zone,
        drain_time=float(given.drain_time_s),
        drain_immediately=given.drain_strategy == "immediate",
        parent_shutdown_time=float(given.parent_shutdown_time_s),
        admin_address_path=given.admin_address_path,
        file_flush_interval=given.file_flush_interval_msec / 1000.0,
        file_flush_min_size=given.file_flush_min_size_kb * 1024,
        allow_unknown_static_fields=given.allow_unknown_static_fields or given.allow_unknown_fields,
        reject_unknown_dynamic_fields=given.reject_unknown_dynamic_fields,
        ignore_unknown_dynamic_fields=given.ignore_unknown_dynamic_fields,
        skip_deprecated_logs=given.skip_deprecated_logs,
        local_address_ip_version=given.local_address_ip_version,
        disabled_extensions=tuple(name for name in given.disable_extensions.split(",") if name),
        enable_core_dump=given.enable_core_dump,
        stats_tags=_stats_tags(given.stats_tag),
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="weft proxy",
        description="Carry traffic as an Envoy v3 configuration says.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    once = _Once
    add(
        "-c",
        "--config-path",
        metavar="FILE",
        default="",
        action=once,
        help="configuration: YAML, JSON, .pb or .pb_text",
    )
    add(
        "--config-yaml",
        metavar="YAML",
        default="",
        action=once,
        help="configuration in line, merged over the file",
    )
    add("--mode", type=_mode, default=SERVE, action=once, help="serve (default), validate, or init_only")
    add(
        "--concurrency",
        type=_whole,
        metavar="N",
        action=once,
        help="workers; the number of cores when not given, 0 is 1",
    )

    log = parser.add_argument_group("logs")
    log.add_argument("-l", "--log-level", type=_level, default="info", action=once, help=", ".join(LEVELS))
    log.add_argument(
        "--component-log-level",
        metavar="C:LEVEL,...",
        default="",
        type=_component_levels,
        action=once,
        help="such as upstream:debug,config:trace",
    )
    log.add_argument("--log-format", default=DEFAULT_LOG_FORMAT, action=once, help="in spdlog syntax")
    log.add_argument("--log-format-escaped", action="store_true", help="escape control characters in the log")
    log.add_argument("--log-path", metavar="FILE", default="", action=once, help="instead of standard error")
    log.add_argument(
        "--file-flush-interval-msec",
        type=_whole,
        metavar="MS",
        default=10000,
        action=once,
        help="access logs are written at least so often",
    )
    log.add_argument(
        "--file-flush-min-size-kb",
        type=_whole,
        metavar="KB",
        default=64,
        action=once,
        help="... or when so much waits",
    )
    log.add_argument(
        "--enable-fine-grain-logging", action="store_true", help="no effect: levels are per component"
    )
    log.add_argument(
        "--log-stacktrace-single-entry",
        action="store_true",
        help="no effect: a traceback is one entry always",
    )
    log.add_argument("--skip-deprecated-logs", action="store_true", help="no warnings for deprecated fields")

    node = parser.add_argument_group("who this proxy is (over `node` of the configuration)")
    node.add_argument("--service-cluster", metavar="NAME", default="", action=once)
    node.add_argument("--service-node", metavar="ID", default="", action=once)
    node.add_argument("--service-zone", metavar="NAME", default="", action=once)
    node.add_argument(
        "--local-address-ip-version", type=_ip_version, default="v4", action=once, help="v4 or v6"
    )

    life = parser.add_argument_group("life")
    life.add_argument(
        "--drain-time-s",
        type=_whole,
        metavar="S",
        default=600,
        action=once,
        help="time for connections of changed or removed listeners (600)",
    )
    life.add_argument(
        "--drain-strategy",
        type=_strategy,
        default="gradual",
        action=once,
        help="gradual (default) or immediate",
    )
    life.add_argument(
        "--parent-shutdown-time-s",
        type=_whole,
        metavar="S",
        default=900,
        action=once,
        help="for hot restart (900)",
    )
    life.add_argument(
        "--admin-address-path",
        metavar="FILE",
        default="",
        action=once,
        help="write the address of the admin server there",
    )
    life.add_argument(
        "--base-id", type=_whole, metavar="N", default=0, action=once, help="tells proxies of one host apart"
    )
    life.add_argument("--use-dynamic-base-id", action="store_true", help="choose a base id")
    life.add_argument(
        "--base-id-path", metavar="FILE", default="", action=once, help="write the base id there"
    )
    life.add_argument(
        "--restart-epoch",
        type=_whole,
        metavar="N",
        default=0,
        action=once,
        help="only 0: hot restart is not there yet",
    )
    life.add_argument(
        "--disable-hot-restart", action="store_true", help="no effect: hot restart is not there yet"
    )
    life.add_argument(
        "--skip-hot-restart-on-no-parent",
        action="store_true",
        help="start with an epoch above 0 as if it were 0",
    )
    life.add_argument(
        "--skip-hot-restart-parent-stats", action="store_true", help="no effect: hot restart is not there yet"
    )
    life.add_argument(
        "--hot-restart-version",
        action="version",
        version="disabled",
        help="print the version of hot restart, and end",
    )
    life.add_argument(
        "--socket-path",
        metavar="PATH",
        default="@envoy_domain_socket",
        action=once,
        help="no effect: hot restart is not there yet",
    )
    life.add_argument(
        "--socket-mode",
        type=_octal,
        metavar="MODE",
        default=0,
        action=once,
        help="no effect: hot restart is not there yet",
    )

    more = parser.add_argument_group("more")
    more.add_argument(
        "--allow-unknown-fields", action="store_true", help="as --allow-unknown-static-fields (deprecated)"
    )
    more.add_argument(
        "--allow-unknown-static-fields", action="store_true", help="unknown fields of the file are warnings"
    )
    more.add_argument(
        "--reject-unknown-dynamic-fields",
        action="store_true",
        help="no effect: there is no dynamic configuration yet",
    )
    more.add_argument(
        "--ignore-unknown-dynamic-fields",
        action="store_true",
        help="no effect: there is no dynamic configuration yet",
    )
    more.add_argument(
        "--disable-extensions",
        metavar="NAME,...",
        default="",
        action=once,
        help="as category/name; a configuration that uses one is refused",
    )
    more.add_argument(
        "--stats-tag",
        metavar="TAG:VALUE",
        action="append",
        default=[],
        help="a tag for every stat; may stand many times",
    )
    more.add_argument(
        "--cpuset-threads",
        action="store_true",
        help="no effect: the default concurrency always heeds the cpuset",
    )
    more.add_argument("--enable-mutex-tracing", action="store_true", help="no effect: there are no mutexes")
    more.add_argument("--enable-core-dump", action="store_true", help="allow workers to leave core dumps")
    more.add_argument("--bootstrap-version", type=_bootstrap_version, metavar="3", help="only 3")
    more.add_argument("--version", action="version", version=f"weft proxy  version: {version()}")
    return parser  # fmt: skip


def _cores() -> int:
    return max(1, len(os.sched_getaffinity(0)))


def _dynamic_base_id() -> int:
    return int.from_bytes(os.urandom(4), "big") & 0x7FFFFFFF


def _whole(text: str) -> int:
    if not text.isdigit() or len(text) > 10 or int(text) > 0xFFFFFFFF:
        raise argparse.ArgumentTypeError(f"not a whole number of 32 bits: {text!r}")
    return int(text)


def _octal(text: str) -> int:
    if not text or set(text) - set("01234567") or len(text) > 4:
        raise argparse.ArgumentTypeError(f"invalid socket-mode '{text}'")
    return int(text, 8)


def _one_of(what: str, text: str, choices: Sequence[str]) -> str:
    if text not in choices:
        raise argparse.ArgumentTypeError(f"{what} '{text}' (one of {', '.join(choices)})")
    return text


def _mode(text: str) -> str:
    return _one_of("unknown mode", text, (SERVE, VALIDATE, INIT_ONLY))


def _level(text: str) -> str:
    return _one_of("invalid log level specified", text, LEVELS)


def _strategy(text: str) -> str:
    return _one_of("unknown drain-strategy", text, ("gradual", "immediate"))


def _ip_version(text: str) -> str:
    return _one_of("unknown IP address version", text, ("v4", "v6"))


def _bootstrap_version(text: str) -> str:
    return _one_of("unsupported bootstrap version", text, ("3",))


def _component_levels(text: str) -> str:
    for pair in text.split(",") if text else ():
        component, colon, level = pair.partition(":")
        if not component or not colon or level not in LEVELS:
            raise argparse.ArgumentTypeError(f"component log level not correctly specified '{pair}'")
    return text


def _stats_tags(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    tags: dict[str, str] = {}
    for text in texts:
        tag, colon, value = text.partition(":")
        if not colon:
            raise _Wrong(f"misformatted stats-tag '{text}'")
        if not tag.replace("_", "a").isalnum():
            raise _Wrong(f"misformatted stats-tag '{text}' contains invalid char in '{tag}'")
        if "." in value:
            raise _Wrong(f"misformatted stats-tag '{text}' contains invalid char in '{value}'")
        if tag in tags:
            raise _Wrong(f"stats-tag '{tag}' is given twice")
        tags[tag] = value
    return tuple(tags.items())
