"""``POST /route/explain``: what the route tables that run would do with a request, and why."""

import asyncio
import json
from typing import Any

from weft.proxy.admin.query import JSON, AdminRequest, Answer, Refused
from weft.proxy.explain.explain import explain
from weft.proxy.explain.explanation import Explanation, as_json
from weft.proxy.explain.question import Question, WrongQuestion, question
from weft.proxy.explain.tables import Sources, choose
from weft.proxy.explain.text import render_steps
from weft.steps import Steps

MOST_TABLES = 50
"""Explained in one answer; more have to be told apart by ``listener`` or ``table``."""


def explain_steps(request: AdminRequest, sources: Sources) -> Steps[Answer]:
    """In steps: a table of ten thousand routes takes a while, and main has other things to do."""
    form = request.choice("format", ("json", "text"), "usage: /route/explain?format=text|json\n") or "json"
    try:
        asked = question(_read(request.body))
        tables = choose(sources.tables, asked)
        if len(tables) > MOST_TABLES:
            raise WrongQuestion(
                "listener", f"{len(tables)} tables would be explained: name a listener or a table"
            )
        explanations = yield from _all(asked, sources, tables)
    except WrongQuestion as wrong:
        raise Refused(f"{wrong}\n") from None
    if form == "text":
        return Answer(body=(yield from render_steps(explanations)))
    return Answer(body=as_json(explanations), content_type=JSON)


def _all(asked: Question, sources: Sources, tables: Any) -> Steps[list[Explanation]]:
    out = []
    for table in tables:
        out.append((yield from explain(table, asked, sources, asyncio.get_running_loop())))
    return out


def _read(body: bytes) -> Any:
    if not body.strip():
        raise WrongQuestion("body", 'empty; expected JSON such as {"url": "http://shop.example.com/api"}')
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WrongQuestion("body", f"not JSON: {error}") from None
