"""``weft proxy`` from its options to its exit status.

Nothing is bound, started or written before the whole configuration has been read and found good.
"""

import sys
import time
from collections.abc import Sequence

from weft.api.problems import ConfigError, Problem
from weft.proxy.assemble import ServerSettings, server_settings
from weft.proxy.process.options import INIT_ONLY, VALIDATE, Options


def run(options: Options) -> int:
    """The exit status: 0 after a clean end, 1 when it could not start."""
    started = time.monotonic()
    if options.restart_epoch and not options.start_without_parent:
        print(
            f"error: --restart-epoch {options.restart_epoch}: hot restart is not supported yet; start with epoch 0,"
            " or say --skip-hot-restart-on-no-parent to start afresh",
            file=sys.stderr,
        )
        return 1
    try:
        settings, warnings = load(options)
    except ConfigError as error:
        report(error.problems)
        return 1
    if options.mode == VALIDATE:
        report(warnings)
        print(f"configuration '{options.config_path}' OK")
        return 0
    from weft.proxy.process.serve import serve

    return serve(options, settings, warnings, started, init_only=options.mode == INIT_ONLY)


def load(options: Options) -> tuple[ServerSettings, list[Problem]]:
    """The settings, and the warnings.  Raises ConfigError with everything that is wrong."""
    if not options.config_path and not options.config_yaml:
        raise ConfigError([Problem("", "At least one of --config-path or --config-yaml should be non-empty")])
    from weft.api.load import load_bootstrap

    loaded = load_bootstrap(options.config_path or None, options.config_yaml)
    problems = loaded.problems
    settings = server_settings(loaded.bootstrap, problems.where, options)
    if problems.errors:
        # Warnings too: a field that was rewritten may be why something is missing.
        raise ConfigError(problems.items)
    return settings, problems.items


def report(problems: Sequence[Problem]) -> None:
    """A line for each on standard error, and how many they were."""
    colour = sys.stderr.isatty()
    errors = 0
    for problem in problems:
        errors += not problem.warning
        word = "warning" if problem.warning else "error"
        if colour:
            word = f"\033[{33 if problem.warning else 31}m{word}\033[0m"
        print(f"{problem}" if not problem.warning else f"{problem} ({word})", file=sys.stderr)
    if errors:
        plural = "s" if errors > 1 else ""
        print(f"{errors} problem{plural}; nothing was started", file=sys.stderr)
