"""The route tables of a configuration, each with the connection manager that uses it."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from weft.api.problems import Where
from weft.api.schema import message_class
from weft.proxy.context import Identity
from weft.proxy.explain.question import Question, WrongQuestion
from weft.proxy.http.settings import HcmSettings, hcm_settings
from weft.proxy.listener.settings import ListenerSettings
from weft.proxy.route.table import RouteTable
from weft.proxy.runtime import Value

_HCM = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A route table in its place."""

    settings: HcmSettings
    listener: str = ""
    """Empty when there is only the table."""
    filter_chain: str = ""
    port: int = 0
    """Of the listener; 0 for none."""

    @property
    def name(self) -> str:
        return self.settings.route_table.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """All that an explanation is made from."""

    tables: tuple[Table, ...]
    clusters: frozenset[str] | None = None
    """Those that there are; None when nobody knows."""
    runtime: dict[str, Value] = field(default_factory=dict)
    identity: Identity = field(default_factory=Identity)


def tables_of(listeners: Iterable[ListenerSettings]) -> tuple[Table, ...]:
    """Every HTTP connection manager's, in the order of the configuration."""
    out = []
    for listener in listeners:
        chains = listener.filter_chains
        if listener.default_filter_chain is not None:
            chains = (*chains, listener.default_filter_chain)
        for number, chain in enumerate(chains):
            for one in chain.filters:
                if isinstance(one.settings, HcmSettings):
                    name = chain.name or (f"#{number}" if len(chains) > 1 else "")
                    port = listener.address.address.port
                    out.append(
                        Table(settings=one.settings, listener=listener.name, filter_chain=name, port=port)
                    )
    return tuple(out)


def bare(table: RouteTable) -> Table:
    """A table by itself, in a connection manager that has no options."""
    settings = hcm_settings(message_class(_HCM)(), Where.nowhere())
    return Table(settings=replace(settings, stat_prefix="explain", route_table=table))


def choose(tables: tuple[Table, ...], question: Question) -> tuple[Table, ...]:
    """Those that the question is about: all of them, unless it names one."""
    if not tables:
        raise WrongQuestion(
            "", "there is no route table: no listener has an HTTP connection manager with route_config"
        )
    found = tables
    if question.listener:
        found = tuple(table for table in found if table.listener == question.listener)
        if not found:
            raise _unknown("listener", question.listener, [table.listener for table in tables])
    if question.table:
        here = found
        found = tuple(table for table in found if table.name == question.table)
        if not found:
            raise _unknown("table", question.table, [table.name for table in here])
    return found


def _unknown(what: str, name: str, known: list[str]) -> WrongQuestion:
    names = sorted({one for one in known if one})
    near = get_close_matches(name, names, n=1)
    if near:
        hint = f"did you mean {near[0]!r}?"
    elif names:
        shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        hint = f"there is {shown}"
    else:
        hint = "none has a name"
    thing = "listener with a route table" if what == "listener" else "route table"
    return WrongQuestion(what, f"no {thing} is named {name!r}; {hint}")
