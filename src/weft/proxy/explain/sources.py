"""What explanations are made from: a file, or the settings of a running proxy."""

from typing import Any

from weft.api.load import ROUTES, load_bootstrap_or_routes
from weft.api.problems import ConfigError, Problem
from weft.proxy.assemble import ServerSettings, server_settings
from weft.proxy.explain.tables import Sources, bare, tables_of
from weft.proxy.process.runtime_layers import merged
from weft.proxy.route.table import route_table


def sources_of_file(path: str) -> tuple[Sources, list[Problem]]:
    """From a bootstrap or a RouteConfiguration, and what is wrong with it besides its routes.

    Raises :class:`ConfigError` when it cannot be read, or when the problem is in a route table.
    """
    loaded = load_bootstrap_or_routes(path)
    problems = loaded.problems
    if loaded.bootstrap.DESCRIPTOR.full_name == ROUTES:
        table = route_table(loaded.bootstrap, problems.where)
        problems.raise_if_any()
        return Sources(tables=(bare(table),)), []
    settings = server_settings(loaded.bootstrap, problems.where)
    wrong = [problem for problem in problems.errors if ".route_config" in problem.path]
    if wrong or (problems.errors and not tables_of(settings.listeners)):
        raise ConfigError(wrong or problems.errors)
    return sources_of(settings, {}), problems.errors


def sources_of(settings: ServerSettings, overrides: dict[str, str]) -> Sources:
    """``overrides``: what operators have set over the admin page."""
    runtime: dict[str, Any] = merged(settings.runtime, overrides)
    return Sources(
        tables=tables_of(settings.listeners),
        clusters=frozenset([cluster.name for cluster in settings.clusters]),
        runtime=runtime,
        identity=settings.identity,
    )
