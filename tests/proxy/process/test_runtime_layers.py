"""Layers of the runtime become flat keys."""

import pytest

from weft.api.problems import Problems
from weft.api.schema import message_class
from weft.proxy.context import Identity
from weft.proxy.process.runtime_layers import RuntimeLayer, merged, parsed, runtime_layers, text_of
from weft.proxy.runtime import Chance, Runtime


def _layers(*layers):
    message = message_class("envoy.config.bootstrap.v3.LayeredRuntime")()
    for layer in layers:
        one = message.layers.add(name=layer["name"])
        if "static" in layer:
            one.static_layer.update(layer["static"])
        if "disk" in layer:
            one.disk_layer.symlink_root = layer["disk"]
            one.disk_layer.append_service_cluster = layer.get("append", False)
        if "admin" in layer:
            one.admin_layer.SetInParent()
    problems = Problems()
    found = runtime_layers(message, problems.where, Identity(cluster="web"))
    return found, [f"{problem.path}: {problem.text}" for problem in problems.items]


def test_a_tree_becomes_paths_and_later_layers_win():
    layers, problems = _layers(
        {"name": "a", "static": {"x": {"y": 1, "z": 0.5}, "text": "word", "flag": True, "written": "7"}},
        {"name": "b", "static": {"x": {"y": 2}}},
    )

    assert problems == []
    assert merged(layers, {}) == {"x.y": 2, "x.z": 0.5, "text": "word", "flag": True, "written": 7}


def test_a_fraction_keeps_its_denominator():
    layers, problems = _layers({"name": "a", "static": {"f": {"numerator": 5, "denominator": "TEN_THOUSAND"}}})
    runtime = Runtime(merged(layers, {}))

    assert problems == []
    hits = sum(Chance(100, 100, "f").hits_value(value, runtime) for value in range(10_000))
    assert hits == 5


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("0.25", 0.25),
        ("1e3", 1000.0),
        ("true", True),
        ("FALSE", False),
        ("", ""),
        ("nan", "nan"),
        ("1_000", "1_000"),
        ("9" * 5000, float("inf")),
        ("word", "word"),
    ],
)
def test_what_a_file_says(written, value):
    assert parsed(written) == value


def test_a_directory(tmp_path):
    (tmp_path / "web" / "http").mkdir(parents=True)
    (tmp_path / "web" / "http" / "limit").write_text("# a comment\n100\n")
    (tmp_path / "web" / "name").write_text("v\n")
    layers, problems = _layers({"name": "disk", "disk": str(tmp_path), "append": True})

    assert problems == []
    assert layers[0].values == {"http.limit": 100, "name": "v"}


def test_a_missing_directory_is_an_empty_layer():
    layers, problems = _layers({"name": "disk", "disk": "/does/not/exist"})

    assert (layers[0].values, problems) == ({}, [])


def test_the_admin_layer_is_where_it_stands():
    layers = (
        RuntimeLayer(name="base", values={"a": 1, "b": 1}),
        RuntimeLayer(name="admin", admin=True),
        RuntimeLayer(name="top", values={"b": 3}),
    )

    assert merged(layers, {"a": "2", "b": "2", "c": "x"}) == {"a": 2, "b": 3, "c": "x"}


@pytest.mark.parametrize(
    ("layers", "problem"),
    [
        ([{"name": "a", "static": {}}, {"name": "a", "admin": True}], "layers[1].name: Duplicate layer name: a"),
        ([{"name": "a", "admin": 1}, {"name": "b", "admin": 1}], "layers[1]: Too many admin layers specified in LayeredRuntime, at most one may be specified"),
        ([{"name": "a", "static": {"x": {"y": [1]}}}], "layers[0].static_layer: Invalid runtime entry value for x.y"),
        ([{"name": "a", "static": {"x": None}}], "layers[0].static_layer: Invalid runtime entry value for x"),
    ],
)  # fmt: skip
def test_problems(layers, problem):
    assert _layers(*layers)[1] == [problem]


def test_no_layer_at_all_is_an_admin_layer():
    layers, _ = _layers()

    assert [(layer.name, layer.admin) for layer in layers] == [("", True)]


@pytest.mark.parametrize(("value", "text"), [(True, "true"), (5, "5"), (0.5, "0.5"), ("x", "x"), (1e6, "1e+06")])
def test_as_the_admin_page_prints_it(value, text):
    assert text_of(value) == text
