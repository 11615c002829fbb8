"""``weft proxy`` from its options to its exit status.

Nothing is bound, started or written before the whole configuration has been read and found good.
"""

import sys
import time
from collections.abc import Sequence
from typing import Any

from weft.api.problems import ConfigError, Problem, Problems
from weft.proxy import extensions
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
    for name in options.disabled_extensions:
        if not extensions.disable(name):
            print(f"warning: failed to disable invalid extension name '{name}'", file=sys.stderr)
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

    loaded = load_bootstrap(
        options.config_path or None,
        options.config_yaml,
        allow_unknown_fields=options.allow_unknown_static_fields,
        keep_going=True,
    )
    problems = loaded.problems
    if problems.errors:
        raise ConfigError(problems.items + _more(loaded.bootstrap, problems, options))
    settings = server_settings(loaded.bootstrap, problems.where, options)
    if problems.errors:
        # Warnings too: a field that was rewritten may be why something is missing.
        raise ConfigError(problems.items)
    return settings, problems.items


def _more(bootstrap: Any, known: Problems, options: Options) -> list[Problem]:
    """What else is wrong with a bootstrap of which a part could not be read.

    Only of places that have nothing to do with that part: what is missing there was perhaps written.
    """
    problems = Problems(locate=known.locate)
    try:
        server_settings(bootstrap, problems.where, options)
    except Exception:
        return []  # it was made of what is no configuration
    spoilt = [problem.path for problem in known.errors]
    return [
        problem
        for problem in problems.items
        if not any(_related(problem.path, path) for path in spoilt) and "" not in spoilt
    ]


def _related(path: str, spoilt: str) -> bool:
    """Whether ``path`` is above ``spoilt``, or below the message that ``spoilt`` is a field of."""
    from weft.api.paths import parent_path

    return spoilt.startswith(path) or path.startswith(parent_path(spoilt))


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
