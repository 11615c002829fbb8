"""Expectations are what Envoy does, found by asking it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.api.schema import find_type
from weft.proxy.route.template import PathTemplate, TemplateError, TemplateRewrite


@pytest.mark.parametrize(("template", "yes", "no"), [
    ("/", ["/"], ["/a"]),
    ("/a", ["/a"], ["/a/", "/A", "/ab"]),
    ("/a/", ["/a/"], ["/a"]),
    ("/*", ["/a", "/a.b-c_d~e!$&'()+,;:@", "/a%20b"], ["/", "/a/", "/a/b", '/a"b', "/a|b"]),
    ("/**", ["/", "/a", "//", "/a/b/"], ["a"]),
    ("/a/**", ["/a/", "/a/b", "/a//b"], ["/a"]),
    ("/**/b", ["/a/b", "//b", "/a/x/b"], ["/b", "/a/b/"]),
    ("/*/**", ["/a/", "/a/b/c"], ["/a", "//b"]),
    ("/{x}", ["/a"], ["/", "/a/b"]),
    ("/{x}/", ["/a/"], ["/a"]),
    ("/{x=**}", ["/", "/a/b"], []),
    ("/{x=a/*/b/**}/c", ["/a/x/b/y/c"], ["/a/x/b/y", "/a/b/y/c"]),
    ("/{x=**}.m3u8", ["/x.m3u8", "/x/.m3u8", "/x/y.m3u8"], ["/xm3u8"]),
    ("/*.m3u8", ["/x.m3u8"], ["/x/y.m3u8"]),
    ("/a{x}", ["/ab"], ["/a", "/b"]),
    ("/a/b/c/**/d", ["/a/b/c/x/d"], ["/a/b/c/d"]),
])  # fmt: skip
def test_matching(template, yes, no):
    regex = PathTemplate(template).regex
    assert [path for path in yes if not regex.matches(path.encode())] == []
    assert [path for path in no if regex.matches(path.encode())] == []


@pytest.mark.parametrize(("template", "reason"), [
    ("a", "Invalid pattern"),
    ("/a b", "Invalid pattern"),
    ("/é", "Invalid pattern"),
    ("//", 'Invalid literal: ""'),
    ("/a//b", 'Invalid literal: ""'),
    ("/a?b", 'Invalid literal: "a?b"'),
    ("/x}", 'Invalid literal: "x}"'),
    ("/**/*", "Glob after text glob."),
    ("/{x=**}/**", "Glob after text glob."),
    ("/{x=**}/{y}", "Implicit variable path glob after text glob."),
    ("/{x}/{x}", 'Repeated variable name: "x"'),
    ("/{}", 'Invalid variable name: ""'),
    ("/{_x}", 'Invalid variable name: "_x"'),
    ("/{one/{two}", 'Invalid variable name: "one/{two"'),
    ("/{abcdefghijklmnopq}", "Invalid variable name length"),
    ("/{x=}", "Empty variable match"),
    ("/{x=*y}", 'Invalid variable match: "y"'),
    ("/{x", 'Unmatched variable bracket in mixed pattern: "{x"'),
    ("/{x}.{y}", 'Invalid suffix literal: ".{y}"'),
    ("/{a}/{b}/{c}/{d}/{e}/{f}", "Exceeded variable count limit (5)"),
])  # fmt: skip
def test_wrong_templates(template, reason):
    with pytest.raises(TemplateError) as caught:
        PathTemplate(template)
    assert reason in str(caught.value)


@given(st.text(alphabet="/a*{}=.x", max_size=12), st.text(alphabet="/a*{}.x", max_size=8), st.binary(max_size=8))
def test_nothing_but_template_errors(template, rewrite, path):
    try:
        compiled = PathTemplate("/" + template)
        TemplateRewrite("/" + rewrite, compiled).written(path)
    except (TemplateError, ValueError):
        return


def match(template):
    find_type("envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig")
    kind = "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"
    return {"path_match_policy": {"name": "m", "typed_config": {"@type": kind, "path_template": template}}}


def rewrite(template):
    find_type("envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig")
    kind = "type.googleapis.com/envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig"
    return {"path_rewrite_policy": {"name": "r", "typed_config": {"@type": kind, "path_template_rewrite": template}}}


def route(matching, **action):
    return [{"match": matching, "route": {"cluster": "c", **action}}]


@pytest.mark.parametrize(("template", "new", "path", "rewritten"), [
    ("/{x}", "/n/{x}", "/a?w", "/n/a?w"),
    ("/{x}/{y=**}", "/{y}/{x}", "/a/b/c?q=1", "/b/c/a?q=1"),
    ("/{x}/{y=**}", "/{y}/{x}", "/a/", "//a"),
    ("/{x}", "/{x}{x}", "/a", "/aa"),
    ("/{x=a/*}/z", "/n-{x}.q", "/a/q/z", "/n-a/q.q"),
    ("/a", "/b/", "/a", "/b/"),
    ("/{x}", "/**", "/a", "/**"),
])  # fmt: skip
def test_rewriting(table_of, ask, template, new, path, rewritten):
    answer = ask(table_of(route(match(template), **rewrite(new))), path)
    assert answer.path == rewritten
    assert ("x-envoy-original-path", path) in answer.sent


@pytest.mark.parametrize(("config", "problem"), [
    (lambda: route(match("/{x")), "path_match_policy.path_template /{x is invalid: Unmatched variable bracket"),
    (lambda: route(match("/{x}"), **rewrite("/{y}")), "mismatch between variables in path_match_policy /{x} and path_rewrite_policy /{y}"),
    (lambda: route(match("/{x}"), **rewrite("{x}")), "path_rewrite_policy.path_template_rewrite {x} is invalid"),
    (lambda: route(match("/{x}"), **rewrite("/{x=*}")), "path_template_rewrite /{x=*} is invalid"),
    (lambda: route(match("/{x}"), **rewrite("//{x}")), "path_template_rewrite //{x} is invalid"),
    (lambda: route(match("/{x}"), **rewrite("/{x}?q")), "path_template_rewrite /{x}?q is invalid"),
    (lambda: route(match("/{x}"), prefix_rewrite="/y"), "Cannot use prefix_rewrite with matcher extension"),
    (lambda: route({"prefix": "/"}, **rewrite("/y")), "unable to use envoy.path.rewrite.uri_template.uri_template_rewriter extension without"),
])  # fmt: skip
def test_problems(load, config, problem):
    _, problems = load(config())
    assert len(problems) == 1
    assert problem in problems[0]
