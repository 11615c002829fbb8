"""The command line of ``weft proxy`` is Envoy's."""

import re

import pytest

from weft.cli import main as weft
from weft.cli.proxy import main, parse
from weft.proxy.context import Identity

ENVOY_FLAGS = ["--stats-tag", "--enable-core-dump", "--socket-mode", "--socket-path", "--disable-extensions", "--cpuset-threads", "--enable-mutex-tracing", "--disable-hot-restart", "--mode", "--parent-shutdown-time-s", "--drain-strategy", "--drain-time-s", "--file-flush-min-size-kb", "--file-flush-interval-msec", "--service-zone", "--service-node", "--service-cluster", "--hot-restart-version", "--restart-epoch", "--log-path", "--enable-fine-grain-logging", "--log-format-escaped", "--log-format", "--component-log-level", "--log-level", "--local-address-ip-version", "--admin-address-path", "--log-stacktrace-single-entry", "--skip-deprecated-logs", "--ignore-unknown-dynamic-fields", "--reject-unknown-dynamic-fields", "--allow-unknown-static-fields", "--allow-unknown-fields", "--config-yaml", "--config-path", "--concurrency", "--base-id-path", "--skip-hot-restart-parent-stats", "--skip-hot-restart-on-no-parent", "--use-dynamic-base-id", "--base-id", "--version", "--help"]


def test_every_flag_of_envoy_is_there(capsys):
    assert main(["--help"]) == 0
    shown = set(re.findall(r"(--[a-z-]+)", capsys.readouterr().out))

    assert set(ENVOY_FLAGS) - shown == set()


def test_a_long_command_line():
    options = parse(
        ["-c", "e.yaml", "--concurrency", "3", "-l", "warn", "--component-log-level", "upstream:debug,config:trace", "--service-node=n", "--service-cluster", "c", "--service-zone=z", "--drain-time-s", "30", "--base-id", "7", "--mode=validate", "--stats-tag", "a:b", "--drain-strategy", "immediate", "--file-flush-min-size-kb", "1", "--file-flush-interval-msec", "500", "--allow-unknown-fields", "--cpuset-threads", "--enable-mutex-tracing", "--bootstrap-version", "3", "--socket-mode", "700"]
    )

    assert (options.config_path, options.concurrency, options.log_level) == ("e.yaml", 3, "warning")
    assert (options.drain_time, options.base_id, options.mode) == (30.0, 7, "validate")
    assert (options.stats_tags, options.drain_immediately, options.socket_mode) == ((("a", "b"),), True, 0o700)
    assert (options.file_flush_min_size, options.file_flush_interval) == (1024, 0.5)
    assert options.allow_unknown_static_fields
    identity = options.identity(Identity(node_id="other", cluster="other", region="r"))
    assert (identity.node_id, identity.cluster, identity.zone, identity.region) == ("n", "c", "z", "r")


@pytest.mark.parametrize(
    ("words", "concurrency"),
    [("", None), ("--concurrency 0", 1), ("--concurrency 1", 1), ("--concurrency=16", 16)],
)
def test_concurrency(words, concurrency):
    got = parse(words.split()).concurrency

    assert got >= 1
    assert concurrency in (None, got)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("--nonsense", "unrecognized arguments: --nonsense"),
        ("stray", "unrecognized arguments: stray"),
        ("--mod validate", "unrecognized arguments"),
        ("--mode foo", "unknown mode 'foo'"),
        ("-l foo", "invalid log level specified 'foo'"),
        ("-l info --log-level debug", "is given twice"),
        ("--concurrency -1", "--concurrency"),
        ("--concurrency 99999999999", "not a whole number of 32 bits"),
        ("--concurrency one", "not a whole number of 32 bits"),
        ("--drain-strategy slow", "unknown drain-strategy 'slow'"),
        ("--local-address-ip-version v5", "unknown IP address version 'v5'"),
        ("--component-log-level upstream", "component log level not correctly specified 'upstream'"),
        ("--component-log-level a:b --enable-fine-grain-logging", "component log level not correctly specified"),
        ("--component-log-level http:info --enable-fine-grain-logging", "will not work with"),
        ("--restart-epoch 1 --use-dynamic-base-id", "cannot use --restart-epoch=1 with --use-dynamic-base-id"),
        ("--socket-mode 999", "invalid socket-mode '999'"),
        ("--stats-tag foo", "misformatted stats-tag 'foo'"),
        ("--stats-tag a-b:c", "contains invalid char in 'a-b'"),
        ("--stats-tag a:b.c", "contains invalid char in 'b.c'"),
        ("--stats-tag a:b --stats-tag a:c", "is given twice"),
        ("--bootstrap-version 2", "unsupported bootstrap version"),
        ("-c x --restart-epoch 1", "hot restart is not supported yet"),
        ("", "At least one of --config-path or --config-yaml should be non-empty"),
        ("-c /does/not/exist.yaml", "/does/not/exist.yaml"),
    ],
)
def test_a_wrong_command_line_ends_with_status_1_and_says_why(words, problem, capsys):
    assert main(words.split()) == 1
    printed = capsys.readouterr()
    assert problem in printed.err
    assert printed.out == ""


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["--version"], 0, "weft 0."),
        (["--help"], 0, "examples:"),
        (["proxy", "--version"], 0, "weft proxy  version: "),
        (["proxy", "--hot-restart-version"], 0, "disabled"),
    ],
)
def test_what_only_prints(words, status, text, capsys):
    assert weft.main(words) == status
    assert text in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["prox"]])
def test_no_such_command(words, capsys):
    assert weft.main(words) == 1
    assert "weft" in capsys.readouterr().err
