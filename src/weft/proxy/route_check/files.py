"""What a check reads: the route table, and the tests.

Two things are done to a table for the tests' sake, as Envoy's tool does them: a runtime fraction of
nothing becomes one of 1, so that ``random_value: 0`` is a request that it takes, and a runtime
fraction counts only for tests that name its key.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Final

from weft.api.load import BOOTSTRAP, load_message
from weft.api.problems import ConfigError, Problem, Problems, Where
from weft.proxy.regex import DEFAULT_PROGRAM_SIZE, REGEX_LIMITS
from weft.proxy.route.match import ShareCondition
from weft.proxy.route.table import RouteTable, route_table
from weft.proxy.runtime import Runtime

ROUTES: Final = "envoy.config.route.v3.RouteConfiguration"
TESTS: Final = "envoy.RouterCheckToolSchema.Validation"

_BOOTSTRAP: Final = re.compile(rb"""^\s*\{?\s*["']?(?:static_resources|staticResources)["']?\s*[:{]""", re.M)
"""What only a bootstrap has, in any of the forms of text."""


@dataclass(slots=True)
class Checked:
    """A route table under test."""

    config: Any
    """The RouteConfiguration as it was written."""
    table: RouteTable
    problems: Problems
    """Warnings."""
    values: Runtime
    """The runtime of the bootstrap; empty for a table of its own.  Weights may hang on it."""
    fractions: frozenset[str] = frozenset()
    """Runtime keys of its routes' fractions."""
    _runtimes: dict[str, Runtime] = field(default_factory=dict)

    def runtime(self, key: str) -> Runtime:
        """The runtime of a test that enables ``key``: what hangs on any other key does not happen."""
        found = self._runtimes.get(key)
        if found is None:
            found = Runtime({name: "0/100" for name in self.fractions if name != key})
            self._runtimes[key] = found
        return found


def load_table(path: str, name: str | None = None, *, allow_deprecated: bool = False) -> Checked:
    """The table in the file at ``path``: a RouteConfiguration, or one of a bootstrap's.

    ``name`` says which table of a bootstrap, where it has several.  Raises ConfigError.
    """
    values = Runtime()
    REGEX_LIMITS.max_program_size = DEFAULT_PROGRAM_SIZE
    if name is not None or _is_bootstrap(path):
        config, where, values = _of_bootstrap(path, name, allow_deprecated)
    else:
        config, problems = load_message(path, ROUTES, allow_deprecated=allow_deprecated)
        where = problems.where
    table = route_table(config, where)
    where.problems.raise_if_any()
    return Checked(config, table, where.problems, values, _fractions(table))


def load_tests(path: str) -> tuple[Any, Problems]:
    """The ``Validation`` in the file at ``path``, and the warnings.  Raises ConfigError."""
    return load_message(path, TESTS)


def _is_bootstrap(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return _BOOTSTRAP.search(file.read()) is not None
    except (OSError, ValueError):
        return False  # loading will say why


def _of_bootstrap(path: str, name: str | None, allow_deprecated: bool) -> tuple[Any, Where, Runtime]:
    # Only here: this knows every part of a proxy, and takes as long to import as all the rest.
    from weft.proxy.assemble import first_runtime, limit_patterns, route_configs

    bootstrap, problems = load_message(path, BOOTSTRAP, allow_deprecated=allow_deprecated)
    place = problems.where.field("static_resources").field("listeners")
    tables = [
        found
        for number, listener in enumerate(bootstrap.static_resources.listeners)
        for found in route_configs(listener, place.item(number))
    ]
    names = ", ".join(config.name or "(no name)" for config, _ in tables)
    if name is not None:
        tables = [found for found in tables if found[0].name == name]
    if not tables:
        what = "no route table" if not names else f"no route table {name!r}; there are: {names}"
        raise ConfigError([Problem("", f"{what} in this bootstrap" if not names else what, path)])
    if len(tables) > 1:
        text = f"several route tables, and --table does not say which: {names}"
        raise ConfigError([Problem("", text, path)])
    values = first_runtime(bootstrap)
    limit_patterns(values)
    return *tables[0], values


def _fractions(table: RouteTable) -> frozenset[str]:
    """Make the fractions of a table those of a test; their runtime keys."""
    keys: set[str] = set()
    for host in table.virtual_hosts:
        for route in host.routes:
            for condition in route.match.conditions:
                if not isinstance(condition, ShareCondition):
                    continue
                chance = condition.chance
                if not chance.key:
                    chance.numerator = 0  # no test can enable it
                    continue
                keys.add(chance.key)
                if not chance.numerator:
                    chance.numerator = 1
    return frozenset(keys)
