"""Internal redirect policies from configuration, and Envoy's three predicates."""

import pytest

from weft.api.schema import find_type
from weft.proxy.route.internal_redirect import AllowListedRoutes, PreviousRoutes, SafeCrossScheme

TYPE = "envoy.extensions.internal_redirect."


@pytest.fixture(autouse=True)
def types():
    for name in ("previous_routes.v3.PreviousRoutes", "allow_listed_routes.v3.AllowListedRoutes", "safe_cross_scheme.v3.SafeCrossScheme"):
        find_type(f"{TYPE}{name}Config")


def routes(*actions):
    return [
        {"name": f"r{i}", "match": {"prefix": f"/{i}"}, "route": {"cluster": "c", **action}}
        for i, action in enumerate(actions)
    ]


def predicate(name, **config):
    return {"name": "any", "typed_config": {"@type": f"type.googleapis.com/{TYPE}{name}", **config}}


def policies(table):
    return [route.action.internal_redirects for route in table.virtual_hosts[0].routes]


def test_none_unless_asked_for(table_of):
    table = table_of(routes({}, {"internal_redirect_action": "PASS_THROUGH_INTERNAL_REDIRECT", "max_internal_redirects": 4}))

    assert policies(table) == [None, None]


@pytest.mark.parametrize(("action", "most", "statuses"), [
    ({"internal_redirect_policy": {}}, 1, {302}),
    ({"internal_redirect_policy": {"max_internal_redirects": 5}}, 5, {302}),
    ({"internal_redirect_policy": {"max_internal_redirects": 0}}, 0, {302}),
    ({"internal_redirect_policy": {"redirect_response_codes": [301, 308]}}, 1, {301, 308}),
    ({"internal_redirect_policy": {"redirect_response_codes": [200, 404]}}, 1, set()),
    ({"internal_redirect_action": "HANDLE_INTERNAL_REDIRECT"}, 1, {302}),
    ({"internal_redirect_action": "HANDLE_INTERNAL_REDIRECT", "max_internal_redirects": 3}, 3, {302}),
    ({"internal_redirect_policy": {"max_internal_redirects": 2}, "internal_redirect_action": "HANDLE_INTERNAL_REDIRECT", "max_internal_redirects": 3}, 2, {302}),
])  # fmt: skip
def test_what_is_followed(table_of, action, most, statuses):
    (policy,) = policies(table_of(routes(action)))

    assert (policy.most, policy.statuses, policy.cross_scheme) == (most, statuses, False)


def test_the_rest_of_a_policy(table_of):
    (policy,) = policies(table_of(routes({"internal_redirect_policy": {
        "allow_cross_scheme_redirect": True,
        "response_headers_to_copy": ["X-A", "x-b"],
        "predicates": [
            predicate("previous_routes.v3.PreviousRoutesConfig"),
            predicate("allow_listed_routes.v3.AllowListedRoutesConfig", allowed_route_names=["x"]),
            predicate("safe_cross_scheme.v3.SafeCrossSchemeConfig"),
        ],
    }})))  # fmt: skip

    assert policy.cross_scheme
    assert policy.copied_headers == (b"x-a", b"x-b")
    assert [type(one) for one in policy.predicates] == [PreviousRoutes, AllowListedRoutes, SafeCrossScheme]


def test_routes_that_look_alike_keep_what_they_know_apart(table_of):
    same = {"internal_redirect_policy": {"predicates": [predicate("previous_routes.v3.PreviousRoutesConfig")]}}
    first, second = policies(table_of(routes(same, same)))
    state = {}

    assert first.predicates[0].accepts(state, "there", False, False)
    assert second.predicates[0].accepts(state, "there", False, False)
    assert not first.predicates[0].accepts(state, "there", False, False)


@pytest.mark.parametrize(("policy", "problem"), [
    ({"response_headers_to_copy": ["x", ":path"]}, "response_headers_to_copy[1]: :-prefixed headers or Hosts may not be specified here."),
    ({"response_headers_to_copy": ["Host"]}, "response_headers_to_copy[0]: :-prefixed headers or Hosts may not be specified here."),
    ({"predicates": [{"name": "p", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]},
     "predicates[0]: extension 'p' (type envoy.extensions.filters.http.router.v3.Router) is not supported"),
])  # fmt: skip
def test_problems(load, policy, problem):
    _, problems = load(routes({"internal_redirect_policy": policy}))

    assert len(problems) == 1
    assert "routes[0].route.internal_redirect_policy." + problem in problems[0]


def test_previous_routes():
    one = PreviousRoutes("here")
    state = {}

    assert [one.accepts(state, target, False, False) for target in ("a", "b", "a", "c", "b")] == [True, True, False, True, False]
    assert one.accepts({}, "a", False, False)


def test_allow_listed_routes():
    one = AllowListedRoutes(frozenset(("a", "b")))

    assert [one.accepts({}, target, False, False) for target in ("a", "b", "c", "")] == [True, True, False, False]


@pytest.mark.parametrize(("secure", "target", "wanted"), [(False, False, True), (True, False, True), (True, True, True), (False, True, False)])
def test_safe_cross_scheme(secure, target, wanted):
    assert SafeCrossScheme().accepts({}, "a", secure, target) is wanted
