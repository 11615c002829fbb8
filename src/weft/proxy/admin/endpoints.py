"""The list of admin endpoints: what ``/`` and ``/help`` show and what requests are matched against."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from html import escape
from typing import Final

from weft.proxy.admin.query import HTML, AdminRequest, Answer

Serve = Callable[[AdminRequest], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    text: str
    choices: tuple[str, ...] = ()
    """Allowed values; none for a free text."""
    flag: bool = False
    """Its presence is all that counts."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    path: str
    text: str
    serve: Serve
    mutates: bool = False
    """Changes something: only POST will do."""
    parameters: tuple[Parameter, ...] = ()


def help_text(endpoints: list[Endpoint]) -> str:
    lines = ["admin commands are:\n"]
    for endpoint in endpoints:
        lines.append(f"  {endpoint.path}{' (POST)' if endpoint.mutates else ''}: {endpoint.text}\n")
        for parameter in endpoint.parameters:
            choices = f"; One of ({', '.join(parameter.choices)})" if parameter.choices else ""
            lines.append(f"      {parameter.name}: {parameter.text}{choices}\n")
    return "".join(lines)


_STYLE: Final = """
body { font-family: sans-serif; margin: 1.5em; }
table { border-collapse: collapse; }
td { padding: 4px 10px; vertical-align: top; }
tr.odd { background: #eee; }
td.parameter { padding-left: 30px; }
form { margin: 0; }
"""


def home_page(endpoints: list[Endpoint]) -> Answer:
    """Every endpoint as a row: a link, or a button where it takes parameters or changes something."""
    rows: list[str] = []
    for number, endpoint in enumerate(endpoints):
        if endpoint.path == "/":
            continue
        shade = " class='odd'" if number % 2 else ""
        name = endpoint.path[1:]
        form = f"form{number}"
        if endpoint.mutates or endpoint.parameters:
            method = "post" if endpoint.mutates else "get"
            label = f"{name} (POST)" if endpoint.mutates else name
            first = f"<form id='{form}' method='{method}' action='{name}'><button>{label}</button></form>"
        else:
            first = f"<a href='{name}'>{name}</a>"
        rows.append(f"<tr{shade}><td>{first}</td><td>{escape(endpoint.text)}</td></tr>\n")
        for parameter in endpoint.parameters:
            rows.append(
                f"<tr{shade}><td class='parameter'>{_input(parameter, form)}</td>"
                f"<td>{escape(parameter.name)}: {escape(parameter.text)}</td></tr>\n"
            )
    page = (
        "<!DOCTYPE html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n<title>Weft admin</title>\n"
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<table>\n"
        "<tr><th align='left'>Command</th><th align='left'>What it does</th></tr>\n"
        f"{''.join(rows)}</table>\n</body>\n</html>\n"
    )
    return Answer(body=page, content_type=HTML)


def _input(parameter: Parameter, form: str) -> str:
    name = f"name='{parameter.name}' form='{form}'"
    if parameter.flag:
        return f"<input type='checkbox' {name} value=''>"
    if parameter.choices:
        options = "".join(f"<option>{choice}</option>" for choice in ("", *parameter.choices))
        return f"<select {name}>{options}</select>"
    return f"<input type='text' {name}>"
