"""Validating a configuration: what is printed where, and the exit status."""

import re

import pytest

from weft.cli.main import main
from weft.proxy import extensions
from weft.testing.bootstraps import bootstrap, cluster, listener


def _validate(tmp_path, text, *flags):
    path = tmp_path / "envoy.yaml"
    path.write_text(text)
    return main(["proxy", "-c", str(path), "--mode", "validate", *flags]), path


def test_a_good_file(tmp_path, capsys):
    status, path = _validate(tmp_path, bootstrap(listener(upstream="c"), clusters=[cluster("c", 80)]))

    assert status == 0
    assert capsys.readouterr() == (f"configuration '{path}' OK\n", "")


def test_inline_configuration(capsys):
    assert main(["proxy", "--mode=validate", "--config-yaml=admin: {}"]) == 0
    assert capsys.readouterr() == ("configuration '' OK\n", "")


TWO_KINDS = """\
static_resources:
  clusters:
  - name: web
    connect_timeot: 1s
  - name: again
    load_assignment: {cluster_name: again}
  - name: again
    load_assignment: {cluster_name: again}
dynamic_resources:
  lds_config: {ads: {}}
"""


def test_all_problems_of_a_file_at_once_with_their_places(tmp_path, capsys):
    """What the schema refuses, and what only the meaning does."""
    status, path = _validate(tmp_path, TWO_KINDS)
    out, err = capsys.readouterr()

    assert (status, out) == (1, "")
    lines = err.splitlines()
    assert all(re.match(rf"{re.escape(str(path))}:\d+:\d+: \w", line) for line in lines[:-1])
    assert [line.split(":")[1] for line in lines[:-1]] == ["4", "7", "10"]
    assert "unknown field 'connect_timeot'" in lines[0]
    assert "did you mean 'connect_timeout'" in lines[0]
    assert "duplicate cluster 'again'" in lines[1]
    assert lines[-1] == "3 problems; nothing was started"
    assert "\033" not in err


@pytest.mark.parametrize(("flags", "status"), [((), 1), (("--allow-unknown-static-fields",), 0), (("--allow-unknown-fields",), 0)])  # fmt: skip
def test_unknown_fields_may_be_allowed(tmp_path, capsys, flags, status):
    assert _validate(tmp_path, "admin: {}\nnonsense: 1\n", *flags)[0] == status
    err = capsys.readouterr().err
    assert "envoy.yaml:2:1: nonsense: unknown field" in err
    assert ("(warning)" in err) == (status == 0)


def test_a_part_that_was_not_read_is_not_missed(tmp_path, capsys):
    """The cluster of the route is there; it only has a mistake."""
    text = bootstrap(listener(upstream="c"), clusters=[cluster("c", 80, lb_policy="ROUND_ROBBIN")])
    status, _ = _validate(tmp_path, text)
    err = capsys.readouterr().err

    assert status == 1
    assert err.count("\n") == 2
    assert "1 problem; nothing was started" in err


@pytest.mark.parametrize("text", ["", "a: [", "- 1", "\x00"], ids=["empty", "half", "list", "nul"])
def test_what_is_no_configuration(tmp_path, capsys, text):
    status, path = _validate(tmp_path, text)

    assert status == 1
    assert str(path) in capsys.readouterr().err


def test_an_extension_may_be_disabled(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(extensions, "BUILT_IN", dict(extensions.BUILT_IN))
    flag = "--disable-extensions=envoy.filters.http/envoy.filters.http.router,nonsense"
    status, _ = _validate(tmp_path, bootstrap(listener()), flag)
    err = capsys.readouterr().err

    assert status == 1
    assert "failed to disable invalid extension name 'nonsense'" in err
    assert "envoy.extensions.filters.http.router.v3.Router" in err
